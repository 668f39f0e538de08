"""Acknowledge, retry or resolve many incidents at once: estimated first, then done to exactly what was estimated.

As with operations (bulk.py): the estimate names its moment and a digest, and who carries it out hands both back.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prunella.core import redact
from prunella.core.errors import IllegalTransition, InvalidInput
from prunella.core.records import Incident
from prunella.core.states import IncidentState
from prunella.engine import people, trail
from prunella.engine.parts import Parts

ACTS = ("ack", "retry", "resolve")
MOST = 500
"""How many one order may name; the newest of more."""
_LEFT = {"resolve": "still with requests in a lane or in quarantine, or moved meanwhile"}
_OPEN = [state.value for state in IncidentState if state is not IncidentState.RESOLVED]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What an act would be done to.

    Args:
        made_at: nothing that began later is meant.
        more: there are more than `MOST`; these are the newest.
        digest: of the act and every incident with its state.
    """

    act: str
    made_at: datetime
    count: int
    services: Mapping[str, int]
    sample: tuple[Incident, ...]
    more: bool
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What came of it: how many were done, and why the others were left as they are."""

    done: int
    left: Mapping[str, int]


async def estimate(parts: Parts, act: str, equal: Mapping[str, Any]) -> Estimate:
    """Say what an act would be done to."""
    made_at = parts.clock.now()
    return _estimated(act, await _meant(parts, act, equal, made_at), made_at)


async def carry_out(
    parts: Parts, act: str, equal: Mapping[str, Any], *, made_at: datetime, digest: str, by: str, reason: str = ""
) -> Carried:
    """Do what was estimated, one incident after the other; each is a transaction with its own audit entry.

    Raises:
        IllegalTransition: what the filter finds is not what was estimated.
    """
    found = await _meant(parts, act, equal, made_at)
    now = _estimated(act, found, made_at)
    if now.digest != digest:
        raise IllegalTransition(
            f"the incidents have moved since they were estimated: now {now.count}; go back and look at a new estimate"
        )
    reason = redact.scrub(reason)
    async with parts.store.transaction() as tx:
        about = f"{now.count} incidents, digest {digest}" + (f": {reason}" if reason else "")
        await trail.note(parts, tx, f"incidents.{act}", "many", reason=about, by=by)
    done, left = 0, Counter[str]()
    for incident in found[:MOST]:
        try:
            await people.act_on_incident(parts, incident.id, act, by=by, reason=reason)
            done += 1
        except IllegalTransition:
            left[_LEFT.get(act, "moved meanwhile")] += 1
        await parts.give_way()
    return Carried(done=done, left=dict(left))


async def _meant(parts: Parts, act: str, equal: Mapping[str, Any], made_at: datetime) -> list[Incident]:
    """Return what is open and can be acted on, newest first, one more than may be named where there are more."""
    if act not in ACTS:
        raise InvalidInput(f"{act[:50]!r} can't be done to many incidents; allowed: {', '.join(ACTS)}")
    open_only = {**equal, "state": equal.get("state") or _OPEN}
    async with parts.store.transaction() as tx:
        found = await tx.incidents.list(most=MOST + 1, before=(made_at, "~"), **open_only)
    return [one for one in found if _can_be(act, one)]


def _can_be(act: str, incident: Incident) -> bool:
    """Tell whether an act may be worth naming an incident for; `people` has the last word."""
    if act == "resolve" and incident.procedure:
        return False
    return incident.is_open and (act == "ack" or incident.state is not IncidentState.HEALING)


def _estimated(act: str, found: list[Incident], made_at: datetime) -> Estimate:
    named = found[:MOST]
    spelled = "".join(f"{one.id} {one.state.value}\n" for one in named)
    return Estimate(
        act=act,
        made_at=made_at,
        count=len(named),
        services=dict(sorted(Counter(one.service or one.procedure for one in named).items())),
        sample=tuple(named[:10]),
        more=len(found) > MOST,
        digest=hashlib.sha256(f"{act}\n{spelled}".encode()).hexdigest()[:32],
    )
