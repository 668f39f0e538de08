"""Figures for who looks at a page: counts and shares of the last hours and days. Reads only.

Every query is bounded or walks an index over a window of time; none reads a table whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select

from prunella.core.states import ApprovalState
from prunella.store.session import Session
from prunella.store.sql import Sql, member_of, param
from prunella.store.tables import approvals, notifications


def _at_most(query: Select[Any]) -> Sql:
    """Count the rows of a query, but no further than `most`."""
    return Sql(select(func.count().label("count")).select_from(query.limit(param("most")).subquery()))


_ASKED = _at_most(select(approvals.c.id).where(approvals.c.state == ApprovalState.WAITING.value))
_UNSEEN = _at_most(
    select(notifications.c.id).where(
        notifications.c.channel == param("channel_"),
        member_of(notifications.c.kind, "kinds"),
        notifications.c.acknowledged_at.is_(None),
    )
)


class GlanceRows:
    """Read figures."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def asked(self, most: int) -> int:
        """Count the plans that wait for an answer, up to `most`."""
        row = await self._session.one(_ASKED, most=most)
        return int(row["count"]) if row else 0

    async def unseen(self, channel: str, kinds: Sequence[str], most: int) -> int:
        """Count the notices of these kinds that nobody has acknowledged, up to `most`."""
        row = await self._session.one(_UNSEEN, channel_=channel, kinds=list(kinds), most=most)
        return int(row["count"]) if row else 0
