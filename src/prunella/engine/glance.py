"""What stands at the edge of every page: how much waits for people, and whether everything is paused. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prunella.engine.notices import DASHBOARD
from prunella.engine.parts import Parts
from prunella.engine.pauses import KILL_SWITCH

COUNTED_MAX = 100
"""Nobody reads on; a page says 99+."""
_FRESH_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """Who threw the kill switch, and why."""

    by: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What waits: plans for an answer, notices for an acknowledgement; both counted up to `COUNTED_MAX`.

    Args:
        latest: the id of the last entry of the audit; a page that listens goes on behind it.
    """

    approvals: int = 0
    notices: int = 0
    paused: Paused | None = None
    latest: str = ""


class Glance:
    """Read the edge at most once a second, whoever looks how often."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._edge = Edge()
        self._read_at = float("-inf")

    async def edge(self) -> Edge:
        """Return what stands at the edge now, at most a second old."""
        now = self._parts.clock.monotonic()
        if now - self._read_at >= _FRESH_S:
            self._edge = await read_edge(self._parts)
            self._read_at = now
        return self._edge

    def forget(self) -> None:
        """Read anew at the next question: a person has just changed something here."""
        self._read_at = float("-inf")


async def read_edge(parts: Parts) -> Edge:
    """Read what stands at the edge."""
    async with parts.store.transaction() as tx:
        thrown = (await tx.switches.all()).get(KILL_SWITCH)
        latest = await tx.glance.audit_latest(1)
        return Edge(
            approvals=await tx.glance.asked(COUNTED_MAX),
            notices=await tx.glance.unseen(DASHBOARD, COUNTED_MAX),
            paused=None if thrown is None else Paused(by=thrown["by"], reason=thrown["reason"], since=thrown["since"]),
            latest=latest[0].id if latest else "",
        )
