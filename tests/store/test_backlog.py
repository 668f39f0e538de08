"""Operations are found by filter, walked in pages, and moved only from the states that were named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunella.core.records import Operation
from prunella.core.states import OperationState
from prunella.store.backlog import Wanted
from prunella.store.contract import Store
from store.making import NOW, at, entry, operation, run

pytestmark = pytest.mark.anyio
_S = OperationState


async def queue(store: Store, *operations: Operation) -> None:
    async with store.transaction() as tx:
        await tx.operations.add(operations)


async def found(store: Store, **wanted: object) -> list[str]:
    async with store.transaction() as tx:
        page = await tx.backlog.page(Wanted(**wanted), most=50)  # type: ignore[arg-type]  # a test names what it likes
    return [one.id.removeprefix("operation-") for one in page]


async def test_every_filter_finds_its_own(store: Store) -> None:
    """Service, state, incident, account, key and how it stands to time: each alone, and together."""
    await queue(
        store,
        operation(1, service="crm", due_at=at(-300)),
        operation(2, account="ada", due_at=at(-5), created_at=at(1)),
        operation(3, incident_id="incident-2", due_at=at(60), created_at=at(2)),
        operation(4, state=_S.DEAD, created_at=at(3)),
        operation(5, attempts=3, created_at=at(4)),
    )
    assert await found(store) == ["5", "4", "3", "2", "1"]
    assert await found(store, service="crm") == ["1"]
    assert await found(store, states=(_S.DEAD,)) == ["4"]
    assert await found(store, incident="incident-2") == ["3"]
    assert await found(store, account="ada") == ["2"]
    assert await found(store, idempotency_key="key-5") == ["5"]
    assert await found(store, due="due", now=NOW) == ["2", "1"]
    assert await found(store, due="overdue", now=NOW) == ["1"]
    assert await found(store, due="later", now=NOW) == ["3"]
    assert await found(store, due="resting", now=NOW) == ["5"]
    assert await found(store, until=at(1)) == ["2", "1"]
    assert await found(store, service="crm", states=(_S.DEAD,)) == []


async def test_pages_meet_every_operation_once(store: Store) -> None:
    """Newest first, also where several came at the same moment; and in the order of ids for those who count."""
    await queue(store, *(operation(number, created_at=at(number // 4)) for number in range(10)))
    seen: list[Operation] = []
    async with store.transaction() as tx:
        while page := await tx.backlog.page(
            Wanted(), most=3, before=(seen[-1].created_at, seen[-1].id) if seen else None
        ):
            seen += page
        walked = [row["id"] for row in await tx.backlog.walk(Wanted(), "", 6)]
        walked += [row["id"] for row in await tx.backlog.walk(Wanted(), walked[-1], 6)]
        oldest = await tx.backlog.oldest(Wanted(), 2)
    assert seen == sorted(seen, key=lambda one: (one.created_at, one.id), reverse=True)
    assert len({one.id for one in seen}) == len(walked) == 10
    assert walked == sorted(walked)
    assert [one.id for one in oldest] == ["operation-0", "operation-1"]


async def test_walk_tells_what_died_in_mid_call(store: Store) -> None:
    """Only what is dead because nobody knows its outcome counts as unknown."""
    await queue(
        store,
        operation(1, state=_S.DEAD, last_error="outcome unknown: the worker died"),
        operation(2, state=_S.DEAD, last_error="HTTP 422"),
        operation(3, last_error="outcome unknown: long ago"),
        operation(4),
    )
    async with store.transaction() as tx:
        walked = await tx.backlog.walk(Wanted(), "", 9)
    assert [bool(row["unknown"]) for row in walked] == [True, False, False, False]


async def test_moves_touch_only_the_states_that_were_named(store: Store) -> None:
    """What began or ended meanwhile stays; what moves says why, and what is tried anew begins at its first try."""
    await queue(
        store,
        operation(1, due_at=at(9)),
        operation(2, state=_S.DEAD, attempts=3, last_error="HTTP 422"),
        operation(3, state=_S.RUNNING),
        operation(4, state=_S.DONE),
    )
    ids = [f"operation-{number}" for number in range(1, 5)]
    async with store.transaction() as tx:
        assert await tx.backlog.again(ids, (_S.DEAD,), NOW) == {"operation-2"}
        assert await tx.backlog.end(ids[:1], (_S.WAITING,), _S.CANCELLED, "cancelled by ada") == {"operation-1"}
        standing = await tx.backlog.of_ids(ids)
    assert standing == [
        operation(1, state=_S.CANCELLED, last_error="cancelled by ada"),
        operation(2, due_at=NOW, last_error="HTTP 422"),
        operation(3, state=_S.RUNNING),
        operation(4, state=_S.DONE),
    ]


async def test_trace_is_one_operations_own(store: Store) -> None:
    """What people did to it, and each attempt at it; nothing of its neighbours."""
    mine = operation(1)
    await queue(store, mine, operation(2))
    async with store.transaction() as tx:
        await tx.runs.add([run(1), run(2), replace(run(3), operation_id="operation-1", started_at=at(5))])
        await tx.audit.add([entry(1, target="operation-1"), entry(2, target="operation-2"), entry(3)])
        entries, runs = await tx.backlog.trace(mine)
    assert [one.id for one in entries] == ["entry-1"]
    assert [one.id for one in runs] == ["run-1", "run-3"]
