"""Sign in with what was handed out, once or for a while, and sign out.

Opening a link changes nothing: mail scanners and chat previews open links, too. The button that it shows does.
"""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.engine import entrances
from prunella.web.access import Reads
from prunella.web.auth import COOKIE, SECURE_COOKIE, Caller, Gatehouse, Role, cookie_of, form_of
from prunella.web.limits import address_of
from prunella.web.pages.frame import Frame, back_to
from prunella.web.problems import Problem

_MAY_LOOK = frozenset({Role.VIEWER, Role.OPERATIONS, Role.ADMIN})


def add_routes(routes: APIRouter, app: App, gatehouse: Gatehouse, frame: Frame) -> None:
    """Add the pages to those that are there."""

    @routes.get("/login")
    async def show(request: Request, token: str = "") -> Response:
        return frame.page(request, "sign_in.html", token=token, refused=False)

    @routes.post("/login")
    async def sign_in(request: Request) -> Response:
        gatehouse.must_be_from_here(request)  # or another site signs a browser in as somebody else
        request.app.state.limits.sign_in(request)
        token = (await form_of(request)).get("token", "").strip()
        caller = await _who_shows(app, gatehouse, token)
        if caller is None:
            app.parts.listeners.emit("entrance.refused", way="sign-in", address=address_of(request))
            return frame.page(request, "sign_in.html", 401, token="", refused=True)
        if caller.role not in _MAY_LOOK:
            raise Problem(403, "Not with this role", f"the role {caller.role} has no pages; ask for VIEWER or more")
        shown, ends = await entrances.open_session(app.parts, caller.name, caller.role, caller.until, caller.key_id)
        answer = back_to(request, "/")
        secure = request.url.scheme == "https"
        life_s = int((ends - app.parts.clock.now()) / timedelta(seconds=1))
        name = SECURE_COOKIE if secure else COOKIE
        answer.set_cookie(name, shown, max_age=life_s, path="/", httponly=True, samesite="lax", secure=secure)
        return answer

    @routes.post("/logout")
    async def sign_out(caller: Reads, request: Request) -> Response:
        await entrances.end_session(app.parts, cookie_of(request), by=caller.name)
        answer = back_to(request, "/login")
        answer.delete_cookie(COOKIE, path="/")
        answer.delete_cookie(SECURE_COOKIE, path="/", secure=True, httponly=True)
        return answer


async def _who_shows(app: App, gatehouse: Gatehouse, token: str) -> Caller | None:
    """Return who shows a token or a one-time link, which is used up by it."""
    if token.startswith(entrances.LINK_PREFIX):
        found = await entrances.use_link(app.parts, token)
        return None if found is None else Caller(found[0], Role(found[1]))
    return await gatehouse.known(token) if token else None
