"""Work that waits is queued once, begun once, and handed out in the order it came."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from prunella.core.errors import Conflict
from prunella.core.records import Operation
from prunella.core.states import OperationState
from prunella.store.contract import Store
from store.making import NOW, Outside, at, at_once, operation

pytestmark = pytest.mark.anyio


async def queue(store: Store, *operations: Operation) -> None:
    async with store.transaction() as tx:
        await tx.operations.add(operations)


async def begin(store: Store, *ids: str) -> list[str]:
    async with store.transaction() as tx:
        return await tx.operations.begin(ids)


async def get(store: Store, operation_id: str = "operation-1") -> Operation:
    async with store.transaction() as tx:
        found = await tx.operations.get(operation_id)
    assert found is not None
    return found


async def test_operation_is_queued_once_per_idempotency_key(store: Store, outside: Outside) -> None:
    """The same key again, in one batch, later or at the same moment, leaves the first as it stands."""
    await at_once(
        queue(store, operation(f"{sender}a", idempotency_key="a"), operation(f"{sender}b", idempotency_key="b"))
        if sender % 2
        else queue(store, operation(f"{sender}b", idempotency_key="b"), operation(f"{sender}a", idempotency_key="a"))
        for sender in range(20)
    )
    first = outside("SELECT id FROM operations ORDER BY idempotency_key")
    await queue(
        store,
        operation("late", idempotency_key="a", method="DELETE"),
        operation("x"),
        operation("x2", idempotency_key="key-x"),
    )
    assert outside("SELECT id FROM operations WHERE idempotency_key IN ('a', 'b') ORDER BY idempotency_key") == first
    assert outside("SELECT count(*) FROM operations") == [(3,)]


async def test_begin_is_won_once(store: Store) -> None:
    """Of twenty workers that begin the same operations each operation is won by one, and the attempt counts once."""
    await queue(store, *(operation(number) for number in range(10)))
    ids = [f"operation-{number}" for number in range(10)]
    won = await at_once(begin(store, *ids) for _ in range(20))
    assert sorted(one for wins in won for one in wins) == ids
    begun = await get(store)
    assert (begun.state, begun.attempts) == (OperationState.RUNNING, 1)
    assert await begin(store) == []


@pytest.mark.parametrize("state", [state for state in OperationState if state is not OperationState.WAITING])
async def test_begin_takes_only_what_waits(store: Store, state: OperationState) -> None:
    """What runs, is done, dead or cancelled is not begun."""
    await queue(store, operation(state=state))
    assert await begin(store, "operation-1") == []
    assert await get(store) == operation(state=state)


async def test_schedule_plans_what_has_no_plan_yet(store: Store) -> None:
    """Planning touches new operations of that incident only."""
    await queue(
        store,
        operation(1),
        operation(2, due_at=at(99)),
        operation(3, attempts=1),
        operation(4, state=OperationState.DEAD),
        operation(5, incident_id="incident-2"),
    )
    async with store.transaction() as tx:
        assert await tx.operations.any_new("incident-1")
        assert await tx.operations.schedule_new("incident-1", at(7)) == 1
        assert not await tx.operations.any_new("incident-1")
        assert await tx.operations.next_due("incident-1") == at(7)
        assert await tx.operations.next_due("incident-9") is None
    assert (await get(store)).due_at == at(7)


async def test_due_hands_out_the_oldest_first(store: Store) -> None:
    """Due operations come in the order in which they were queued, whenever they became due, at most as many as asked."""
    await queue(
        store,
        operation(3, created_at=at(3), due_at=at(-9)),
        operation(1, created_at=at(1), due_at=NOW),
        operation(2, created_at=at(1), due_at=at(-1)),
        operation(7, created_at=at(0), due_at=NOW),
        operation(4, created_at=at(0), due_at=at(1)),
        operation(5, created_at=at(0)),
        operation(6, created_at=at(0), due_at=NOW, state=OperationState.RUNNING),
    )
    async with store.transaction() as tx:
        due = [one.id for one in await tx.operations.due("incident-1", NOW, 10)]
        first = [one.id for one in await tx.operations.due("incident-1", NOW, 2)]
    assert due == ["operation-7", "operation-1", "operation-2", "operation-3"]
    assert first == due[:2]


async def test_save_writes_how_a_try_ended_once(store: Store) -> None:
    """The state it was in must still hold: the second of two writers is told so, and nothing is overwritten."""
    await queue(store, operation())
    await begin(store, "operation-1")
    ended = replace(
        await get(store),
        state=OperationState.WAITING,
        due_at=at(30),
        last_error="HTTP 503",
        last_kind="network.server",
        token_version=3,
    )
    async with store.transaction() as tx:
        await tx.operations.save(ended, OperationState.RUNNING)
    assert await get(store) == ended
    with pytest.raises(Conflict, match="operation-1"):
        async with store.transaction() as tx:
            await tx.operations.save(replace(ended, state=OperationState.DONE), OperationState.RUNNING)
    assert await get(store) == ended


async def test_rest_and_wake(store: Store) -> None:
    """Resting operations have no due time but remember why; waking makes them due, and leaves new ones to the plan."""
    await queue(store, operation(1), operation(2, attempts=2, due_at=at(5)), operation(3, state=OperationState.DEAD))
    async with store.transaction() as tx:
        await tx.operations.rest("incident-1", "gate is open")
        assert await tx.operations.due("incident-1", at(99), 9) == []
        assert not await tx.operations.any_new("incident-1")
    assert await get(store, "operation-1") == operation(1, attempts=1, last_error="gate is open")
    assert await get(store, "operation-2") == operation(2, attempts=2, last_error="gate is open")
    assert await get(store, "operation-3") == operation(3, state=OperationState.DEAD)
    await queue(store, operation(4))
    async with store.transaction() as tx:
        assert await tx.operations.wake("incident-1", at(9)) == 2
        due = await tx.operations.due("incident-1", at(9), 9)
    assert [one.id for one in due] == ["operation-1", "operation-2"]


async def test_operations_are_found_by_signal_state_and_incident(store: Store) -> None:
    """What belongs to an event, what is in mid-call, how many are in which state."""
    await queue(store, operation(1), operation(2, created_at=at(1)), operation(3, incident_id="incident-2"))
    await begin(store, "operation-1", "operation-3")
    async with store.transaction() as tx:
        assert [one.id for one in await tx.operations.running("incident-1")] == ["operation-1"]
        assert await tx.operations.tally("incident-1") == {"running": 1, "waiting": 1}
        assert await tx.operations.tally("incident-9") == {}
        assert await tx.operations.of_signal("signal-2") == operation(2, created_at=at(1))
        assert await tx.operations.of_signal("signal-9") is None
        assert await tx.operations.get("operation-9") is None
        listed = await tx.operations.list(most=2, service="hubspot")
        assert await tx.operations.list(most=9, state="dead") == []
    assert [one.id for one in listed] == ["operation-2", "operation-3"]


async def test_quarantine_tells_the_newest_reason(store: Store) -> None:
    """Why the newest dead operation of an incident is dead; nothing where none is."""
    await queue(
        store,
        operation(1, state=OperationState.DEAD, last_error="older"),
        operation(2, state=OperationState.DEAD, last_error="HTTP 422", created_at=at(1)),
        operation(3, last_error="waits", created_at=at(2)),
    )
    async with store.transaction() as tx:
        assert await tx.operations.quarantined_because("incident-1") == "HTTP 422"
        assert await tx.operations.quarantined_because("incident-2") is None


# Order per key ----------------------------------------------------------------------------------------------------


async def turn(store: Store, incident_id: str = "incident-1", now: float = 0) -> tuple[list[str], dict[str, str]]:
    async with store.transaction() as tx:
        found = await tx.operations.turn(incident_id, at(now), 10)
    return [one.id for one in found.free], dict(found.behind)


async def test_only_the_first_of_a_key_may_begin(store: Store) -> None:
    """Whatever incident they belong to, due or not: what came before goes first; other services and keys are free."""
    await queue(
        store,
        operation(1, ordering_key="k", created_at=at(1), incident_id="incident-2", due_at=at(99)),
        operation(2, ordering_key="k", created_at=at(2), due_at=NOW),
        operation(3, ordering_key="k", created_at=at(3), due_at=NOW),
        operation(4, ordering_key="other", created_at=at(4), due_at=NOW),
        operation(5, ordering_key="k", created_at=at(5), due_at=NOW, service="xero"),
        operation(6, created_at=at(6), due_at=NOW),
    )
    free = ["operation-4", "operation-5", "operation-6"]
    assert await turn(store) == (free, {"operation-2": "operation-1", "operation-3": "operation-1"})


async def test_running_one_holds_up_even_what_came_before(store: Store) -> None:
    """A report that was written late meets its follower in mid-call: it waits for the answer."""
    await queue(
        store,
        operation(1, ordering_key="k", created_at=at(1), due_at=NOW),
        operation(2, ordering_key="k", created_at=at(2), state=OperationState.RUNNING),
    )
    assert await turn(store) == ([], {"operation-1": "operation-2"})


async def test_who_stood_back_is_called_when_the_first_has_ended(store: Store) -> None:
    """It says behind whom it waits; the next one alone is called, with its incident; what is free is left alone."""
    await queue(
        store,
        operation(1, ordering_key="k", created_at=at(1), due_at=NOW),
        operation(2, ordering_key="k", created_at=at(2), due_at=NOW, incident_id="incident-2"),
        operation(3, ordering_key="k", created_at=at(3), due_at=NOW, incident_id="incident-2"),
        operation(4, due_at=at(50)),
    )
    _, behind = await turn(store, "incident-2")
    async with store.transaction() as tx:
        await tx.operations.stand_back(behind, at(60))
        assert await tx.operations.behind("incident-2") == "waits its turn behind operation operation-1"
        assert await tx.operations.behind("incident-1") is None
        first = (await tx.operations.begin(["operation-1"]))[0]
        assert await tx.operations.call_next([first], at(5)) == set()
        begun = await tx.operations.get(first)
        assert begun is not None
        await tx.operations.save_all([replace(begun, state=OperationState.DONE)], OperationState.RUNNING)
        assert await tx.operations.call_next([first], at(5)) == {"incident-2"}
    second, third = await get(store, "operation-2"), await get(store, "operation-3")
    assert (second.due_at, second.last_error, second.last_kind) == (at(5), None, None)
    assert (third.due_at, third.last_error) == (at(60), "waits its turn behind operation operation-1")
    assert await turn(store, "incident-2", 5) == (["operation-2"], {})


async def test_several_are_saved_as_each_alone(store: Store) -> None:
    """Those that ended alike and those that did not; one that is no longer as it was undoes all of it."""
    await queue(store, *(operation(number) for number in range(4)))
    await begin(store, *(f"operation-{number}" for number in range(3)))
    begun = [await get(store, f"operation-{number}") for number in range(3)]
    failed: dict[str, Any] = {
        "state": OperationState.WAITING,
        "due_at": at(9),
        "last_error": "HTTP 503",
        "last_kind": "network.server",
    }
    ended = [
        *(replace(one, state=OperationState.DONE, token_version=2) for one in begun[:2]),
        replace(begun[2], **failed),
    ]
    with pytest.raises(Conflict, match="no longer running"):
        async with store.transaction() as tx:
            await tx.operations.save_all([*ended, replace(begun[0], id="operation-3")], OperationState.RUNNING)
    assert [await get(store, one.id) for one in begun] == begun
    async with store.transaction() as tx:
        await tx.operations.save_all(ended, OperationState.RUNNING)
    assert [await get(store, one.id) for one in begun] == ended


async def test_long_queue_is_not_counted_to_its_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """From so many that wait on, only that many are counted, and nothing of what is done."""
    monkeypatch.setattr("prunella.store.operations.MANY", 3)
    await queue(store, *(operation(number) for number in range(5)), operation(9, state=OperationState.DONE))
    async with store.transaction() as tx:
        assert await tx.operations.tally("incident-1") == {"waiting": 5}
