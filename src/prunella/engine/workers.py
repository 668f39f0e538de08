"""Who is alive: each worker says so every second, and takes over what the others held who no longer do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import count

from prunella.core.errors import StoreError
from prunella.engine import trail
from prunella.engine.parts import Parts
from prunella.runner.contract import STALE_S
from prunella.runner.vigil import Vigil
from prunella.store.contract import Transaction, again_on_conflict

_BEAT_S = 1.0
_BEATS_PER_LOOK = 2
_LAST_WORDS_S = 2.0

_log = logging.getLogger(__name__)


async def keep_alive(parts: Parts, version: str) -> None:
    """Beat, and bury the dead, until cancelled; an outage of the store ends neither, nor does anything else."""
    vigil = Vigil(parts.clock)
    for beats in count(1):
        try:
            await beat(parts, version)
            if vigil.goes_on() and beats % _BEATS_PER_LOOK == 0:
                await bury(parts)
        except StoreError:
            pass
        except Exception as error:  # whoever falls silent is taken for dead
            _log.error("this worker could not bury others, or say that it lives", exc_info=error)
        await parts.clock.sleep(_BEAT_S)


async def beat(parts: Parts, version: str) -> None:
    """Say that this worker is alive."""
    async with parts.store.transaction() as tx:
        await tx.workers.beat(parts.worker, version, parts.clock.now())


async def leave(parts: Parts) -> None:
    """Say that this worker ended as it should, and give back what it was cut off from."""
    with suppress(StoreError, TimeoutError):  # then the others find out
        async with asyncio.timeout(_LAST_WORDS_S):
            await _leave(parts)


@again_on_conflict
async def _leave(parts: Parts) -> None:
    async with parts.store.transaction() as tx:
        await tx.workers.leave(parts.worker)
        await _free(parts, tx, [parts.worker])


async def has_company(parts: Parts) -> bool:
    """Tell whether other workers are alive."""
    async with parts.store.transaction() as tx:
        return any(row["name"] != parts.worker for row in await tx.workers.all())


@again_on_conflict
async def bury(parts: Parts) -> None:
    """End the leases of workers that were not seen for a while, and submit what they held.

    One that was only frozen finds its leases gone when it wakes: what it writes is refused as a conflict.
    """
    now = parts.clock.now()
    async with parts.store.transaction() as tx:
        dead = await tx.workers.bury(now - timedelta(seconds=STALE_S))
        if not dead:
            return
        goes_on = await _free(parts, tx, dead)
        for name in dead:
            await trail.note(parts, tx, "worker.lost", name, reason=f"not seen for {STALE_S:g} s; {goes_on}")


async def _free(parts: Parts, tx: Transaction, names: Sequence[str]) -> str:
    """End the leases of workers that are gone, submit what they held, and say how much that was."""
    now = parts.clock.now()
    await tx.credentials.release_of(names)
    await tx.outbox.release_all(now)  # of the living, too: a message is settled once, whoever sent it
    incidents = await tx.incidents.release_of(names, now)
    healed = [incident_id for incident_id, procedure in incidents if not procedure]
    looked_after = {procedure for _, procedure in incidents if procedure}  # by its procedure alone, not by `heal`
    procedures = sorted(looked_after.union(await tx.procedures.release_of(names)))
    channels = [row["channel"] for row in await tx.outbox.waiting()]
    freed = (("heal", healed), ("procedure", procedures), ("deliver", channels))
    await parts.runner.submit_many([((handler, id_), None) for handler, ids in freed for id_ in ids], tx)
    return f"{len(incidents)} incidents and {len(procedures)} procedures go on"
