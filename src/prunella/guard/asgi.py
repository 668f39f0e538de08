"""Heal requests where they are served: repeat what may be repeated, repair what is known, never just crash.

One story for a whole ASGI application and for a single handler, synchronous or not. Streams, websockets and lifespan
pass through. Must never start a response twice, and never repeat a request that may have had its effect.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import update_wrapper
from traceback import format_exception
from typing import Any, Final, Protocol, TypeVar

from prunella.core import shapes
from prunella.core.clock import HOST, Ids, Rng, SystemClock
from prunella.core.errors import CircuitOpen, GuardError, RetryLater
from prunella.core.redact import scrub
from prunella.guard.breaker import Breaker
from prunella.guard.call import GAVE_UP, Call, Carried, Invoke, Step, Story, TimeIsOver
from prunella.guard.compile import is_a
from prunella.guard.core import Core
from prunella.guard.drive import adrive, drive
from prunella.guard.flow import VERDICTS, asked_wait_s, story
from prunella.guard.http import REPEATABLE
from prunella.guard.policy import Policy
from prunella.guard.policy import policy as make_policy
from prunella.guard.response import FAILURE_WAIT_S, attribute
from prunella.guard.retry import DISPATCH, OWN_BUGS, blames_the_service

BODY_BYTES_MAX: Final = 1024 * 1024
"""A longer request is served once: it is not kept to be served again."""
_HELD_BYTES_MAX: Final = 65536
_WAIT_MAX_S: Final = 3600.0
_REQUEST_ID: Final = re.compile(r"[\w.:-]{1,128}", re.ASCII)

_log = logging.getLogger(__name__)
_ids = Ids(SystemClock(), Rng())

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Remedy = Callable[[Exception], bool | Awaitable[bool]]
Handler = TypeVar("Handler", bound=Callable[..., Any])


class SelfHealingMiddleware:
    """An ASGI application that heals another one.

    A request of a repeatable method, with a body of at most 1 MiB, is served again where serving it raised, or ended
    in a plain 500, before a response was started. What fails for good gets a remedy and one more try, and at last a
    503 with a request id, or the 500 that the application itself had made of it. What fails after its response was
    started is raised: nobody can take it back.

    Args:
        app: the application. Wrap it as a whole, or add this as the outermost middleware.
        component: what it is, in events and answers ("bookings").
        policy: how to guard; None takes document C's figures: 3 attempts, 1 s and 2 s apart, and a breaker that
            opens after 5 failures in a row, for 60 s. A `key` is asked with the scope; so is a `fallback`, which may
            return an ASGI application, such as a Response.
        remedy: a function of the failure that repairs a known issue and returns True where it did; may be `async`.
    """

    def __init__(
        self, app: Application, component: str = "app", policy: Policy | None = None, remedy: Remedy | None = None
    ) -> None:
        self.app = app
        self._healing = Healing(component, policy, remedy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(self.app, scope, receive, send)
        core = self._healing.policy.core((scope,), {})
        call = Call(exchange.serve, (scope,))
        outcome = await adrive(self._healing.story(core, call, exchange), call)
        answers = callable(outcome)  # an `Unavailable`, or the Response that a fallback made
        await exchange.end(outcome if answers else self._healing.unavailable(exchange.request_id))


def self_healing(
    component: str,
    policy: Policy | None = None,
    remedy: Remedy | None = None,
    respond: Callable[[Unavailable], Any] | None = None,
) -> Callable[[Handler], Handler]:
    """Decorate one handler, or any function, to do what `SelfHealingMiddleware` does for an application.

    A call with a request among its arguments (whatever has `method` and `headers`) is repeated only where its method
    may be; one without is repeated. An exception that is itself an answer to the client (a framework's own 4xx) is
    raised as ever.

    Args:
        component, policy, remedy: as of the middleware; the remedy of a synchronous handler must be one, too.
        respond: makes the framework's answer of an `Unavailable`; None takes starlette's Response where starlette is
            loaded (so FastAPI, too), and the `Unavailable` itself elsewhere.
    """
    healing = Healing(component, policy, remedy)

    def decorate(handler: Handler) -> Handler:
        if is_a(inspect.iscoroutinefunction, handler):
            made = _async_handler(healing, handler, respond or _fitting)
        else:
            if is_a(inspect.iscoroutinefunction, remedy or bool):
                raise TypeError(
                    f"self_healing: {component} is not async but its remedy is; give a plain function, or make both so"
                )
            made = _handler(healing, handler, respond or _fitting)
        return update_wrapper(made, handler)  # type: ignore[return-value]

    return decorate


def _handler(
    healing: Healing, handler: Callable[..., Any], respond: Callable[[Unavailable], Any]
) -> Callable[..., Any]:
    def healed(*args: Any, **kwargs: Any) -> Any:
        core, call = healing.policy.core(args, kwargs), Call(handler, args, kwargs)
        outcome = drive(healing.story(core, call, Handling(handler, args, kwargs)), call, threads=core.threads)
        return respond(outcome) if isinstance(outcome, Unavailable) else outcome

    return healed


def _async_handler(
    healing: Healing, handler: Callable[..., Any], respond: Callable[[Unavailable], Any]
) -> Callable[..., Any]:
    async def healed(*args: Any, **kwargs: Any) -> Any:
        core, call = healing.policy.core(args, kwargs), Call(handler, args, kwargs)
        outcome = await adrive(healing.story(core, call, Handling(handler, args, kwargs)), call)
        return respond(outcome) if isinstance(outcome, Unavailable) else outcome

    return healed


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"Content-Type": self.media_type, "Content-Length": str(len(self.body)), **self.headers}
        pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status_code, "headers": pairs})
        body = b"" if scope.get("method") == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body})


def _fitting(answer: Unavailable) -> Any:
    """Return starlette's Response where starlette is loaded: FastAPI takes nothing else for an answer."""
    responses = sys.modules.get("starlette.responses")
    if responses is None:
        return answer
    return responses.Response(answer.body, answer.status_code, answer.headers, answer.media_type)


# The story ------------------------------------------------------------------------------------------------------------


class Serving(Protocol):
    """One request on its way."""

    action: str
    request_id: str

    @property
    def repeatable(self) -> bool:
        """Tell whether the request may be served again."""
        ...

    def is_the_callers(self, error: Exception) -> bool:
        """Tell whether a failure has to be raised as it is: it is an answer, or none can be given any more."""
        ...

    def blames_nobody(self, error: Exception) -> bool:
        """Tell whether a failure says nothing about the application: the client left, or was refused."""
        ...


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

    def story(self, core: Core, call: Call, serving: Serving) -> Story:
        """Make the call; where it fails for good: a remedy and one more try, and then an `Unavailable`."""
        outcome = yield from _up_to_the_unrepeatable(core, call, serving)
        if outcome is not GAVE_UP:
            return outcome
        error = _cause(call)
        if serving.blames_nobody(error):
            return GAVE_UP
        remedied = yield from self._remedied(core, error)
        if remedied and serving.repeatable:
            once_more = Invoke(call.function, call.args, call.kwargs, HOST.monotonic() + core.attempt_timeout_s)
            try:
                outcome = yield once_more
            except Exception as thrown:
                call.error = error = _told(core, call, once_more, thrown)
            else:
                core.tell("remedy.proven", component=self.component, action=serving.action)
                return outcome
        core.tell(
            "failure.learned",
            component=self.component,
            action=serving.action,
            error=error,
            impact="high",
            remedied=remedied,
            request_id=serving.request_id,
        )
        if serving.is_the_callers(error):
            return GAVE_UP
        told = scrub("".join(format_exception(error)))
        _log.error("%s: %s failed for good, request %s\n%s", self.component, serving.action, serving.request_id, told)
        return self.unavailable(serving.request_id, _wait_s(core, call))

    def unavailable(self, request_id: str, wait_s: float = FAILURE_WAIT_S) -> Unavailable:
        """Return the answer of last resort."""
        return Unavailable(self.component, request_id, wait_s)

    def _remedied(self, core: Core, error: Exception) -> Story:
        """Let the remedy look at a failure of the application; a refusal by a guard is none."""
        if self._remedy is None or _is_refusal(error):
            return False
        try:
            worked = (yield Invoke(self._remedy, (error,))) is True
        except Exception as broken:
            _log.exception("%s: the remedy failed", self.component)
            core.tell("remedy.failed", component=self.component, error=broken)
            return False
        core.tell("remedy.tried", component=self.component, error=error, worked=worked)
        return worked


def _up_to_the_unrepeatable(core: Core, call: Call, serving: Serving) -> Story:
    """Tell the story of the call, but end it where a failure must not be followed by another attempt."""
    steps = story(core, call)
    try:
        step = steps.send(None)
        while True:
            try:
                outcome = yield step
            except Exception as thrown:
                made = isinstance(step, Invoke) and step.kwargs is call.kwargs
                error = _told(core, call, step, thrown)
                if made and (not serving.repeatable or serving.is_the_callers(error) or serving.blames_nobody(error)):
                    _count(core, call, serving, error)
                    call.error = error
                    steps.close()
                    return GAVE_UP
                step = steps.throw(thrown)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        return end.value


def _told(core: Core, call: Call, step: Step, thrown: Exception) -> Exception:
    """Return what a driver has thrown in the words that people get to see."""
    if isinstance(thrown, TimeIsOver) and isinstance(step, Invoke):
        return core.out_of_time(step.ends_at, call.deadline_at)
    if isinstance(thrown, Carried) and isinstance(thrown.error, Exception):
        return thrown.error
    return thrown


def _count(core: Core, call: Call, serving: Serving, error: Exception) -> None:
    """Tell the breaker of a failure that the story does not get to see."""
    says_nothing = serving.blames_nobody(error) or _is_refusal(error) or isinstance(error, (*core.ignored, *OWN_BUGS))
    if call.admission is not None and not says_nothing and blames_the_service(error):
        core.breaker.failed(call.admission)


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, GuardError) and not isinstance(error, VERDICTS)


def _cause(call: Call) -> Exception:
    """Return what failed; a wait that was asked for is told instead of it."""
    error = call.error
    if isinstance(error, RetryLater) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    assert isinstance(error, Exception)
    return error


def _wait_s(core: Core, call: Call) -> float:
    """Return when another request makes sense: when the breaker lets one pass, or when a service asked for one."""
    assert isinstance(call.error, Exception)
    told = call.error
    wait_s: float | None = core.breaker.open_for_s or None
    if wait_s is None and isinstance(told, RetryLater):
        wait_s = (told.due_at - HOST.now()).total_seconds()
    if wait_s is None:
        wait_s = told.retry_after_s if isinstance(told, CircuitOpen) else asked_wait_s(told)
    return FAILURE_WAIT_S if wait_s is None or wait_s == math.inf else min(wait_s, _WAIT_MAX_S)


# One call of a handler ------------------------------------------------------------------------------------------------


class Handling:
    """One call of a handler."""

    def __init__(self, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        requests = [one for one in (*args, *kwargs.values()) if _is_request(one)]
        self.repeatable = all(request.method.upper() in REPEATABLE for request in requests)
        self.action = getattr(handler, "__qualname__", type(handler).__name__)
        self.request_id = _request_id(shapes.headers_of(requests[0]) if requests else {})

    def is_the_callers(self, error: Exception) -> bool:
        return _is_an_answer(error)

    def blames_nobody(self, error: Exception) -> bool:
        return _is_an_answer(error)


def _is_request(thing: object) -> bool:
    return isinstance(attribute(thing, "method"), str) and attribute(thing, "headers") is not None


def _is_an_answer(error: Exception) -> bool:
    """Tell whether an exception is how a framework says 4xx; one that carries a response is another service's."""
    if getattr(error, "response", None) is not None:
        return False
    status = getattr(error, "status_code", None)  # starlette, FastAPI, Django REST framework
    if status is None and hasattr(error, "get_response"):
        status = getattr(error, "code", None)  # werkzeug
    return isinstance(status, int) and 300 <= status < 500


def _request_id(headers: Mapping[str, str]) -> str:
    """Return the id that the request came with, or a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else _ids.new()


# One exchange over ASGI -----------------------------------------------------------------------------------------------


class CrashAnswered(RuntimeError):
    """Say that an application made a 500 of a failure that nobody else got to see."""

    status = 500


class Exchange:
    """One HTTP exchange: the request is kept to be served again, a plain 500 is held back until it is the last word."""

    def __init__(self, app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
        self.action = f"{scope['method']} {scope.get('path', '')}"
        self.request_id = _request_id(headers)
        self._safe = scope["method"] in REPEATABLE
        self._app, self._receive, self._send = app, receive, send
        self._scope, self._scope_at_first = scope, dict(scope)
        self._kept: list[Message] | None = []
        self._kept_bytes = 0
        self._served = False
        self._held: list[Message] = []
        self._held_bytes = 0
        self._unserved = True
        self._begun = False
        self._gone = False

    @property
    def repeatable(self) -> bool:
        """Tell whether the request may be served again."""
        return self._safe and self._kept is not None and not self._begun and not self._gone

    def is_the_callers(self, error: Exception) -> bool:
        return self._begun or self._gone

    def blames_nobody(self, error: Exception) -> bool:
        return self._gone

    async def serve(self, scope: Scope) -> None:
        """Let the application serve the request, from its beginning."""
        if self._served:
            scope.clear()
            scope.update(self._scope_at_first)
        self._served, self._unserved = True, True
        self._drop()
        try:
            await self._app(scope, self._replay(), self._pass_on)
        except BaseException:
            self._drop()  # what was said about a failure that is raised here, too
            raise
        if self._held:
            raise CrashAnswered(f"{self.action} was answered with 500")
        self._unserved = False

    async def end(self, answer: Application) -> None:
        """Let the client hear the last word: the application's own 500, or `answer` where it was not served at all."""
        if self._held:
            await self._release()
        elif self._unserved:
            await answer(self._scope, self._receive, self._send)

    def _replay(self) -> Receive:
        """Return a `receive` that begins with what was kept."""
        kept = iter(tuple(self._kept or ()))

        async def receive() -> Message:
            message = next(kept, None)
            if message is not None:
                return message
            message = await self._receive()
            self._keep(message)
            return message

        return receive

    def _keep(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._gone = True
            return
        self._kept_bytes += len(message.get("body", b""))
        if self._kept_bytes > BODY_BYTES_MAX:
            self._kept = None
        if self._kept is not None:
            self._kept.append(message)

    async def _pass_on(self, message: Message) -> None:
        """Send a message, unless it belongs to a 500 that may not be the last word."""
        begins = message["type"] == "http.response.start"
        if begins and message["status"] == 500 and not self._begun and not self._gone:
            self._held = [message]
        elif self._held:
            self._held.append(message)
            self._held_bytes += len(message.get("body", b""))
            if message["type"] != "http.response.body" or self._held_bytes > _HELD_BYTES_MAX:
                await self._release()
        else:
            self._begun = self._begun or begins
            await self._forward(message)

    def _drop(self) -> None:
        self._held, self._held_bytes = [], 0

    async def _release(self) -> None:
        held, self._held, self._begun = self._held, [], True
        for message in held:
            await self._forward(message)

    async def _forward(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # how a server says that nobody listens any more
            self._gone = True
            raise
