"""Other libraries, put through the same cases: each configured as its own documentation does it for that purpose.

They are imported when they are asked for, so that nothing here needs them. What a library has no documented way for is
not among its features.
"""

from __future__ import annotations

import importlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from conformance.clocks import real_clock
from conformance.contract import FACES, Clock, Desk, Face, Function, Wish
from conformance.judge import NotOffered

_numbers = itertools.count(1)


class _Peer(ABC):
    """What every peer has in common: a name, real time, no blocks unless it says so."""

    name: str
    features: frozenset[str]
    faces: Sequence[Face] = FACES

    @property
    def refusals(self) -> tuple[type[BaseException], ...]:
        return ()

    def clock(self, face: Face) -> AbstractContextManager[Clock]:
        return real_clock()

    @abstractmethod
    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        """Return a decorator; everything it decorates shares its state."""

    def blocks(self, wish: Wish, face: Face) -> Callable[[], Any]:
        raise NotOffered

    def guard_once(self, wish: Wish, face: Face, *, keyed: bool) -> Callable[[Function], Function]:
        raise NotOffered

    def durable(self, wish: Wish, face: Face) -> AbstractContextManager[Desk]:
        raise NotOffered


class Tenacity(_Peer):
    """Retry; `reraise`, `stop_before_delay` and `wait_exception` as its documentation has them."""

    name = "tenacity"
    features = frozenset({"retry", "total", "retry_after", "listener", "blocks"})

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made: Callable[[Function], Function] = importlib.import_module("tenacity").retry(**self._settings(wish))
        return made

    def blocks(self, wish: Wish, face: Face) -> Callable[[], Any]:
        tenacity: Any = importlib.import_module("tenacity")
        made = (tenacity.AsyncRetrying if face == "asyncio" else tenacity.Retrying)(**self._settings(wish))
        return lambda: made

    def _settings(self, wish: Wish) -> dict[str, Any]:
        ten: Any = importlib.import_module("tenacity")
        stop = ten.stop_after_attempt(wish.attempts)
        settings: dict[str, Any] = {
            "reraise": True,
            "stop": stop if wish.total_s is None else stop | ten.stop_before_delay(wish.total_s),
            "wait": ten.wait_fixed(wish.wait_s),
            "retry": ten.retry_if_exception_type(wish.on),
        }
        if wish.doubling_up_to_s is not None:
            settings["wait"] = ten.wait_exponential(multiplier=wish.wait_s, max=wish.doubling_up_to_s)
        if wish.retry_after:
            settings["wait"] = ten.wait_exception(lambda error: error.retry_after)
        if wish.unless is not None:
            settings["retry"] = ten.retry_if_not_exception_type(wish.unless)
        if wish.listener is not None:
            settings["before_sleep"] = wish.listener
        return settings


class Stamina(_Peer):
    """Retry; jitter off so that waits can be compared."""

    name = "stamina"
    features = frozenset({"retry", "total", "retry_after", "listener", "blocks"})

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made: Callable[[Function], Function] = importlib.import_module("stamina").retry(**self._settings(wish))
        return made

    def blocks(self, wish: Wish, face: Face) -> Callable[[], Any]:
        stamina: Any = importlib.import_module("stamina")
        settings = self._settings(wish)
        return lambda: stamina.retry_context(**settings)  # one for each loop, as its RetryingCaller does

    def _settings(self, wish: Wish) -> dict[str, Any]:
        on: Any = wish.on
        unless = wish.unless
        if unless is not None:
            on = lambda error: not isinstance(error, unless)  # noqa: E731 - a backoff hook, as documented
        if wish.retry_after:
            on = lambda error: getattr(error, "retry_after", False)  # noqa: E731
        importlib.import_module("stamina.instrumentation").set_on_retry_hooks(
            () if wish.listener is None else (wish.listener,)
        )
        growing = wish.doubling_up_to_s
        return {
            "on": on,
            "attempts": wish.attempts,
            "timeout": wish.total_s,
            "wait_initial": wish.wait_s,
            "wait_max": wish.wait_s if growing is None else growing,
            "wait_jitter": 0,
        }


class Pybreaker(_Peer):
    """A breaker for threads."""

    name = "pybreaker"
    features = frozenset({"breaker", "listener"})
    faces: Sequence[Face] = ("sync", "threads")

    @property
    def refusals(self) -> tuple[type[BaseException], ...]:
        return (importlib.import_module("pybreaker").CircuitBreakerError,)

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        pybreaker: Any = importlib.import_module("pybreaker")
        listeners = []
        if wish.listener is not None:
            told = wish.listener
            listeners = [type("Told", (pybreaker.CircuitBreakerListener,), {"state_change": told, "failure": told})()]
        made: Callable[[Function], Function] = pybreaker.CircuitBreaker(
            fail_max=wish.failures, reset_timeout=wish.open_s, listeners=listeners
        )
        return made


class Circuitbreaker(_Peer):
    """A breaker as a decorator."""

    name = "circuitbreaker"
    features = frozenset({"breaker"})

    @property
    def refusals(self) -> tuple[type[BaseException], ...]:
        return (importlib.import_module("circuitbreaker").CircuitBreakerError,)

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made: Callable[[Function], Function] = importlib.import_module("circuitbreaker").CircuitBreaker(
            failure_threshold=wish.failures, recovery_timeout=wish.open_s, name=f"conformance-{next(_numbers)}"
        )
        return made


class Purgatory(_Peer):
    """A breaker with a factory for each kind of caller."""

    name = "purgatory"
    features = frozenset({"breaker", "listener"})

    @property
    def refusals(self) -> tuple[type[BaseException], ...]:
        return (importlib.import_module("purgatory.domain.model").OpenedState,)

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        purgatory: Any = importlib.import_module("purgatory")
        kind = purgatory.AsyncCircuitBreakerFactory if face == "asyncio" else purgatory.SyncCircuitBreakerFactory
        factory = kind(default_threshold=wish.failures, default_ttl=wish.open_s)
        if wish.listener is not None:
            factory.add_listener(wish.listener)
        made: Callable[[Function], Function] = factory(f"conformance-{next(_numbers)}")
        return made


class Aiobreaker(_Peer):
    """A breaker for asyncio that takes plain functions too."""

    name = "aiobreaker"
    features = frozenset({"breaker", "listener"})
    faces: Sequence[Face] = ("sync", "asyncio")

    @property
    def refusals(self) -> tuple[type[BaseException], ...]:
        return (importlib.import_module("aiobreaker").CircuitBreakerError,)

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        aiobreaker: Any = importlib.import_module("aiobreaker")
        listeners = []
        if wish.listener is not None:
            told = wish.listener
            listeners = [type("Told", (aiobreaker.CircuitBreakerListener,), {"state_change": told, "failure": told})()]
        made: Callable[[Function], Function] = aiobreaker.CircuitBreaker(
            fail_max=wish.failures, timeout_duration=timedelta(seconds=wish.open_s), listeners=listeners
        )
        return made


class Pyresilience(_Peer):
    """One decorator with a part for each purpose; its HTTP helpers read Retry-After."""

    name = "pyresilience"
    features = frozenset({
        "retry", "breaker", "timeout", "thread_timeout", "total", "deadline", "budget", "bulkhead", "limiter", "retry_after",
        "headers", "listener",
    })  # fmt: skip

    @property
    def refusals(self) -> tuple[type[BaseException], ...]:
        pyr: Any = importlib.import_module("pyresilience")
        return (pyr.CircuitOpenError, pyr.BulkheadFullError, pyr.RateLimitExceededError)

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        pyr: Any = importlib.import_module("pyresilience")
        parts: dict[str, Any] = {}
        if wish.attempts != 1 or wish.wait_s:
            parts["retry"] = pyr.RetryConfig(
                max_attempts=wish.attempts,
                delay=wish.wait_s,
                backoff_factor=1.0 if wish.doubling_up_to_s is None else 2.0,
                max_delay=60.0 if wish.doubling_up_to_s is None else wish.doubling_up_to_s,
                jitter=False,
                retry_on=(wish.on,) if wish.unless is None else (Exception,),
                ignore_on=() if wish.unless is None else (wish.unless,),
                delay_func=importlib.import_module("pyresilience.contrib.http").retry_after_delay()
                if wish.retry_after
                else None,
            )
        if wish.failures is not None:
            parts["circuit_breaker"] = pyr.CircuitBreakerConfig(
                failure_threshold=wish.failures, recovery_timeout=wish.open_s, success_threshold=1
            )
        if wish.total_s is not None:
            parts["timeout"] = pyr.TimeoutConfig(seconds=wish.total_s, per_attempt=False)
        if wish.attempt_s is not None:
            parts["timeout"] = pyr.TimeoutConfig(seconds=wish.attempt_s)
        if wish.budget_ratio is not None:
            # a bucket and no share: as many tokens as the case's share comes to
            parts["retry_budget"] = pyr.RetryBudgetConfig(max_retries=100, refill_rate=1.0)
        if wish.places is not None:
            parts["bulkhead"] = pyr.BulkheadConfig(max_concurrent=wish.places, max_wait=wish.place_wait_s)
        if wish.limit_per_s is not None:
            parts["rate_limiter"] = pyr.RateLimiterConfig(max_calls=int(wish.limit_per_s), period=1.0, max_wait=30.0)
        if wish.listener is not None:
            parts["listeners"] = [wish.listener]
        made: Callable[[Function], Function] = pyr.resilient(**parts)
        return made


class Nopanic(_Peer):
    """Policies stacked in the documented order: deadline, retry, breaker, timeout; places before the breaker."""

    name = "nopanic"
    features = frozenset({
        "retry", "breaker", "rate", "timeout", "thread_timeout", "total", "deadline", "budget", "bulkhead", "limiter", "adaptive",
        "retry_after", "listener",
    })  # fmt: skip

    @property
    def refusals(self) -> tuple[type[BaseException], ...]:
        nop: Any = importlib.import_module("nopanic")
        return (nop.CircuitOpen, nop.BulkheadFull, nop.RateLimited)

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        nop: Any = importlib.import_module("nopanic")
        if wish.listener is not None:
            nop.subscribe(wish.listener)
        parts: list[Any] = []
        if wish.total_s is not None:
            parts.append(nop.deadline(wish.total_s))
        if wish.attempts != 1 or wish.wait_s:
            parts.append(self._retry(nop, wish))
        if wish.places is not None:
            parts.append(nop.bulkhead(wish.places, max_wait=wish.place_wait_s))
        if wish.failures is not None:  # it judges by rate: all of so many calls
            parts.append(nop.circuit_breaker(failure_threshold=1.0, min_calls=wish.failures, reset_timeout=wish.open_s))
        if wish.failure_rate is not None:
            parts.append(
                nop.circuit_breaker(failure_threshold=wish.failure_rate, min_calls=wish.min_calls, window=wish.window_s)
            )
        if wish.adaptive_per_s is not None:
            parts.append(nop.adaptive_rate_limit(wish.adaptive_per_s))
        if wish.limit_per_s is not None:
            parts.append(nop.rate_limit(wish.limit_per_s))
        limit_s = wish.attempt_s if wish.attempt_s is not None else wish.total_s
        if limit_s is not None:
            parts.append(nop.timeout(limit_s))
        made: Callable[[Function], Function] = nop.compose(*parts)
        return made

    def _retry(self, nop: Any, wish: Wish) -> Any:
        growing, unless = wish.doubling_up_to_s, wish.unless
        return nop.retry(
            attempts=wish.attempts,
            on=wish.on if unless is None else Exception,
            giveup=None if unless is None else lambda error: isinstance(error, unless),
            backoff=wish.wait_s if growing is None else nop.backoff.exponential(base=wish.wait_s, cap=growing),
            budget=None if wish.budget_ratio is None else nop.RetryBudget(wish.budget_ratio),
        )


class Resilix(_Peer):
    """Rules stacked on one function, a breaker inside them."""

    name = "resilix"
    features = frozenset({
        "retry", "breaker", "timeout", "thread_timeout", "total", "deadline", "bulkhead", "retry_after", "results", "listener",
    })  # fmt: skip

    @property
    def refusals(self) -> tuple[type[BaseException], ...]:
        rsx: Any = importlib.import_module("resilix")
        return (rsx.CircuitOpenError, rsx.BulkheadFullError)

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        rsx: Any = importlib.import_module("resilix")
        if wish.unless is not None and wish.attempts != 1:
            raise NotOffered
        parts: list[Any] = []
        if wish.total_s is not None or wish.attempt_s is not None:
            threads = {"allow_sync": True} if face != "asyncio" and wish.attempt_s is not None else {}
            parts.append(rsx.protect.limits(timeout=wish.attempt_s, deadline=wish.total_s, **threads))
        if wish.attempts != 1 or wish.wait_s:
            pause: Any = (lambda error: error.retry_after) if wish.retry_after else wish.wait_s
            growing = wish.doubling_up_to_s
            parts.append(
                rsx.protect.when(
                    wish.on,
                    retry=wish.attempts,
                    delay=pause,
                    backoff="constant" if growing is None else "exponential",
                    max_delay=growing,
                    notify=wish.listener,
                )
            )
        if wish.places is not None:
            if wish.place_wait_s:
                raise NotOffered  # it waits for ever, or not at all
            parts.append(rsx.protect.bulkhead(wish.places, wait=False))
        if wish.failures is not None:
            parts.append(
                rsx.CircuitBreaker(
                    failures=wish.failures,
                    reset_timeout=wish.open_s,
                    failure_when=wish.refuse_result,
                    on_state_change=wish.listener,
                )
            )
        return lambda function: _stacked(parts, function)


def _stacked(parts: Sequence[Callable[[Function], Function]], function: Function) -> Function:
    for part in reversed(parts):
        function = part(function)
    return function


PEERS: tuple[_Peer, ...] = (
    Tenacity(),
    Stamina(),
    Pybreaker(),
    Circuitbreaker(),
    Purgatory(),
    Aiobreaker(),
    Pyresilience(),
    Nopanic(),
    Resilix(),
)
