"""Rebuild everything that waits from the tables: at every start, and whenever the runner's memory was lost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from prunella.engine import escalation, patrol
from prunella.engine.parts import Parts
from prunella.engine.patrol import Round
from prunella.runner.contract import Key


async def reconcile(parts: Parts, procedures: Mapping[str, Round], *, alone: bool) -> int:
    """Submit every incident, message and procedure that has something to wait for; return how many.

    Args:
        alone: no other process uses this store, so whatever holds a lease is dead and its lease ends now.
    """
    now = parts.clock.now()
    async with parts.store.transaction() as tx:
        if alone:
            await tx.incidents.release_all(now)
            await tx.credentials.release_all()
            await tx.procedures.release_all()
            await tx.outbox.release_all(now)
        incidents = await tx.incidents.wakeable()
        channels = await tx.outbox.waiting()
        approvals = await tx.approvals.waiting()
        climbing = await tx.outbox.to_climb()
    calls: list[tuple[Key, datetime | None]] = [
        *((("heal", row["id"]), max(row["lease_until"] or row["next_at"], now)) for row in incidents),
        *((("deliver", row["channel"]), row["next_at"]) for row in channels),
        *((("approval", row["id"]), row["expires_at"]) for row in approvals),
        *(((escalation.HANDLER, row["id"]), row["escalates_at"]) for row in climbing),
    ]
    await parts.runner.submit_many(calls)
    await patrol.schedule(parts, procedures)
    return len(calls) + len(procedures)
