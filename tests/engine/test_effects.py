"""What healing is worth: every figure against hand-made cases with known answers, on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.world import World, play, refused
from prunella.core.advice import Advice, Allowance, Answer
from prunella.core.issues import Evidence
from prunella.core.records import Category, Diagnosis, Failure, Level, Signal
from prunella.core.states import GateState, IncidentState, RunState
from prunella.diagnosis.classify import classify
from prunella.engine.effects import FRESH_S, Effects, Recent, Spread, effects
from prunella.engine.gates import move
from prunella.store.contract import Store, Transaction
from store.making import NOW, SECOND, at, entry, incident, run, signal

pytestmark = pytest.mark.anyio

DAY = 24 * 3600.0
SINCE, YESTERDAY = NOW - timedelta(days=7), NOW - timedelta(days=1)
RESOLVED, ESCALATED = IncidentState.RESOLVED, IncidentState.ESCALATED
GOOD, BAD, NO_EFFECT, UNDONE = RunState.VERIFIED, RunState.FAILED, RunState.INEFFECTIVE, RunState.UNDONE


async def case(
    tx: Transaction,
    number: int,
    *attempts: tuple[str, RunState],
    began: datetime = YESTERDAY,
    well_s: float | None = None,
    **changed: Any,
) -> None:
    """Write an incident with its attempts: one every ten seconds, each of a second.

    Args:
        well_s: so long after its beginning it was proven well; None: it was not.
    """
    if well_s is not None:
        changed |= {"state": RESOLVED, "resolved_at": began + well_s * SECOND}
    fields = {"service": "crm", "first_seen": began, "last_seen": began, **changed}
    await tx.incidents.open_or_join(incident(number, **fields))
    runs = [
        run(
            f"{number}-{place}",
            incident_id=f"incident-{number}",
            remedy=remedy,
            state=state,
            started_at=began + 10 * place * SECOND,
            ended_at=began + (10 * place + 1) * SECOND,
        )
        for place, (remedy, state) in enumerate(attempts, 1)
    ]
    await tx.runs.add(runs)


async def arrived(tx: Transaction, *signals: Signal) -> None:
    """Write signals, diagnosed as intake does."""
    await tx.signals.add([(one, diagnosed(one), None) for one in signals])


def diagnosed(one: Signal) -> Diagnosis | None:
    return classify(one.failure, now=NOW) if one.failure is not None else None


def failure(number: int, status: int = 503, **changed: Any) -> Signal:
    """A failure of the crm that arrived two seconds after it happened, a day ago."""
    received = changed.pop("received_at", at(-DAY))
    fields = {"service": "crm", "received_at": received, "occurred_at": received - 2 * SECOND, **changed}
    return signal(number, failure=Failure(service="crm", status=status, message=f"m{status}"), **fields)


def rounded(found: Spread | None) -> tuple[int, float, float | None, float | None] | None:
    """Return a spread as databases agree on it."""
    if found is None:
        return None
    half_s, most_s = (None if one is None else round(one, 3) for one in (found.p50_s, found.p95_s))
    return found.count, round(found.mean_s, 3), half_s, most_s


async def known(tx: Transaction, scope: str, remedy: str, what: Evidence) -> None:
    """Write what is known about a remedy."""
    await tx.learning.take_evidence(scope, remedy)
    await tx.learning.save_evidence(scope, remedy, what)


async def read(store: Store, service: str | None = None, days: int = 7) -> Effects:
    async with store.transaction() as tx:
        return await effects(tx, NOW, days, ["crm"], service)


async def healed(tx: Transaction) -> None:
    """Nine incidents with every end that there is; see the comments."""
    replay, refresh = "replay", "refresh_token"
    await case(tx, 1, (replay, BAD), (replay, GOOD), well_s=60)  # fixed at the second attempt
    await case(tx, 2, (replay, BAD), (replay, NO_EFFECT), (refresh, GOOD), well_s=120)  # fixed by something else
    await case(tx, 3, (replay, BAD), state=ESCALATED)  # left to people
    await case(tx, 4, well_s=30)  # a success signal proved it: nothing was tried
    await case(tx, 5, (replay, GOOD), well_s=40)  # after a person's retry
    await case(tx, 6, (replay, GOOD), well_s=50)  # a person only looked on
    await case(tx, 7, (replay, GOOD), well_s=1, forced=True)
    await case(tx, 8, ("probe", GOOD), well_s=20, service="shop")  # looking repairs nothing
    await case(tx, 9, (replay, UNDONE), (replay, BAD))  # still open
    people = [
        entry(1, at=at(-DAY), actor="ada", action="incident.retry", target="crm", incident_id="incident-5"),
        entry(2, at=at(-DAY), actor="ada", action="incident.ack", target="crm", incident_id="incident-6"),
        entry(3, at=at(-DAY), actor="advisor", action="advice.given", target="crm", incident_id="incident-6"),
        entry(4, at=at(-DAY), action="incident.refuse", target="crm", incident_id="incident-3"),
        entry(5, at=at(-DAY), action="incident.escalated", target="crm", incident_id="incident-3"),
        entry(6, at=at(-DAY), action="incident.escalated", target="crm", incident_id="incident-7"),
    ]
    await tx.audit.add(people)


async def test_figures_of_document_c(store: Store) -> None:
    """Errors, auto-fixed and both rates, openings, escalations, recovery time, toil: all from what happened."""
    async with store.transaction() as tx:
        await healed(tx)
        await arrived(tx, *(failure(number) for number in range(1, 9)), failure(9, forced=True))
        await arrived(
            tx,
            failure(10, source="guard"),
            failure(12, source="guard", forced=True),
            signal(11, service="crm", outcome="success", failure=None),
        )
        opened = [("gate.opened", at(-60)), ("gate.opened", at(-30)), ("gate.half_open", at(-20))]
        entries = [entry(20 + n, at=when, action=action, target="crm") for n, (action, when) in enumerate(opened)]
        await tx.audit.add(
            [*entries, entry(30, at=at(-9), action="issue.escalated", target="x", incident_id="incident-1")]
        )
    all_of_them = (await read(store)).all
    assert (all_of_them.total_errors, all_of_them.began) == (9, 8)
    assert (all_of_them.recovered, all_of_them.left) == (6, 1)
    assert (all_of_them.tried, all_of_them.auto_fixed) == (5, 3)  # 1, 2, 6 of these and 3, 5
    assert all_of_them.auto_fix_rate == 60.0
    assert all_of_them.auto_fixed_per_error == pytest.approx(100 * 3 / 9)
    assert (all_of_them.gate_opens, all_of_them.guard_opens) == (2, 1)
    assert (all_of_them.escalations, all_of_them.issues) == (1, 1)
    assert rounded(all_of_them.recovery) == (6, round((60 + 120 + 30 + 40 + 50 + 20) / 6, 3), None, None)
    assert all_of_them.toil_saved_h == 0.75


async def test_plans_that_people_approve_are_not_fixed_without_them(store: Store) -> None:
    """At L2 a person said yes, and what was left to people was not done alone; at L1 a person was only told."""
    async with store.transaction() as tx:
        await case(tx, 1, ("hide", GOOD), well_s=60, level=Level.L2)
        await case(tx, 2, ("hide", GOOD), well_s=60, level=Level.L1)
        await case(tx, 3, ("hide", GOOD), well_s=60)
        await tx.audit.add([entry(1, at=at(-9), action="incident.escalated", incident_id="incident-3")])
    found = (await read(store)).all
    assert (found.tried, found.auto_fixed) == (3, 1)


async def test_figures_of_document_b_stand_by_service(store: Store) -> None:
    """Recovery rate and times, categories, disabled, the advisor: each service its own; a filter leaves the rest out."""
    async with store.transaction() as tx:
        await healed(tx)
        await case(tx, 12, began=at(-DAY), service="ghost")
        await arrived(tx, failure(1), failure(2, 422), failure(3, 422), failure(4, 422, service="ghost"))
        await tx.audit.add([entry(40, at=at(-9), action="gate.disabled", target="shop")])
        gate = await tx.gates.take("shop", at(-9))
        await tx.gates.save(move(gate, GateState.DISABLED, at(-9), reason="r"))
    found = await read(store)
    assert list(found.services) == ["crm", "ghost", "shop"]
    crm, ghost, shop = found.services.values()
    assert (crm.recovery_rate, shop.recovery_rate, ghost.recovery_rate) == (100 * 5 / 6, 100.0, None)
    assert rounded(crm.recovery) == (5, 60.0, 50.0, 120.0)
    assert (crm.errors, ghost.errors) == ({"network": 1, "data": 2}, {"data": 1})
    assert (shop.disabled, shop.is_disabled, crm.is_disabled) == (1, True, False)
    assert (shop.tried, shop.auto_fix_rate, ghost.recovery) == (0, None, None)
    alone = await read(store, "shop")
    assert alone.services == {"shop": shop}
    assert (alone.remedies, alone.all.began) == ([], 1)
    assert (await read(store, "nobody")).services == {}


async def test_questions_to_the_advisor_count_for_their_service(store: Store) -> None:
    """Asked, answered, and what it cost; one without advice was asked in vain."""
    allowance = Allowance()
    advice = Advice(
        category=Category.UNKNOWN,
        kind="bug",
        summary="s",
        steps=(),
        prevention="",
        proposed_action=None,
        confidence=0.5,
    )
    async with store.transaction() as tx:
        await case(tx, 1)
        for name, answer in (
            ("a", Answer(advice=advice, tokens=300)),
            ("b", Answer(tokens=100, trouble="no JSON")),
        ):
            assert await tx.advice.book(name, "incident-1", "digest", 1000, allowance, at(-60)) is None
            await tx.advice.settle(name, at(-60), 1000, answer, allowance, at(-50))
    crm = (await read(store)).services["crm"]
    assert (crm.asked, crm.answered, crm.tokens) == (2, 1, 400)


async def test_remedies_are_judged_by_what_became_of_their_attempts(store: Store) -> None:
    """Verified of tried; futile where something else or a person brought it back, and not where a later attempt did."""
    async with store.transaction() as tx:
        await healed(tx)
        await case(tx, 10, ("replay", BAD), well_s=99)  # a person corrected the data
    refresh, replay = sorted((await read(store)).remedies, key=lambda one: one.remedy)
    assert (refresh.incidents, refresh.helped, refresh.tried, refresh.effectiveness) == (1, 1, 1, 100.0)
    assert (replay.incidents, replay.helped, replay.tried, replay.verified) == (7, 3, 10, 3)
    assert (replay.ineffective, replay.undone, replay.failed, replay.effectiveness) == (1, 1, 5, 30.0)
    assert (replay.futile, refresh.futile) == (3, 0)  # both of 2, and that of 10


async def test_regressions_count_against_what_was_proven_before(store: Store) -> None:
    """Within 24 hours after the proof, to the second; a remedy that was not proven there is not to blame."""
    async with store.transaction() as tx:
        await case(tx, 1, ("replay", BAD), ("refresh_token", GOOD), began=at(-3 * DAY), well_s=0)
        for number, after_s in ((2, DAY - 1), (3, DAY + 1), (4, 60.0)):
            began = at(-3 * DAY + after_s)
            await case(tx, number, began=began, regressed=True, previous_id="incident-1", forced=number == 4)
    counted = {one.remedy: one.regressions for one in (await read(store)).remedies}
    assert counted == {"refresh_token": 1, "replay": 0}


async def test_times_are_told_from_the_failure_to_the_proof(store: Store) -> None:
    """To detect from its occurrence, to act from its arrival, to verify from the last attempt's end; looks are no acts."""
    async with store.transaction() as tx:
        await case(tx, 1, ("probe", BAD), ("replay", BAD), ("replay", GOOD), well_s=40)
        await case(tx, 2, ("probe", GOOD), well_s=90)
        await arrived(tx, failure(1), failure(2, occurred_at=at(-DAY) + 5 * SECOND))  # a clock that is ahead of ours
    found = await read(store)
    assert rounded(found.detect) == (2, 1.0, 0.0, 2.0)
    assert rounded(found.act) == (1, 20.0, 20.0, 20.0)
    assert rounded(found.verify) == (1, 9.0, 9.0, 9.0)


async def test_span_ends_to_the_second(store: Store) -> None:
    """What began, arrived or was noted before the span counts nowhere; a recovery counts where it was proven."""
    async with store.transaction() as tx:
        await case(tx, 1, ("replay", GOOD), began=SINCE - SECOND, well_s=60)
        await case(tx, 2, ("replay", GOOD), began=SINCE, well_s=80)
        await arrived(tx, failure(1, received_at=SINCE - SECOND), failure(2, received_at=SINCE))
        moments = enumerate((SINCE - SECOND, SINCE))
        await tx.audit.add([entry(n, at=when, action="gate.opened", target="crm") for n, when in moments])
    crm = (await read(store)).services["crm"]
    assert (crm.total_errors, crm.began, crm.auto_fixed, crm.gate_opens) == (1, 1, 1, 1)
    assert rounded(crm.recovery) == (2, 70.0, 60.0, 80.0)


async def test_nothing_is_no_rate(store: Store) -> None:
    """Where nothing happened there are no times, and shares are None, not 0 %."""
    found = await read(store)
    assert (found.services, found.remedies, found.issues) == ({}, [], [])
    assert (found.all.recovery_rate, found.all.auto_fix_rate, found.all.auto_fixed_per_error) == (None, None, None)
    assert (found.all.recovery, found.detect, found.act, found.verify) == (None, None, None, None)
    assert (found.all.total_errors, found.all.toil_saved_h) == (0, 0.0)


async def test_known_issues_show_their_evidence(store: Store) -> None:
    """What became of remedies at an issue, ever; what is known of a whole kind is not an issue's."""
    async with store.transaction() as tx:
        for scope in ("issue:crm-cache", "kind:network.server"):
            await known(tx, scope, "invalidate_cache", Evidence(tried=4, verified=3, ineffective=1))
        await known(tx, "issue:other", "refresh_auth", Evidence())
    first, second = (await read(store)).issues
    assert (first.issue, first.remedy, first.tried, first.effectiveness) == ("crm-cache", "invalidate_cache", 4, 75.0)
    assert (second.issue, second.effectiveness) == ("other", None)


def test_figures_are_fed_by_real_healing(sqlite_path: Path) -> None:
    """What the engine itself writes is what is counted: a replay that helps, data that people must see, a gate that opens."""

    async def story(world: World) -> None:
        world.hands.by_endpoint["/stuck"] = refused(503)
        await world.fail(operation="POST /a")
        await world.fail(operation="POST /b", forced=True)
        await world.fail(operation="POST /d", status=422)
        await world.fail(service="shy", operation="POST /c", endpoint="/stuck")
        await world.later(30)
        async with world.store.transaction() as tx:
            found = await effects(tx, world.parts.clock.now(), 1, world.parts.services, None)
        crm, shy = found.services["crm"], found.services["shy"]
        assert (crm.errors, crm.began, crm.recovered, crm.left) == ({"network": 1, "data": 1}, 2, 1, 1)
        assert (crm.tried, crm.auto_fixed, crm.auto_fix_rate, crm.escalations) == (1, 1, 100.0, 1)
        assert (shy.gate_opens, shy.recovered, shy.auto_fix_rate) == (1, 0, None)
        assert {one.remedy: one.verified for one in found.remedies} == {"replay": 1}
        assert found.act is not None
        assert found.verify is not None

    play(sqlite_path, story, running=True)


@pytest.mark.parametrize(
    ("took_s", "half_s", "most_s"),
    [([3.0], 3.0, 3.0), ([4.0, 1.0], 1.0, 4.0), (list(map(float, range(1, 101))), 50.0, 95.0)],
)
def test_spread_takes_the_nearest_rank(took_s: Sequence[float], half_s: float, most_s: float) -> None:
    """A time within which half, or 95 %, really were done."""
    assert Spread.of(took_s) == Spread(len(took_s), sum(took_s) / len(took_s), half_s, most_s)


def test_figures_are_read_twice_a_minute_at_most(sqlite_path: Path) -> None:
    """Whoever asks within half a minute gets what was read; each span and service has its own."""

    async def story(world: World) -> None:
        recent = Recent(world.parts)
        first = await recent.of(7)
        await world.fail()
        assert await recent.of(7) is first
        assert (await recent.of(7, "crm")).all.began == 1
        await world.later(FRESH_S)
        assert (await recent.of(7)).all.began == 1

    play(sqlite_path, story, running=True)
