"""What an attempt teaches: the next step, the size of the next wave, the gate, the words for people."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.world import CRM, DONE, OAUTHED, SHY, START, World, play, refused
from prunella.core.records import Severity
from prunella.core.states import GateState, IncidentState, OperationState
from prunella.engine import people
from prunella.remedies.contract import Outcome

DAY_S = 86_400.0
WIDE = replace(CRM, calls_max=100)


# Waves ----------------------------------------------------------------------------------------------------------------


def test_waves_grow_while_they_are_good(sqlite_path: Path) -> None:
    """Decision 25: 1, 2, 4, 8, and then by sixteen."""

    async def story(world: World) -> None:
        await world.fail_together(40)
        await world.later(60)
        assert world.hands.waves() == [1, 2, 4, 8, 16, 9]
        assert {one.state for one in await world.operations()} == {OperationState.DONE}

    generous = replace(WIDE.disable_after, network=None)
    play(sqlite_path, story, running=True, services=[replace(WIDE, disable_after=generous)])


def test_wave_never_asks_more_of_a_service_than_it_may_get(sqlite_path: Path) -> None:
    """`calls_max` cuts every wave, and never more calls are under way at once."""

    async def story(world: World) -> None:
        await world.fail_together(30)
        await world.later(60)
        assert max(world.hands.waves()) == 3
        assert world.hands.most_at_once == 3
        assert {one.state for one in await world.operations()} == {OperationState.DONE}

    generous = replace(CRM.disable_after, network=None)
    play(sqlite_path, story, running=True, services=[replace(CRM, calls_max=3, disable_after=generous)])


@pytest.mark.parametrize(
    ("failing", "wave"),
    [(0, 8), (1, 8), (2, 8), (3, 1), (4, 1)],
)
def test_bad_wave_starts_over(sqlite_path: Path, failing: int, wave: int) -> None:
    """Four calls: up to half may fail and the wave still doubles; more than half and it is one again."""

    async def story(world: World) -> None:
        for number in range(4):
            await world.fail(endpoint=f"/orders/{number}", operation="POST /orders/{id}")
            if number < failing:
                world.hands.by_endpoint[f"/orders/{number}"] = refused(503)
        (one,) = await world.incidents()
        await world.save(replace(one, wave=4))
        await world.heal(one.id)
        await world.later(1)
        await world.heal(one.id)
        assert len(world.hands.did()) == 4
        assert (await world.incident(one.id)).wave == wave

    play(sqlite_path, story, services=[WIDE])


def test_failing_target_does_not_keep_the_others_back(sqlite_path: Path) -> None:
    """One request of five is refused for good: the other four go through, that one is quarantined for a person."""

    async def story(world: World) -> None:
        for number in range(5):
            await world.fail(endpoint=f"/orders/{number}", operation="POST /orders/{id}")
        world.hands.by_endpoint["/orders/2"] = refused(422, "quantity is required")
        await world.later(60)
        states = [one.state for one in await world.operations()]
        assert states == [OperationState.DEAD if n == 2 else OperationState.DONE for n in range(5)]
        (one,) = await world.incidents()
        assert one.state is IncidentState.ESCALATED
        assert await world.told("recovered") == []
        assert "4 of 5 requests went through, 1 in quarantine" in [
            dict(told.facts)["Recovery Plan"] for told in await world.told("detected")
        ]

    play(sqlite_path, story, running=True)


# The gate -------------------------------------------------------------------------------------------------------------


def test_own_failed_calls_open_the_gate_and_probes_close_it(sqlite_path: Path) -> None:
    """Two failures in a row open it for a minute; then one probe at a time; two good ones close it."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503), refused(503), DONE]
        for _ in range(4):
            await world.fail("shy")
        await world.later(30)
        gate = await world.gate("shy")
        assert (gate.state, gate.reason) == (GateState.OPEN, "2 failed calls in a row")
        (one,) = await world.incidents()
        assert "the gate of shy is open" in (one.held_reason or "")
        assert len(world.hands.did()) == 2
        await world.later(120)
        assert (await world.gate("shy")).state is GateState.CLOSED
        assert [one.reason[:9] for one in await world.audit("gate.recovered")] == ["down for "]
        assert not (await world.incident(one.id)).is_open
        assert world.hands.did()[2].at_s >= 60
        assert {world.hands.waves()[index] for index in (2, 3)} == {1}

    play(sqlite_path, story, running=True)


@pytest.mark.parametrize(
    ("outcome", "failures"),
    [
        (refused(503), 1),
        (refused(None, "connection reset", code="ECONNRESET"), 1),
        (refused(422, "quantity is required"), 0),
        (refused(401, code="invalid_token"), 0),
        (refused(429), 0),
        (Outcome(ok=False, detail="secret missing", needs_person="set it"), 0),
    ],
    ids=["server", "connection", "data", "auth", "rate-limit", "ours"],
)
def test_only_failures_of_the_service_count_towards_its_gate(
    sqlite_path: Path, outcome: Outcome, failures: int
) -> None:
    """A wrong request, a refused token, a rate limit or our own mistake say nothing about the service's health."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [outcome]
        receipt = await world.fail()
        await world.heal(receipt.incident_id)
        await world.later(1)
        await world.heal(receipt.incident_id)
        assert len(world.hands.did()) == 1
        assert (await world.gate()).failures == failures

    play(sqlite_path, story)


def test_asked_silence_holds_every_incident_of_the_service(sqlite_path: Path) -> None:
    """A replay that is answered with 429 and five minutes: nothing is sent to that service before."""

    async def story(world: World) -> None:
        world.hands.by_endpoint["/a"] = refused(429, retry_after="300")
        await world.fail(endpoint="/a", operation="POST /a")
        await world.later(2)
        assert (await world.gate()).throttled_until is not None
        receipt = await world.fail(endpoint="/b", operation="POST /b")
        await world.later(60)
        assert len(world.hands.did()) == 1
        assert "asked for silence until" in ((await world.incident(receipt.incident_id)).held_reason or "")
        world.hands.by_endpoint.clear()
        await world.later(300)
        assert [one.is_open for one in await world.incidents()] == [False, False]
        assert world.hands.did()[1].at_s >= 300

    play(sqlite_path, story, running=True)


def test_refresh_says_nothing_about_the_service(sqlite_path: Path) -> None:
    """The token endpoint is another service: its failures do not open this gate."""

    async def story(world: World) -> None:
        await world.put_tokens()
        world.hands.script["refresh_token"] = [refused(503)]
        await world.fail("oauthed", status=401)
        await world.later(60)
        assert len(world.hands.did("refresh_token")) == 3
        assert (await world.gate("oauthed")).failures == 0

    play(sqlite_path, story, running=True)


# Waits ----------------------------------------------------------------------------------------------------------------


def test_wait_that_was_cut_says_so(sqlite_path: Path) -> None:
    """Decision 34: asked for 400 days, cut to 31, in `held_reason` and in the timeline."""

    async def story(world: World) -> None:
        receipt = await world.fail(status=429, headers={"retry-after": str(int(400 * DAY_S))})
        await world.later(1)
        one = await world.incident(receipt.incident_id)
        assert one.next_at == START + timedelta(days=31)
        assert "asked for 400 days, cut to 31 days" in (one.held_reason or "")
        assert any("asked for 400 days, cut to 31 days" in entry.reason for entry in await world.audit())

    play(sqlite_path, story, running=True)


def test_wait_that_a_replay_learned_is_cut_and_said_likewise(sqlite_path: Path) -> None:
    """The event had no hint, the first replay brought one of 400 days: the same words, the same limit."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(429, retry_after=str(int(400 * DAY_S)))]
        receipt = await world.fail(status=429)
        await world.later(5)
        one = await world.incident(receipt.incident_id)
        assert one.next_at is not None
        assert timedelta(days=31) <= one.next_at - START <= timedelta(days=31, seconds=5)
        assert "asked for 400 days, cut to 31 days" in (one.held_reason or "")
        assert any("asked for 400 days, cut to 31 days" in entry.reason for entry in await world.audit())

    play(sqlite_path, story, running=True)


@pytest.mark.parametrize(("hours", "calls"), [(23, 0), (25, 1)])
@pytest.mark.parametrize("learned", [False, True], ids=["reported", "learned"])
def test_wait_beyond_a_day_is_told_to_a_person(sqlite_path: Path, hours: int, calls: int, learned: bool) -> None:
    """Decision 11: waits beyond 24 h notify, once; shorter ones are kept in silence."""

    async def story(world: World) -> None:
        asked = str(hours * 3600)
        world.hands.script["replay"] = [refused(429, retry_after=asked)]
        await world.fail(status=429, headers={} if learned else {"retry-after": asked})
        await world.later(5)
        loud = [told for told in await world.told("detected") if told.severity is Severity.HIGH]
        assert len(loud) == calls

    play(sqlite_path, story, running=True)


# Giving up ------------------------------------------------------------------------------------------------------------


def test_dead_refresh_token_is_a_persons_with_the_words_of_the_remedy(sqlite_path: Path) -> None:
    """Escalated at once, told HIGH once, counted as one failed recovery; new events change nothing about it."""
    reason = "the provider refused the refresh token (invalid_grant); reconnect oauthed"

    async def story(world: World) -> None:
        await world.put_tokens()
        world.hands.script["refresh_token"] = [Outcome(ok=False, detail=reason, needs_person=reason)]
        receipt = await world.fail("oauthed", status=401)
        await world.later(60)
        one = await world.incident(receipt.incident_id)
        assert (one.state, one.held_reason, one.refresh_failed) == (IncidentState.ESCALATED, reason, True)
        assert [entry.reason for entry in await world.audit("incident.escalated")] == [reason]
        assert [row.due_at for row in await world.operations()] == [None]
        loud = [told for told in await world.told("detected") if told.severity is Severity.HIGH]
        assert [dict(told.facts)["Recovery Plan"] for told in loud] == [reason]
        gate = await world.gate("oauthed")
        assert (gate.auth, gate.recovery_fail_count, gate.state) == (1, 1, GateState.CLOSED)
        assert len(world.hands.deeds) == 1

    play(sqlite_path, story, running=True)


def test_fresh_token_that_is_refused_is_a_persons(sqlite_path: Path) -> None:
    """Refreshed, replayed, refused again: asking the same way once more is pointless."""

    async def story(world: World) -> None:
        await world.put_tokens()
        world.hands.rotate(world.store)
        world.hands.script["replay"] = [refused(401, code="invalid_token", version=2)]
        receipt = await world.fail("oauthed", status=401)
        await world.later(600)
        assert [deed.remedy for deed in world.hands.deeds] == ["refresh_token", "replay"]
        one = await world.incident(receipt.incident_id)
        assert (one.state, one.refresh_failed) == (IncidentState.ESCALATED, True)
        assert (await world.gate("oauthed")).auth == 1

    play(sqlite_path, story, running=True)


def test_three_failed_recoveries_after_a_refresh_disable_the_service(sqlite_path: Path) -> None:
    """Document B's threshold for auth, reached by the events that the failed recovery stood for."""

    async def story(world: World) -> None:
        await world.put_tokens()
        world.hands.rotate(world.store)
        world.hands.script["replay"] = [refused(401, code="invalid_token", version=2)]
        await world.fail_together(3, "oauthed", status=401)
        await world.later(60)
        gate = await world.gate("oauthed")
        assert (gate.state, gate.reason) == (
            GateState.DISABLED,
            "3 consecutive auth failures after a token refresh",
        )
        assert len(await world.told("disabled")) == 1

    play(sqlite_path, story, running=True)


def test_incident_of_a_day_without_success_is_a_persons(sqlite_path: Path) -> None:
    """Whatever the scan tries: after 24 hours somebody is asked, once."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503)]
        receipt = await world.fail()
        for _ in range(26):
            await world.later(3600)
            await people.act_on_incident(world.parts, receipt.incident_id or "", "retry", by="cron")
            await world.later(10)
            if (await world.incident(receipt.incident_id)).state is IncidentState.ESCALATED:
                break
        one = await world.incident(receipt.incident_id)
        assert one.state is IncidentState.ESCALATED
        assert timedelta(hours=24) < world.parts.clock.now() - START < timedelta(hours=26)
        calls = [dict(told.facts)["Recovery Plan"] for told in await world.told("detected")]
        assert calls.count("no success within 24 hours") == 1

    play(sqlite_path, story, running=True)


def test_hold_is_noted_once_however_often_it_is_looked_at(sqlite_path: Path) -> None:
    """A paused service's incident, looked at a hundred times, has one entry that says so."""

    async def story(world: World) -> None:
        await people.act_on_service(world.parts, "crm", "pause", by="ada", reason="release")
        receipt = await world.fail()
        for _ in range(100):
            await world.heal(receipt.incident_id)
        assert [entry.reason for entry in await world.audit("incident.wait")] == ["crm is paused by ada: release"]

    play(sqlite_path, story)


@pytest.mark.parametrize(
    ("level", "state", "action"),
    [
        ("L2", IncidentState.AWAITING_APPROVAL, "incident.propose"),
        ("L3", IncidentState.ESCALATED, "incident.refuse"),
    ],
)
def test_levels_leave_the_deed_to_a_person(sqlite_path: Path, level: str, state: IncidentState, action: str) -> None:
    """L2 waits for an approval, L3 for a person's own hands; nothing is sent in either."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        await world.heal(receipt.incident_id)
        await world.save(replace(await world.incident(receipt.incident_id), level=level))  # type: ignore[arg-type]
        await world.later(1)
        await world.heal(receipt.incident_id)
        assert (await world.incident(receipt.incident_id)).state is state
        assert len(await world.audit(action)) == 1
        assert world.hands.deeds == []

    play(sqlite_path, story)


def test_every_decision_leaves_its_reason(sqlite_path: Path) -> None:
    """The timeline of a recovery holds what was begun, how it ended and why, in order."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503), DONE]
        await world.fail()
        await world.later(10)
        entries = await world.audit()
        assert [entry.action for entry in entries if not entry.action.startswith("incident.wait")] == [
            "incident.opened",
            "replay.begun",
            "replay.settled",
            "replay.begun",
            "replay.settled",
            "incident.resolved",
        ]
        assert all(entry.reason and entry.actor == "prunella" for entry in entries)
        assert "0 of 1 succeeded (HTTP 503)" in [entry.reason for entry in entries]

    play(sqlite_path, story, running=True)


def test_users_rules_hold_for_our_own_replays(sqlite_path: Path) -> None:
    """What the user says a status means is believed of a replay's answer as well."""
    rules = ({"when": {"status": 477}, "kind": "rate_limit.window", "retry_after": 300},)

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(477), DONE]
        await world.fail()
        await world.later(200)
        assert len(world.hands.did()) == 1
        assert [one.last_kind for one in await world.operations()] == ["rate_limit.window"]

    play(sqlite_path, story, running=True, services=[replace(CRM, rules=rules)])


def test_resolution_is_emitted_with_its_figures(sqlite_path: Path) -> None:
    """Metrics hear service, category, time to recover and whether it was forced; runs are heard one by one."""

    async def story(world: World) -> None:
        await world.fail(forced=True)
        await world.later(5)
        (event,) = world.emitted("incident.resolved")
        fields: dict[str, Any] = dict(event.fields)
        assert (fields["service"], fields["category"], fields["forced"]) == ("crm", "network", True)
        assert 0.2 < fields["took_s"] < 1.0
        assert [event.fields["state"] for event in world.emitted("run.finished")] == ["verified"]
        assert len(world.emitted("plan.decided")) == 1

    play(sqlite_path, story, running=True)


def test_shy_gate_is_what_its_service_configured() -> None:
    """The world's shy service opens after two failures: the figures of these stories."""
    assert (SHY.gate.failures, SHY.gate.successes, SHY.gate.open_s, OAUTHED.gate.failures) == (2, 2, 60, 1000)
