"""What is over and old goes, oldest first; what is open, waits, or is spoken of stays, however old it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunella.core.records import Approval
from prunella.core.states import ApprovalState, IncidentState, OperationState, RunState
from prunella.store.contract import Store
from prunella.store.retention import KINDS
from store.making import NOW, Outside, at, notification, opened, operation, resolved, run, signal

pytestmark = pytest.mark.anyio
_O = OperationState


async def forget(store: Store, kind: str) -> int:
    """Forget everything of a kind that is older than NOW and over."""
    async with store.transaction() as tx:
        ids = [row["id"] for row in await tx.retention.walk(kind, "", 99)]
        return await tx.retention.forget(kind, ids, NOW)


def approval(number: int, **changed: object) -> Approval:
    fields: dict[str, object] = {
        "id": f"approval-{number}", "incident_id": "gone", "procedure": "p", "plan": {}, "digest": "d",
        "state": ApprovalState.REJECTED, "created_at": at(-9), "expires_at": at(-8),
    }  # fmt: skip
    return Approval(**{**fields, **changed})  # type: ignore[arg-type]  # a test names what it likes


async def ids_of(outside: Outside, table: str) -> list[str]:
    return sorted(str(row[0]).rpartition("-")[2] for row in outside(f"SELECT id FROM {table}"))


async def test_operations_go_when_they_and_their_incident_are_over(store: Store, outside: Outside) -> None:
    """Done or cancelled, old, and their incident resolved as long ago, or gone; all others stay."""
    await opened(store, 1)
    await resolved(store, 2, at(-5))
    await resolved(store, 3, at(5))
    old = {"created_at": at(-9), "incident_id": "incident-2"}
    async with store.transaction() as tx:
        await tx.operations.add(
            [
                operation("a", state=_O.DONE, **old),
                operation("b", state=_O.CANCELLED, **{**old, "incident_id": "gone"}),
                operation("k1", state=_O.DEAD, **old),
                operation("k2", state=_O.WAITING, **old),
                operation("k3", state=_O.RUNNING, **old),
                operation("k4", state=_O.DONE, **{**old, "created_at": at(1)}),
                operation("k5", state=_O.DONE, **{**old, "incident_id": "incident-1"}),
                operation("k6", state=_O.DONE, **{**old, "incident_id": "incident-3"}),
            ]
        )
    assert await forget(store, "operations") == 2
    assert await ids_of(outside, "operations") == ["k1", "k2", "k3", "k4", "k5", "k6"]


async def test_notifications_go_when_they_ended_and_nobody_asks_for_them(store: Store, outside: Outside) -> None:
    """Sent or dead; not those of open incidents, nor those by which views tell who was notified of a healing."""
    await opened(store, 1)
    await resolved(store, 2, at(-5))
    await resolved(store, 3, at(-5), procedure="stuck-order")
    old = {"created_at": at(-9), "sent_at": at(-9), "state": "sent"}
    async with store.transaction() as tx:
        await tx.runs.add([run(1, state=RunState.VERIFIED)])
        await tx.outbox.add(
            [
                notification("a", **{**old, "incident_id": "incident-2"}),
                notification("b", **{**old, "incident_id": None, "state": "dead", "sent_at": None}),
                notification("k1", **{**old, "incident_id": "incident-2", "state": "waiting", "sent_at": None}),
                notification("k2", **{**old, "incident_id": "incident-1"}),
                notification("k3", **{**old, "incident_id": "incident-3"}),
                notification("k4", **{**old, "incident_id": None, "run_id": "run-1"}),
                notification("k5", **{**old, "incident_id": None, "sent_at": at(3)}),
                notification("k6", **{**old, "incident_id": None, "state": "sending", "sent_at": None}),
            ]
        )
    assert await forget(store, "notifications") == 2
    assert await ids_of(outside, "notifications") == ["k1", "k2", "k3", "k4", "k5", "k6"]


async def test_plans_go_once_they_were_answered(store: Store, outside: Outside) -> None:
    """Answered ones go by their age, also those of an incident that stays open; plans that stand stay."""
    await opened(store, 1)
    await resolved(store, 2, at(-5))
    async with store.transaction() as tx:
        await tx.approvals.add(
            [
                approval(0),
                approval(1, state=ApprovalState.APPROVED, used_at=at(-8), incident_id="incident-2"),
                approval(2, state=ApprovalState.WAITING),
                approval(3, state=ApprovalState.APPROVED),
                approval(4, state=ApprovalState.WAITING, incident_id="incident-1"),
                approval(5, created_at=at(1)),
                approval(6, incident_id="incident-1"),
            ]
        )
    assert await forget(store, "approvals") == 3
    assert await ids_of(outside, "approvals") == ["2", "3", "4", "5"]


async def test_signals_stay_with_their_incident(store: Store, outside: Outside) -> None:
    """What belongs to no incident, or to one that is gone, goes by its age."""
    await opened(store, 1)
    async with store.transaction() as tx:
        await tx.signals.add(
            [
                (signal(one, received_at=when), None, None)
                for one, when in (("a", at(-9)), ("b", at(-9)), ("k1", at(-9)), ("k2", at(1)))
            ]
        )
        await tx.signals.attach_each({"signal-b": "gone", "signal-k1": "incident-1"})
    assert await forget(store, "signals") == 2
    assert await ids_of(outside, "signals") == ["k1", "k2"]


async def test_incident_is_free_when_nothing_of_it_waits(store: Store) -> None:
    """Resolved long ago, no operation in a lane or in quarantine, no run under way."""
    for number in (1, 2, 3, 4, 5):
        await resolved(store, number, at(-5))
    await resolved(store, 6, at(5))
    await opened(store, 7)
    async with store.transaction() as tx:
        await tx.operations.add(
            [
                operation(1, state=_O.DONE),
                operation(2, incident_id="incident-2"),
                operation(3, incident_id="incident-3", state=_O.DEAD),
            ]
        )
        await tx.runs.add([run(4, incident_id="incident-4"), run(1, state=RunState.UNKNOWN)])
        free = await tx.retention.free([f"incident-{number}" for number in range(1, 8)], NOW)
    assert sorted(free) == ["incident-1", "incident-5"]


async def test_what_something_open_speaks_of_is_named(store: Store) -> None:
    """The predecessor of an open incident, and those of messages and plans that wait."""
    before = await resolved(store, 1, at(-5))
    fresh = await opened(store, 2)
    async with store.transaction() as tx:
        await tx.incidents.save(replace(fresh, previous_id=before.id))
        await tx.outbox.add([notification(3), notification(4, state="sent")])
        await tx.approvals.add(
            [approval(1, state=ApprovalState.WAITING, incident_id="incident-5"), approval(2, incident_id="incident-6")]
        )
        assert await tx.retention.spoken_of() == {"incident-1", "incident-3", "incident-5"}


async def test_incident_goes_last_and_with_the_event_that_tells_of_it(store: Store, outside: Outside) -> None:
    """Its children go so many at a time, but for that one event; an open incident is not deleted even when asked."""
    await resolved(store, 1, at(-5))
    await opened(store, 2)
    async with store.transaction() as tx:
        await tx.signals.add([(signal(number), None, None) for number in range(1, 8)])
        await tx.signals.attach_each({f"signal-{n}": "incident-1" for n in range(1, 7)} | {"signal-7": "incident-2"})
        await tx.runs.add([run(1), run(2)])
        await tx.operations.add([operation(1, state=_O.DONE), operation(2, state=_O.DEAD)])
        ids = ["incident-1"]
        assert [await tx.retention.forget_children("signals", ids, 3) for _ in range(3)] == [3, 2, 0]
        assert await tx.retention.forget_children("runs", ids, 9) == 2
        assert await tx.retention.forget_children("operations", ids, 9) == 1
    assert await ids_of(outside, "signals") == ["1", "7"]
    async with store.transaction() as tx:
        assert await tx.retention.forget_incidents(ids) == (1, 1)
        assert (await tx.retention.forget_incidents(["incident-2"]))[0] == 0
    assert outside("SELECT id, state FROM incidents") == [("incident-2", IncidentState.OPEN.value)]


async def test_walk_goes_through_each_table_in_its_order(store: Store) -> None:
    """Every kind can be walked, and a page goes on behind the one before."""
    async with store.transaction() as tx:
        await tx.approvals.add([approval(number, created_at=at(number)) for number in range(1, 6)])
        first = await tx.retention.walk("approvals", "", 2)
        rest = await tx.retention.walk("approvals", first[-1]["id"], 9)
        assert [row["moment"] for row in [*first, *rest]] == [at(number) for number in range(1, 6)]
        for kind in (*KINDS, "incidents"):
            assert len(await tx.retention.walk(kind, "", 9)) in (0, 5)
