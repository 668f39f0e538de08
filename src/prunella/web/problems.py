"""Every error as problem details (RFC 9457): what was wrong, where, and what to do next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prunella.checks.plugin import PluginFailed
from prunella.core.errors import (
    Conflict,
    DatabaseRefused,
    DatabaseUnavailable,
    IllegalTransition,
    InvalidInput,
    Outdated,
    StoreError,
)
from prunella.core.redact import scrub
from prunella.web.shield import HEADERS

_RETRY_AFTER_S = "5"
_SHOWN_CHARS = 100
_PARAMETERS = ("query", "path", "header", "cookie")
_FOR_MACHINES = ("/api/", "/integration-self-heal")


class Problem(Exception):
    """Answer with a problem instead of a result."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors
        self.headers = headers
        self.extra = extra or {}

    def response(self) -> Response:
        """Return the reply."""
        body: dict[str, Any] = {"type": "about:blank", "title": scrub(self.title), "status": self.status}
        if self.detail:
            body["detail"] = scrub(self.detail)
        if self.errors:
            body["errors"] = [{name: scrub(text) for name, text in error.items()} for error in self.errors]
        return JSONResponse(
            body | dict(self.extra),
            status_code=self.status,
            headers=dict(self.headers or {}),
            media_type="application/problem+json",
        )


_Answer = Callable[[Request, Problem], Response]


def unprocessable(error: ValidationError | RequestValidationError) -> Problem:
    """Name every wrong field by its JSON pointer (RFC 6901); values are not repeated."""
    told: dict[str, list[str]] = {}
    for found in error.errors():
        of_request = isinstance(error, RequestValidationError)
        told.setdefault(pointer(_place(found["loc"], of_request)), []).append(str(found["msg"]))
    errors = [{"pointer": place, "detail": "; or: ".join(details)} for place, details in told.items()]
    return Problem(422, "The fields are not as they should be", f"{len(errors)} wrong; see errors", errors=errors)


def _place(loc: Sequence[object], of_request: bool) -> Sequence[object]:
    """Return where a value stands; behind a parameter's name come only the ways in which it was understood."""
    if of_request and loc and loc[0] in _PARAMETERS:
        return loc[:2]
    return [part for part in loc if part != "body"]


def pointer(parts: Sequence[object]) -> str:
    """Write a path as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def install(app: FastAPI, page: _Answer | None = None) -> None:
    """Let every error of `app` end as problem details.

    Args:
        page: spells a problem for a browser, which shows a person what it is sent; None: nobody browses.
    """

    def answer(request: Request, problem: Problem) -> Response:
        path = get_route_path(request.scope)
        for_person = "text/html" in request.headers.get("accept", "") and not path.startswith(_FOR_MACHINES)
        return page(request, problem) if for_person and page is not None else problem.response()

    _install_own(app, answer)
    _install_troubles(app, answer)


def _install_own(app: FastAPI, answer: _Answer) -> None:
    """Tell what a caller got wrong."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return answer(request, error)

    @app.exception_handler(ClientDisconnect)
    async def _gone(request: Request, _: ClientDisconnect) -> Response:  # nobody hears it, and the log stays readable
        return answer(request, Problem(400, "The request was cut off"))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        path, methods = get_route_path(request.scope)[:_SHOWN_CHARS], ", ".join(methods_of(app, request))
        where = f"{path}; see /openapi.json" if path.startswith(_FOR_MACHINES) else "this address"
        details = {  # on a page an address puts no words into our mouth
            404: f"there is nothing at {where}",
            405: f"{request.method} is not answered here; allowed: {methods}",
        }
        headers = {"allow": methods} if error.status_code == 405 else error.headers
        detail = details.get(error.status_code, "")
        return answer(request, Problem(error.status_code, str(error.detail), detail, headers=headers))

    @app.exception_handler(RequestValidationError)
    async def _request(request: Request, error: RequestValidationError) -> Response:
        return answer(request, unprocessable(error))

    @app.exception_handler(InvalidInput)
    async def _invalid(request: Request, error: InvalidInput) -> Response:
        errors = [{"pointer": error.pointer, "detail": str(error)}] if error.pointer else []
        return answer(request, Problem(422, "The input can't be accepted", str(error), errors=errors))

    @app.exception_handler(IllegalTransition)
    async def _state(request: Request, error: IllegalTransition) -> Response:
        return answer(request, Problem(409, "Not in this state", str(error)))

    @app.exception_handler(Outdated)
    async def _outdated(request: Request, error: Outdated) -> Response:
        return answer(request, Problem(412, "Not the version you have seen", str(error)))

    @app.exception_handler(Conflict)
    async def _conflict(request: Request, error: Conflict) -> Response:
        return answer(request, Problem(409, "Changed meanwhile", str(error)))


def methods_of(app: FastAPI, request: Request) -> list[str]:
    """Return what may be asked of an address; the framework names the methods of its first route only."""
    found = {"OPTIONS"}
    scope = {**request.scope, "root_path": request.scope.get("root_path", "")}
    for route in iter_route_contexts(app.routes):
        methods = set(route.methods or ())
        if methods and route.matches({**scope, "method": next(iter(methods))})[0] is not Match.NONE:
            found |= methods | ({"HEAD"} if "GET" in methods else set())
    return sorted(found)


def _install_troubles(app: FastAPI, answer: _Answer) -> None:
    """Tell what is wrong with a database, or with us."""

    @app.exception_handler(StoreError)
    async def _store(request: Request, error: StoreError) -> Response:
        headers = {"retry-after": _RETRY_AFTER_S}
        return answer(request, Problem(503, "The database does not answer", str(error), headers=headers))

    @app.exception_handler(DatabaseUnavailable)
    async def _away(request: Request, error: DatabaseUnavailable) -> Response:
        headers = {"retry-after": _RETRY_AFTER_S}
        return answer(request, Problem(503, "Your database does not answer", str(error), headers=headers))

    @app.exception_handler(DatabaseRefused)
    async def _refused(request: Request, error: DatabaseRefused) -> Response:
        return answer(request, Problem(502, "Your database refuses", str(error)))

    @app.exception_handler(PluginFailed)
    async def _plugin(request: Request, error: PluginFailed) -> Response:
        return answer(request, Problem(502, "A check of yours failed", str(error)))

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> Response:
        problem = Problem(500, "A fault of prunella's own", f"{type(error).__name__}; the log says more")
        problem.headers = HEADERS  # the framework answers this outside of all that adds them
        return problem.response()


class CutOff:
    """Tell who still waits when the time to stop is up, in place of a fault: nothing was acknowledged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if begun or scope["type"] != "http":
                raise
            words = "whether this was recorded is not known; send it again, with the same event id or key"
            headers = {"retry-after": _RETRY_AFTER_S}
            await Problem(503, "This process ends", words, headers=headers).response()(scope, receive, send)
