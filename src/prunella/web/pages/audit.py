"""The page of the audit: who did what to which thing, when and why; filtered, and taken home as CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from prunella.app import App
from prunella.core.records import AuditEntry
from prunella.engine import seals
from prunella.store.audit import Asked
from prunella.web import filters
from prunella.web.access import Acts
from prunella.web.filters import AuditFilter
from prunella.web.pages.forms import back_saying, show
from prunella.web.pages.frame import Frame
from prunella.web.problems import Problem

EXPORT_MAX = 100_000
"""Entries of one export; who wants more goes on with the last id as `before`."""
_ROWS = 100
_PAGE = 1000
_COLUMNS = ("id", "at", "actor", "action", "target", "incident_id", "reason", "details")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_KINDS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the pages to those that are there."""

    @routes.get("/audit")
    async def audit(caller: Acts, request: Request) -> Response:
        chosen = filters.chosen(AuditFilter, request.query_params)
        before = request.query_params.get("before") or None
        async with app.store.transaction() as tx:
            found = await tx.audit.asked(filters.read(AuditFilter, chosen).asked(), most=_ROWS + 1, before=before)
        last = found[_ROWS - 1].id if len(found) > _ROWS else None
        chain = await seals.stands(app.parts) if before is None else None
        return await show(
            frame,
            request,
            "audit.html",
            caller=caller,
            entries=found[:_ROWS],
            chain=chain,
            chosen=chosen,
            more=f"?{urlencode({**chosen, 'before': last})}" if last else None,
            newest=before is None,
            exported=urlencode(chosen),
            export_max=EXPORT_MAX,
        )

    @routes.post("/audit/check")
    async def check(caller: Acts, request: Request) -> Response:
        found = await seals.check(app.parts, by=caller.name)
        words = "is as it was written" if found.broken is None else f"is broken at seal {found.broken}: {found.why}"
        return back_saying(request, caller, "/audit", f"The audit {words}. {found.entries} entries were compared.")

    @routes.get("/audit/export")
    async def export(caller: Acts, request: Request) -> Response:
        kind = request.query_params.get("format", "csv")
        if kind not in _KINDS:
            raise Problem(422, "Unknown format", f"got {kind[:20]!r}; allowed: {', '.join(_KINDS)}")
        asked = filters.read(AuditFilter, filters.chosen(AuditFilter, request.query_params)).asked()
        before = request.query_params.get("before") or None
        name = f"audit-{app.parts.clock.now():%Y%m%dT%H%M%SZ}.{kind}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        first = await _page(app, asked, before, EXPORT_MAX)  # what fails, fails before the answer has begun
        pages = _exported(app, asked, first, csv_line if kind == "csv" else json_line)
        head = csv_cells(_COLUMNS) if kind == "csv" else ""
        return StreamingResponse(_with_head(head, pages), media_type=_KINDS[kind], headers=headers)


def csv_line(entry: AuditEntry) -> str:
    """Spell an entry as a line of CSV; what a spreadsheet would take for a formula is text (CWE-1236)."""
    cells = [_spelled(entry, name) for name in _COLUMNS]
    return csv_cells(["'" + cell if cell.startswith(_FORMULA) else cell for cell in cells])


def csv_cells(cells: Sequence[str]) -> str:
    """Spell cells as a line of CSV (RFC 4180)."""
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def json_line(entry: AuditEntry) -> str:
    """Spell an entry as a line of JSON."""
    values: dict[str, Any] = {name: getattr(entry, name) for name in _COLUMNS}
    shown = values | {"at": entry.at.isoformat(), "details": dict(entry.details)}
    return json.dumps(shown, ensure_ascii=False, default=str) + "\n"


def _spelled(entry: AuditEntry, name: str) -> str:
    if name == "at":
        return entry.at.isoformat()
    if name == "details":
        return json.dumps(dict(entry.details), ensure_ascii=False, default=str) if entry.details else ""
    return str(getattr(entry, name) or "")


async def _with_head(head: str, pages: AsyncIterator[str]) -> AsyncIterator[str]:
    if head:
        yield head
    async for page in pages:
        yield page


async def _exported(
    app: App, asked: Asked, page: Sequence[AuditEntry], spelled: Callable[[AuditEntry], str]
) -> AsyncIterator[str]:
    """Read page by page, each in a transaction of its own, so that an export holds nobody up."""
    left = EXPORT_MAX
    while page:
        yield "".join(map(spelled, page))
        left -= len(page)
        page = await _page(app, asked, page[-1].id, left) if left > 0 else ()


async def _page(app: App, asked: Asked, before: str | None, left: int) -> list[AuditEntry]:
    async with app.store.transaction() as tx:
        return await tx.audit.asked(asked, most=min(_PAGE, left), before=before)
