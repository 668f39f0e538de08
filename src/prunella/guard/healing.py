"""Heal one request, whoever serves it: repeat what may be repeated, repair what is known, never just crash.

A story around the story of a guarded call. Must never repeat a request that may have had its effect, and never give
an answer where one was begun.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from traceback import format_exception
from typing import Any, Final, Protocol

from prunella.core.clock import HOST, Ids, Rng, SystemClock
from prunella.core.errors import CircuitOpen, RetryLater
from prunella.core.redact import scrub
from prunella.guard.breaker import Breaker
from prunella.guard.call import GAVE_UP, Call, Carried, Story
from prunella.guard.core import Core
from prunella.guard.flow import invoke, story
from prunella.guard.known import Remedy, ask
from prunella.guard.policy import Policy
from prunella.guard.policy import policy as make_policy
from prunella.guard.response import FAILURE_WAIT_S
from prunella.guard.retry import DISPATCH
from prunella.guard.verdicts import asked_wait_s, is_refusal

_WAIT_MAX_S: Final = 3600.0
_REQUEST_ID: Final = re.compile(r"[\w.:-]{1,128}", re.ASCII)

_log = logging.getLogger(__name__)
_ids = Ids(SystemClock(), Rng())


def request_id(headers: Mapping[str, str]) -> str:
    """Return the id that a request came with, or a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else _ids.new()


class Unavailable:
    """What the client gets instead of a crash: 503 as problem details (RFC 9457). Itself an ASGI application."""

    status_code = 503
    media_type = "application/problem+json"

    def __init__(self, component: str, request_id: str, wait_s: float) -> None:
        self.request_id = request_id
        self.retry_after_s = max(math.ceil(wait_s), 1)
        problem = {
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": self.status_code,
            "detail": f"{component} is out of order for the moment; try again in {self.retry_after_s} s",
            "request_id": request_id,
        }
        self.body = json.dumps(problem).encode()
        self.headers = {"Retry-After": str(self.retry_after_s), "X-Request-ID": request_id}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {"Content-Type": self.media_type, "Content-Length": str(len(self.body)), **self.headers}
        pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status_code, "headers": pairs})
        body = b"" if scope.get("method") == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body})


class Serving(Protocol):
    """One request on its way."""

    action: str
    request_id: str

    @property
    def repeatable(self) -> bool:
        """Tell whether the request may be served again."""
        ...

    @property
    def begun(self) -> bool:
        """Tell whether the client has heard a part of an answer: no other one can be given."""
        ...

    def passes(self, error: Exception) -> bool:
        """Tell whether an exception is no failure: the client left, or is answered by it."""
        ...


class Served(Call):
    """A call that serves a request."""

    __slots__ = ("serving",)

    def __init__(
        self, serving: Serving, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(function, args, kwargs)
        self.serving = serving

    def final(self, error: Exception) -> str:
        return "" if self.serving.repeatable else "the request may not be served again"

    def passes(self, error: Exception) -> bool:
        return self.serving.passes(error)

    @property
    def replaceable(self) -> bool:
        return not self.serving.begun


class Healing:
    """What is done about failures of one component."""

    def __init__(self, component: str, policy: Policy | None, remedy: Remedy | None) -> None:
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(f"{component}: policy must be made by pr.policy(…), got {policy!r}")
        if remedy is not None and not callable(remedy):
            raise TypeError(f"{component}: remedy must be a function of the failure, got {remedy!r}")
        self.component = component
        self.policy = policy or make_policy(
            component, retry=DISPATCH, breaker=Breaker(failures=5, successes=2, open_s=60.0)
        )
        self._remedy = remedy

    def story(self, core: Core, call: Served) -> Story:
        """Make the call; where it fails for good: a remedy and one more try, and then an `Unavailable`."""
        outcome = yield from story(core, call)
        if outcome is not GAVE_UP or call.passes(_cause(call)):
            return outcome
        remedied = yield from self._remedied(core, _cause(call), call.deadline_at)
        if remedied and call.serving.repeatable and HOST.monotonic() < call.deadline_at:
            try:
                outcome = yield from invoke(core, call)
            except Exception as failed:
                call.error = failed.error if isinstance(failed, Carried) else failed
            else:
                core.tell("remedy.proven", component=self.component, action=call.serving.action)
                return outcome
        return self._ended(core, call, remedied)

    def unavailable(self, request_id: str, wait_s: float = FAILURE_WAIT_S) -> Unavailable:
        """Return the answer of last resort."""
        return Unavailable(self.component, request_id, wait_s)

    def _remedied(self, core: Core, error: Exception, deadline_at: float) -> Story:
        """Let the remedy look at a failure of the application; a refusal by a guard is none."""
        if self._remedy is None or is_refusal(error):
            return False
        said = yield from ask(self._remedy, error, deadline_at)
        if isinstance(said, Exception):
            _log.error("%s: the remedy failed", self.component, exc_info=said)
            core.tell("remedy.failed", component=self.component, error=said)
            return False
        core.tell("remedy.tried", component=self.component, error=error, worked=said)
        return said

    def _ended(self, core: Core, call: Served, remedied: bool) -> Any:
        """Learn from what failed for good; return the answer to it, or `GAVE_UP` where none can be given any more."""
        error, serving = _cause(call), call.serving
        wait_s = _wait_s(core, call.error)
        call.error = error
        if call.passes(error):
            return GAVE_UP
        core.tell(
            "failure.learned",
            component=self.component,
            action=serving.action,
            error=error,
            impact="high",
            remedied=remedied,
            request_id=serving.request_id,
        )
        if serving.begun:
            return GAVE_UP
        told = scrub("".join(format_exception(error)))
        _log.error("%s: %s failed for good, request %s\n%s", self.component, serving.action, serving.request_id, told)
        return self.unavailable(serving.request_id, wait_s)


def _cause(call: Call) -> Exception:
    """Return what failed; a wait that was asked for is told instead of it."""
    error = call.error
    if isinstance(error, RetryLater) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    assert isinstance(error, Exception)
    return error


def _wait_s(core: Core, told: BaseException | None) -> float:
    """Return when another request makes sense: when the breaker lets one pass, or when a service asked for one."""
    assert isinstance(told, Exception)
    wait_s: float | None = core.breaker.open_for_s or None
    if wait_s is None and isinstance(told, RetryLater):
        wait_s = (told.due_at - HOST.now()).total_seconds()
    if wait_s is None:
        wait_s = told.retry_after_s if isinstance(told, CircuitOpen) else asked_wait_s(told)
    return FAILURE_WAIT_S if wait_s is None or wait_s == math.inf else min(wait_s, _WAIT_MAX_S)
