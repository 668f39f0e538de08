"""What every address can be asked besides its own methods: HEAD and OPTIONS; and in which form we answer."""

from __future__ import annotations

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prunella.web.problems import Problem, methods_of

_MACHINES = ("/api/", "/integration-self-heal", "/openapi.json")
_SERVED = ("application/json", "application/problem+json", "application/*", "*/*")


class Terms:
    """Answer HEAD as GET without its body, OPTIONS with `Allow`, and 406 to who takes no JSON of the API."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await _options(Request(scope)).__call__(scope, receive, send)
        elif get_route_path(scope).startswith(_MACHINES) and not takes_json(Headers(scope=scope).get("accept", "")):
            words = "this address answers application/json, and problems as application/problem+json"
            await Problem(406, "Not in this form", words).response()(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, _Bodiless(send))
        else:
            await self._app(scope, receive, send)


class _Bodiless:
    """Send an answer's head alone; it ends with the first part of its body, since streams go on for ever."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._ended = False

    async def __call__(self, message: Message) -> None:
        if self._ended:
            return
        if message["type"] == "http.response.body":
            self._ended, message = True, {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)


def takes_json(accept: str) -> bool:
    """Tell whether a header `Accept` takes what we send (RFC 9110 section 12.5.1); without one anything is taken."""
    if not accept.strip():
        return True
    for one in accept.split(","):
        kind, *options = (part.strip().lower() for part in one.split(";"))
        weights = [part.partition("=")[2] for part in options if part.startswith("q=")]
        refused = bool(weights) and weights[0].rstrip("0").rstrip(".") in ("", "0")
        if kind in _SERVED and not refused:
            return True
    return False


def _options(request: Request) -> Response:
    allowed = methods_of(request.scope["app"], request)
    if allowed == ["OPTIONS"]:
        return Problem(404, "Not Found").response()
    return Response(status_code=204, headers={"allow": ", ".join(allowed)})
