"""The story of one guarded call, told once for synchronous and asynchronous callers.

`story` is a generator: it yields what has to be done (wait so long, call the function, queue for a place) and is told
what came of it; the drivers carry its steps out and know no rule. Order, outside in: fallback, hand-over, deadline,
retry with its budget, breaker, limiter, bulkhead, attempt timeout, validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from prunella.core import shapes
from prunella.core.clock import HOST
from prunella.core.errors import AttemptTimeout, BadResponse, CircuitOpen, DeadlineExceeded, GuardError, RetryLater
from prunella.guard.breaker import Ticket
from prunella.guard.bulkhead import Waiter
from prunella.guard.core import Core, Unwanted
from prunella.guard.deadline import AMBIENT
from prunella.guard.retry import blames_the_service

_MARK = "_prunella_gave_up"
_VERDICTS = (AttemptTimeout, BadResponse, DeadlineExceeded, Unwanted)
GAVE_UP = object()
"""What a story returns when `call.error` has to be raised: a generator can't raise every error itself."""


class Invoke(NamedTuple):
    """Call a function; an asynchronous driver ends it at the instant `ends_at`."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})
    ends_at: float = math.inf


class Queue(NamedTuple):
    """Wait for `waiter`'s place, at most so long."""

    waiter: Waiter
    wait_s: float


Step = float | Invoke | Queue
Story = Generator[Step, Any, Any]
HandOver = Callable[["Call", Exception, float], BaseException]


class Call:
    """One logical call on its way.

    Args:
        function: what is guarded, and who marks its errors.
        once: it may have an effect that must not happen twice.
        idempotency_key: with one, a repetition is harmless.
        hand_over: writes the call down to be made after so many seconds, and returns what the caller is told.
    """

    __slots__ = (
        "args", "attempt", "begun_at", "deadline_at", "error", "function", "hand_over", "idempotency_key", "kwargs",
        "once", "waited_s", "why",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        once: bool = False,
        idempotency_key: str | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs if kwargs is not None else {}
        self.once = once
        self.idempotency_key = idempotency_key
        self.hand_over = hand_over
        self.attempt = 1
        self.begun_at = HOST.monotonic()
        self.deadline_at = math.inf
        self.waited_s = 0.0
        self.error: BaseException | None = None
        self.why = ""


def story(core: Core, call: Call, error: Exception | None = None, ticket: Ticket | None = None) -> Story:
    """Make the call as the policy says, and return its result or `GAVE_UP`.

    Args:
        error, ticket: how the first attempt failed, where it was made already.
    """
    call.deadline_at = min(AMBIENT.get(), call.begun_at + core.deadline_s)
    if error is not None:
        _count_failure(core, ticket, error)
        core.failed_first()
    while True:
        if error is None:
            try:
                return (yield from attempt(core, call))
            except Exception as failed:
                error = failed
            if call.attempt == 1:
                core.failed_first()
        wait_s = _next_wait(core, call, error)
        if wait_s is None:
            return (yield from _give_up(core, call, error))
        core.retrying(call.attempt, wait_s, error)
        call.waited_s, error = wait_s, None
        if wait_s > 0.0:
            yield wait_s
        call.attempt += 1


def attempt(core: Core, call: Call) -> Story:
    """Make one attempt: past breaker, limiter and bulkhead, within its time, looked at before it counts as good."""
    ticket = core.breaker.enter()
    try:
        yield from _take_turn(core, call)
        result = yield from _in_place(core, call)
    except Exception as error:
        _count_failure(core, ticket, error)
        raise
    except BaseException:
        core.breaker.dropped(ticket)
        raise
    ticket.ok()
    if core.limiter is not None:
        core.limiter.succeeded()
    if core.settings.fallback is not None and core.settings.fallback.last_good:
        core.settings.fallback.keep(call.function, call.args, call.kwargs, result)
    return result


def _take_turn(core: Core, call: Call) -> Story:
    if core.limiter is None:
        return
    slot, wait_s = core.limiter.reserve(call.deadline_at - HOST.monotonic())
    if wait_s > 0.0:
        try:
            yield wait_s
        except BaseException:
            core.limiter.hand_back(slot)
            raise


def _in_place(core: Core, call: Call) -> Story:
    bulkhead = core.bulkhead
    if bulkhead is None:
        return (yield from _invoke(core, call))
    waiter = bulkhead.enter()
    if waiter is not None:
        try:
            yield Queue(waiter, min(bulkhead.limits.wait_s, call.deadline_at - HOST.monotonic()))
        except BaseException:
            bulkhead.abandon(waiter)
            raise
        bulkhead.seat(waiter)
    try:
        return (yield from _invoke(core, call))
    finally:
        bulkhead.leave()


def _invoke(core: Core, call: Call) -> Story:
    begun_at = HOST.monotonic()
    ends_at = min(call.deadline_at, begun_at + core.attempt_timeout_s)
    if begun_at >= ends_at:
        raise DeadlineExceeded(f"{core.name}: no time is left for an attempt")
    before = AMBIENT.set(ends_at)
    try:
        function = call.function if core.stand_in is None else core.stand_in(call.function)
        result = yield Invoke(function, call.args, call.kwargs, ends_at)
    except AttemptTimeout as error:
        raise core.out_of_time(ends_at, call.deadline_at) from error
    finally:
        AMBIENT.reset(before)
    return core.looked_at(result, HOST.monotonic() - begun_at)


def _count_failure(core: Core, ticket: Ticket | None, error: Exception) -> None:
    """Tell breaker and limiter what a failure says about the service."""
    if ticket is None:
        return
    refused = isinstance(error, GuardError) and not isinstance(error, _VERDICTS)
    throttled = shapes.status_of(error) == 429
    if refused or throttled or isinstance(error, core.ignored):
        core.breaker.dropped(ticket)
    elif blames_the_service(error):
        core.breaker.failed(ticket)
    else:
        ticket.ok()  # it answered, and said no
    if core.limiter is not None and not refused:
        core.limiter.failed(throttled=throttled, asked_s=shapes.asked_wait_s(error, None) if throttled else None)


def _next_wait(core: Core, call: Call, error: Exception) -> float | None:
    """Return the seconds until the next attempt; None to give up, with the reason in `call.why`."""
    retry = core.retry
    if isinstance(error, GuardError) and not isinstance(error, _VERDICTS):
        call.why = "the guard refused"
    elif gave_up_below(error, call.function):
        call.why = "a guard below has tried already"
    elif not isinstance(error, Unwanted) and not retry.wants(error):
        call.why = "this error is not worth another attempt"
    elif call.attempt >= retry.attempts:
        call.why = "all attempts are used" if retry.attempts > 1 else "no retry is configured"
    elif call.once and call.idempotency_key is None and not shapes.nothing_was_sent(error):
        call.why = "it may have had its effect, and there is no idempotency key"
    else:
        return _affordable_wait(core, call, error)
    return None


def _affordable_wait(core: Core, call: Call, error: Exception) -> float | None:
    asked_s = asked_wait_s(error)
    wait_s = max(core.retry.wait_s(call.attempt, call.waited_s, HOST), asked_s or 0.0)
    if asked_s is not None and asked_s > core.settings.max_inline_wait_s:
        call.why = (
            f"the service asked for {asked_s:g} s, and at most {core.settings.max_inline_wait_s:g} s are waited here"
        )
    elif HOST.monotonic() + wait_s >= call.deadline_at:
        call.why = f"the next attempt, in {wait_s:.3g} s, would come after the deadline"
    elif core.breaker.open_for_s > 0.0:
        call.why = "the breaker opened"
    elif not core.may_retry():
        call.why = "the retry budget is used up"
        core.tell("retry.budget_exhausted", attempt=call.attempt)
    else:
        return wait_s
    return None


def _give_up(core: Core, call: Call, error: Exception) -> Story:
    """End a call that failed for good: hand it over, fall back, or raise what the function raised."""
    asked_s = asked_wait_s(error)
    told: BaseException = error
    if call.hand_over is not None and _may_pass(core, error):
        told = _handed_over(core, call, error, asked_s)
    elif asked_s is not None and asked_s > core.settings.max_inline_wait_s and _may_pass(core, error):
        due_at = HOST.now() + timedelta(seconds=asked_s)
        told = RetryLater(f"{core.name}: the service asks to wait until {due_at:%Y-%m-%d %H:%M:%S} UTC", due_at=due_at)
    took_s = HOST.monotonic() - call.begun_at
    _leave_note(core, call, error, took_s)
    core.tell("call.gave_up", attempts=call.attempt, reason=call.why, error=error, took_s=took_s)
    core.remember(
        attempts=call.attempt, took_s=took_s, error=type(error).__name__, reason=call.why, told=type(told).__name__
    )
    fallback = core.settings.fallback
    stand_in = fallback.stand_in(call.function, call.args, call.kwargs) if fallback is not None else None
    if fallback is not None and stand_in is not None:
        core.tell("call.degraded", feature=fallback.feature or core.name, reason=call.why, error=error)
        return (yield Invoke(stand_in))
    if isinstance(told, Unwanted):
        return told.result
    if told is not error:
        told.__cause__ = error
    call.error = told
    return GAVE_UP


def _handed_over(core: Core, call: Call, error: Exception, asked_s: float | None) -> BaseException:
    """Write the call down; where that fails the caller gets the error itself, and listeners hear of it."""
    assert call.hand_over is not None
    wait_s = asked_s
    if wait_s is None:
        wait_s = error.retry_after_s if isinstance(error, CircuitOpen) else core.breaker.open_for_s
    try:
        return call.hand_over(call, error, wait_s if wait_s is not None and wait_s < math.inf else 0.0)
    except Exception as broken:
        core.tell("handover.failed", error=broken)
        return error


def _may_pass(core: Core, error: Exception) -> bool:
    """Tell whether a failure may be over later: a refusal of the guard, or what is worth another attempt."""
    return isinstance(error, GuardError) or core.retry.wants(error)


def asked_wait_s(error: Exception) -> float | None:
    """Return what the service asked to wait; a refusal of our own asks nothing of the service's."""
    if isinstance(error, GuardError) and not isinstance(error, BadResponse):
        return None
    return shapes.asked_wait_s(error, HOST.now())


def gave_up_below(error: BaseException, function: Callable[..., Any]) -> bool:
    """Tell whether another guard, nearer to the failure, has tried already: then trying again would multiply."""
    marks = (getattr(one, _MARK, None) for one in shapes.causes(error))
    return any(mark is not None and mark is not function for mark in marks)


def _leave_note(core: Core, call: Call, error: Exception, took_s: float) -> None:
    """Say on the error itself what was tried; an error that is raised again and again keeps one note per policy."""
    beginning = f"prunella {core.name}: "
    tries = "1 attempt" if call.attempt == 1 else f"{call.attempt} attempts"
    notes = [note for note in getattr(error, "__notes__", ()) if not note.startswith(beginning)]
    error.__notes__ = [*notes, f"{beginning}{tries} within {took_s:.3g} s; {call.why}"]
    if core.retry.attempts > 1 and not gave_up_below(error, call.function) and _may_pass(core, error):
        setattr(error, _MARK, call.function)
