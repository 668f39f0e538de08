"""A policy checks what it is made of, tells why calls went as they did, and can be changed while it works."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest

import prunella as pr
from guard.conftest import START, ManualTime
from prunella.core.events import Event

FAST = pr.Retry(attempts=3, base_s=0.0)


class Down(Exception):
    """The service's error."""


def fail(*_: object) -> None:
    raise Down("x")


def failing(policy: pr.Policy, *args: object) -> None:
    with pytest.raises(Down):
        policy.call(fail, *args)


# Made -----------------------------------------------------------------------------------------------------------------


def test_policy_is_found_by_its_name() -> None:
    """A later policy of the same name takes the place of the earlier one."""
    first = pr.policy("test-policy-by-name")
    assert pr.policies()["test-policy-by-name"] is first
    second = pr.policy("test-policy-by-name")
    assert pr.policies()["test-policy-by-name"] is second
    assert repr(second) == "<prunella policy test-policy-by-name>"


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"name": ""}, ValueError, "name must be a text"),
    ({"retry": 3}, TypeError, r"retry must be a Retry, got 3; write retry=pr.Retry\("),
    ({"breaker": True}, TypeError, r"write breaker=pr.Breaker\("),
    ({"budget": 0.2}, TypeError, r"write budget=pr.RetryBudget\("),
    ({"limiter": 10}, TypeError, r"write limiter=pr.AdaptiveLimiter\("),
    ({"bulkhead": 10}, TypeError, r"write bulkhead=pr.Bulkhead\("),
    ({"fallback": "value"}, TypeError, r"write pr.Fallback\(value="),
    ({"validate": "json"}, TypeError, "validate must be a function"),
    ({"key": "host"}, TypeError, "key must be a function"),
    ({"deadline_s": 0}, ValueError, "deadline_s must be seconds > 0"),
    ({"deadline_s": -1}, ValueError, "deadline_s"),
    ({"deadline_s": math.nan}, ValueError, "deadline_s"),
    ({"deadline_s": math.inf}, ValueError, "None for no limit"),
    ({"deadline_s": "5"}, ValueError, "got '5'"),
    ({"attempt_timeout_s": 0}, ValueError, "attempt_timeout_s must be seconds > 0"),
    ({"attempt_timeout_s": True}, ValueError, "attempt_timeout_s"),
    ({"max_inline_wait_s": -1}, ValueError, "max_inline_wait_s must be seconds >= 0"),
    ({"max_inline_wait_s": math.nan}, ValueError, "max_inline_wait_s"),
    ({"sync_timeout": "process"}, ValueError, "cooperative or thread"),
]


@pytest.mark.parametrize(("arguments", "kind", "words"), WRONG, ids=[str(one[0]) for one in WRONG])
def test_wrong_settings_are_refused_when_the_policy_is_made(
    arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """Subject, value, what is allowed and what to write instead (acceptance 18)."""
    with pytest.raises(kind, match=words):
        pr.policy(**{"name": "crm", **arguments})


@pytest.mark.parametrize("changes", [one[0] for one in WRONG if not {"name", "key"} & set(one[0])], ids=str)
def test_wrong_settings_are_refused_by_update_too(changes: dict[str, Any], clock: ManualTime) -> None:
    """And nothing has changed then."""
    policy = pr.policy("crm", retry=FAST)
    before = policy.settings
    with pytest.raises((TypeError, ValueError)):
        policy.update(retry=pr.Retry(attempts=9), **changes) if "retry" not in changes else policy.update(**changes)
    assert policy.settings == before


# Told -----------------------------------------------------------------------------------------------------------------


def _all_events(policy: pr.Policy) -> list[str]:
    names: list[str] = []
    policy.subscribe(lambda event: names.append(event.name))
    return names


def test_listeners_hear_what_a_policy_is_given_to_tell() -> None:
    """Other libraries' news come in the policy's name, like its own."""
    heard: list[Event] = []
    pr.policy("crm", listeners=[heard.append]).tell("call.gave_up", attempts=3)
    assert [(event.name, dict(event.fields)) for event in heard] == [("call.gave_up", {"policy": "crm", "attempts": 3})]


def test_listeners_hear_of_every_decision(clock: ManualTime) -> None:
    """Those given at the start and those that came later, until they leave."""
    first: list[Event] = []
    policy = pr.policy("crm", retry=FAST, breaker=pr.Breaker(failures=3), listeners=[first.append])
    second: list[Event] = []
    leave = policy.subscribe(second.append)
    failing(policy)
    names = [event.name for event in first]
    assert names == ["call.retrying", "call.retrying", "breaker.changed", "issue.noticed", "call.gave_up"]
    assert first == second
    leave()
    policy.breaker.force_closed()
    assert (len(first), len(second)) == (6, 5)
    assert all(event.fields["policy"] == "crm" for event in first)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_listener_that_raises_breaks_no_call(
    asynchronous: bool, clock: ManualTime, caplog: pytest.LogCaptureFixture
) -> None:
    """Table S: its error goes to the log, the caller's result and error are untouched, others still hear."""

    def deaf(event: Event) -> None:
        raise ValueError(f"slip on {event.name}")

    policy = pr.policy(
        "crm",
        retry=FAST,
        breaker=pr.Breaker(failures=3, open_s=1),
        limiter=pr.AdaptiveLimiter(rate_per_s=1e6, profile="aimd"),
        budget=pr.RetryBudget(),
        fallback=pr.Fallback(value="stand-in"),
        listeners=[deaf],
    )
    names = _all_events(policy)

    async def afail() -> None:
        fail()

    class Throttled(Exception):
        status_code = 429

    def throttled() -> None:
        raise Throttled

    result: Any = clock.run(policy.acall(afail)) if asynchronous else policy.call(fail)
    assert result == "stand-in"
    clock.passes(60)
    answer: Any = policy.call(throttled)
    assert answer == "stand-in"
    assert {"call.retrying", "breaker.changed", "call.gave_up", "call.degraded", "limiter.changed"} <= set(names)
    assert "listener failed on call.retrying" in caplog.text


def test_explain_tells_why_calls_failed(clock: ManualTime) -> None:
    """Newest last, with attempts, time, error and reason."""
    policy = pr.policy("crm", retry=pr.Retry(attempts=2, base_s=1, jitter="none"), breaker=pr.Breaker(failures=3))
    failing(policy)
    failing(policy)
    with pytest.raises(pr.CircuitOpen):
        policy.call(fail)
    told = policy.explain()
    assert (told["policy"], told["now"]) == ("crm", START + timedelta(seconds=1))
    assert [(one["attempts"], one["error"], one["reason"]) for one in told["calls"]] == [
        (2, "Down", "all attempts are used"),
        (1, "Down", "the breaker opened"),
        (1, "CircuitOpen", "the guard refused"),
    ]
    assert told["calls"][0]["took_s"] == 1.0
    assert told["breaker"]["state"] == "open"
    assert told["breaker"]["reason"] == "3 failures in a row"


def test_explain_remembers_the_last_calls_only(clock: ManualTime) -> None:
    """Memory does not grow with failures."""
    policy = pr.policy("crm")
    for _ in range(200):
        failing(policy)
    assert 10 <= len(policy.explain()["calls"]) <= 100


def test_explain_can_be_asked_while_calls_fail(clock: ManualTime) -> None:
    """A call that fails at any moment of the explanation, as in another thread, does not disturb it."""
    policy = pr.policy("crm")
    steps = 0

    def another_fails(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps
        if "guard" in frame.f_code.co_filename:
            frame.f_trace_opcodes = True
            steps += 1
            failing(policy)
        return another_fails

    failing(policy)
    before = sys.gettrace()
    sys.settrace(another_fails)
    try:
        policy.explain()
    finally:
        sys.settrace(before)
    assert steps > 50


def test_explain_of_parts_that_are_not_there_is_none() -> None:
    """Nothing is invented."""
    told = pr.policy("crm").explain()
    assert (told["breaker"], told["rate_per_s"], told["under_way"], told["calls"]) == (None, None, None, [])


# Keys -----------------------------------------------------------------------------------------------------------------


def _host(host: str, *_: object) -> str:
    return host


def test_each_key_has_its_own_breaker(clock: ManualTime) -> None:
    """One host that is down does not shut out the others."""
    policy = pr.policy("crm", breaker=pr.Breaker(failures=2), key=_host)
    failing(policy, "down.example")
    failing(policy, "down.example")
    with pytest.raises(pr.CircuitOpen, match=r"crm\[down.example\]"):
        policy.call(fail, "down.example")
    assert policy.call(str.upper, "up.example") == "UP.EXAMPLE"
    assert policy.breaker_for("down.example").standing()["state"] == "open"
    assert policy.breaker_for("up.example").standing()["state"] == "closed"


def test_each_key_has_its_own_limiter_and_bulkhead(clock: ManualTime) -> None:
    """A slow host takes no other host's turn and place."""
    policy = pr.policy("crm", limiter=pr.AdaptiveLimiter(rate_per_s=1), bulkhead=pr.Bulkhead(1), key=_host)
    for host in "abc":
        policy.call(_host, host)
    assert clock.slept == []
    policy.call(_host, "a")
    assert clock.slept == [1.0]
    assert policy.call(lambda host, call: call(), "a", lambda: policy.call(_host, "b")) == "b"


def test_keyed_calls_are_explained_with_their_own_breakers(clock: ManualTime) -> None:
    """What is open is shown as open, under its key."""
    policy = pr.policy("crm", breaker=pr.Breaker(failures=1), key=_host)
    failing(policy, "down.example")
    told = policy.explain()
    assert len(told["calls"]) == 1
    assert "open" in str(told), "the open breaker is nowhere to be seen"
    assert "down.example" in str(told)


def test_breaker_of_a_keyed_policy_is_asked_for_by_arguments(clock: ManualTime) -> None:
    """`policy.breaker` can't know which: the message says what to write."""
    policy = pr.policy("crm", breaker=pr.Breaker(), key=_host)
    with pytest.raises(LookupError, match="breaker_for"):
        _ = policy.breaker


def test_policy_without_breaker_says_so() -> None:
    """The message says how to get one."""
    with pytest.raises(LookupError, match=r"breaker=pr.Breaker\("):
        _ = pr.policy("crm").breaker


def test_error_of_the_key_function_reaches_the_caller(clock: ManualTime) -> None:
    """It is a bug of the program, and nothing was called."""

    def no_key(*_: object) -> None:
        raise ValueError("no key")

    with pytest.raises(ValueError, match="no key"):
        pr.policy("crm", key=no_key, retry=FAST).call(fail)


# Changed --------------------------------------------------------------------------------------------------------------


def calls_made(policy: pr.Policy, guarded: Callable[[list[int]], None]) -> int:
    made: list[int] = []
    with pytest.raises(Down):
        guarded(made)
    return len(made)


def _counted(made: list[int]) -> None:
    made.append(1)
    raise Down


def test_update_changes_retry_for_functions_guarded_before(clock: ManualTime) -> None:
    """What was decorated at import follows the policy."""
    policy = pr.policy("crm", retry=FAST)
    guarded = policy(_counted)
    assert calls_made(policy, guarded) == 3
    policy.update(retry=pr.Retry(attempts=5, base_s=0))
    assert calls_made(policy, guarded) == 5
    policy.update(retry=None)
    assert calls_made(policy, guarded) == 1


@pytest.mark.parametrize("first", [{}, {"deadline_s": 60}, {"breaker": pr.Breaker()}])
def test_update_adds_and_removes_limits_in_time(first: dict[str, Any], clock: ManualTime) -> None:
    """A function that was guarded without a limit gets one, and loses it again."""
    policy = pr.policy("crm", **first)

    @policy
    async def work() -> float:
        await asyncio.sleep(10)
        return pr.remaining_s()

    clock.run(work())
    policy.update(attempt_timeout_s=3)
    with pytest.raises(pr.AttemptTimeout):
        clock.run(work())
    policy.update(attempt_timeout_s=None, deadline_s=4)
    with pytest.raises(pr.DeadlineExceeded):
        clock.run(work())
    policy.update(deadline_s=None)
    assert clock.run(work()) == math.inf


@pytest.mark.parametrize("first", [{}, {"deadline_s": 60}, {"breaker": pr.Breaker()}])
def test_update_adds_and_removes_the_other_parts(first: dict[str, Any], clock: ManualTime) -> None:
    """Bulkhead, limiter, validation and fallback come and go while functions stay guarded."""
    policy = pr.policy("crm", **first)

    def work() -> str:
        return "result"

    guarded = policy(work)
    policy.update(validate=lambda result: result == "other")
    with pytest.raises(pr.BadResponse):
        guarded()
    policy.update(fallback=lambda: "stand-in")
    assert guarded() == "stand-in"
    policy.update(validate=None, fallback=None, bulkhead=pr.Bulkhead(1))
    with policy.attempt(), pytest.raises(pr.LoadShed):
        guarded()
    policy.update(bulkhead=None, limiter=pr.AdaptiveLimiter(rate_per_s=1))
    guarded()
    guarded()
    assert clock.slept == [1.0]
    policy.update(limiter=None)
    guarded()
    assert (clock.slept, policy.rate_per_s) == ([1.0], None)


def test_update_changes_the_breakers_figures_and_keeps_its_counts(clock: ManualTime) -> None:
    """Two failures counted before open a breaker that now allows two, at the next failure."""
    policy = pr.policy("crm", breaker=pr.Breaker(failures=10))
    failing(policy)
    failing(policy)
    policy.update(breaker=pr.Breaker(failures=3))
    assert policy.breaker.standing()["state"] == "closed"
    failing(policy)
    assert policy.breaker.standing()["state"] == "open"


@pytest.mark.parametrize("part", ["breaker", "budget"])
def test_update_neither_adds_nor_removes_breaker_and_budget(part: str) -> None:
    """The guarded functions were made with or without; the message says what to do."""
    made: dict[str, Any] = {"breaker": pr.Breaker(), "budget": pr.RetryBudget()}
    with pytest.raises(ValueError, match=f"{part} can't be added or taken away by update; make the policy anew"):
        pr.policy("crm").update(**{part: made[part]})
    with pytest.raises(ValueError, match="can't be added or taken away"):
        pr.policy("crm", **{part: made[part]}).update(**{part: None})


def test_update_of_something_else_is_refused() -> None:
    """A slip in a name changes nothing."""
    with pytest.raises(TypeError, match="deadlines"):
        pr.policy("crm").update(deadlines=3)


def test_update_changes_the_rate_at_once(clock: ManualTime) -> None:
    """Whoever sets five calls a second does not get a hundred."""
    policy = pr.policy("crm", limiter=pr.AdaptiveLimiter(rate_per_s=100))
    policy.update(limiter=pr.AdaptiveLimiter(rate_per_s=5))
    assert policy.rate_per_s is not None
    assert policy.rate_per_s <= 10
    policy.update(limiter=pr.AdaptiveLimiter(rate_per_s=1000))
    assert policy.rate_per_s >= 100


@pytest.mark.parametrize(("first", "second"), [(1, 5), (5, 2), (3, 1)])
def test_update_changes_the_places_under_load(first: int, second: int, clock: ManualTime) -> None:
    """With a queue that never ends the new limit holds as soon as those under way have left."""
    policy = pr.policy("crm", bulkhead=pr.Bulkhead(first, wait_s=1000))
    under_way, most = 0, 0

    @policy
    async def work() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(1)
        under_way -= 1

    async def main() -> None:
        nonlocal most
        tasks = [asyncio.create_task(work()) for _ in range(40)]
        await asyncio.sleep(2.5)
        assert most == first
        policy.update(bulkhead=pr.Bulkhead(second, wait_s=1000))
        await asyncio.sleep(2)
        most = 0
        await asyncio.sleep(3)
        assert most == second
        await asyncio.gather(*tasks)

    clock.run(main())
    assert policy.explain()["under_way"] == 0


def test_update_reaches_every_key(clock: ManualTime) -> None:
    """Those seen before and those to come."""
    policy = pr.policy("crm", breaker=pr.Breaker(failures=9), key=_host)
    failing(policy, "seen")
    policy.update(breaker=pr.Breaker(failures=2))
    failing(policy, "seen")
    failing(policy, "new")
    failing(policy, "new")
    states = [policy.breaker_for(host).standing()["state"] for host in ("seen", "new")]
    assert states == ["open", "open"]


@pytest.mark.parametrize("part", ["limiter", "bulkhead"])
def test_part_that_is_taken_away_lets_its_waiters_be_cancelled(part: str, clock: ManualTime) -> None:
    """A cancel stays a cancel, and is no failure of the service."""
    parts: dict[str, Any] = {
        "limiter": pr.AdaptiveLimiter(rate_per_s=0.1, wait_s=100),
        "bulkhead": pr.Bulkhead(1, wait_s=100),
    }
    policy = pr.policy("crm", breaker=pr.Breaker(failures=1), **{part: parts[part]})

    async def main() -> None:
        busy = asyncio.create_task(policy.acall(asyncio.sleep, 5))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(policy.acall(asyncio.sleep, 5))
        await asyncio.sleep(1)
        policy.update(**{part: None})
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await busy

    clock.run(main())
    assert policy.breaker.standing()["state"] == "closed"


def test_block_of_a_keyed_policy_names_its_resource() -> None:
    """Blocks share the breaker of the calls of the same resource, and of no other."""
    policy = pr.policy("crm", breaker=pr.Breaker(failures=1), key=lambda host: host)
    with pytest.raises(OSError, match="down"), policy.attempt("a"):
        raise OSError("down")
    with pytest.raises(pr.CircuitOpen):
        policy.call(lambda host: host, "a")
    for attempt in policy.attempts("b"):
        with attempt:
            assert policy.call(lambda host: host, "b") == "b"
