"""The first page, rendered on the server; nothing leaves the host and nothing runs in the browser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from prunella.app import App
from prunella.core.redact import scrub
from prunella.core.states import ApprovalState
from prunella.engine import report
from prunella.engine.notices import spell_duration
from prunella.engine.operations import outcome_unknown
from prunella.web.auth import COOKIE, Gatehouse
from prunella.web.pages import operations
from prunella.web.problems import Problem

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_SESSION_S = 12 * 3600
_PLANS_MAX = 50


def router(app: App, gatehouse: Gatehouse) -> APIRouter:
    """Return the pages."""
    routes = APIRouter(include_in_schema=False)
    templates = _templates()

    def page(name: str, **values: object) -> Response:
        html = templates.get_template(name).render(now=app.parts.clock.now(), **values)
        return HTMLResponse(html, headers=_HEADERS)

    @routes.get("/")
    async def overview(request: Request) -> Response:
        gatehouse.reads(request)
        return page("overview.html", overview=await report.overview(app.parts), environment=app.settings.environment)

    @routes.get("/incidents/{incident_id}")
    async def incident(request: Request, incident_id: str) -> Response:
        gatehouse.reads(request)
        story = await report.story(app.parts, incident_id)
        if story is None:
            raise Problem(404, "Unknown incident", f"there is no incident {incident_id[:100]!r}")
        return page("incident.html", story=story, environment=app.settings.environment)

    @routes.get("/approvals")
    async def approvals(request: Request) -> Response:
        gatehouse.acts(request)  # a plan shows rows
        async with app.store.transaction() as tx:
            latest = await tx.approvals.list(most=_PLANS_MAX)
            waiting = await tx.approvals.list(most=_PLANS_MAX, state=ApprovalState.WAITING)
        answered = [one for one in latest if one.state is not ApprovalState.WAITING]
        return page("approvals.html", waiting=waiting, answered=answered, environment=app.settings.environment)

    @routes.get("/approvals/{approval_id}")
    async def approval(request: Request, approval_id: str) -> Response:
        gatehouse.acts(request)
        async with app.store.transaction() as tx:
            found = await tx.approvals.get(approval_id)
        if found is None:
            raise Problem(404, "Unknown approval", f"there is no approval {approval_id[:100]!r}")
        return page("approval.html", approval=found, environment=app.settings.environment)

    operations.add_routes(routes, app, gatehouse, page)

    @routes.get("/services/{name}")
    async def service(name: str) -> Response:
        return RedirectResponse("/", status_code=303)

    @routes.get("/login")
    async def login(request: Request, token: str = "") -> Response:
        if gatehouse.signed(token) is None:
            raise Problem(401, "Sign in", "this token is not ours, or its time is up")
        answer = RedirectResponse("/", status_code=303, headers=_HEADERS)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, max_age=_SESSION_S, httponly=True, samesite="lax", secure=secure)
        return answer

    @routes.get("/static/style.css")
    async def style() -> Response:
        css = (Path(__file__).parent.parent / "static" / "style.css").read_text()
        return Response(css, media_type="text/css", headers={"cache-control": "max-age=3600"})

    return routes


def trouble(app: App) -> Callable[[Problem], Response]:
    """Return what spells a problem for a person in a browser; who is not signed in reads how to."""
    templates = _templates()

    def page(problem: Problem) -> Response:
        html = templates.get_template("sign_in.html" if problem.status == 401 else "trouble.html").render(
            now=app.parts.clock.now(),
            title=scrub(problem.title),
            detail=scrub(problem.detail),
            status=problem.status,
            environment=app.settings.environment,
        )
        return HTMLResponse(html, status_code=problem.status, headers={**_HEADERS, **(problem.headers or {})})

    return page


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
    )
    templates.filters["duration"] = spell_duration
    templates.filters["clock"] = _clock
    templates.tests["outcome_unknown"] = outcome_unknown
    return templates


def _clock(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment is not None else ""
