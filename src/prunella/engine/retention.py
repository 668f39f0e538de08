"""Retention: a round that forgets what is over and old enough, oldest first, in short transactions.

Nothing that is open, waits, or is spoken of by something open is ever touched, however old it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from prunella.core.retention import ANSWERS_S, Retention
from prunella.engine.parts import Parts
from prunella.engine.patrol import Round
from prunella.store import retention as rows

NAME = "retention"
EVERY_S = 3600.0
_BATCH = 500
_INCIDENTS = 100
_SEALS = 2
_BUDGET_S = 30.0
_GO_ON_AFTER_S = 10.0


def round_of(retention: Retention) -> Round:
    """Return the round that forgets; every deployment has it."""
    return Round(NAME, EVERY_S, partial(_forget_in_turn, retention))


async def _forget_in_turn(retention: Retention, parts: Parts) -> Mapping[str, Any]:
    rest = await parts.pauses.now()
    if rest is not None:
        return {"held": rest.reason}
    return await forget(parts, retention)


async def forget(parts: Parts, retention: Retention, *, within_s: float = _BUDGET_S) -> Mapping[str, Any]:
    """Forget what is over, for at most so long; what is left then goes on a little later.

    Returns how many rows of which kind went; `left` where the time was up.
    """
    work = _Work(parts, parts.clock.monotonic() + within_s)
    now = parts.clock.now()
    ages = {
        "operations": retention.operations_s,
        "notifications": retention.notifications_s,
        "approvals": retention.audit_s,
    }
    await work.incidents(now - timedelta(seconds=retention.incidents_s))
    for kind in rows.KINDS:
        await work.rows(kind, now - timedelta(seconds=ages.get(kind, retention.incidents_s)))
    await work.audit(now - timedelta(seconds=retention.audit_s))
    async with parts.store.transaction() as tx:
        if answers := await tx.answers.forget(now - timedelta(seconds=ANSWERS_S)):
            work.gone["answers"] = answers
    if work.is_up():
        await parts.runner.submit("procedure", NAME, at=parts.clock.now() + timedelta(seconds=_GO_ON_AFTER_S))
        return {"deleted": work.gone.total(), **work.gone, "left": "more; goes on in 10 s"}
    return {"deleted": work.gone.total(), **work.gone}


class _Work:
    """One turn of forgetting: what went, and until when it may go on."""

    def __init__(self, parts: Parts, until: float) -> None:
        self._parts = parts
        self._until = until
        self.gone = Counter[str]()

    def is_up(self) -> bool:
        """Tell whether its time is up."""
        return self._parts.clock.monotonic() >= self._until

    async def rows(self, kind: str, before: datetime) -> None:
        """Forget the rows of one kind."""
        after = ""
        while not self.is_up():
            async with self._parts.store.transaction() as tx:
                walked = await tx.retention.walk(kind, after, _BATCH)
                old = [row["id"] for row in walked if row["moment"] < before]
                if old:
                    self.gone[kind] += await tx.retention.forget(kind, old, before)
            if not old:
                return
            after = walked[-1]["id"]
            await self._parts.give_way()

    async def audit(self, before: datetime) -> None:
        """Forget seals with all entries under them: what is left of the audit can still be checked."""
        while not self.is_up():
            async with self._parts.store.transaction() as tx:
                old = await tx.seals.old(before, _SEALS)
                for number in old:
                    self.gone["audit"] += await tx.seals.forget(number, self._parts.clock.now())
            if not old:
                return
            await self._parts.give_way()

    async def incidents(self, before: datetime) -> None:
        """Forget incidents, each with all that belongs to it."""
        async with self._parts.store.transaction() as tx:
            spoken_of = await tx.retention.spoken_of()
        after = ""
        while not self.is_up():
            async with self._parts.store.transaction() as tx:
                walked = await tx.retention.walk("incidents", after, _INCIDENTS)
                old = [row["id"] for row in walked if row["moment"] < before and row["id"] not in spoken_of]
                free = await tx.retention.free(old, before) if old else []
            if not any(row["moment"] < before for row in walked):
                return
            after = walked[-1]["id"]
            if free and await self._children(free):
                async with self._parts.store.transaction() as tx:
                    incidents, signals = await tx.retention.forget_incidents(free)
                self.gone.update({"incidents": incidents, "signals": signals})
            await self._parts.give_way()

    async def _children(self, incident_ids: list[str]) -> bool:
        """Forget what belongs to incidents; False where the time was up before all of it was gone."""
        for kind in rows.CHILDREN:
            most = _BATCH
            while most == _BATCH:
                if self.is_up():
                    return False
                async with self._parts.store.transaction() as tx:
                    most = await tx.retention.forget_children(kind, incident_ids, _BATCH)
                self.gone[kind] += most
                await self._parts.give_way()
        return True
