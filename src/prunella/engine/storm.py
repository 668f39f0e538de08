"""A storm: more than half of the active things are stuck at once, so they share a cause; nothing is done en masse.

One probe goes out, on a budget of its own, each time to another thing. If it heals, the rest follows in waves; if not,
the next probe waits twice as long. A probe that never succeeds and still uses up each thing's own attempts would turn
one outage into hundreds of escalations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from prunella.core.records import KINDS, Incident, Severity
from prunella.core.states import IncidentState
from prunella.engine import endings, notices, trail
from prunella.engine.gathered import Gathered, gathering
from prunella.engine.limits import Situation
from prunella.engine.parts import Parts
from prunella.engine.stock import STORM, Due
from prunella.engine.waves import Attempt
from prunella.store.contract import again_on_conflict

_WAIT_MAX_S = 3600.0


class Stage(StrEnum):
    """What may go out while a storm rages."""

    NOTHING = "nothing"
    PROBE = "probe"
    WAVES = "waves"


@again_on_conflict
async def stage(parts: Parts, situation: Situation) -> tuple[Stage, str]:
    """Open the storm's own incident and say what may go out now, with the reason where nothing may."""
    async with gathering(parts, situation.ready) as gathered:
        storm = await _standing(gathered, situation)
        probed = await gathered.tx.incidents.get(storm.memory.get("probed", ""))
        if probed is not None and probed.state is IncidentState.RESOLVED:
            return Stage.WAVES, ""  # its proof came late
        probe_at = storm.memory.get("probe_at")
        if probe_at is None or datetime.fromisoformat(probe_at) <= gathered.now:
            return Stage.PROBE, ""
        reason = f"{storm.because}; the next probe goes out at {probe_at[11:19]} UTC"
        for one in situation.due:
            gathered.save(replace(one.incident, held_reason=reason, next_at=datetime.fromisoformat(probe_at)))
        return Stage.NOTHING, reason


def in_turn(due: Sequence[Due], sent: int) -> list[Due]:
    """Let another thing be the next probe: the first one may be ill for reasons of its own."""
    first = sent % len(due)
    return [*due[first:], *due[:first]]


async def sent(parts: Parts, situation: Situation) -> int:
    """Return how many probes have gone out."""
    async with gathering(parts, situation.ready) as gathered:
        return int((await _standing(gathered, situation)).memory.get("sent", 0))


@again_on_conflict
async def after_probe(parts: Parts, situation: Situation, attempts: Sequence[Attempt]) -> bool:
    """Tell whether the probe healed, so that the waves may follow; otherwise let the next one wait longer."""
    healed = any(one.state is IncidentState.RESOLVED for one in attempts)
    async with gathering(parts, situation.ready) as gathered:
        storm = await _standing(gathered, situation)
        number = int(storm.memory.get("sent", 0)) + 1
        storm = replace(storm, memory={**storm.memory, "sent": number})
        if attempts and not attempts[0].is_bad:
            storm = replace(storm, memory={**storm.memory, "probed": attempts[0].run.incident_id})
        gathered.save(storm)
        if not healed:
            _postpone(gathered, storm)
    return healed


@again_on_conflict
async def after_waves(parts: Parts, situation: Situation, *, well: bool) -> None:
    """End the storm when its last wave went well; otherwise begin again with a probe."""
    async with gathering(parts, situation.ready) as gathered:
        storm = await _standing(gathered, situation)
        if well:
            endings.proven(gathered, storm, [], "the probe healed, and so did the waves after it")
        else:
            memory = {name: value for name, value in storm.memory.items() if name != "probed"}
            _postpone(gathered, replace(storm, memory=memory))


def _postpone(gathered: Gathered, storm: Incident) -> None:
    every_s = gathered.ready.policy.every_s or 300.0
    wait_s = min(float(storm.memory.get("wait_s", every_s / 2)) * 2, _WAIT_MAX_S)
    probe_at = gathered.now + timedelta(seconds=wait_s)
    memory = {**storm.memory, "wait_s": wait_s, "probe_at": probe_at.isoformat()}
    held = f"the probe did not heal; next one at {probe_at:%H:%M:%S} UTC"
    gathered.save(replace(storm, memory=memory, held_reason=held, next_at=probe_at))
    gathered.note("storm.probe_failed", gathered.ready.name, reason=held, incident=storm.id)


async def _standing(gathered: Gathered, situation: Situation) -> Incident:
    """Return the storm's incident; a new one is told once."""
    ready, found = situation.ready, situation.sighting.found
    parts, tx = gathered.parts, gathered.tx
    because = f"{found} of {situation.sighting.active} active are stuck at once"
    now = gathered.now
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
    gathered.note("incident.opened", opened.service, reason=because, incident=opened.id)
    gathered.tell(notices.held(ready.policy, opened, because, trail.link(parts, opened.id)))
    return opened
