"""A storm: more than half of the active things are stuck at once, so they share a cause; nothing is done en masse.

One probe goes out, on a budget of its own. If it heals, the rest follows in waves; if not, the next probe waits twice
as long. A probe that never succeeds and still uses up each thing's own attempts would turn one outage into hundreds of
escalations.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from prunella.core.records import KINDS, Incident, Severity
from prunella.core.states import IncidentState
from prunella.engine import endings, notices, trail
from prunella.engine.limits import Situation
from prunella.engine.parts import Parts
from prunella.engine.stock import STORM
from prunella.store.contract import Transaction

_WAIT_MAX_S = 3600.0


async def may_probe(parts: Parts, situation: Situation) -> bool:
    """Open the storm's own incident, hold the rest under it, and tell whether a probe may go out now."""
    now = parts.clock.now()
    async with parts.store.transaction() as tx:
        storm = await _standing(parts, tx, situation)
        probe_at = storm.memory.get("probe_at")
        if probe_at is not None and datetime.fromisoformat(probe_at) > now:
            reason = f"{storm.because}; the next probe goes out at {probe_at[11:19]} UTC"
            for one in situation.due:
                held = replace(one.incident, held_reason=reason, next_at=datetime.fromisoformat(probe_at))
                await tx.incidents.save(held)
            return False
    return True


async def after_wave(parts: Parts, situation: Situation, *, well: bool, is_last: bool) -> None:
    """End the storm when its last wave went well; otherwise let the next probe wait longer."""
    async with parts.store.transaction() as tx:
        storm = await _standing(parts, tx, situation)
        if well and is_last:
            await endings.proven(
                parts, tx, situation.ready, storm, [], "the probe healed, and so did the waves after it"
            )
        elif not well:
            await _postpone(parts, tx, situation, storm)


async def _postpone(parts: Parts, tx: Transaction, situation: Situation, storm: Incident) -> None:
    every_s = situation.ready.policy.every_s or 300.0
    wait_s = min(float(storm.memory.get("wait_s", every_s / 2)) * 2, _WAIT_MAX_S)
    probe_at = parts.clock.now() + timedelta(seconds=wait_s)
    memory = {**storm.memory, "wait_s": wait_s, "probe_at": probe_at.isoformat()}
    held = f"the probe did not heal; next one at {probe_at:%H:%M:%S} UTC"
    await endings.saved(tx, replace(storm, memory=memory, held_reason=held, next_at=probe_at))
    await trail.note(parts, tx, "storm.probe_failed", situation.ready.name, reason=held, incident=storm.id)


async def _standing(parts: Parts, tx: Transaction, situation: Situation) -> Incident:
    """Return the storm's incident; a new one is told once."""
    ready, found = situation.ready, situation.sighting.found
    because = f"{found} of {situation.sighting.active} active are stuck at once"
    now = parts.clock.now()
    known = next((one for one in await tx.incidents.open_of_procedure(ready.name) if one.resource == STORM), None)
    if known is not None:
        return known
    fresh = Incident(
        id=parts.ids.new(),
        service=ready.scope,
        account="",
        fingerprint=f"{ready.name}/{STORM}",
        signal_id="",
        title=f"{ready.policy.id} storm: {because}",
        category=KINDS["unclassified"],
        kind="unclassified",
        confidence=1.0,
        because=because,
        advice="look for what they have in common",
        severity=Severity.HIGH,
        state=IncidentState.OPEN,
        first_seen=now,
        last_seen=now,
        procedure=ready.name,
        resource=STORM,
    )
    opened = await tx.incidents.open_or_join(fresh)
    await trail.note(parts, tx, "incident.opened", opened.service, reason=because, incident=opened.id)
    link = trail.link(parts, opened.id)
    await trail.tell(parts, tx, [notices.held(ready.policy, opened, because, link)])
    return opened
