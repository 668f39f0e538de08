"""Rebuild everything that waits from the tables: at every start, and whenever the runner's memory was lost."""

from __future__ import annotations

from collections.abc import Mapping

from prunella.engine import patrol
from prunella.engine.parts import Parts
from prunella.engine.patrol import Round


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
    for row in incidents:
        await parts.runner.submit("heal", row["id"], at=max(row["lease_until"] or row["next_at"], now))
    for row in channels:
        await parts.runner.submit("deliver", row["channel"], at=row["next_at"])
    for row in approvals:
        await parts.runner.submit("approval", row["id"], at=row["expires_at"])
    await patrol.schedule(parts, procedures)
    return len(incidents) + len(channels) + len(approvals) + len(procedures)
