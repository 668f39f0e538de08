"""Is it alive, is it ready, what does it count: for orchestrators and Prometheus."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from prunella.app import App
from prunella.app.life import WELL
from prunella.core.errors import StoreError
from prunella.engine import census
from prunella.web.access import may_read
from prunella.web.api.effects import figures_of
from prunella.web.api.paging import Out
from prunella.web.metrics import Metrics

_LOOPBACK = ("127.", "::1", "localhost")


class AliveOut(Out):
    """That the process answers."""

    status: Literal["ok"] = "ok"


class ReadyOut(Out):
    """Whether it accepts events and heals, and what was looked at."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str]


def router(app: App, metrics: Metrics) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", summary="The process answers")
    async def livez() -> AliveOut:
        return AliveOut()

    @routes.get(
        "/readyz",
        summary="The process accepts events and heals",
        responses={503: {"model": ReadyOut, "description": "Not now"}},
    )
    @routes.get("/healthz", include_in_schema=False)
    async def readyz(answer: Response) -> ReadyOut:
        checks = await app.life.checks(app.store, None if app.alone else app.parts.worker)
        well = all(found == WELL for found in checks.values())
        answer.status_code = 200 if well else 503
        return ReadyOut(status="ok" if well else "unavailable", checks=dict(checks))

    @routes.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=PlainTextResponse,
        description="Open on loopback, and where service.metrics_public says so; elsewhere for who may look.",
        responses={401: {}, 403: {}, 429: {}},
    )
    async def read_metrics(request: Request) -> Response:
        host, _ = app.settings.listen
        if not (app.settings.metrics_public or host.startswith(_LOOPBACK)):
            await may_read(request)
        try:
            metrics.show(await census.take(app.parts, alone=app.alone), await figures_of(request).of(1))
        except StoreError:
            metrics.show(None)
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
