"""Is it alive, is it ready, what does it count: for orchestrators and Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from prunella.app import App
from prunella.app.life import WELL
from prunella.core.errors import StoreError
from prunella.engine import census
from prunella.web.access import may_read
from prunella.web.metrics import Metrics

_LOOPBACK = ("127.", "::1", "localhost")


def router(app: App, metrics: Metrics) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", summary="The process answers")
    async def livez() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @routes.get("/readyz", summary="The process accepts events and heals", responses={503: {"description": "Not now"}})
    @routes.get("/healthz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        checks = await app.life.checks(app.store, None if app.alone else app.parts.worker)
        well = all(found == WELL for found in checks.values())
        status = "ok" if well else "unavailable"
        return JSONResponse({"status": status, "checks": dict(checks)}, status_code=200 if well else 503)

    @routes.get("/metrics", summary="Prometheus metrics")
    async def read_metrics(request: Request) -> Response:
        host, _ = app.settings.listen
        if not (app.settings.metrics_public or host.startswith(_LOOPBACK)):
            await may_read(request)
        try:
            metrics.show(await census.take(app.parts, alone=app.alone))
        except StoreError:
            metrics.show(None)
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
