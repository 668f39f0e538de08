"""Two doors to healing where requests are served: around a whole ASGI application, and around a single handler.

Synchronous or not; streams, websockets and lifespan pass through. Must never know how a failure is healed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

from prunella.core import shapes
from prunella.guard.call import Story
from prunella.guard.compile import is_a
from prunella.guard.core import Core
from prunella.guard.drive import adrive, drive
from prunella.guard.exchange import Application, Exchange, Receive, Scope, Send
from prunella.guard.healing import Healing, Served, Unavailable, request_id
from prunella.guard.known import Remedy
from prunella.guard.policy import Policy
from prunella.guard.request import REPEATABLE
from prunella.guard.response import attribute

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
            return an ASGI application, such as a Response, for any request that got no answer yet.
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
        call = Served(exchange, exchange.serve, (scope,), {})
        outcome = await adrive(self._healing.story(core, call), call)
        if not exchange.served:
            await exchange.end(outcome if callable(outcome) else self._healing.unavailable(exchange.request_id))


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
    respond = respond or _fitting

    def decorate(handler: Handler) -> Handler:
        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Core, Served, Story]:
            core = healing.policy.core(args, kwargs)
            call = Served(Handling(handler, args, kwargs), handler, args, kwargs)
            return core, call, healing.story(core, call)

        def answer(outcome: Any) -> Any:
            return respond(outcome) if isinstance(outcome, Unavailable) else outcome

        async def ahealed(*args: Any, **kwargs: Any) -> Any:
            _, call, steps = begin(args, kwargs)
            return answer(await adrive(steps, call))

        def healed(*args: Any, **kwargs: Any) -> Any:
            core, call, steps = begin(args, kwargs)
            return answer(drive(steps, call, threads=core.threads))

        if is_a(inspect.iscoroutinefunction, handler):
            return update_wrapper(ahealed, handler)  # type: ignore[return-value]
        if is_a(inspect.iscoroutinefunction, remedy or bool):
            raise TypeError(
                f"self_healing: {component} is not async but its remedy is; give a plain function, or make both so"
            )
        return update_wrapper(healed, handler)  # type: ignore[return-value]

    return decorate


class Handling:
    """One call of a handler."""

    begun = False

    def __init__(self, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        requests = [one for one in (*args, *kwargs.values()) if _is_request(one)]
        self.repeatable = all(request.method.upper() in REPEATABLE for request in requests)
        self.action = getattr(handler, "__qualname__", type(handler).__name__)
        self.request_id = request_id(shapes.headers_of(requests[0]) if requests else {})

    def passes(self, error: Exception) -> bool:
        """Tell whether an exception is how a framework says 4xx; one that carries a response is another service's."""
        if getattr(error, "response", None) is not None:
            return False
        status = getattr(error, "status_code", None)  # starlette, FastAPI, Django REST framework
        if status is None and hasattr(error, "get_response"):
            status = getattr(error, "code", None)  # werkzeug
        return isinstance(status, int) and 300 <= status < 500


def _is_request(thing: object) -> bool:
    return isinstance(attribute(thing, "method"), str) and attribute(thing, "headers") is not None


def _fitting(answer: Unavailable) -> Any:
    """Return starlette's Response where starlette is loaded: FastAPI takes nothing else for an answer."""
    responses = sys.modules.get("starlette.responses")
    if responses is None:
        return answer
    return responses.Response(answer.body, answer.status_code, answer.headers, answer.media_type)
