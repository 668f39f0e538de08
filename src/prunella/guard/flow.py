"""The story of one guarded call, told once for synchronous and asynchronous callers.

`story` is a generator: it yields what has to be done (wait so long, call the function, queue for a place) and is told
what came of it; the drivers carry its steps out and know no rule. Order, outside in: fallback, hand-over, deadline,
retry with its budget, breaker, limiter, bulkhead, attempt timeout, validation.
"""

from __future__ import annotations

import math
from datetime import timedelta
from functools import partial

from prunella.core import shapes
from prunella.core.clock import HOST
from prunella.core.errors import CircuitOpen, DeadlineExceeded, GuardError, RetryLater
from prunella.guard.breaker import Admission
from prunella.guard.bulkhead import LiveBulkhead
from prunella.guard.call import GAVE_UP, Aside, Call, Carried, Invoke, Queue, Story, TimeIsOver
from prunella.guard.core import Core, Unwanted
from prunella.guard.deadline import AMBIENT
from prunella.guard.known import Repair
from prunella.guard.marks import GIVE_UPS, gave_up_below, leave_note, mark
from prunella.guard.retry import OWN_BUGS, blames_the_service
from prunella.guard.verdicts import NoTimeLeft, asked_wait_s, is_refusal, silence_s


def story(core: Core, call: Call, error: Exception | None = None, admission: Admission | None = None) -> Story:
    """Make the call as the policy says, and return its result or `GAVE_UP`.

    Args:
        error, admission: how the first attempt failed, where it was made already.
    """
    call.deadline_at = min(AMBIENT.get(), call.begun_at + core.deadline_s)
    if error is not None:
        _count_failure(core, call, admission, error)
        core.failed_first()
    while True:
        if error is None:
            call.seen = GIVE_UPS.latest
            try:
                return (yield from attempt(core, call))
            except Exception as failed:
                if call.passes(failed):
                    call.error = failed
                    return GAVE_UP
                error = failed
            if call.attempt == 1 and not is_refusal(error):
                core.failed_first()
        wait_s = _next_wait(core, call, error)
        if wait_s is None:
            call.error, error = error, None  # no cycle: this frame stands in the error's traceback
            repair = (yield from _repaired(core, call)) if core.settings.known is not None else None
            return (yield from _give_up(core, call) if repair is None else _once_more(core, call, repair))
        core.retrying(call.attempt, wait_s, error)
        call.waited_s, call.before, error = wait_s, error, None
        if wait_s > 0.0:
            yield wait_s
        call.attempt += 1


def attempt(core: Core, call: Call) -> Story:
    """Make one attempt: past breaker, limiter and bulkhead, within its time, looked at before it counts as good."""
    if HOST.monotonic() >= call.deadline_at:
        raise NoTimeLeft(f"{core.name}: no time is left for an attempt")
    admission = call.admission = (yield Aside(core.breaker.enter)) if core.breaker.asks() else core.breaker.enter()
    try:
        yield from _take_turn(core, call)
        result = yield from _in_place(core, call)
    except Exception as error:
        _count_failure(core, call, admission, error)
        raise
    except BaseException:
        core.breaker.dropped(admission)
        raise
    admission.ok()
    if call.attempt > 1:
        core.not_a_first()
    if core.limiter is not None:
        core.limiter.succeeded()
    if core.settings.fallback is not None and core.settings.fallback.last_good and not call.opaque:
        core.settings.fallback.keep(call.function, call.args, call.kwargs, result)
    return result


def _take_turn(core: Core, call: Call) -> Story:
    limiter = core.limiter
    if limiter is None:
        return
    give_up_at = min(call.deadline_at, HOST.monotonic() + limiter.limits.wait_s)
    while True:
        turn, wait_s = limiter.reserve(give_up_at - HOST.monotonic())
        if wait_s > 0.0:
            try:
                yield wait_s
            except BaseException:
                limiter.hand_back(turn)
                raise
        if not turn.void:  # the service asked for silence meanwhile: queue anew
            return


def _in_place(core: Core, call: Call) -> Story:
    bulkhead = core.bulkhead
    if bulkhead is None:
        return (yield from invoke(core, call))
    waiter = bulkhead.enter()
    if waiter is not None:
        try:
            yield Queue(waiter, min(bulkhead.limits.wait_s, call.deadline_at - HOST.monotonic()))
        except BaseException:
            bulkhead.abandon(waiter)
            raise
        bulkhead.seat(waiter)
    try:
        return (yield from invoke(core, call))
    finally:
        _give_back(bulkhead, call)


def _give_back(bulkhead: LiveBulkhead, call: Call) -> None:
    """Give the place back, but not before a thread that was left behind has ended: the service still works for it."""
    work, call.left_behind = call.left_behind, None
    if work is None:
        bulkhead.leave()
    else:
        work.add_done_callback(lambda _: bulkhead.leave())


def invoke(core: Core, call: Call) -> Story:
    """Call the function within the time of an attempt, and look at its result."""
    begun_at = HOST.monotonic()
    ends_at = min(call.deadline_at, begun_at + core.attempt_timeout_s)
    if begun_at >= ends_at:
        raise NoTimeLeft(f"{core.name}: no time is left for an attempt")
    function = call.function if core.stand_in is None else core.stand_in(call.function)
    before = AMBIENT.get()
    if not call.block:
        AMBIENT.set(ends_at)
    try:
        result = yield Invoke(function, call.args, call.kwargs, ends_at)
    except TimeIsOver as error:
        call.left_behind = error.work
        raise core.out_of_time(ends_at, call.deadline_at) from error
    except DeadlineExceeded as error:
        verdict = core.whose_time(error, ends_at, call.deadline_at)
        if verdict is error:
            raise
        raise verdict from error
    finally:
        if not call.block:
            AMBIENT.set(before)  # no token: a block may be left in another context than it was entered in
    return result if call.opaque else core.looked_at(result, HOST.monotonic() - begun_at, call.admission)


def _count_failure(core: Core, call: Call, admission: Admission | None, error: Exception) -> None:
    """Tell breaker and limiter what a failure says about the service."""
    if admission is None:
        return
    refused = call.passes(error) or is_refusal(error)
    throttled = shapes.status_of(error) == 429
    if refused or throttled or isinstance(error, (*core.ignored, *OWN_BUGS)):
        core.breaker.dropped(admission)
    elif blames_the_service(error):
        core.breaker.failed(admission)
    else:
        admission.ok()  # it answered, and said no
        core.not_a_first()
    if core.limiter is not None and not refused:
        core.limiter.failed(throttled=throttled, asked_s=silence_s(error) if throttled else None)


def _next_wait(core: Core, call: Call, error: Exception) -> float | None:
    """Return the seconds until the next attempt; None to give up, with the reason in `call.why`."""
    retry = core.retry
    if is_refusal(error):
        call.why = "the guard refused"
    elif gave_up_below(error, call.seen):
        call.why = "a guard below has tried already"
    elif not (isinstance(error, Unwanted) and error.again) and not core.wants(error):
        call.why = "this error is not worth another attempt"
    elif call.attempt >= retry.attempts:
        call.why = "all attempts are used" if retry.attempts > 1 else "no retry is configured"
    elif why := call.final(error):
        call.why = why
    elif (step_s := core.step_s(call.attempt, call.waited_s)) is None:
        call.why = "the function given as steps failed"
    else:
        return _affordable_wait(core, call, error, step_s)
    return None


def _affordable_wait(core: Core, call: Call, error: Exception, step_s: float) -> float | None:
    asked_s = asked_wait_s(error)
    wait_s = max(step_s, asked_s or 0.0)
    if asked_s is not None and asked_s > core.settings.max_inline_wait_s:
        call.why = (
            f"the service asked for {asked_s:g} s, and at most {core.settings.max_inline_wait_s:g} s are waited here"
        )
    elif HOST.monotonic() + wait_s >= call.deadline_at:
        call.why = f"the next attempt, in {wait_s:.3g} s, would come after the deadline"
    elif core.breaker.open_for_s > 0.0:
        call.why = "the breaker opened"
    elif not core.may_retry(wait_s):
        call.why = "the retry budget is used up"
        core.tell("retry.budget_exhausted", attempt=call.attempt)
    else:
        return wait_s
    return None


def _repaired(core: Core, call: Call) -> Story:
    """Have repaired what failed, where it is known; a refusal of the guard is no failure, and time may be over."""
    error, known = call.error, core.settings.known
    assert isinstance(error, Exception)
    assert known is not None
    if is_refusal(error) or HOST.monotonic() >= call.deadline_at:
        return None
    return (yield from known.repaired(core, call, error))


def _once_more(core: Core, call: Call, repair: Repair) -> Story:
    """Try again what was repaired, where a retry could be made; what comes of it says whether the remedy helped."""
    error, known = call.error, core.settings.known
    assert isinstance(error, Exception)
    assert known is not None
    issue, remedy = repair.found
    why = call.final(error)
    wait_s = _affordable_wait(core, call, error, 0.0) if not why else None
    if wait_s is None:
        call.why = f"{remedy} repaired {issue}, but {why or call.why}"
        return (yield from _give_up(core, call))
    if wait_s > 0.0:
        yield wait_s
    call.attempt, call.before, call.error = call.attempt + 1, error, None
    try:
        result = yield from attempt(core, call)
    except Exception as failed:
        call.error = failed
    else:
        known.verdict(repair, good=True)
        core.tell("remedy.proven", issue=issue, remedy=remedy)
        return result
    if call.passes(call.error):
        return GAVE_UP
    if is_refusal(call.error):  # which is not the news, and no verdict
        call.attempt, call.error, call.before = call.attempt - 1, error, None
        call.why = f"{remedy} repaired {issue}, but the guard refused another attempt"
    else:
        known.verdict(repair, good=False)
        call.why = f"{remedy} did not help against {issue}"
    return (yield from _give_up(core, call))


def _give_up(core: Core, call: Call) -> Story:
    """End a call that failed for good: hand it over, fall back, or raise what the function raised."""
    error = call.error
    assert isinstance(error, Exception)
    asked_s = asked_wait_s(error)
    told: BaseException = error
    if call.hand_over is not None and _may_pass(core, error):
        told = yield from _handed_over(core, call, error, asked_s)
    elif asked_s is not None and asked_s > core.settings.max_inline_wait_s and _may_pass(core, error):
        due_at = HOST.now() + timedelta(seconds=asked_s)
        told = RetryLater(f"{core.name}: the service asks to wait until {due_at:%Y-%m-%d %H:%M:%S} UTC", due_at=due_at)
    took_s = HOST.monotonic() - call.begun_at
    if isinstance(error, Carried):
        told = error.error
    if call.before is not None and error.__cause__ is None and is_refusal(error):
        error.__cause__ = call.before  # what was refused is the repetition; this is why there was one
    _leave_word(core, call, told if isinstance(error, Carried) else error, took_s)
    core.tell("call.gave_up", attempts=call.attempt, reason=call.why, error=error, took_s=took_s)
    core.remember(
        attempts=call.attempt, took_s=took_s, error=type(error).__name__, reason=call.why, told=type(told).__name__
    )
    fallback = core.settings.fallback if call.replaceable else None
    stand_in = fallback.stand_in(call.function, call.args, call.kwargs) if fallback is not None else None
    if fallback is not None and stand_in is not None:
        core.tell("call.degraded", feature=fallback.feature or core.name, reason=call.why, error=error)
        return (yield Invoke(stand_in))
    if isinstance(told, Unwanted):
        return told.result
    if told is not error and not isinstance(error, Carried):
        told.__cause__ = error
    call.error = told
    return GAVE_UP


def _handed_over(core: Core, call: Call, error: Exception, asked_s: float | None) -> Story:
    """Write the call down; where that fails the caller gets the error itself, and listeners hear of it."""
    assert call.hand_over is not None
    wait_s = asked_s
    if wait_s is None:
        wait_s = error.retry_after_s if isinstance(error, CircuitOpen) else core.breaker.open_for_s
    try:
        due_in_s = wait_s if wait_s is not None and wait_s < math.inf else 0.0
        told = yield Aside(partial(call.hand_over, call, error, due_in_s))
    except Exception as broken:
        core.tell("handover.failed", error=broken)
        return error
    core.tell("call.handed_over", operation_id=told.operation_id, due_at=told.due_at)
    return told


def _may_pass(core: Core, error: Exception) -> bool:
    """Tell whether a failure may be over later: a refusal of the guard, or what is worth another attempt."""
    return isinstance(error, GuardError) or core.wants(error)


def _leave_word(core: Core, call: Call, error: BaseException, took_s: float) -> None:
    """Say on the error itself what was tried."""
    tries = "1 attempt" if call.attempt == 1 else f"{call.attempt} attempts"
    leave_note(error, f"prunella {core.name}: ", f"{tries} within {took_s:.3g} s; {call.why}")
    if core.retry.attempts > 1 and isinstance(error, Exception) and _may_pass(core, error):
        answer = error.result if isinstance(error, Unwanted) else None
        mark(error if shapes.status_of(answer) is None else answer)
