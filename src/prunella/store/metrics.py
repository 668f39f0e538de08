"""Rows of daily figures: what procedures found and did, by day, issue and action (document D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from prunella.store.session import Session, row_of
from prunella.store.sql import Row, Sql, param
from prunella.store.tables import daily_metrics as t

_SINCE = Sql(select(t).where(t.c.day >= param("day_")).order_by(t.c.day, t.c.procedure, t.c.issue, t.c.action))
_COUNTERS = ("detected", "succeeded", "failed", "manual", "notified", "recovery_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily:
    """What is to be added to one day's figures of one issue and action."""

    day: str
    procedure: str
    issue: str
    action: str
    detected: int = 0
    succeeded: int = 0
    failed: int = 0
    manual: int = 0
    notified: int = 0
    recovery_s: float = 0.0


class MetricRows:
    """Read and write daily figures."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, figures: Sequence[Daily]) -> None:
        """Add to the figures of their days; each (day, procedure, issue, action) at most once per call."""
        table = self._session.dialect.table(t)
        sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in _COUNTERS)
        in_one_order = sorted(figures, key=lambda one: (one.day, one.procedure, one.issue, one.action))
        conflict = f"ON CONFLICT (day, procedure, issue, action) DO UPDATE SET {sums}"
        await self._session.insert(t, [row_of(one) for one in in_one_order], conflict=conflict)

    async def since(self, day: str) -> list[Row]:
        """Return the figures from a day on (ISO date)."""
        return await self._session.fetch(_SINCE, day_=day)
