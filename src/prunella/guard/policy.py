"""One named policy, four ways to use it: as decorator, for one call, around a block, around a block that repeats."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, ParamSpec, TypeVar, overload

from prunella.core.clock import HOST
from prunella.core.events import Listener, Listeners
from prunella.guard.blocks import Attempts, Block
from prunella.guard.breaker import Breaker, LiveBreaker, NoBreaker
from prunella.guard.budget import RetryBudget
from prunella.guard.bulkhead import Bulkhead
from prunella.guard.call import Call, HandOver
from prunella.guard.compile import compile_target
from prunella.guard.core import Core, Settings
from prunella.guard.fallback import Fallback
from prunella.guard.forks import renew_after_fork
from prunella.guard.handover import DurableFunction, connected, register
from prunella.guard.known import KnownIssues
from prunella.guard.limiter import AdaptiveLimiter
from prunella.guard.retry import Retry

_log = logging.getLogger(__name__)
_KEYS_MAX = 10_000
P = ParamSpec("P")
T = TypeVar("T")
Function = Callable[..., Any]


def policy(
    name: str,
    *,
    retry: Retry | None = None,
    budget: RetryBudget | None = None,
    breaker: Breaker | None = None,
    limiter: AdaptiveLimiter | None = None,
    bulkhead: Bulkhead | None = None,
    fallback: Fallback | Function | None = None,
    deadline_s: float | None = None,
    attempt_timeout_s: float | None = None,
    sync_timeout: Literal["cooperative", "thread"] = "cooperative",
    validate: Callable[[Any], object] | None = None,
    max_inline_wait_s: float = 10.0,
    known: KnownIssues | None = None,
    key: Function | None = None,
    listeners: Iterable[Listener] = (),
) -> Policy:
    """Make a policy and keep it under its name; a later one of the same name takes its place.

    Args:
        name: what it protects ("crm"); it stands in errors, events and shared state.
        retry, budget, breaker, limiter, bulkhead: the parts; what is None is not there.
        fallback: what stands in for a call that failed for good: a `Fallback`, or just its function.
        deadline_s: seconds for the whole call with all its waits; nested policies never have more than is left, and
            neither have tasks that are started in it (`no_deadline` lets them live longer).
        attempt_timeout_s: seconds for one attempt. An asynchronous one is cancelled; a synchronous one can only look
            at `remaining_s()`, unless `sync_timeout` is "thread".
        sync_timeout: "thread" makes synchronous attempts in worker threads (at most 64) that are left behind when
            their time is up.
        validate: looks at each result; False, or what it raises, makes it a failure.
        max_inline_wait_s: longest wait in seconds that a service may ask for here; a longer one is handed over or
            raised as `RetryLater` (document B: 10).
        known: what is known of failures and what repairs it (`known_issues`): a call that failed for good for such a
            reason is tried once more after its repair, where it may be repeated.
        key: tells resources apart by the call's arguments, such as hosts: each has its own breaker and limiter.
        listeners: told of every decision.

    Raises:
        ValueError, TypeError: an argument is not what it has to be.
    """
    if not name:
        raise ValueError(f"policy: name must be a text that says what is protected, got {name!r}")
    if key is not None and not callable(key):
        raise TypeError(f"policy: key must be a function of the call's arguments, got {key!r}")
    settings = Settings(
        retry=retry,
        budget=budget,
        breaker=breaker,
        limiter=limiter,
        bulkhead=bulkhead,
        fallback=_fallback(fallback),
        deadline_s=deadline_s,
        attempt_timeout_s=attempt_timeout_s,
        sync_timeout=sync_timeout,
        validate=validate,
        max_inline_wait_s=max_inline_wait_s,
        known=known,
    )
    made = Policy(name, settings, key, listeners)
    _by_name[name] = made
    return made


def policies() -> Mapping[str, Policy]:
    """Return every policy of this process by its name."""
    return dict(_by_name)


_by_name: dict[str, Policy] = {}


class Policy:
    """What `policy()` makes. Its settings never change but by `update`."""

    def __init__(self, name: str, settings: Settings, key: Function | None, listeners: Iterable[Listener]) -> None:
        self.name = name
        self.key = key
        self._settings = settings
        self._listeners = Listeners()
        for listener in listeners:
            self._listeners.subscribe(listener)
        self._stand_in: Callable[[Function], Function] | None = None
        self.renew()
        renew_after_fork(self)
        self._cores: OrderedDict[object, Core] = OrderedDict()
        self._core = Core(name, settings, self._listeners)

    def renew(self) -> None:
        """Begin with a lock that nobody holds."""
        self._lock = threading.Lock()

    # Four ways to use it ----------------------------------------------------------------------------------------------

    @overload
    def __call__(self, target: Callable[P, T]) -> Callable[P, T]: ...

    @overload
    def __call__(
        self, *, effect: Literal["any", "once"] = ..., idempotency_key: str | Function | None = ...
    ) -> Callable[[Callable[P, T]], Callable[P, T]]: ...

    def __call__(
        self,
        target: Callable[P, T] | None = None,
        *,
        effect: Literal["any", "once"] = "any",
        idempotency_key: str | Function | None = None,
    ) -> Callable[P, T] | Callable[[Callable[P, T]], Callable[P, T]]:
        """Guard a function, an asynchronous one, a generator of either kind, or a callable object.

        Args:
            effect: "once" where a repetition may do harm: then it is tried again only on proof that nothing was
                sent, or with an idempotency key.
            idempotency_key: the name of the argument that holds the key, or a function of the arguments.
        """
        if effect not in ("any", "once"):
            raise ValueError(f"{self.name}: effect must be any or once, got {effect!r}")
        guarding = Guarding(self, once=effect == "once", idempotency_key=idempotency_key)
        if target is not None:
            return compile_target(guarding, target)
        return lambda function: compile_target(guarding.checked(function), function)

    def durable(
        self,
        idempotency_key: str | Function,
        *,
        name: str | None = None,
        secrets: Mapping[str, Callable[[], Any]] | None = None,
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Guard a function whose calls are handed over when they fail for good: exhausted, gate shut, asked to wait.

        The caller then gets `HandedOver`, after the call was written to the database of `pr.connect`. Without a
        connection it behaves as a guarded function does.

        Args:
            idempotency_key: the name of the argument that makes the call unique, or a function of the arguments.
            name: how other processes know the function; None takes its module and name.
            secrets: arguments that are never written down, with what brings them anew when the call is made.
        """

        def decorate(function: Callable[P, T]) -> Callable[P, T]:
            durable = DurableFunction(self, function, name, idempotency_key, secrets or {})
            register(durable)
            guarding = Guarding(self, idempotency_key=idempotency_key, hand_over=durable.hand_over)
            return compile_target(guarding, function)

        return decorate

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a synchronous function once under this policy; `TypeError` where it turns out to be asynchronous."""
        result = self(function)(*args, **kwargs)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(f"{self.name}: call got a coroutine from {function!r}; write await acall(…)")
        return result

    async def acall(self, function: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Call an asynchronous function once under this policy."""
        guarded = compile_target(Guarding(self), function, awaited=True)
        return await guarded(*args, **kwargs)  # type: ignore[no-any-return]

    def attempt(self, *args: Any, **kwargs: Any) -> Block:
        """Guard a block, `with` or `async with`: everything but retry, validation and fallback, which need a call.

        Takes arguments where the policy has a `key`, to tell the resource.
        """
        return Block(self.core(args, kwargs))

    def attempts(self, *args: Any, **kwargs: Any) -> Attempts:
        """Guard a block that is repeated: `for attempt in policy.attempts(): with attempt: ...`, or `async for`."""
        return Attempts(self.core(args, kwargs))

    # A look inside, and a hand on it ----------------------------------------------------------------------------------

    @property
    def breaker(self) -> LiveBreaker:
        """The breaker; `LookupError` where the policy has none, or one for each key."""
        if self.key is not None:
            raise LookupError(
                f"policy {self.name} has a breaker for each key; take breaker_for(…) with a call's arguments"
            )
        return self.breaker_for()

    def breaker_for(self, *args: Any, **kwargs: Any) -> LiveBreaker:
        """Return the breaker that serves a call with these arguments."""
        breaker = self.core(args, kwargs).breaker
        if isinstance(breaker, NoBreaker):
            raise LookupError(f"policy {self.name} has no breaker; make it with breaker=pr.Breaker(…)")  # noqa: TRY004
        return breaker

    @property
    def rate_per_s(self) -> float | None:
        """The rate that the limiter has learned; None where there is no limiter."""
        return self._core.limiter.rate_per_s if self._core.limiter is not None else None

    @property
    def settings(self) -> Settings:
        """What the policy works by."""
        return self._settings

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of every decision; call what is returned to stop."""
        return self._listeners.subscribe(listener)

    def tell(self, name: str, **fields: object) -> None:
        """Tell listeners what happened, with the policy's name: "call.gave_up", attempts=3."""
        self._listeners.emit(name, policy=self.name, **fields)

    def update(self, **changes: Any) -> None:
        """Work by changed settings from the next call on; counts and states stay.

        Takes the arguments of `policy()` but for name, key and listeners. A breaker or a budget can be changed here
        but neither added nor taken away: the guarded functions were made with or without it.
        """
        if "fallback" in changes:
            changes["fallback"] = _fallback(changes["fallback"])
        settings = replace(self._settings, **changes)
        for part in ("breaker", "budget"):
            if (getattr(settings, part) is None) is not (getattr(self._settings, part) is None):
                raise ValueError(f"{self.name}: a {part} can't be added or taken away by update; make the policy anew")
        self._settings = settings
        self._adopt()

    @contextmanager
    def standing_in(self, stand_in: Callable[[Function], Function]) -> Iterator[None]:
        """Let `stand_in` say, attempt by attempt, what is called instead of the function: for tests and drills.

        What breaker and limiter learned meanwhile is forgotten afterwards.
        """
        self._stand_in = stand_in
        self._adopt()
        try:
            yield
        finally:
            self._stand_in = None
            self._adopt()
            for core in (self._core, *self._cores.values()):
                core.forget()

    def explain(self) -> dict[str, Any]:
        """Return why the last calls went as they did, newest last, and where the parts stand."""
        with self._lock:
            cores = list(self._cores.values()) if self.key is not None else [self._core]
        calls = [story for core in cores for story in tuple(core.recent)]
        keyed = {"keys": {core.name: core.standing() for core in cores}}
        return {
            "policy": self.name,
            "now": HOST.now(),
            **(keyed if self.key is not None else self._core.standing()),
            "calls": sorted(calls, key=lambda story: str(story["at"])),
        }

    def core(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Core:
        """Return the parts that serve a call with these arguments."""
        if self.key is None:
            return self._core
        key = self.key(*args, **kwargs)
        with self._lock:
            core = self._cores.get(key)
            if core is None:
                name = f"{self.name}[{key}]"
                core = Core(name, self._settings, self._listeners, self._stand_in, service=self.name)
                self._cores[key] = core
                if len(self._cores) > _KEYS_MAX:
                    self._cores.popitem(last=False)
            else:
                self._cores.move_to_end(key)
            return core

    def _adopt(self) -> None:
        with self._lock:
            for core in (self._core, *self._cores.values()):
                core.stand_in = self._stand_in
                core.adopt(self._settings)

    def __repr__(self) -> str:
        return f"<prunella policy {self.name}>"


class Guarding:
    """How one function is guarded: by which policy, with which promises about its effect."""

    def __init__(
        self,
        guarded_by: Policy,
        *,
        once: bool = False,
        idempotency_key: str | Function | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        self.key = guarded_by.key
        self.core = guarded_by.core
        self.settings = guarded_by.settings
        self._once = once
        self._idempotency_key = idempotency_key
        self._hand_over = hand_over

    def checked(self, function: Function) -> Guarding:
        """Return this, having made sure that the idempotency key can be found; `TypeError` otherwise."""
        key = self._idempotency_key
        if isinstance(key, str) and not _takes(function, key):
            raise TypeError(f"guard: {function!r} has no argument {key!r} to take the idempotency key from")
        if key is not None and not isinstance(key, str) and not callable(key):
            raise TypeError(f"guard: idempotency_key must be an argument's name or a function, got {key!r}")
        return self

    def begin(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return a call that is about to be told as a story."""
        return Call(
            function,
            args,
            kwargs,
            once=self._once,
            idempotency_key=self._key_of(function, args, kwargs),
            hand_over=self._hand_over if connected() else None,
        )

    def _key_of(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """Return the call's key; where finding it fails there is none, and the call's own failure stays the news."""
        wanted = self._idempotency_key
        try:
            found = (
                _argument(function, wanted, args, kwargs)
                if isinstance(wanted, str)
                else wanted and wanted(*args, **kwargs)
            )
        except Exception:
            _log.exception("the idempotency key of a call of %r could not be found", function)
            return None
        return None if found is None else str(found)


def _takes(function: Function, name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())


def _argument(function: Function, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    if name in kwargs:
        return kwargs[name]
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments.get(name)


def _fallback(fallback: Fallback | Function | None) -> Fallback | None:
    if fallback is None or isinstance(fallback, Fallback):
        return fallback
    if not callable(fallback):
        raise TypeError(
            f"policy: fallback must be a function or a pr.Fallback, got {fallback!r}; write pr.Fallback(value=…)"
        )
    return Fallback(call=fallback)
