"""/api/v1/operations: waiting work as people see it, and what they do to it, one by one or many at once.

Payloads are shown by their structure; secrets and values never leave. Many at once: `estimate: true` first, then the
same filter with the estimate's `made_at` and `digest`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.core.errors import InvalidInput
from prunella.core.records import Operation
from prunella.core.states import OperationState
from prunella.engine import bulk, operations
from prunella.store.backlog import Wanted
from prunella.web.access import Acts, Sent
from prunella.web.api.events import Moment
from prunella.web.api.paging import PAGE, Limit, before, cursor_of, spell_time, unknown
from prunella.web.problems import Problem

_FILTERS = ("service", "state", "incident", "account", "due", "idempotency_key")

Act = Literal["replay", "cancel", "quarantine"]
Due = Literal["due", "overdue", "later", "resting"]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Account = Annotated[str, Field(max_length=500)]
"""Empty: prunella's own account of a service."""


class ActIn(BaseModel):
    """What is wished for one operation, and why."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=500)] = ""
    dry_run: bool = False


class BulkIn(BaseModel):
    """Which operations are meant, what they are called together, and what was estimated."""

    model_config = ConfigDict(extra="forbid")

    service: Text | None = None
    state: OperationState | None = None
    incident: Text | None = None
    account: Account | None = None
    due: Due | None = None
    idempotency_key: Text | None = None
    everything: Annotated[bool, Field(alias="all")] = False
    estimate: bool = False
    made_at: Moment | None = None
    digest: Annotated[str, Field(max_length=200)] | None = None
    name: Annotated[str, Field(max_length=200)] = ""
    reason: Annotated[str, Field(max_length=500)] = ""


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/operations", tags=["operations"])
    _reading_routes(routes, app)
    _acting_routes(routes, app)
    return routes


def _reading_routes(routes: APIRouter, app: App) -> None:
    @routes.get("")
    async def list_operations(
        _: Acts,
        service: Text | None = None,
        state: OperationState | None = None,
        incident: Text | None = None,
        account: Account | None = None,
        due: Due | None = None,
        idempotency_key: Text | None = None,
        limit: Annotated[Limit, Query()] = PAGE,
        cursor: str | None = None,
    ) -> JSONResponse:
        wanted = Wanted(
            service=service,
            states=(state,) if state is not None else None,
            incident=incident,
            account=account,
            due=due,
            idempotency_key=idempotency_key,
            now=app.parts.clock.now(),
        )
        found, next_cursor = await page_of(app, wanted, limit, cursor)
        return JSONResponse({"items": [operation_json(one) for one in found], "next_cursor": next_cursor})

    @routes.get("/{operation_id}")
    async def read_operation(_: Acts, operation_id: str) -> JSONResponse:
        seen = await operations.look(app.parts, operation_id)
        if seen is None:
            raise unknown("operation", operation_id)
        return JSONResponse(look_json(seen))


def _acting_routes(routes: APIRouter, app: App) -> None:
    @routes.post("/{operation_id}/{act}")
    async def act_on_operation(
        caller: Acts, wish: Annotated[ActIn, Depends(Sent(ActIn))], operation_id: str, act: Act
    ) -> JSONResponse:
        _must_say_why(act, wish.reason, needed=not wish.dry_run)
        acted = await operations.act(
            app.parts, operation_id, act, by=caller.name, reason=wish.reason, dry_run=wish.dry_run
        )
        if acted is None:
            raise unknown("operation", operation_id)
        return JSONResponse(operation_json(acted) | {"dry_run": wish.dry_run})

    @routes.post("/{act}")
    async def act_on_many(caller: Acts, wish: Annotated[BulkIn, Depends(Sent(BulkIn))], act: Act) -> JSONResponse:
        wanted = _wanted(wish)
        if wish.estimate:
            return JSONResponse(estimate_json(await bulk.estimate(app.parts, act, wanted)))
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
            extra = {"estimate": estimate_json(error.now)}
            raise Problem(409, "The operations have moved", str(error), extra=extra) from None
        return JSONResponse({"act": act, "name": carried.name, "done": carried.done, "left": dict(carried.left)})


# How things are spelled -------------------------------------------------------------------------------------------


def operation_json(operation: Operation) -> dict[str, Any]:
    """Spell an operation, without its payload."""
    return {
        "id": operation.id,
        "service": operation.service,
        "account": operation.account or None,
        "state": operation.state.value,
        "due_at": spell_time(operation.due_at),
        "attempts": operation.attempts,
        "idempotency_key": operation.idempotency_key,
        "incident_id": operation.incident_id,
        "last_error": operation.last_error,
        "outcome_unknown": operations.outcome_unknown(operation),
        "created_at": spell_time(operation.created_at),
    }


def look_json(seen: operations.Look) -> dict[str, Any]:
    """Spell one operation with its payload's structure, its attempts and what people did to it."""
    incident = seen.incident
    return operation_json(seen.operation) | {
        "method": seen.operation.method,
        "endpoint": seen.operation.endpoint,
        "last_kind": seen.operation.last_kind,
        "payload_shape": seen.shape,
        "not_replayable": seen.trouble,
        "acts": list(seen.acts),
        "incident": None if incident is None else {"title": incident.title, "state": incident.state.value},
        "runs": [
            {
                "id": run.id,
                "attempt": run.attempt,
                "state": run.state.value,
                "status": run.status,
                "detail": run.detail,
                "started_at": spell_time(run.started_at),
                "ended_at": spell_time(run.ended_at),
            }
            for run in seen.runs
        ],
        "trace": [
            {"at": spell_time(entry.at), "actor": entry.actor, "action": entry.action, "reason": entry.reason}
            for entry in seen.entries
        ],
    }


def estimate_json(found: bulk.Estimate) -> dict[str, Any]:
    """Spell what an act would be done to."""
    return {
        "estimate": True,
        "act": found.act,
        "count": found.count,
        "services": dict(found.services),
        "oldest": spell_time(found.oldest),
        "newest": spell_time(found.newest),
        "outcome_unknown": found.unknown,
        "sample": [operation_json(one) for one in found.sample],
        "made_at": spell_time(found.made_at),
        "digest": found.digest,
    }


# What the routes ask ----------------------------------------------------------------------------------------------


async def page_of(app: App, wanted: Wanted, limit: int, cursor: str | None) -> tuple[list[Operation], str | None]:
    """Return one page of operations, newest first, and the cursor of the next."""
    async with app.store.transaction() as tx:
        found = await tx.backlog.page(wanted, most=limit + 1, before=before(cursor))
    last = found[limit - 1] if len(found) > limit else None
    return found[:limit], cursor_of(last.created_at, last.id) if last is not None else None


def _wanted(wish: BulkIn) -> Wanted:
    """Return whom a wish means; nothing named means nobody."""
    given = {name for name in _FILTERS if getattr(wish, name) is not None}
    if not given and not wish.everything:
        raise InvalidInput(f"an empty filter means nothing; give one of {', '.join(_FILTERS)}, or all: true")
    if wish.everything and given - {"state"}:
        raise InvalidInput("all: true stands beside a filter; write one of them", pointer="/all")
    return Wanted(
        service=wish.service,
        states=(wish.state,) if wish.state is not None else None,
        incident=wish.incident,
        account=wish.account,
        due=wish.due,
        idempotency_key=wish.idempotency_key,
    )


def _must_say_why(act: Act, reason: str, *, needed: bool = True) -> None:
    if needed and act != "replay" and not reason.strip():
        raise InvalidInput(f"a reason is needed to {act}; it stands in the audit", pointer="/reason")
