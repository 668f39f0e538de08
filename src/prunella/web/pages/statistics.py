"""The page of figures: what healing is worth, by service, remedy and known issue, and document D's targets."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.engine import figures
from prunella.engine.effects import TOIL_MIN
from prunella.web.access import Reads
from prunella.web.api.effects import figures_of
from prunella.web.pages.frame import Frame

_SPANS = {"24h": 1, "7d": 7, "30d": 30}


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the page to those that are there."""

    @routes.get("/statistics")
    async def statistics(caller: Reads, request: Request, span: Literal["24h", "7d", "30d"] = "7d") -> Response:
        days = _SPANS[span]
        return frame.page(
            request,
            "statistics.html",
            caller=caller,
            span=span,
            spans=list(_SPANS),
            found=await figures_of(request).of(days),
            toil_min=TOIL_MIN,
            kpis=await figures.kpis(app.parts, days),
            actions=await figures.statistics(app.parts, days),
        )
