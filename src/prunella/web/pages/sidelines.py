"""What every page's frame can do: pause and resume everything, and choose the colours."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.engine import orders
from prunella.web.access import Acts, Reads
from prunella.web.auth import form_of
from prunella.web.pages.forms import reason_of
from prunella.web.pages.frame import THEME_COOKIE, THEMES, Frame, back_to, safe_path

_YEAR_S = 365 * 86_400


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add what the frame posts to."""

    @routes.post("/pause")
    async def pause(caller: Acts, request: Request) -> Response:
        form = await form_of(request)
        await orders.pause(app.parts, None, by=caller.name, reason=await reason_of(request))
        frame.glance.forget()
        return back_to(request, safe_path(form.get("back", "/")))

    @routes.post("/resume")
    async def resume(caller: Acts, request: Request) -> Response:
        form = await form_of(request)
        await orders.resume(app.parts, None, by=caller.name, reason=await reason_of(request))
        frame.glance.forget()
        return back_to(request, safe_path(form.get("back", "/")))

    @routes.post("/theme")
    async def theme(_: Reads, request: Request) -> Response:
        form = await form_of(request)
        answer = back_to(request, safe_path(form.get("back", "/")))
        if form.get("theme") in THEMES:
            answer.set_cookie(THEME_COOKIE, form["theme"], max_age=_YEAR_S, path="/", httponly=True, samesite="lax")
        else:
            answer.delete_cookie(THEME_COOKIE, path="/")
        return answer
