"""Daily figures are sums, whoever adds to them in whatever order."""

from __future__ import annotations

import pytest

from prunella.store.contract import Store
from prunella.store.metrics import Daily
from store.making import at_once

pytestmark = pytest.mark.anyio


def daily(day: str = "2026-03-01", issue: str = "SICK", **figures: float) -> Daily:
    return Daily(day=day, procedure="ward", issue=issue, action="treat", **figures)  # type: ignore[arg-type]


async def add(store: Store, *figures: Daily) -> None:
    async with store.transaction() as tx:
        await tx.metrics.add(figures)


async def test_figures_add_up_from_every_worker(store: Store) -> None:
    """Twenty workers add to two issues, in turns of order: nothing is lost, and nobody waits for ever."""
    pair = [daily(issue="A", detected=1, recovery_s=0.5), daily(issue="B", failed=2)]
    await at_once(add(store, *(pair if number % 2 else reversed(pair))) for number in range(20))
    async with store.transaction() as tx:
        rows = {row["issue"]: row for row in await tx.metrics.since("2026-01-01")}
    assert (rows["A"]["detected"], rows["A"]["recovery_s"], rows["B"]["failed"]) == (20, 10.0, 40)


async def test_figures_begin_at_the_day_that_is_asked_for(store: Store) -> None:
    """Older days are left out; nothing to add is no statement."""
    await add(store)
    await add(store, daily("2026-02-28", detected=1), daily("2026-03-01", detected=2))
    async with store.transaction() as tx:
        assert [row["detected"] for row in await tx.metrics.since("2026-03-01")] == [2]
