"""/api/v1/operations: waiting work as people see it, and what they do to it, one by one or many at once.

Payloads are shown by their structure; secrets and values never leave. Many at once: `estimate: true` first, then the
same filter with the estimate's `made_at` and `digest`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.core.errors import InvalidInput
from prunella.core.records import Operation
from prunella.core.states import IncidentState, OperationState, RunState
from prunella.engine import bulk, operations
from prunella.store.backlog import Wanted
from prunella.web.access import Acts, Sent, Words
from prunella.web.api.events import Moment
from prunella.web.api.incidents import EntryOut
from prunella.web.api.paging import (
    PAGE,
    Account,
    Cursor,
    Limit,
    Out,
    Page,
    Text,
    Time,
    before,
    cut,
    spell_time,
    unknown,
)
from prunella.web.api.routing import Rooms
from prunella.web.filters import Due, OperationFilter, names
from prunella.web.problems import Problem

FILTERS = names(OperationFilter)

Act = Literal["replay", "cancel", "quarantine"]


class ActIn(BaseModel):
    """What is wished for one operation, and why."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "sent by hand"}]})

    reason: Words = ""
    dry_run: bool = False


class BulkIn(BaseModel):
    """Which operations are meant, what they are called together, and what was estimated."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"service": "crm", "due": "resting", "estimate": True}]}
    )

    service: Text | None = None
    state: OperationState | None = None
    incident: Text | None = None
    account: Account | None = None
    due: Due | None = None
    idempotency_key: Text | None = None
    everything: Annotated[bool, Field(alias="all")] = False
    estimate: bool = False
    made_at: Moment | None = None
    digest: Annotated[Words, Field(max_length=200)] | None = None
    name: Annotated[Words, Field(max_length=200)] = ""
    reason: Words = ""


class OperationOut(Out):
    """An operation, without its payload."""

    id: str
    service: str
    account: str | None
    state: OperationState
    due_at: Time | None
    attempts: int
    idempotency_key: str
    incident_id: str
    last_error: str | None
    outcome_unknown: bool
    created_at: Time

    @classmethod
    def of(cls, operation: Operation) -> OperationOut:
        """Spell an operation."""
        return cls(**_facts(operation))


class ActedOut(OperationOut):
    """An operation after a wish, or as it would be."""

    dry_run: bool


class TryOut(Out):
    """An attempt to send an operation."""

    id: str
    attempt: int
    state: RunState
    status: int | None
    detail: str
    started_at: Time
    ended_at: Time | None


class CauseOut(Out):
    """What an operation waits for."""

    title: str
    state: IncidentState


class LookOut(OperationOut):
    """One operation with its payload's structure, its attempts and what people did to it."""

    method: str
    endpoint: str
    last_kind: str | None
    payload_shape: Any
    not_replayable: str | None
    acts: list[str]
    incident: CauseOut | None
    runs: list[TryOut]
    trace: list[EntryOut]

    @classmethod
    def seen(cls, seen: operations.Look) -> LookOut:
        """Spell one operation as a person may see it."""
        incident = seen.incident
        return cls(
            **_facts(seen.operation),
            method=seen.operation.method,
            endpoint=seen.operation.endpoint,
            last_kind=seen.operation.last_kind,
            payload_shape=seen.shape,
            not_replayable=seen.trouble,
            acts=list(seen.acts),
            incident=None if incident is None else CauseOut(title=incident.title, state=incident.state),
            runs=[
                TryOut(
                    id=run.id,
                    attempt=run.attempt,
                    state=run.state,
                    status=run.status,
                    detail=run.detail,
                    started_at=run.started_at.isoformat(),
                    ended_at=spell_time(run.ended_at),
                )
                for run in seen.runs
            ],
            trace=[
                EntryOut(at=entry.at.isoformat(), actor=entry.actor, action=entry.action, reason=entry.reason)
                for entry in seen.entries
            ],
        )


class EstimateOut(Out):
    """What an act would be done to."""

    estimate: Literal[True] = True
    act: str
    count: int
    services: dict[str, int]
    oldest: Time | None
    newest: Time | None
    outcome_unknown: int
    sample: list[OperationOut]
    made_at: Time
    digest: str

    @classmethod
    def of(cls, found: bulk.Estimate) -> EstimateOut:
        """Spell an estimate."""
        return cls(
            act=found.act,
            count=found.count,
            services=dict(found.services),
            oldest=spell_time(found.oldest),
            newest=spell_time(found.newest),
            outcome_unknown=found.unknown,
            sample=[OperationOut.of(one) for one in found.sample],
            made_at=found.made_at.isoformat(),
            digest=found.digest,
        )


class CarriedOut(Out):
    """What an act over many came to."""

    act: Act
    name: str
    done: int
    left: dict[str, Any]


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/operations", tags=["operations"])
    _reading_routes(routes, app)
    _acting_routes(routes, app)
    return routes


def _reading_routes(routes: Rooms, app: App) -> None:
    @routes.get("", summary="List waiting work, newest first")
    async def list_operations(
        _: Acts, wanted: Annotated[OperationFilter, Depends()], limit: Limit = PAGE, cursor: Cursor = None
    ) -> Page[OperationOut]:
        found, next_cursor = await page_of(app, wanted.asked(app.parts.clock.now()), limit, cursor)
        return Page(items=[OperationOut.of(one) for one in found], next_cursor=next_cursor)

    @routes.get("/{operation_id}", summary="Show an operation")
    async def read_operation(_: Acts, operation_id: str) -> LookOut:
        seen = await operations.look(app.parts, operation_id)
        if seen is None:
            raise unknown("operation", operation_id)
        return LookOut.seen(seen)


def _acting_routes(routes: Rooms, app: App) -> None:
    @routes.post("/{operation_id}/{act}", summary="Replay, cancel or quarantine one operation")
    async def act_on_operation(
        caller: Acts, wish: Annotated[ActIn, Depends(Sent(ActIn))], operation_id: str, act: Act
    ) -> ActedOut:
        _must_say_why(act, wish.reason, needed=not wish.dry_run)
        acted = await operations.act(
            app.parts, operation_id, act, by=caller.name, reason=wish.reason, dry_run=wish.dry_run
        )
        if acted is None:
            raise unknown("operation", operation_id)
        return ActedOut(**_facts(acted), dry_run=wish.dry_run)

    @routes.post("/{act}", summary="Estimate an act over many operations, then carry it out")
    async def act_on_many(
        caller: Acts, wish: Annotated[BulkIn, Depends(Sent(BulkIn))], act: Act
    ) -> EstimateOut | CarriedOut:
        wanted = _wanted(wish, app.parts.clock.now())
        if wish.estimate:
            return EstimateOut.of(await bulk.estimate(app.parts, act, wanted))
        _must_say_why(act, wish.reason)
        if wish.made_at is None or not wish.digest:
            raise InvalidInput("an estimate comes first: send estimate: true, then its made_at and digest")
        if not wish.name.strip():
            raise InvalidInput("a name is needed, under which this is found in the audit", pointer="/name")
        try:
            carried = await bulk.carry_out(
                app.parts,
                act,
                wanted,
                made_at=wish.made_at,
                digest=wish.digest,
                name=wish.name,
                by=caller.name,
                reason=wish.reason,
            )
        except bulk.EstimateChanged as error:
            extra = {"estimate": EstimateOut.of(error.now).model_dump(mode="json")}
            raise Problem(409, "The operations have moved", str(error), extra=extra) from None
        return CarriedOut(act=act, name=carried.name, done=carried.done, left=dict(carried.left))


# What the routes ask ----------------------------------------------------------------------------------------------


async def page_of(app: App, wanted: Wanted, limit: int, cursor: str | None) -> tuple[list[Operation], str | None]:
    """Return one page of operations, newest first, and the cursor of the next."""
    async with app.store.transaction() as tx:
        found = await tx.backlog.page(wanted, most=limit + 1, before=before(cursor))
    return cut(found, limit, lambda one: (one.created_at, one.id))


def _facts(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.id,
        "service": operation.service,
        "account": operation.account or None,
        "state": operation.state,
        "due_at": spell_time(operation.due_at),
        "attempts": operation.attempts,
        "idempotency_key": operation.idempotency_key,
        "incident_id": operation.incident_id,
        "last_error": operation.last_error,
        "outcome_unknown": operations.outcome_unknown(operation),
        "created_at": spell_time(operation.created_at),
    }


def _wanted(wish: BulkIn, now: datetime) -> Wanted:
    """Return whom a wish means; nothing named means nobody."""
    given = {name: value for name in FILTERS if (value := getattr(wish, name)) is not None}
    if not given and not wish.everything:
        raise InvalidInput(f"an empty filter means nothing; give one of {', '.join(FILTERS)}, or all: true")
    if wish.everything and given.keys() - {"state"}:
        raise InvalidInput("all: true stands beside a filter; write one of them", pointer="/all")
    return OperationFilter(**given).asked(now)


def _must_say_why(act: Act, reason: str, *, needed: bool = True) -> None:
    if needed and act != "replay" and not reason.strip():
        raise InvalidInput(f"a reason is needed to {act}; it stands in the audit", pointer="/reason")
