"""The audit tells what happened in the order it happened, on both databases."""

from __future__ import annotations

import pytest

from prunella.core.clock import Ids, ManualClock, Rng
from prunella.store.contract import Store
from store.making import at, entry

pytestmark = pytest.mark.anyio


async def test_audit_keeps_the_order_of_its_ids(store: Store) -> None:
    """Entries made within one millisecond are told in the order they were made, forwards and backwards."""
    ids = Ids(ManualClock(), Rng(1))
    entries = [entry(id=ids.new(), incident_id="incident-1", action=f"step.{number}") for number in range(300)]
    async with store.transaction() as tx:
        await tx.audit.add(entries[150:])
        await tx.audit.add(entries[:150])
        assert await tx.audit.of_incident("incident-1") == entries
        assert await tx.audit.list(most=10) == entries[:-11:-1]


async def test_audit_is_asked_by_column(store: Store) -> None:
    """An incident's own story, and entries that equal what was asked for."""
    async with store.transaction() as tx:
        await tx.audit.add([entry(1, incident_id="incident-1"), entry(2, actor="ada", at=at(1), details={"a": [1]})])
        await tx.audit.add([])
        assert [one.id for one in await tx.audit.of_incident("incident-1")] == ["entry-1"]
        assert await tx.audit.list(most=9, actor="ada") == [entry(2, actor="ada", at=at(1), details={"a": [1]})]
        assert await tx.audit.list(most=9, actor="ada", action="gate.pause") == []
        assert [one.id for one in await tx.audit.list(most=9, incident_id=None)] == ["entry-2"]
