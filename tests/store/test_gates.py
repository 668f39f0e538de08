"""A gate has one owner at a time, so that its counters are exact."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunella.core.errors import Conflict
from prunella.core.records import Gate
from prunella.core.states import GateState
from prunella.store.contract import Store
from store.making import NOW, Outside, at, at_once

pytestmark = pytest.mark.anyio


async def test_gate_is_made_when_it_is_first_taken(store: Store) -> None:
    """A service without a gate has none to read; taking it makes a closed one that counts whatever arrived before."""
    async with store.transaction() as tx:
        assert await tx.gates.read("hubspot") is None
        fresh = await tx.gates.take("hubspot", NOW)
    assert fresh == Gate(service="hubspot", since=NOW, counting_from=fresh.counting_from)
    assert fresh.counting_from < at(-86_400)
    async with store.transaction() as tx:
        again = await tx.gates.take("hubspot", at(9))
    assert (again.state, again.since) == (GateState.CLOSED, NOW)


async def test_gate_counts_exactly_under_many_at_once(store: Store, outside: Outside) -> None:
    """Fifty transactions that take, count and save at the same moment, beginning without a gate, lose nothing."""

    async def count() -> None:
        async with store.transaction() as tx:
            gate = await tx.gates.take("hubspot", NOW)
            await tx.gates.save(replace(gate, failures=gate.failures + 1))

    await at_once(count() for _ in range(50))
    assert outside("SELECT failures, version FROM gates") == [(50, 50)]


async def test_gate_is_not_saved_over_a_change(store: Store) -> None:
    """Who did not take the gate and was overtaken is told so."""
    async with store.transaction() as tx:
        gate = await tx.gates.take("hubspot", NOW)
        await tx.gates.save(replace(gate, state=GateState.OPEN))
    with pytest.raises(Conflict, match="hubspot"):
        async with store.transaction() as tx:
            await tx.gates.save(replace(gate, state=GateState.PAUSED))
    async with store.transaction() as tx:
        assert await tx.gates.all() == [replace(gate, state=GateState.OPEN, version=1)]


async def test_gates_are_listed_by_service(store: Store) -> None:
    """All of them, by name."""
    async with store.transaction() as tx:
        for name in ("stripe", "hubspot", "shop"):
            await tx.gates.take(name, NOW)
        assert [gate.service for gate in await tx.gates.all()] == ["hubspot", "shop", "stripe"]
