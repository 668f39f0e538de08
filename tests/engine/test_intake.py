"""The one door: durable before it is answered, once per event id, joined by cause, counted as document B says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.world import CRM, DONE, KEYS, OAUTHED, START, World, play, refused
from prunella.core.errors import StoreUnavailable
from prunella.core.records import Severity
from prunella.core.states import GateState, IncidentState, OperationState
from prunella.engine import patrol

MINUTE = timedelta(minutes=1)


def test_accepted_event_leaves_everything_it_needs(sqlite_path: Path) -> None:
    """One event: signal, incident, sealed operation, audit, message, the healing queued, listeners told."""

    async def story(world: World) -> None:
        receipt = await world.fail(payload={"order": 7})
        one = await world.incident(receipt.incident_id)
        assert (one.service, one.category.value, one.kind, one.count) == ("crm", "network", "network.server", 1)
        assert (one.state, one.severity, one.next_at) == (IncidentState.OPEN, Severity.MEDIUM, START)
        assert one.title == "crm: network.server (HTTP 503) on POST /orders"
        (operation,) = await world.operations()
        assert (operation.incident_id, operation.signal_id) == (one.id, receipt.signal_id)
        assert operation.idempotency_key == f"prunella-{receipt.signal_id}"
        assert b"order" not in operation.payload_sealed
        assert b'"order": 7' in KEYS.open(operation.payload_sealed, f"operations:{operation.id}")
        assert [(entry.action, entry.incident_id) for entry in await world.audit()] == [("incident.opened", one.id)]
        assert [told.title for told in await world.told()] == ["Integration Failure Detected"]
        assert world.queued() == [(one.id,)]
        (event,) = world.emitted("signal.accepted")
        assert (event.fields["incident"], event.fields["category"]) == (one.id, "network")

    play(sqlite_path, story)


def test_same_event_id_is_recorded_once(sqlite_path: Path) -> None:
    """Posted again, later or in the same moment: the same incident, no second request, no second count, no healing."""

    async def story(world: World) -> None:
        first, twin = await asyncio.gather(world.fail(event_id="e-1"), world.fail(event_id="e-1"))
        await world.runner.cancel("heal", first.incident_id or "")
        again = await world.fail(event_id="e-1", status=422)
        assert {first.incident_id, twin.incident_id, again.incident_id} == {first.incident_id}
        assert {first.signal_id, twin.signal_id, again.signal_id} == {first.signal_id}
        assert (first.duplicate, twin.duplicate, again.duplicate) == (False, True, True)
        assert (await world.incident(first.incident_id)).count == 1
        assert len(await world.operations()) == 1
        assert world.queued() == []
        assert len(world.emitted("signal.accepted")) == 1

    play(sqlite_path, story)


def test_same_event_id_of_another_source_is_another_event(sqlite_path: Path) -> None:
    """Ids are unique per source, not for the whole world."""

    async def story(world: World) -> None:
        await world.fail(event_id="e-1")
        other = await world.fail(event_id="e-1", source="guard")
        assert not other.duplicate
        assert (await world.incident(other.incident_id)).count == 2

    play(sqlite_path, story)


def test_events_of_one_cause_join_one_incident(sqlite_path: Path) -> None:
    """Fifty at once and three later: one incident that counts all, one request each, one message."""

    async def story(world: World) -> None:
        incident_id = await world.fail_together(50)
        await world.later(1)
        for _ in range(3):
            assert (await world.fail()).incident_id == incident_id
        one = await world.incident(incident_id)
        assert (one.count, one.first_seen, one.last_seen) == (53, START, START + timedelta(seconds=1))
        assert len(await world.operations()) == 53
        assert len(await world.told("detected")) == 1

    play(sqlite_path, story)


@pytest.mark.parametrize(
    ("first", "second", "incidents"),
    [
        ({}, {"message": "Service Unavailable"}, 1),
        ({}, {"status": 500, "code": "OTHER"}, 2),
        ({}, {"operation": "GET /stock"}, 2),
        ({"message": "order 123 failed"}, {"message": "order 456 failed"}, 1),
        ({"account": "ada"}, {"account": "bob"}, 1),
        ({"status": 401, "account": "ada"}, {"status": 401, "account": "bob"}, 2),
        ({"status": 401, "account": "ada"}, {"status": 401, "account": "ada"}, 1),
    ],
)
def test_cause_is_service_fingerprint_and_for_tokens_the_account(
    sqlite_path: Path, first: dict[str, Any], second: dict[str, Any], incidents: int
) -> None:
    """Tokens belong to an account, everything else to the service; ids in the text make no new problem."""

    async def story(world: World) -> None:
        await asyncio.gather(world.fail(**first), world.fail(**second))
        assert len(await world.incidents()) == incidents

    play(sqlite_path, story)


def test_arrivals_of_one_moment_share_a_transaction(sqlite_path: Path) -> None:
    """Two hundred events that arrive together cost one commit, the next one the second."""

    async def story(world: World) -> None:
        commits: list[str] = []
        world.store._database.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
        await asyncio.gather(*(world.fail() for _ in range(200)))
        assert len(commits) <= 2
        await world.fail()
        assert len(commits) <= 3

    play(sqlite_path, story)


def test_one_event_that_cannot_be_recorded_takes_no_other_down(sqlite_path: Path) -> None:
    """In a batch of five one cannot be written: it alone hears of it, the other four are recorded."""

    async def story(world: World) -> None:
        poison = [world.fail(payload={"n": object()} if number == 2 else {"n": number}) for number in range(5)]
        receipts = await asyncio.gather(*poison, return_exceptions=True)
        assert [isinstance(one, TypeError) for one in receipts] == [False, False, True, False, False]
        assert len(await world.operations()) == 4
        assert (await world.fail()).incident_id is not None

    play(sqlite_path, story)


def test_database_that_is_away_is_said_to_everybody(sqlite_path: Path) -> None:
    """Nothing was recorded: every sender hears `StoreUnavailable`, and the next event after it is back goes through."""

    async def story(world: World) -> None:
        database = world.store._database
        database.execute("PRAGMA query_only = ON")
        receipts = await asyncio.gather(*(world.fail() for _ in range(3)), return_exceptions=True)
        assert all(isinstance(one, StoreUnavailable) for one in receipts)
        database.execute("PRAGMA query_only = OFF")
        assert world.queued() == []
        await world.fail()
        assert len(await world.incidents()) == 1

    play(sqlite_path, story)


def test_sender_that_goes_away_leaves_the_others_alone(sqlite_path: Path) -> None:
    """A sender that hangs up while its batch is written disturbs nobody, and its event is kept."""

    async def story(world: World) -> None:
        gone = asyncio.create_task(world.fail())
        stays = asyncio.create_task(world.fail())
        await asyncio.sleep(0)
        gone.cancel()
        assert (await stays).incident_id is not None
        assert (await world.incidents())[0].count == 2

    play(sqlite_path, story)


# What may be replayed -------------------------------------------------------------------------------------------------


def test_data_failure_keeps_the_structure_and_no_request(sqlite_path: Path) -> None:
    """Wrong data is never replayed: no operation, the payload's shape without values, a HIGH message."""

    async def story(world: World) -> None:
        receipt = await world.fail(status=422, payload={"email": "ada@example.com", "items": [{"n": 1}]})
        async with world.parts.store.transaction() as tx:
            evidence = await tx.signals.last_of(receipt.incident_id or "")
        assert evidence is not None
        assert evidence["payload_shape"] == {"email": "string", "items": [{"n": "integer"}]}
        assert await world.operations() == []
        assert [told.severity for told in await world.told()] == [Severity.HIGH]

    play(sqlite_path, story)


def test_event_of_an_unknown_service_is_recorded_and_never_sent(sqlite_path: Path) -> None:
    """A service that nobody configured: incident and message, but no request, no gate and no count."""

    async def story(world: World) -> None:
        receipt = await world.fail("nobody")
        assert (await world.incident(receipt.incident_id)).service == "nobody"
        assert await world.operations() == []
        async with world.parts.store.transaction() as tx:
            assert await tx.gates.read("nobody") is None

    play(sqlite_path, story)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"payload": {"card": "[REDACTED:card:1a2b]"}}, "redaction marks"),
        ({"endpoint": "https://evil.test/x"}, "host evil.test is not its own"),
        ({"endpoint": "https://api.example.com:abc/x"}, "is no address"),
    ],
)
def test_request_that_may_not_be_replayed_is_quarantined_with_its_reason(
    sqlite_path: Path, changed: dict[str, Any], words: str
) -> None:
    """It is accepted, kept as dead with the reason, and neither its address nor its payload is kept with it."""

    async def story(world: World) -> None:
        await world.fail(**changed)
        (operation,) = await world.operations()
        assert operation.state is OperationState.DEAD
        assert words in (operation.last_error or "")
        sealed = KEYS.open(operation.payload_sealed, f"operations:{operation.id}")
        assert b"evil" not in sealed
        assert b"card" not in sealed

    play(sqlite_path, story)


def test_secret_in_an_address_is_not_stored_readably(sqlite_path: Path) -> None:
    """The address is sealed with the payload; the row shows it scrubbed."""

    async def story(world: World) -> None:
        await world.fail(endpoint="/orders?api_key=sk_live_4eC39HqLyjWDarjtT1zdp7dc")
        (operation,) = await world.operations()
        assert "4eC39" not in operation.endpoint
        assert b"4eC39" in KEYS.open(operation.payload_sealed, f"operations:{operation.id}")

    play(sqlite_path, story)


# Echoes of our own ----------------------------------------------------------------------------------------------------


def test_echo_joins_its_incident_and_opens_nothing(sqlite_path: Path) -> None:
    """An event that our own replay caused belongs to that incident: no second one, no request, no count."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        echo = await world.fail(echo_of=receipt.incident_id, status=500, message="other words")
        assert echo.incident_id == receipt.incident_id
        (one,) = await world.incidents()
        assert one.count == 1
        assert len(await world.operations()) == 1
        assert (await world.fail(event_id="crm-2", echo_of=receipt.incident_id)).duplicate

    play(sqlite_path, story)


def test_echo_of_an_unknown_incident_is_an_ordinary_event(sqlite_path: Path) -> None:
    """A made-up id hides nothing: the event opens its own incident."""

    async def story(world: World) -> None:
        receipt = await world.fail(echo_of="01900000-0000-7000-8000-000000000000")
        assert (await world.incident(receipt.incident_id)).count == 1

    play(sqlite_path, story)


def test_echoes_do_not_count_towards_disablement(sqlite_path: Path) -> None:
    """Decision 12: our own tries never count. Two events and twenty echoes are two failures from outside."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        for _ in range(20):
            await world.fail(echo_of=receipt.incident_id)
        await world.fail()
        assert (await world.gate()).state is GateState.CLOSED

    play(sqlite_path, story)


# Counting towards disablement -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "limit", "reason"),
    [
        ({"status": 503}, 9, "9 network failures within 60 minutes"),
        ({"status": 422}, 5, "5 consecutive data failures"),
        ({"status": None, "message": "it went wrong"}, 5, "5 consecutive unknown failures"),
    ],
)
def test_threshold_disables_at_its_count_and_says_so_once(
    sqlite_path: Path, changed: dict[str, Any], limit: int, reason: str
) -> None:
    """One below the limit nothing happens; at the limit: disabled, audited, told once, and not again afterwards."""

    async def story(world: World) -> None:
        for _ in range(limit - 1):
            await world.fail(**changed)
        assert (await world.gate()).state is GateState.CLOSED
        await world.fail(**changed)
        gate = await world.gate()
        assert (gate.state, gate.reason, gate.changed_by) == (GateState.DISABLED, reason, "prunella")
        await world.fail(**changed)
        assert [entry.reason for entry in await world.audit("gate.disabled")] == [reason]
        (told,) = await world.told("disabled")
        assert (told.title, dict(told.facts)["Failure Count"]) == ("Integration Disabled", str(limit))
        assert [event.fields["state"] for event in world.emitted("gate.changed")] == ["disabled"]

    play(sqlite_path, story)


def test_threshold_counts_a_batch_like_single_events(sqlite_path: Path) -> None:
    """Nine network failures of one moment disable as nine in a row do; eight do not."""

    async def story(world: World) -> None:
        await world.fail_together(8)
        assert (await world.gate()).state is GateState.CLOSED
        await world.fail_together(9, "shy")
        assert (await world.gate("shy")).state is GateState.DISABLED

    play(sqlite_path, story)


def test_network_failures_count_within_sixty_minutes_only(sqlite_path: Path) -> None:
    """Eight, an hour and a minute of quiet, eight more: never nine within the window."""

    async def story(world: World) -> None:
        await world.fail_together(8)
        await world.later(61 * 60)
        await world.fail_together(8)
        assert (await world.gate()).state is GateState.CLOSED
        await world.fail()
        assert (await world.gate()).state is GateState.DISABLED

    play(sqlite_path, story)


@pytest.mark.parametrize("status", [429, 401])
def test_rate_limits_and_fresh_auth_failures_never_disable(sqlite_path: Path, status: int) -> None:
    """Rate limits never count; auth counts recoveries that failed after a refresh, not events."""

    async def story(world: World) -> None:
        for _ in range(40):
            await world.fail("oauthed", status=status)
        gate = await world.gate("oauthed")
        assert (gate.state, gate.auth) == (GateState.CLOSED, 0)

    play(sqlite_path, story)


def test_auth_counts_once_the_refresh_has_failed(sqlite_path: Path) -> None:
    """Three failures whose refresh had failed before they came: disabled, with that reason."""

    async def story(world: World) -> None:
        receipt = await world.fail("oauthed", status=401)
        await world.save(replace(await world.incident(receipt.incident_id), refresh_failed=True))
        await world.fail("oauthed", status=401)
        await world.fail("oauthed", status=401)
        assert (await world.gate("oauthed")).auth == 2
        await world.fail("oauthed", status=401)
        assert (await world.gate("oauthed")).reason == "3 consecutive auth failures after a token refresh"

    play(sqlite_path, story)


def test_success_from_outside_starts_consecutive_counts_anew(sqlite_path: Path) -> None:
    """Four data failures, a success, four more: not five in a row."""

    async def story(world: World) -> None:
        for _ in range(4):
            await world.fail(status=422)
        await world.succeed(endpoint="/other")
        for _ in range(4):
            await world.fail(status=422)
        gate = await world.gate()
        assert (gate.state, gate.data) == (GateState.CLOSED, 4)

    play(sqlite_path, story)


def test_events_count_while_the_gate_is_open(sqlite_path: Path) -> None:
    """Decision 12: a gate that our own calls opened does not stop the counting."""

    async def story(world: World) -> None:
        await world.set_gate(replace(await world.gate(), state=GateState.OPEN, reopen_at=START + MINUTE, reason="r"))
        for _ in range(5):
            await world.fail(status=422)
        assert (await world.gate()).state is GateState.DISABLED

    play(sqlite_path, story)


def test_enabled_service_starts_with_a_clean_slate(sqlite_path: Path) -> None:
    """After a person enabled it, old network failures of the same hour count no more."""

    async def story(world: World) -> None:
        await world.fail_together(9)
        await world.later(60)
        async with world.parts.store.transaction() as tx:
            await patrol.enable(world.parts, tx, "crm", by="ada", person=True)
        await world.later(1)
        await world.fail_together(8)
        assert (await world.gate()).state is GateState.CLOSED
        await world.fail()
        assert (await world.gate()).state is GateState.DISABLED

    play(sqlite_path, story)


def test_service_with_limits_of_never_is_not_disabled(sqlite_path: Path) -> None:
    """`disable_after: never` is kept, however many failures come."""
    never = replace(CRM.disable_after, network=None, data=None)

    async def story(world: World) -> None:
        await world.fail_together(100)
        await world.fail_together(100, status=422)
        assert (await world.gate()).state is GateState.CLOSED

    play(sqlite_path, story, services=[replace(CRM, disable_after=never)])


# Successes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "succeeded", "resolved"),
    [
        ({}, {}, True),
        ({}, {"endpoint": None}, True),
        ({}, {"occurred_at": START - MINUTE}, False),
        ({"status": 422}, {"endpoint": "/orders"}, True),
        ({"status": 422}, {"endpoint": "/customers"}, False),
        ({"status": 422}, {"endpoint": None}, False),
        ({"status": 401, "account": "ada"}, {"account": "ada"}, True),
        ({"status": 401, "account": "ada"}, {"account": "bob"}, False),
    ],
    ids=["any", "no-request", "older", "data-same", "data-other", "data-none", "auth-same", "auth-other"],
)
def test_success_proves_only_what_it_is_about(
    sqlite_path: Path, failed: dict[str, Any], succeeded: dict[str, Any], resolved: bool
) -> None:
    """Later than the failure, of the same account for tokens, of the same operation for data: then it is over."""

    async def story(world: World) -> None:
        receipt = await world.fail(**{"endpoint": None, **failed})
        await world.later(1)
        answer = await world.succeed(**succeeded)
        one = await world.incident(receipt.incident_id)
        assert one.is_open is not resolved
        assert answer.incident_id is None
        assert len(await world.told("recovered")) == int(resolved)
        if resolved:
            assert one.action_taken.endswith(f"success reported by webhook (crm-{2})")

    play(sqlite_path, story)


def test_success_does_not_end_what_still_has_requests_to_send(sqlite_path: Path) -> None:
    """The service is well, the waiting order is not delivered yet: it is tried now instead of being forgotten."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        world.hands.script["replay"] = [refused(503), refused(503), refused(503), DONE]
        await world.later(30)
        assert (await world.operations())[0].due_at is None
        await world.succeed()
        await world.later(1)
        assert not (await world.incident(receipt.incident_id)).is_open
        assert len(world.hands.did()) == 4

    play(sqlite_path, story, running=True)


def test_success_does_not_touch_what_is_being_healed(sqlite_path: Path) -> None:
    """A success in the middle of a call leaves the incident to the one who has it."""

    async def story(world: World) -> None:
        receipt = await world.fail("probed", endpoint=None)
        done = asyncio.Event()

        async def during(_: object) -> None:
            await world.succeed("probed")
            assert (await world.incident(receipt.incident_id)).state is IncidentState.HEALING
            done.set()

        world.hands.during = during
        await world.heal(receipt.incident_id)
        assert done.is_set()
        assert not (await world.incident(receipt.incident_id)).is_open
        assert len(await world.told("recovered")) == 1

    play(sqlite_path, story)


def test_success_leaves_other_services_alone(sqlite_path: Path) -> None:
    """A success of one service proves nothing about another."""

    async def story(world: World) -> None:
        receipt = await world.fail(endpoint=None)
        await world.later(1)
        await world.succeed("shy")
        assert (await world.incident(receipt.incident_id)).is_open

    play(sqlite_path, story)


# Coming back, and pretending ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after_h", "regressed"), [(1, True), (23.9, True), (24.1, False)])
def test_problem_that_comes_back_within_a_day_is_linked(sqlite_path: Path, after_h: float, regressed: bool) -> None:
    """Resolved and back: a new incident, marked as regressed, that names the one before; after a day it is new."""

    async def story(world: World) -> None:
        first = await world.fail(endpoint=None)
        await world.succeed()
        assert not (await world.incident(first.incident_id)).is_open
        await world.later(after_h * 3600)
        again = await world.fail(endpoint=None)
        one = await world.incident(again.incident_id)
        assert one.id != first.incident_id
        assert one.regressed is regressed
        assert one.previous_id == (first.incident_id if regressed else None)
        reason = (await world.audit("incident.opened"))[-1].reason
        assert ("came back" in reason) is regressed

    play(sqlite_path, story)


@pytest.mark.parametrize(("kinds", "forced"), [((True, True), True), ((True, False), False), ((False, False), False)])
def test_incident_is_forced_only_when_every_event_is(sqlite_path: Path, kinds: tuple[bool, bool], forced: bool) -> None:
    """One real failure among forced ones makes the incident real: it stays in the KPIs."""

    async def story(world: World) -> None:
        await asyncio.gather(*(world.fail(forced=one) for one in kinds))
        assert (await world.incidents())[0].forced is forced

    play(sqlite_path, story)


def test_services_rules_are_asked_first(sqlite_path: Path) -> None:
    """What the user says a status means is what it means here."""
    rules = ({"when": {"status": 477}, "kind": "rate_limit.window", "retry_after": 5},)

    async def story(world: World) -> None:
        receipt = await world.fail("oauthed", status=477)
        one = await world.incident(receipt.incident_id)
        assert (one.kind, one.because) == ("rate_limit.window", "rule status 477")

    play(sqlite_path, story, services=[replace(OAUTHED, rules=rules)])
