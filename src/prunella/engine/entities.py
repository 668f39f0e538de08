"""Things with a status column, as people ask about them (document D): which are stuck, and heal this one now.

A person's wish goes the way of every sweep: the same look, the same rules, the same records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prunella.checks.contract import EntityCheck
from prunella.core.errors import IllegalTransition, InvalidInput
from prunella.core.findings import Finding, Row
from prunella.core.records import Incident
from prunella.core.states import IncidentState
from prunella.engine import endings, figures, orders, stock
from prunella.engine.gatekeeper import Answer
from prunella.engine.gathered import gathering
from prunella.engine.parts import Parts
from prunella.engine.ready import MANUAL, Ready
from prunella.engine.sweep import Swept
from prunella.engine.waves import look
from prunella.store.contract import Transaction

_BEING_HEALED_MAX = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckOne:
    """One thing that stays in its state for too long.

    Args:
        key: as its table holds it, a number or text.
        remedy: what would be done about it.
    """

    key: Any
    issue: str
    minutes: int
    remedy: str
    status: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healing:
    """What came of one wish to heal.

    Args:
        id: of the attempt, or of the entry that hands it over to a person; None where the plan waits for an answer.
        status: document D's: SUCCESS, FAILED, IN_PROGRESS or MANUAL.
        new_status: of the row afterwards; None when it is gone.
    """

    id: str | None
    key: Any
    issue: str
    action: str
    status: str
    new_status: str | None
    message: str


def ready_of(parts: Parts, entity: str) -> Ready | None:
    """Return the procedure that looks after an entity; None when there is no entity of that name."""
    named = (one for one in parts.procedures.values() if one.entity is not None and one.entity.name == entity)
    return next(named, None)


async def stuck(parts: Parts, ready: Ready) -> list[StuckOne]:
    """Look now; return what is stuck, the oldest first, without what is being healed right now."""
    sighting = await look(ready)
    async with parts.store.transaction() as tx:
        healing = await tx.incidents.list(
            most=_BEING_HEALED_MAX, procedure=ready.name, state=IncidentState.HEALING.value
        )
    busy = {one.resource for one in healing if _is_leased(parts, one)}
    return [_stuck_one(ready, one) for one in sighting.findings if one.key not in busy]


async def heal(
    parts: Parts, ready: Ready, key: str, *, issue: str | None, action: str | None, by: str, run_id: str | None = None
) -> Healing | None:
    """Heal one thing now, by `action` or as its rule says; None when there is no such thing.

    Args:
        run_id: how the attempt shall be called, where somebody was told so before it began.

    Raises:
        InvalidInput: nothing is called `issue` or `action` here.
        IllegalTransition: it is not stuck, not in that way, is being healed, or a rule holds it back.
    """
    remedy = _remedy(ready, action)
    _must_be_issue(ready, issue)
    row = await _row(ready, key)
    if row is None:
        return None
    name, status = f"{_entity(ready)} {key}", _status_of(ready, row)
    finding = next((one for one in (await look(ready, key)).findings if one.key == key), None)
    if finding is None:
        raise IllegalTransition(f"{name} is not stuck: its status is {status}")
    if issue is not None and issue != finding.issue:
        raise IllegalTransition(f"{name} is {finding.issue}, not {issue}; ask for what it is")
    async with parts.store.transaction() as tx:
        incident = await _incident_of(tx, ready, key)
    if incident is not None and _is_leased(parts, incident):
        raise IllegalTransition(f"{name} is being healed right now; look again in a minute")
    if remedy == MANUAL:
        return await _hand_over(parts, ready, finding, by)
    swept = await orders.heal_one(parts, ready.name, key, remedy=remedy, by=by, run_id=run_id)
    return await _told(parts, ready, finding, swept)


async def _told(parts: Parts, ready: Ready, finding: Finding, swept: Swept) -> Healing:
    """Say what came of a sweep over one thing."""
    row = await _row(ready, finding.key)
    new_status = None if row is None else _status_of(ready, row)
    if not swept.runs:
        why = await _why_not(parts, ready, finding, swept)
        return _healing(ready, finding, None, MANUAL, "MANUAL", new_status, why)
    async with parts.store.transaction() as tx:
        last = await tx.runs.get(swept.runs[-1].id)  # its proof was written after it had ended
    assert last is not None
    handed = "; a person was asked" if swept.escalated else ""
    message = f"{last.remedy}: {last.detail or last.state.value}{handed}"
    return _healing(ready, finding, last.id, last.remedy, figures.recovery_status(last), new_status, message)


async def _why_not(parts: Parts, ready: Ready, finding: Finding, swept: Swept) -> str:
    """Return why a person has to answer first.

    Raises:
        IllegalTransition: nothing was done for another reason.
    """
    answer = swept.verdict.answer if swept.verdict is not None else Answer.RUN
    if answer in (Answer.PROPOSE, Answer.REFUSE):
        async with parts.store.transaction() as tx:
            incident = await _incident_of(tx, ready, finding.key)
        return (incident.held_reason if incident is not None else None) or "a person answers first"
    held = swept.verdict.reason if swept.verdict is not None and answer is Answer.WAIT and swept.plan else ""
    why = held or swept.waiting.get(finding.key) or "it is being healed right now, or has just been"
    raise IllegalTransition(f"{_entity(ready)} {finding.key}: {why}")


async def _hand_over(parts: Parts, ready: Ready, finding: Finding, by: str) -> Healing:
    """Hand a thing over to a person, because a person wants it."""
    looked_at = parts.clock.now()
    sighting = await look(ready, finding.key)
    async with gathering(parts, ready) as gathered:
        await stock.take(gathered, sighting, looked_at, finding.key)
    async with gathering(parts, ready) as gathered:
        incident = await _incident_of(gathered.tx, ready, finding.key)
        if incident is None or _is_leased(parts, incident):
            raise IllegalTransition(f"{_entity(ready)} {finding.key} is well by now, or being healed right now")
        if incident.state is IncidentState.ESCALATED:
            raise IllegalTransition(f"{_entity(ready)} {finding.key} is a person's already: {incident.held_reason}")
        await endings.hand_over(gathered, incident, f"handed over by {by}")
    async with parts.store.transaction() as tx:
        entries = await tx.audit.of_incident(incident.id)
    handed = next(one for one in reversed(entries) if one.action == "incident.escalated")
    row = await _row(ready, finding.key)
    new_status = None if row is None else _status_of(ready, row)
    return _healing(ready, finding, handed.id, MANUAL, "MANUAL", new_status, f"handed over to a person by {by}")


def _healing(
    ready: Ready, finding: Finding, id_: str | None, action: str, status: str, new_status: str | None, message: str
) -> Healing:
    return Healing(
        id=id_,
        key=_key(ready, finding),
        issue=finding.issue,
        action=action.upper(),
        status=status,
        new_status=new_status,
        message=message,
    )


def _stuck_one(ready: Ready, finding: Finding) -> StuckOne:
    return StuckOne(
        key=_key(ready, finding),
        issue=finding.issue,
        minutes=int(finding.facts.get("stuck_minutes", 0)),
        remedy=ready.remedy_for(finding),
        status=str(finding.facts.get("status", "")),
        message=finding.message,
    )


def _key(ready: Ready, finding: Finding) -> Any:
    """Return the key as a JSON value: a number where the table holds one."""
    held = None if ready.entity is None or finding.row is None else finding.row.get(ready.entity.key)
    return held if isinstance(held, int) and not isinstance(held, bool) else finding.key


async def _row(ready: Ready, key: str) -> Row | None:
    if not isinstance(ready.check, EntityCheck):
        raise InvalidInput(f"procedure {ready.name} looks after no entity")
    return await ready.check.row(key)


def _remedy(ready: Ready, action: str | None) -> str | None:
    known = {name.upper(): name for name in (*ready.remedies, MANUAL)}
    if action is not None and action not in known:
        allowed = ", ".join(sorted(known))
        raise InvalidInput(f"recoveryAction: nothing is called {action[:100]!r} here; known: {allowed}")
    return None if action is None else known[action]


def _must_be_issue(ready: Ready, issue: str | None) -> None:
    known = [f"STUCK_{state.upper()}" for state in (ready.entity.stuck if ready.entity is not None else ())]
    if issue is not None and issue not in known:
        raise InvalidInput(f"issueType: nothing is called {issue[:100]!r} here; known: {', '.join(sorted(known))}")


async def _incident_of(tx: Transaction, ready: Ready, key: str) -> Incident | None:
    found = await tx.incidents.list(most=2, procedure=ready.name, resource=key, state=_OPEN)
    return found[0] if found else None


def _status_of(ready: Ready, row: Row) -> str:
    assert ready.entity is not None  # asked of entities only
    return str(row[ready.entity.status]).rstrip()


def _entity(ready: Ready) -> str:
    return ready.entity.name if ready.entity is not None else ready.name


def _is_leased(parts: Parts, incident: Incident) -> bool:
    return incident.lease_until is not None and incident.lease_until > parts.clock.now()


_OPEN = [state.value for state in IncidentState if state is not IncidentState.RESOLVED]
