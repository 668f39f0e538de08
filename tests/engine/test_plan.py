"""Planning is document B as a table: which remedy, after which wait, how often, and when a person has to move."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.world import CRM, OAUTHED, PROBED, START, case, of_category
from prunella.core.clock import Rng
from prunella.core.records import Actor, Category, Credential, Diagnosis, Operation
from prunella.engine.plan import (
    INLINE_WAIT_MAX_S,
    TRIES,
    WAIT_MAX_S,
    choose,
    cut,
    first_wait_s,
    refreshed_lately,
    wait_s,
)
from store.making import credential, operation

DAY_S = 86_400.0
SECOND = timedelta(seconds=1)
AUTH = of_category(Category.AUTH)


class Chance(Rng):
    """Chance that always says the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


LEAST, MOST = Chance(0.0), Chance(math.nextafter(1.0, 0.0))


def tokens(**changed: Any) -> Credential:
    return credential(service="oauthed", **changed)


def asking(seconds: float | None, kind: str = "rate_limit.window") -> Diagnosis:
    """Return a diagnosis of a service that asks for a wait."""
    return Diagnosis(
        kind=kind, confidence=0.9, because="b", retryable=True, actor=Actor.SYSTEM, advice="a", retry_after_s=seconds
    )


def due(count: int, **changed: Any) -> tuple[Operation, ...]:
    return tuple(operation(number, service="crm", **changed) for number in range(count))


def test_figures_are_document_bs() -> None:
    """At most 3 tries per event, one for unknown, none for data; 10 s within a request; 31 days at the longest."""
    assert {category.value: tries for category, tries in TRIES.items()} == {
        "auth": 3,
        "rate_limit": 3,
        "network": 3,
        "data": 0,
        "unknown": 1,
    }
    assert (INLINE_WAIT_MAX_S, WAIT_MAX_S) == (10.0, 31 * DAY_S)


# Waits ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("category", "kind", "asked_s", "attempt", "least_s", "most_s"),
    [
        ("network", "network.server", None, 1, 0.25, 0.5),
        ("network", "network.server", None, 2, 0.5, 1.0),
        ("network", "network.server", None, 3, 1.0, 2.0),
        ("network", "network.server", None, 9, 1.0, 2.0),
        ("network", "network.server", 5.0, 1, 5.0, 5.0),
        ("network", "network.server", 120.0, 1, 120.0, 120.0),
        ("unknown", "unclassified", None, 1, 1.0, 1.5),
        ("unknown", "unclassified", 4.0, 1, 4.0, 4.0),
        ("rate_limit", "rate_limit.window", None, 1, 0.25, 0.5),
        ("rate_limit", "rate_limit.window", None, 3, 1.0, 2.0),
        ("rate_limit", "rate_limit.window", 0.0, 1, 0.25, 0.5),
        ("rate_limit", "rate_limit.window", 0.3, 1, 0.3, 0.5),
        ("rate_limit", "rate_limit.window", 1.5, 3, 1.5, 2.0),
        ("rate_limit", "rate_limit.window", 9.9, 1, 9.9, 9.9),
        ("rate_limit", "rate_limit.window", 10.0, 1, 10.0, 10.0),
        ("rate_limit", "rate_limit.quota", 31 * DAY_S, 1, 31 * DAY_S, 31 * DAY_S),
        ("rate_limit", "rate_limit.quota", 400 * DAY_S, 1, 31 * DAY_S, 31 * DAY_S),
        ("auth", "auth.expired", None, 1, 0.0, 0.0),
        ("auth", "auth.expired", 60.0, 2, 0.0, 0.0),
        ("auth", "network.server", None, 1, 0.25, 0.5),
        ("auth", "rate_limit.window", 30.0, 1, 30.0, 30.0),
    ],
)
def test_wait_before_a_try_follows_the_table(
    category: str, kind: str, asked_s: float | None, attempt: int, least_s: float, most_s: float
) -> None:
    """Steps of 0.5, 1 and 2 s with jitter downwards, never shorter than asked, unknown 1 s upwards, auth none."""
    diagnosis = asking(asked_s, kind)
    assert wait_s(Category(category), diagnosis, attempt, LEAST) == pytest.approx(least_s)
    assert wait_s(Category(category), diagnosis, attempt, MOST) == pytest.approx(most_s)


@given(st.sampled_from(Category), st.floats(0, 1e11), st.integers(1, 50), st.integers())
def test_wait_is_never_shorter_than_asked_nor_longer_than_a_month(
    category: Category, asked_s: float, attempt: int, seed: int
) -> None:
    """A service is never called earlier than it asked, up to 31 days; no wait is negative."""
    waits = wait_s(category, asking(asked_s), attempt, Rng(seed))
    assert min(asked_s, WAIT_MAX_S) <= waits <= max(WAIT_MAX_S, 2.0)


def test_first_wait_is_that_of_the_first_try() -> None:
    """An event that just arrived waits the first step of its category."""
    assert first_wait_s(case(), LEAST) == 0.25
    assert first_wait_s(case(status=429, headers={"retry-after": "7"}), LEAST) == 7.0
    assert first_wait_s(case(**AUTH), MOST) == 0.0


@pytest.mark.parametrize(
    ("asked_s", "words"),
    [
        (None, None),
        (0.0, None),
        (31 * DAY_S, None),
        (400 * DAY_S, "asked for 400 days, cut to 31 days"),
        (1e11, "asked for 1157407 days, cut to 31 days"),
    ],
)
def test_cut_wait_says_so(asked_s: float | None, words: str | None) -> None:
    """Decision 34: the words name what was asked for and what it was cut to."""
    assert cut(asked_s) == words


# Which remedy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", [Category.NETWORK, Category.RATE_LIMIT, Category.UNKNOWN])
def test_due_request_is_replayed(category: Category) -> None:
    """Everything but data and auth is cured by sending the original request again."""
    plan = choose(case(**of_category(category)))
    assert (plan.remedy, plan.procedure, len(plan.targets)) == ("replay", f"recover.{category.value}", 1)
    assert not plan.person


def test_data_is_never_retried() -> None:
    """Document B: no automatic retry, a person corrects it, even where something is due."""
    plan = choose(case(**of_category(Category.DATA), due=due(3)))
    assert (plan.remedy, plan.person, plan.targets) == (None, True, ())
    assert "corrected" in plan.action


@pytest.mark.parametrize(("wave", "sizes"), [(1, 1), (2, 2), (4, 4), (8, 8), (16, 9)])
def test_wave_limits_the_targets(wave: int, sizes: int) -> None:
    """A plan holds at most one wave, the oldest first."""
    plan = choose(case(due=due(9), incident={"wave": wave}))
    assert [one.id for one in plan.targets] == [f"operation-{number}" for number in range(sizes)]


def test_waiting_request_is_waited_for() -> None:
    """Nothing due but something waiting or running: no remedy, and no person either."""
    for operations in ({"waiting": 1}, {"running": 1}, {"waiting": 1, "dead": 3}):
        plan = choose(case(due=(), operations=operations))
        assert (plan.remedy, plan.action, plan.person) == (None, "retry scheduled", False)


def test_quarantined_request_is_a_persons() -> None:
    """Only quarantine left: a person decides, and reads why it is there."""
    plan = choose(case(due=(), operations={"dead": 1, "done": 4}, quarantined="outcome unknown"))
    assert (plan.remedy, plan.person, plan.action) == (None, True, "request in quarantine: outcome unknown")


@pytest.mark.parametrize(("attempts", "remedy"), [(0, "probe"), (2, "probe"), (3, None), (9, None)])
def test_failure_without_a_request_is_probed_at_most_three_times(attempts: int, remedy: str | None) -> None:
    """Where there is nothing to replay the service's health is asked, then only a success signal proves anything."""
    plan = choose(case(service=PROBED, due=(), operations={}, incident={"attempts": attempts}))
    assert plan.remedy == remedy
    assert remedy or plan.action == "wait for a success signal"


def test_failure_without_request_and_health_waits_for_a_success() -> None:
    """Nothing to replay, nothing to ask: it waits, and says for what."""
    plan = choose(case(due=(), operations={}))
    assert (plan.remedy, plan.action, plan.person) == (None, "wait for a success signal", False)


# Tokens ---------------------------------------------------------------------------------------------------------------


def test_auth_failure_refreshes_the_token_that_failed() -> None:
    """An auth failure with tokens at hand: refresh the version that is known to be bad, then replay."""
    plan = choose(case(**AUTH, service=OAUTHED, credential=tokens(version=4)))
    assert (plan.remedy, plan.stale_version, plan.targets) == ("refresh_token", 4, ())


@pytest.mark.parametrize(
    ("service", "held", "words"),
    [
        (CRM, None, "it has no oauth section"),
        (OAUTHED, None, "a person has to connect crm: run prunella credentials set crm"),
        (OAUTHED, tokens(needs_person="reconnect crm"), "reconnect crm"),
    ],
)
def test_auth_failure_that_no_refresh_can_cure_is_a_persons(service: Any, held: Any, words: str) -> None:
    """No oauth section, no tokens, or tokens that the provider refused: a person has to move, and reads how."""
    plan = choose(case(**AUTH, service=service, credential=held))
    assert (plan.remedy, plan.person) == (None, True)
    assert words in plan.action


def test_fresh_tokens_are_not_refreshed_again() -> None:
    """Refreshed for this failure, or up to 30 s before it: replay with the new token instead."""
    for seconds in (-30, 0, 5):
        held = tokens(refreshed_at=START + seconds * SECOND, version=2)
        looked = case(**AUTH, service=OAUTHED, credential=held)
        assert refreshed_lately(looked)
        assert choose(looked).remedy == "replay"
    old = tokens(refreshed_at=START - 31 * SECOND)
    assert choose(case(**AUTH, service=OAUTHED, credential=old)).remedy == "refresh_token"


def test_fresh_but_expired_tokens_are_refreshed() -> None:
    """A token that lives for seconds and has ended is refreshed, however fresh it was."""
    held = tokens(refreshed_at=START, expires_at=START)
    assert choose(case(**AUTH, service=OAUTHED, credential=held)).remedy == "refresh_token"


def test_missing_permission_is_not_a_matter_of_tokens() -> None:
    """A code that says "not allowed" is believed: refreshing would change nothing; a bare 403 is not that sure."""
    sure = replace(asking(None, "auth.permission"), confidence=0.96)
    assert choose(case(diagnosis=sure, service=OAUTHED, credential=tokens())).remedy == "replay"
    assert choose(case(status=403, service=OAUTHED, credential=tokens())).remedy == "refresh_token"


@pytest.mark.parametrize(
    ("last_kind", "version", "refreshed", "remedy"),
    [
        ("auth.expired", 3, None, "refresh_token"),
        ("auth.expired", 2, None, "replay"),
        ("network.server", 3, None, "replay"),
        (None, None, None, "replay"),
        ("auth.expired", 3, START, "replay"),
    ],
)
def test_replay_that_ran_into_auth_refreshes_first(
    last_kind: str | None, version: int | None, refreshed: Any, remedy: str
) -> None:
    """A network failure whose replay was refused with the tokens at hand needs new ones before the next try."""
    looked = case(
        service=OAUTHED,
        credential=tokens(version=3, refreshed_at=refreshed),
        due=due(1, last_kind=last_kind, token_version=version, attempts=1),
    )
    assert choose(looked).remedy == remedy


@given(st.sampled_from(Category), st.integers(0, 20), st.integers(1, 16), st.booleans(), st.integers(0, 5))
def test_plan_is_pure_and_keeps_its_promises(
    category: Category, count: int, wave: int, connected: bool, attempts: int
) -> None:
    """The same case gives the same plan; targets never exceed the wave; a person's plan has no remedy."""
    looked = case(
        **of_category(category),
        service=OAUTHED,
        credential=tokens() if connected else None,
        due=due(count),
        operations={"waiting": count} if count else {},
        incident={"wave": wave, "attempts": attempts},
    )
    plan = choose(looked)
    assert plan == choose(looked)
    assert len(plan.targets) <= wave
    assert not (plan.person and plan.remedy)
    assert bool(plan.targets) == (plan.remedy == "replay")
    assert plan.action
