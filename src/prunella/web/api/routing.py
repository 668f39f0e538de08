"""The routes of the API as one kind: an answer that was given to a key is given again, not made again.

A request may carry `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the same key with the same request
gets the stored answer for 24 h, with another request 422, while the first is under way 409. Only answers that a
route gave are stored; what was refused or failed may be sent again under its key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from prunella.core.errors import StoreError
from prunella.web.access import Needs, needs_of
from prunella.web.answers import Answers, Standing
from prunella.web.auth import SAFE
from prunella.web.problems import Problem

HEADER = "idempotency-key"
KEPT_WORDS = "for 24 h, per caller"
_KEY_MAX = 200
_STATUS_STORED_MAX = 299

ASKS_YOURS: dict[int | str, dict[str, Any]] = {502: {}}
"""Responses of a route that asks the user's database or functions, which may refuse."""
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Route(APIRoute):
    """A route whose changes can be asked for again without being made again."""

    def get_route_handler(self) -> Handler:
        """Return what answers a request."""
        handle = super().get_route_handler()
        needs = needs_of(self.dependant)

        async def answered(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if key is None or needs is None or request.method in SAFE:
                return await handle(request)
            return await _once(request, needs, key, handle)

        return answered


class Rooms(APIRouter):
    """Routes of one resource."""

    def __init__(self, **how: Any) -> None:
        super().__init__(route_class=Route, **how)


def tag_of(version: int | str) -> str:
    """Return the entity tag of a version (RFC 9110 section 8.8.3)."""
    return f'"{version}"'


async def _once(request: Request, needs: Needs, key: str, handle: Handler) -> Response:
    """Answer a request that carries a key."""
    caller = await needs(request)  # who may not ask is not told what is wrong with the key
    if not (0 < len(key) <= _KEY_MAX and key.isascii() and key.isprintable()):
        raise Problem(422, "The Idempotency-Key can't be taken", f"1 to {_KEY_MAX} printable letters of ASCII are")
    kept: Answers = request.app.state.answers
    asked = await _fingerprint(request)
    turn = await kept.begin(caller, key, asked)
    if isinstance(turn, Standing):
        return _again(turn, asked)
    try:
        answer = await handle(request)
    except Exception:
        with suppress(StoreError):  # it ends by its time, too
            await kept.drop(turn)
        raise
    if answer.status_code <= _STATUS_STORED_MAX:
        await kept.end(turn, answer.status_code, answer.headers.get("etag", ""), bytes(answer.body))
    else:
        await kept.drop(turn)
    return answer


def _again(standing: Standing, asked: str) -> Response:
    if standing.request != asked:
        words = "it was sent with another request before; take a new key for each request"
        raise Problem(422, "The Idempotency-Key is used", words)
    if standing.body is None:
        words = "the first request with this key is still being answered; ask again in a moment"
        raise Problem(409, "The same request is under way", words, headers={"retry-after": "1"})
    headers = {"idempotent-replayed": "true"} | ({"etag": standing.etag} if standing.etag else {})
    return Response(standing.body, standing.status, headers, media_type="application/json")


async def _fingerprint(request: Request) -> str:
    """Return what makes two requests the same: method, address, version that is meant, and body."""
    asked = f"{request.method} {request.url.path}?{request.url.query}\n{request.headers.get('if-match')}\n".encode()
    return hashlib.sha256(asked + await request.body()).hexdigest()
