"""/api/v1/runs: every attempt to heal, and how to undo it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from prunella.app import App
from prunella.core.records import Run
from prunella.core.states import RunState
from prunella.engine import orders
from prunella.web.access import Acts
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, Time, before, cut, spell_time, unknown
from prunella.web.api.routing import ASKS_YOURS, Rooms
from prunella.web.filters import RunFilter


class RunOut(Out):
    """An attempt to heal."""

    id: str
    incident_id: str
    service: str
    procedure: str
    resource: str | None
    issue: str | None
    remedy: str
    state: RunState
    attempt: int
    idempotency_key: str
    status: int | None
    detail: str
    rows: int
    worker: str
    started_at: Time
    ended_at: Time | None
    verified_at: Time | None

    @classmethod
    def of(cls, run: Run) -> RunOut:
        """Spell an attempt."""
        return cls(
            id=run.id,
            incident_id=run.incident_id,
            service=run.service,
            procedure=run.procedure,
            resource=run.resource or None,
            issue=run.issue or None,
            remedy=run.remedy,
            state=run.state,
            attempt=run.attempt,
            idempotency_key=run.idempotency_key,
            status=run.status,
            detail=run.detail,
            rows=run.touched,
            worker=run.worker,
            started_at=run.started_at.isoformat(),
            ended_at=spell_time(run.ended_at),
            verified_at=spell_time(run.verified_at),
        )


class UndoneOut(Out):
    """What undoing came to."""

    run: str
    restored: int
    refused: dict[str, str]


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/runs", tags=["runs"])

    @routes.get("", summary="List attempts, newest first")
    async def list_runs(
        _: Acts, wanted: Annotated[RunFilter, Depends()], limit: Limit = PAGE, cursor: Cursor = None
    ) -> Page[RunOut]:
        async with app.store.transaction() as tx:
            found = await tx.runs.list(most=limit + 1, before=before(cursor), **wanted.asked())
        page, next_cursor = cut(found, limit, lambda one: (one.started_at, one.id))
        return Page(items=[RunOut.of(one) for one in page], next_cursor=next_cursor)

    @routes.get("/{run_id}", summary="Show an attempt")
    async def read_run(_: Acts, run_id: str) -> RunOut:
        async with app.store.transaction() as tx:
            found = await tx.runs.get(run_id)
        if found is None:
            raise unknown("run", run_id)
        return RunOut.of(found)

    @routes.post("/{run_id}/undo", summary="Put back what a run changed", responses=ASKS_YOURS)
    async def undo_run(caller: Acts, run_id: str) -> UndoneOut:
        undone = await orders.undo(app.parts, run_id, by=caller.name)
        if undone is None:
            raise unknown("run", run_id)
        return UndoneOut(run=run_id, restored=undone.restored, refused=dict(undone.refused))

    return routes
