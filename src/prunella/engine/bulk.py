"""The same for many operations at once: estimated first, then done to exactly what was estimated, page by page.

An estimate names the moment it was made and a digest of what it found. Who carries it out hands both back: where the
operations have moved since, nothing is done and the new estimate is the answer.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from prunella.core import redact
from prunella.core.errors import IllegalTransition, InvalidInput
from prunella.core.records import Incident, Operation
from prunella.core.states import OperationState
from prunella.engine import operations as one_by_one
from prunella.engine import trail
from prunella.engine.operations import ALLOWED
from prunella.engine.parts import Parts
from prunella.store.backlog import Wanted
from prunella.store.contract import again_on_conflict

_PAGE = 200
_WALK = 5000
_SAMPLE = 10
_FILTERS = ("service", "states", "incident", "account", "due", "idempotency_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What an act would be done to.

    Args:
        made_at: nothing that was queued later is meant.
        services: how many of which service.
        unknown: how many of them died in mid-call, so that nobody knows whether they arrived.
        digest: of the act, the filter and every operation with its state.
    """

    act: str
    made_at: datetime
    count: int
    services: Mapping[str, int]
    oldest: datetime | None
    newest: datetime | None
    sample: Sequence[Operation]
    unknown: int
    digest: str


class EstimateChanged(IllegalTransition):
    """The operations have moved since they were estimated; `now` is how they stand."""

    def __init__(self, now: Estimate) -> None:
        super().__init__(
            f"the operations have moved since they were estimated: now {now.count}; "
            "look at the new estimate and answer with its made_at and digest"
        )
        self.now = now


class _Walked(NamedTuple):
    """One operation as it was estimated."""

    incident_id: str
    id: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What came of it: how many were done, and why the others were left as they are."""

    name: str
    done: int
    left: Mapping[str, int]


async def estimate(parts: Parts, act: str, wanted: Wanted, *, made_at: datetime | None = None) -> Estimate:
    """Say what an act would be done to.

    Raises:
        InvalidInput: the filter names a state in which it can't be done.
    """
    return (await _estimated(parts, act, wanted, made_at or parts.clock.now()))[0]


async def carry_out(
    parts: Parts, act: str, wanted: Wanted, *, made_at: datetime, digest: str, name: str, by: str, reason: str = ""
) -> Carried:
    """Do what was estimated, page by page; each page is a transaction with its audit.

    Raises:
        EstimateChanged: what the filter finds is not what was estimated.
        InvalidInput: the filter names a state in which it can't be done.
    """
    found, walked = await _estimated(parts, act, wanted, made_at)
    if found.digest != digest:
        raise EstimateChanged(await estimate(parts, act, wanted))
    name, reason = redact.scrub(name), redact.scrub(reason)
    about = f"{found.count} operations, digest {digest}" + (f": {reason}" if reason else "")
    details = {"filter": _spelled(wanted), "count": found.count, "digest": digest}
    await _note(parts, f"operations.{act}", name, reason=about, by=by, details=details)
    done, left = 0, Counter[str]()
    because = f"{name}: {reason}" if reason else name
    try:
        for start in range(0, len(walked), _PAGE):
            moved, objections = await _page(parts, act, walked[start : start + _PAGE], name, by, because)
            done += moved
            left += objections
            await parts.give_way()
    finally:
        came = f"{done} of {found.count} {one_by_one.DONE_TO[act]}" + "".join(f"; {n} {why}" for why, n in left.items())
        await _note(parts, f"operations.{act}.ended", name, reason=came, by=by, details={"done": done})
    return Carried(name=name, done=done, left=dict(left))


async def _estimated(parts: Parts, act: str, wanted: Wanted, made_at: datetime) -> tuple[Estimate, list[_Walked]]:
    """Return the estimate, and all that it is about."""
    wanted = replace(wanted, states=_possible(act, wanted.states), until=made_at, now=made_at)
    hashed = hashlib.sha256(json.dumps([act, _spelled(wanted)], sort_keys=True).encode())
    walked: list[_Walked] = []
    services, moments, unknown = Counter[str](), list[datetime](), 0
    async with parts.store.transaction() as tx:
        sample = await tx.backlog.oldest(wanted, _SAMPLE)
        after = ""
        while page := await tx.backlog.walk(wanted, after, _WALK):
            hashed.update("".join(f"{row['id']} {row['state']}\n" for row in page).encode())
            walked += [_Walked(row["incident_id"], row["id"], row["state"]) for row in page]
            services.update(row["service"] for row in page)
            moments += [moment(row["created_at"] for row in page) for moment in (min, max)]
            unknown += sum(bool(row["unknown"]) for row in page)
            after = page[-1]["id"]
    walked.sort()  # an incident's operations together, so that it takes note of them once
    found = Estimate(
        act=act,
        made_at=made_at,
        count=len(walked),
        services=dict(sorted(services.items())),
        oldest=min(moments, default=None),
        newest=max(moments, default=None),
        sample=sample,
        unknown=unknown,
        digest=hashed.hexdigest()[:32],
    )
    return found, walked


@again_on_conflict
async def _page(
    parts: Parts, act: str, walked: Sequence[_Walked], name: str, by: str, because: str
) -> tuple[int, Counter[str]]:
    """Carry one page out in one transaction; return how many moved, and why the others did not."""
    async with parts.store.transaction() as tx:
        incidents = await tx.incidents.take_all(sorted({one.incident_id for one in walked}))
        seen = {one.id: one.state for one in walked}
        standing = [one for one in await tx.backlog.of_ids(list(seen)) if one.state == seen[one.id]]
        objections = {one.id: _objection(parts, act, one, incidents) for one in standing}
        free = [one for one in standing if objections[one.id] is None]
        ids = await one_by_one.move(parts, tx, act, free, by=by, reason=because)
        moved = [one for one in free if one.id in ids]
        await tx.audit.add([trail.entry(parts, f"operation.{act}", one.id, reason=because, by=by) for one in moved])
        for incident_id, count in sorted(Counter(one.incident_id for one in moved).items()):
            words = f"{count} operations {one_by_one.DONE_TO[act]}: {because}"
            await trail.note(parts, tx, f"operations.{act}", name, reason=words, incident=incident_id, by=by)
            if incident_id in incidents:
                await one_by_one.go_on(parts, tx, incidents[incident_id], act)
    left = Counter(why for why in objections.values() if why is not None)
    left["moved meanwhile"] += len(walked) - len(moved) - left.total()
    return len(moved), +left


def _objection(parts: Parts, act: str, operation: Operation, incidents: Mapping[str, Incident]) -> str | None:
    trouble = one_by_one.opened(parts, operation)[1] if act == "replay" else None
    return one_by_one.objection(operation, incidents.get(operation.incident_id), act, trouble)


def _possible(act: str, states: tuple[OperationState, ...] | None) -> tuple[OperationState, ...]:
    """Return the states that are meant: those that are named, or all in which the act can be done."""
    wrong = [state.value for state in states or () if state not in ALLOWED[act]]
    if wrong:
        allowed = " or ".join(state.value for state in ALLOWED[act])
        raise InvalidInput(f"{act} can't be done to operations that are {wrong[0]}; write {allowed}", pointer="/state")
    return states or ALLOWED[act]


def _spelled(wanted: Wanted) -> dict[str, Any]:
    """Spell a filter for the digest and the audit."""
    given = {name: value for name, value in asdict(wanted).items() if name in _FILTERS and value is not None}
    if "states" in given:
        given["states"] = [str(state) for state in given["states"]]
    return given


async def _note(parts: Parts, action: str, target: str, *, reason: str, by: str, details: Mapping[str, Any]) -> None:
    entry = replace(trail.entry(parts, action, target, reason=reason, by=by), details=details)
    async with parts.store.transaction() as tx:
        await tx.audit.add([entry])
