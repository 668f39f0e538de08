"""The first page: whether somebody is needed, and how the last day went."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from prunella.app import App
from prunella.core.records import AuditEntry
from prunella.engine import overview as figures
from prunella.engine.overview import Tally
from prunella.web.access import Reads
from prunella.web.auth import Caller, Role
from prunella.web.pages.frame import Frame

_SPANS = {"24h": figures.DAY, "7d": figures.WEEK}
_WEEK_STEP = 6
"""Hours of a week that share a row of the table."""
_SPARK_WIDTH, _SPARK_HEIGHT = 120, 28


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the page and its line of recovery rates."""

    @routes.get("/")
    async def overview(caller: Reads, request: Request, span: Literal["24h", "7d"] = "24h") -> Response:
        found = await figures.overview(app.parts)
        rows = found.hours if span == "24h" else _thinned(await figures.rates(app.parts, figures.WEEK))
        return frame.page(
            request,
            "overview.html",
            caller=caller,
            overview=found,
            feed=[entry for entry in found.feed if may_see(caller, entry)],
            span=span,
            rows=rows,
            spark=spark,
            widest=max([1, *(tally.opened for tally in found.categories.values())]),
        )

    @routes.get("/rates")
    async def rates(_: Reads, span: Literal["24h", "7d"] = "24h") -> Response:
        hours = await figures.rates(app.parts, _SPANS[span])
        rows = hours if span == "24h" else _thinned(hours)
        return JSONResponse(rates_json(rows))


def may_see(caller: Caller, entry: AuditEntry) -> bool:
    """Tell whether an entry is for somebody's feed: a VIEWER sees incidents only, and who signs in is no news."""
    if entry.action.startswith("session."):
        return False
    return entry.incident_id is not None or caller.role is not Role.VIEWER


def rates_json(rows: Sequence[tuple[datetime, Tally]]) -> dict[str, Any]:
    """Spell a line for a chart: seconds, rate in percent (null where nothing was settled), incidents."""
    return {
        "at": [int(moment.timestamp()) for moment, _ in rows],
        "rate": [None if tally.rate is None else round(100 * tally.rate, 1) for _, tally in rows],
        "opened": [tally.opened for _, tally in rows],
    }


def spark(counts: Sequence[int]) -> str:
    """Return the points of a small line, for `polyline`."""
    highest = max([1, *counts])
    step = _SPARK_WIDTH / max(1, len(counts) - 1)
    room = _SPARK_HEIGHT - 4
    return " ".join(f"{step * i:.1f},{2 + room - room * count / highest:.1f}" for i, count in enumerate(counts))


def _thinned(hours: Sequence[tuple[datetime, Tally]]) -> list[tuple[datetime, Tally]]:
    """Join hours of a week, so that a table of them can be read."""
    joined = []
    for start in range(0, len(hours), _WEEK_STEP):
        part = hours[start : start + _WEEK_STEP]
        sums = {name: sum(getattr(tally, name) for _, tally in part) for name in ("opened", "recovered", "left")}
        joined.append((part[0][0], Tally(**sums)))
    return joined
