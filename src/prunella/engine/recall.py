"""What an incident remembers from look to look: what was seen and when, and which rows were healed how often. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from prunella.core.findings import Finding
from prunella.core.records import Incident
from prunella.engine import ladder
from prunella.engine.ladder import Next, Turn
from prunella.engine.ready import Ready

_ROWS_REMEMBERED_MAX = 2000
_LOOK_APART = timedelta(seconds=1)


def healed(incident: Incident, finding: Finding) -> Incident:
    """Remember which rows were healed, so that one that comes back again and again is seen to flap."""
    if not finding.keys or len(finding.keys) > _ROWS_REMEMBERED_MAX:
        return incident
    times = dict(incident.memory.get("healed", {}))
    for key in map(str, finding.keys):
        times[key] = times.pop(key, 0) + 1  # to the end: the newest are kept
    newest = dict(list(times.items())[-_ROWS_REMEMBERED_MAX:])
    return replace(incident, memory={**incident.memory, "healed": newest})


def seen_enough(ready: Ready, incident: Incident, finding: Finding, now: datetime) -> Turn:
    """Let a thing be acted on only when it was seen often enough, far enough apart."""
    wanted = ready.policy.sightings
    if wanted.count < 2:
        return Turn(Next.ACT, "it is due")
    apart = timedelta(seconds=wanted.apart_s * (wanted.count - 1))
    seen_at = datetime.fromisoformat(incident.memory.get("seen_at", now.isoformat()))
    again = "first seen now; it is looked at again before anything is deleted"
    if now - seen_at < max(apart, _LOOK_APART):  # whatever the file says, one look never counts twice
        return Turn(Next.WAIT, again, seen_at + max(apart, _LOOK_APART))
    if finding.keys and not set(map(str, finding.keys)) & set(incident.memory.get("seen", ())):
        return Turn(Next.WAIT, again, now + apart)
    return Turn(Next.ACT, "it was seen often enough")


def targets(ready: Ready, incident: Incident, finding: Finding) -> Finding:
    """Cut a set of rows to those that were seen before, where two sightings are wanted, and that do not flap."""
    seen = set(incident.memory.get("seen", ())) if ready.policy.sightings.count > 1 else None
    flapping = {key for key, times in incident.memory.get("healed", {}).items() if times >= ladder.REGRESSIONS_MAX}
    if not finding.keys or (seen is None and not flapping):
        return finding
    keys = (key for key in finding.keys if str(key) not in flapping and (seen is None or str(key) in seen))
    return replace(finding, keys=tuple(keys))


def remembered(ready: Ready, incident: Incident, finding: Finding, now: datetime) -> dict[str, Any]:
    """Remember what was seen and when, for the second sighting; the first look at a key is the one that counts."""
    memory = {**incident.memory, "facts": dict(finding.facts), "issue": finding.issue}
    if ready.policy.sightings.count < 2:
        return memory
    seen, keys = set(memory.get("seen", ())), [str(key) for key in finding.keys]
    if "seen_at" not in memory or (keys and not seen & set(keys)):
        return {**memory, "seen_at": now.isoformat(), "seen": keys}
    return memory


def without(incident: Incident, *names: str) -> Incident:
    """Forget."""
    return replace(incident, memory={name: value for name, value in incident.memory.items() if name not in names})
