"""Put a policy around an HTTP client: which requests may be repeated, which answers are failures, how long is left.

Clients are known by their shape (httpx2, httpx, requests, aiohttp), none is imported. What the proxy does not list
reaches the client itself, unguarded. Must never send a request twice that may have had its effect already.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self

from prunella.core import shapes
from prunella.core.errors import BadResponse
from prunella.guard.call import Call
from prunella.guard.core import Core, Unwanted
from prunella.guard.deadline import remaining_s
from prunella.guard.drive import adrive, drive
from prunella.guard.flow import story
from prunella.guard.policy import Policy
from prunella.guard.request import REPEATABLE, key_of, reads_twice, shorter
from prunella.guard.response import attribute

FAILURES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be another one next time; every other answer is the caller's to read."""

_ERRORS_FROM: Final = 400
_VERBS = ("request", "get", "post", "put", "patch", "delete", "head", "options")
_BODIES = ("content", "data", "files")
_refused: ContextVar[list[Any] | None] = ContextVar("prunella_refused", default=None)
"""The answer that the attempt before brought: its connection is given back when the next one begins."""


class ErrorAnswer(Unwanted, BadResponse):
    """Carry an answer that is a failure; shapes read status and headers from `response`."""

    def __init__(self, response: Any, status: int) -> None:
        BadResponse.__init__(self, f"HTTP {status}", status=status)
        self.result = self.response = response
        self.again = status in FAILURES


def http(client: Any, guarded_by: Policy) -> Any:
    """Return a proxy of `client` that sends every request under a policy.

    It has request, get, post, put, patch, delete, head and options with the client's own arguments, and answers what
    the client answers. GET, HEAD, OPTIONS, PUT and DELETE may be sent again; POST and PATCH only with an
    Idempotency-Key header, or where it is proven that nothing was sent; and none whose body can be read but once.
    The statuses in `FAILURES` count as failures, and so do errors that the policy has a remedy against (`known`). A
    Retry-After is honoured, and when all attempts are used the last answer is returned as the client returned it; what
    its `raise_for_status` raises is not tried again further out. A `key` of the policy is asked with (method, url, …).

    Args:
        client: a Client, AsyncClient, Session or ClientSession.
        guarded_by: the policy; where it leaves a request less time than the client would, the client is told.

    Raises:
        RetryLater: of each request whose service asks for a longer wait than `max_inline_wait_s`.
        CircuitOpen, LoadShed, RateLimited, DeadlineExceeded: as of any guarded call.
    """
    if not isinstance(guarded_by, Policy):
        raise TypeError(f"http: got {guarded_by!r} for a policy; write pr.http(client, pr.policy(…))")
    if not callable(attribute(client, "request")):
        raise TypeError(f"http: {client!r} has no request(); give a client of httpx2, httpx, requests or aiohttp")
    return AsyncProxy(client, guarded_by) if _is_asynchronous(client) else Proxy(client, guarded_by)


class Proxy:
    """A synchronous client under a policy."""

    def __init__(self, client: Any, guarded_by: Policy) -> None:
        self._client = client
        self._policy = guarded_by
        self._senders = {verb: self._sender(verb) for verb in _VERBS if callable(attribute(client, verb))}

    def request(self, method: str, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a request of any method."""
        return self._send("request", str(method).upper(), url, args, kwargs)

    def get(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Send GET."""
        return self._send("get", "GET", url, args, kwargs)

    def post(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Send POST; again only with an Idempotency-Key header, or where nothing was sent."""
        return self._send("post", "POST", url, args, kwargs)

    def put(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Send PUT."""
        return self._send("put", "PUT", url, args, kwargs)

    def patch(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Send PATCH; again only with an Idempotency-Key header, or where nothing was sent."""
        return self._send("patch", "PATCH", url, args, kwargs)

    def delete(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Send DELETE."""
        return self._send("delete", "DELETE", url, args, kwargs)

    def head(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Send HEAD."""
        return self._send("head", "HEAD", url, args, kwargs)

    def options(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Send OPTIONS."""
        return self._send("options", "OPTIONS", url, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __enter__(self) -> Self:
        self._client.__enter__()
        return self

    def __exit__(self, *raised: object) -> Any:
        return self._client.__exit__(*raised)

    def _send(self, verb: str, method: str, url: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call, core = self._begin(verb, method, url, args, kwargs)
        with _refusals_of_its_own():
            return drive(story(core, call), call, threads=core.threads)

    def _begin(
        self, verb: str, method: str, url: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Call, Core]:
        if verb not in self._senders:
            raise AttributeError(f"{type(self._client).__name__} has no {verb}()")
        readable_again = all(map(reads_twice, (*args, *map(kwargs.get, _BODIES))))
        once = method not in REPEATABLE or not readable_again
        key = key_of(kwargs.get("headers")) if readable_again else None
        args = (method, url, *args)
        call = Call(self._senders[verb], args, kwargs, once=once, idempotency_key=key)
        return call, self._policy.core(args, kwargs)

    def _sender(self, verb: str) -> Callable[..., Any]:
        def send(method: str, url: Any, *args: Any, **kwargs: Any) -> Any:
            _let_go()
            return self._answer(self._call(verb, method, url, args, kwargs))

        return send

    def _answer(self, response: Any) -> Any:
        """Return an answer; raise one that is a failure, for the policy to see."""
        status = shapes.status_of(response)
        if status is None or not (status in FAILURES or self._is_known(response, status)):
            return response
        if (answers := _refused.get()) is not None:
            answers.append(response)
        raise ErrorAnswer(response, status)

    def _is_known(self, response: Any, status: int) -> bool:
        """Tell whether an answer says something against which there is a remedy."""
        known = self._policy.settings.known
        if known is None or status < _ERRORS_FROM:
            return False
        return known.recognise(ErrorAnswer(response, status), self._policy.name) is not None

    def _call(self, verb: str, method: str, url: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the client's own function, with no more time than is left."""
        left_s = remaining_s()
        if left_s < math.inf:
            own = attribute(self._client, "timeout")
            kwargs = {**kwargs, "timeout": shorter(kwargs.get("timeout", own), own, left_s)}
        function = getattr(self._client, verb)
        return function(method, url, *args, **kwargs) if verb == "request" else function(url, *args, **kwargs)


class AsyncProxy(Proxy):
    """An asynchronous client under a policy."""

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> Any:
        return await self._client.__aexit__(*raised)

    def _send(self, verb: str, method: str, url: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return Sending(self._asend(verb, method, url, args, kwargs))

    async def _asend(self, verb: str, method: str, url: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call, core = self._begin(verb, method, url, args, kwargs)
        with _refusals_of_its_own():
            return await adrive(story(core, call), call)

    def _sender(self, verb: str) -> Callable[..., Any]:
        async def send(method: str, url: Any, *args: Any, **kwargs: Any) -> Any:
            _let_go()
            response = await self._call(verb, method, url, args, kwargs)
            settings = self._policy.settings
            failed = (shapes.status_of(response) or 0) >= _ERRORS_FROM
            looked_at = settings.validate is not None or (settings.known is not None and failed)
            if looked_at and inspect.iscoroutinefunction(attribute(response, "read")):
                await response.read()  # aiohttp brings the body when it is asked for, and keeps it
            return self._answer(response)

        return send


class Sending(Coroutine[Any, Any, Any]):
    """A request on its way: `await` it, make a task of it, or use it as `async with client.get(…) as response:`."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self._response: Any = None

    def send(self, value: Any) -> Any:
        return self._work.send(value)

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None) -> Any:
        return self._work.throw(typ if val is None else val)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()

    async def __aenter__(self) -> Any:
        self._response = await self._work
        enter = attribute(self._response, "__aenter__")
        return await enter() if enter is not None else self._response

    async def __aexit__(self, *raised: object) -> None:
        leave = attribute(self._response, "__aexit__")
        if leave is not None:
            await leave(*raised)
        elif attribute(self._response, "aclose") is not None:
            await self._response.aclose()


def _is_asynchronous(client: Any) -> bool:
    return hasattr(type(client), "__aenter__") or inspect.iscoroutinefunction(client.request)


@contextlib.contextmanager
def _refusals_of_its_own() -> Iterator[None]:
    """Keep the answers that one call replaces apart from those of a call around it."""
    before = _refused.get()
    _refused.set([])
    try:
        yield
    finally:
        _refused.set(before)


def _let_go() -> None:
    """Give back the connection of the answer that this attempt replaces."""
    answers = _refused.get() or []
    while answers:
        response = answers.pop()
        end = attribute(response, "release") or attribute(response, "close")
        with contextlib.suppress(Exception):
            end()
