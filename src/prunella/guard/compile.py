"""Make one function per guarded target: what succeeds at once goes a quick way, everything else becomes a story.

The quick way takes no lock but a bulkhead's, tells nobody and builds nothing: it is what a call costs on a good day. It
stands here six times, without an admission, with one, and with one and limits in time or places, for both kinds of
functions, because each step more would be paid by every call (measured in bench/guard.py).
"""

from __future__ import annotations

import functools
import inspect
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any, Protocol

from prunella.core.clock import HOST
from prunella.core.errors import DeadlineExceeded
from prunella.guard.alarm import Alarm
from prunella.guard.breaker import Admission, NoBreaker
from prunella.guard.call import Call, Story
from prunella.guard.core import Core, Settings
from prunella.guard.deadline import AMBIENT, LIMITS
from prunella.guard.drive import adrive, drive
from prunella.guard.flow import story
from prunella.guard.marks import GIVE_UPS
from prunella.guard.streams import guard_async_generator, guard_generator

Function = Callable[..., Any]


class Guarding(Protocol):
    """How one function is guarded."""

    @property
    def key(self) -> Function | None:
        """What tells resources apart by the call's arguments; None where there is one resource."""
        ...

    @property
    def settings(self) -> Settings:
        """What the policy works by."""
        ...

    def core(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Core:
        """Return the parts that serve a call with these arguments."""
        ...

    def begin(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return a call that is about to be told as a story."""
        ...


def compile_target(guarding: Guarding, target: Function, *, awaited: bool = False) -> Function:
    """Return the guarded twin of `target`; `TypeError` for what can't be guarded.

    Args:
        awaited: what it returns is awaited, whatever it looks like (`acall`).
    """
    _refuse_misuse(target)
    if awaited and is_a(inspect.isasyncgenfunction, target):
        raise TypeError("acall: got an asynchronous generator, which is not awaited; decorate it and iterate it")
    if awaited:
        return _story_of_async(guarding, target)
    if is_a(inspect.isasyncgenfunction, target):
        _refuse_stream(guarding, target)
        made = guard_async_generator(target, lambda opening: _story_of_async(guarding, opening, opaque=True))
    elif is_a(inspect.isgeneratorfunction, target):
        _refuse_stream(guarding, target)
        made = guard_generator(target, lambda opening: _story_of(guarding, opening, opaque=True))
    else:
        asynchronous = is_a(inspect.iscoroutinefunction, target)
        make = _quick(guarding, asynchronous) or (_story_of_async if asynchronous else _story_of)
        made = make(guarding, target)
    functools.update_wrapper(made, target)
    return made


def _quick(guarding: Guarding, asynchronous: bool) -> Callable[[Guarding, Function], Function] | None:
    if guarding.key is not None:
        return None
    core = guarding.core((), {})
    if core.limited:
        return _async_limited if asynchronous else _limited
    if isinstance(core.breaker, NoBreaker) and core.settings.budget is None:
        return _async_without_admission if asynchronous else _without_admission
    return _async_with_admission if asynchronous else _with_admission


def _without_admission(guarding: Guarding, target: Function) -> Function:
    core, begin = guarding.core((), {}), guarding.begin

    def guarded(*args: Any, **kwargs: Any) -> Any:
        seen, begun_at, failure = GIVE_UPS.latest, HOST.monotonic(), None
        if core.quick and (not LIMITS.in_use or begun_at < AMBIENT.get()):
            try:
                return target(*args, **kwargs)
            except Exception as error:
                failure = error
        told, failure = _told(core, begin(target, args, kwargs), begun_at, seen, failure, core.breaker.admission), None
        return drive(*told, threads=core.threads)

    return guarded


def _with_admission(guarding: Guarding, target: Function) -> Function:
    core, begin, breaker = guarding.core((), {}), guarding.begin, guarding.core((), {}).breaker

    def guarded(*args: Any, **kwargs: Any) -> Any:
        seen, admission, begun_at, failure = GIVE_UPS.latest, breaker.admission, HOST.monotonic(), None
        if core.quick and begun_at < admission.ends_at and (not LIMITS.in_use or begun_at < AMBIENT.get()):
            try:
                result = target(*args, **kwargs)
            except Exception as error:
                failure = error
            else:
                admission.ok()
                return result
        told, failure = _told(core, begin(target, args, kwargs), begun_at, seen, failure, admission), None
        return drive(*told, threads=core.threads)

    return guarded


def _async_without_admission(guarding: Guarding, target: Function) -> Function:
    core, begin = guarding.core((), {}), guarding.begin

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        seen, begun_at, failure = GIVE_UPS.latest, HOST.monotonic(), None
        if core.quick and (not LIMITS.in_use or begun_at < AMBIENT.get()):
            try:
                return await target(*args, **kwargs)
            except Exception as error:
                failure = error
        told, failure = _told(core, begin(target, args, kwargs), begun_at, seen, failure, core.breaker.admission), None
        return await adrive(*told)

    return guarded


def _async_with_admission(guarding: Guarding, target: Function) -> Function:
    core, begin, breaker = guarding.core((), {}), guarding.begin, guarding.core((), {}).breaker

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        seen, admission, begun_at, failure = GIVE_UPS.latest, breaker.admission, HOST.monotonic(), None
        if core.quick and begun_at < admission.ends_at and (not LIMITS.in_use or begun_at < AMBIENT.get()):
            try:
                result = await target(*args, **kwargs)
            except Exception as error:
                failure = error
            else:
                admission.ok()
                return result
        told, failure = _told(core, begin(target, args, kwargs), begun_at, seen, failure, admission), None
        return await adrive(*told)

    return guarded


def _limited(guarding: Guarding, target: Function) -> Function:
    core, begin, breaker = guarding.core((), {}), guarding.begin, guarding.core((), {}).breaker

    def guarded(*args: Any, **kwargs: Any) -> Any:
        seen, admission, begun_at = GIVE_UPS.latest, breaker.admission, HOST.monotonic()
        failure: Exception | None = None
        before, ends_at, bulkhead = AMBIENT.get(), begun_at + core.limit_s, core.bulkhead
        ends_at = min(ends_at, before)
        timely = core.limited and begun_at < admission.ends_at and begun_at < ends_at
        if timely and (bulkhead is None or bulkhead.enter_at_once()):
            try:
                AMBIENT.set(ends_at)
                result = target(*args, **kwargs)
            except DeadlineExceeded as error:
                failure = core.whose_time(error, ends_at, begun_at + core.deadline_s)
            except Exception as error:
                failure = error
            else:
                admission.ok()
                return result
            finally:
                AMBIENT.set(before)
                if bulkhead is not None:
                    bulkhead.leave()
        told, failure = _told(core, begin(target, args, kwargs), begun_at, seen, failure, admission), None
        return drive(*told, threads=core.threads)

    return guarded


def _async_limited(guarding: Guarding, target: Function) -> Function:
    core, begin, breaker = guarding.core((), {}), guarding.begin, guarding.core((), {}).breaker

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        seen, admission, begun_at = GIVE_UPS.latest, breaker.admission, HOST.monotonic()
        failure: Exception | None = None
        before, ends_at, bulkhead = AMBIENT.get(), begun_at + core.limit_s, core.bulkhead
        ends_at = min(ends_at, before)
        timely = core.limited and begun_at < admission.ends_at and begun_at < ends_at
        if timely and (bulkhead is None or bulkhead.enter_at_once()):
            alarm = Alarm()
            try:
                AMBIENT.set(ends_at)
                alarm.set(ends_at - begun_at)
                result = await target(*args, **kwargs)
            except CancelledError:
                if not alarm.rang():
                    raise
                failure = core.out_of_time(ends_at, begun_at + core.deadline_s)
            except DeadlineExceeded as error:
                failure = core.whose_time(error, ends_at, begun_at + core.deadline_s)
            except Exception as error:
                failure = error
            else:
                admission.ok()
                return result
            finally:
                alarm.off()
                AMBIENT.set(before)
                if bulkhead is not None:
                    bulkhead.leave()
        told, failure = _told(core, begin(target, args, kwargs), begun_at, seen, failure, admission), None
        return await adrive(*told)

    return guarded


def _told(
    core: Core, call: Call, begun_at: float, seen: int, failure: Exception | None, admission: Admission
) -> tuple[Story, Call]:
    """Return a call that did not end the quick way, and its story from where it stands.

    Whoever tells it has to let go of the failure first: an error that is raised must not hang on its own frame.
    """
    call.begun_at, call.seen = begun_at, seen
    return story(core, call, failure, admission), call


def _story_of(guarding: Guarding, target: Function, *, opaque: bool = False) -> Function:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        core, call = guarding.core(args, kwargs), guarding.begin(target, args, kwargs)
        call.opaque = opaque
        return drive(story(core, call), call, threads=core.threads)

    return guarded


def _story_of_async(guarding: Guarding, target: Function, *, opaque: bool = False) -> Function:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        core, call = guarding.core(args, kwargs), guarding.begin(target, args, kwargs)
        call.opaque = opaque
        return await adrive(story(core, call), call)

    return guarded


def is_a(kind: Callable[[object], bool], target: Function) -> bool:
    """Tell whether a function, or the `__call__` of an object, is of a kind."""
    while isinstance(target, functools.partial):
        target = target.func
    return kind(target) or (not inspect.isroutine(target) and kind(getattr(target, "__call__", None)))  # noqa: B004


def _refuse_stream(guarding: Guarding, target: Function) -> None:
    """A stream has no one result that could be looked at, kept or replaced."""
    settings = guarding.settings
    looks = settings.retry is not None and settings.retry.on_result is not None
    for name, there in (("validate", settings.validate), ("fallback", settings.fallback), ("on_result", looks or None)):
        if there is not None:
            raise TypeError(
                f"guard: {target.__qualname__} is a generator, and {name} looks at one result; leave it out"
            )


def _refuse_misuse(target: object) -> None:
    if isinstance(target, staticmethod | classmethod | property):
        kind = type(target).__name__
        raise TypeError(f"guard: got a {kind}; put the policy below @{kind}, next to the function")
    if inspect.iscoroutine(target) or inspect.isgenerator(target) or inspect.isasyncgen(target):
        raise TypeError("guard: got a call that has begun already; guard the function, or write acall(function, …)")
    if inspect.isclass(target):
        raise TypeError(f"guard: got the class {target.__name__}; guard its methods, or a function that makes one")
    if not callable(target):
        raise TypeError(f"guard: got {target!r}, which can't be called; guard a function")
