"""Cases of trying again: when not to, how long to wait, what a service asks, and what the caller gets in the end."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

from conformance.contract import Down, Function, Refused, Wish
from conformance.judge import case, check
from conformance.lab import Lab
from conformance.service import DOWN, OK, Step

_FAR_S = 277_403.0
_FATAL = (KeyboardInterrupt, SystemExit, GeneratorExit)


@case("I", "cancelled while waiting: cancelled, after one attempt", "retry", faces=("asyncio",))
async def cancelled_while_waiting(lab: Lab) -> None:
    service = lab.service(DOWN)
    guarded = lab.guard(attempts=4, wait_s=0.2)(service.target)
    callers = lab.start(guarded, lab.crowd)
    await lab.pass_s(0.05)
    for caller in callers:
        assert caller.task is not None
        caller.task.cancel()
    outcomes = await lab.finished(callers)
    check(service.calls == lab.crowd, f"{service.calls} attempts of {lab.crowd} callers")
    wrong = [one.error for one in outcomes if not isinstance(one.error, asyncio.CancelledError)]
    check(not wrong, f"{type(wrong[0] if wrong else None).__name__} instead of CancelledError")


@case("J", "`wait_for` around retry of all but one type: TimeoutError, one attempt", "retry", faces=("asyncio",))
async def wait_for(lab: Lab) -> None:
    service = lab.service(Step(takes_s=1.0), OK)
    guarded = lab.guard(attempts=3, unless=ValueError)(service.target)
    outcome = await lab.call(lambda: asyncio.wait_for(guarded(), 0.1))
    check(service.calls == 1, f"{service.calls} attempts, and {outcome.result or outcome.error!r} after the timeout")
    check(isinstance(outcome.error, TimeoutError), f"{outcome.error!r}")


@case("K", "one policy used by many at once: each has its own attempts", "blocks")
async def shared_by_many(lab: Lab) -> None:
    blocks = lab.adapter.blocks(Wish(attempts=3, wait_s=0.01), lab.face)
    counts: list[int] = []

    async def repeat_async() -> None:
        tries = 0
        try:
            async for attempt in blocks():
                with attempt:
                    tries += 1
                    await asyncio.sleep(0)
                    raise Down
        finally:
            counts.append(tries)

    def repeat() -> None:
        tries = 0
        try:
            for attempt in blocks():
                with attempt:
                    tries += 1
                    raise Down
        finally:
            counts.append(tries)

    await lab.at_once(repeat_async if lab.face == "asyncio" else repeat, lab.crowd)
    check(counts == [3] * lab.crowd, f"{min(counts)} to {max(counts)} attempts instead of 3")


@case("M", "the wait before attempt 1,100 is the longest allowed", "retry", faces=("sync", "asyncio"))
async def long_backoff(lab: Lab) -> None:
    service = lab.service(DOWN)
    guarded = lab.guard(attempts=1100, wait_s=0.01, doubling_up_to_s=5.0)(service.target)
    with lab.naps() as naps:
        outcome = await lab.call(guarded)
    check(isinstance(outcome.error, Down), f"{type(outcome.error).__name__} at attempt {service.calls}")
    check(service.calls == 1100, f"{service.calls} attempts")
    check(not naps or max(naps) <= 5.0, f"waited {max(naps, default=0):.1f} s at most, 5 allowed")


@case("N", "a stream that fails before its first item is tried again, or refused when decorated", "retry", alone=True)
async def stream(lab: Lab) -> None:
    service = lab.service(DOWN, DOWN, OK)
    try:
        guarded = lab.guard(attempts=3)(service.stream)
    except Exception:
        return  # refused with a reason: nobody believes it guarded
    outcome = await lab.items(guarded)
    check(outcome.result == ["ok", "end"], f"not tried again: {service.calls} attempt")


@case("O", "an object with a `__call__` is tried again, or refused when decorated", "retry", alone=True)
async def callable_object(lab: Lab) -> None:
    service = lab.service(DOWN, DOWN, OK)
    try:
        guarded = lab.guard(attempts=3)(service.object)
    except Exception:
        return
    outcome = await lab.call(guarded)
    check(outcome.result == "ok", f"{service.calls} attempt, then {outcome.error!r}")


@case("S", "a listener that raises: the call is unaffected", "listener", alone=True)
async def broken_listener(lab: Lab) -> None:
    if "retry" in lab.adapter.features:
        service = lab.service(DOWN, OK)
        outcome = await lab.call(lab.guard(attempts=2, listener=_broken)(service.target))
        check(outcome.result == "ok", f"the caller gets {outcome.error!r}")
    if "breaker" in lab.adapter.features:
        service = lab.service(DOWN)
        guarded = lab.guard(failures=2, listener=_broken)(service.target)
        outcomes = [await lab.call(guarded) for _ in range(3)]
        check(not any(isinstance(one.error, RuntimeError) for one in outcomes), "the caller gets the listener's error")
        check(lab.refused(outcomes[-1]), "the breaker did not open")


@case("T", "asked to wait three days: not earlier, and not asleep for so long", "retry_after", alone=True)
async def far_retry_after(lab: Lab) -> None:
    asked = Refused(429, {"Retry-After": f"{_FAR_S:.0f}"}, retry_after=_FAR_S)
    service = lab.service(Step(error=asked))
    guarded = lab.guard(attempts=2, wait_s=0.1, retry_after=True, on=Refused)(service.target)
    with lab.naps() as naps:
        outcome = await lab.call(guarded)
    check(sum(naps) < _FAR_S, f"asleep for {sum(naps):,.0f} s")
    check(service.calls == 1, f"again after {sum(naps):.0f} s")
    check(outcome.error is not None, "no error")


@case("T2", "and the error says when to come again", "retry_after", "due", alone=True)
async def due(lab: Lab) -> None:
    service = lab.service(Step(error=Refused(429, {"Retry-After": f"{_FAR_S:.0f}"})))
    guarded = lab.guard(attempts=2, retry_after=True, on=Refused)(service.target)
    begun = lab.clock.wall()
    outcome = await lab.call(guarded)
    due_at = getattr(outcome.error, "due_at", None)
    check(due_at is not None, f"{outcome.error!r}")
    assert due_at is not None
    check(abs((due_at - begun).total_seconds() - _FAR_S) < 2, f"due at {due_at}")
    check(isinstance(outcome.error.__cause__ if outcome.error else None, Refused), "without the service's own error")


@case("3a", "Retry-After in seconds: never earlier", "headers", alone=True)
async def seconds(lab: Lab) -> None:
    for text, asked_s in (("3", 3.0), (" 7 ", 7.0), ("0", 0.0)):
        await _waits(lab, {"Retry-After": text}, asked_s)


@case("3b", "Retry-After as a date, in each form of RFC 9110", "headers", alone=True)
async def dates(lab: Lab) -> None:
    then = lab.clock.wall() + timedelta(seconds=8)
    forms = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y")
    for form in forms:
        await _waits(lab, {"Retry-After": then.strftime(form)}, 6.0, 9.0)
    past = lab.clock.wall() - timedelta(days=1)
    await _waits(lab, {"Retry-After": format_datetime(past, usegmt=True)}, 0.0, 0.5)


@case(
    "3c",
    "a date counts from the response's own Date: a clock that is an hour off changes nothing",
    "headers",
    alone=True,
)
async def skewed(lab: Lab) -> None:
    there = lab.clock.wall() - timedelta(hours=1)
    asked = {
        "Date": format_datetime(there, usegmt=True),
        "Retry-After": format_datetime(there + timedelta(seconds=5), usegmt=True),
    }
    await _waits(lab, asked, 5.0, 8.0)


@case("3d", "retry-after-ms and x-ratelimit-reset, as seconds and as a moment", "headers", alone=True)
async def other_headers(lab: Lab) -> None:
    await _waits(lab, {"retry-after-ms": "2500"}, 2.5)
    await _waits(lab, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "4"}, 4.0)
    moment = lab.clock.wall().timestamp() + 6
    await _waits(lab, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{moment:.0f}"}, 4.0, 8.0)


@case("3e", "a Retry-After that can't be read is ignored, and never raises", "headers", alone=True)
async def unreadable(lab: Lab) -> None:
    for text in ("-5", "nan", "inf", "", "²", "soon", "3, 5"):
        await _waits(lab, {"Retry-After": text}, 0.1, 0.3)


@case("3f", "asked to wait 9999999999 s: no overflow, no sleep", "headers", alone=True)
async def endless(lab: Lab) -> None:
    service = lab.service(Step(error=Refused(429, {"Retry-After": "9999999999"})))
    guarded = lab.guard(attempts=2, wait_s=0.1, retry_after=True, on=Refused)(service.target)
    with lab.naps() as naps:
        outcome = await lab.call(guarded)
    check(not isinstance(outcome.error, OverflowError), "OverflowError")
    check(service.calls == 1, f"again after {sum(naps):.0f} s")


async def _waits(lab: Lab, headers: dict[str, str], least_s: float, most_s: float = math.inf) -> None:
    service = lab.service(Step(error=Refused(503, headers)), OK)
    guarded = lab.guard(attempts=2, wait_s=0.1, retry_after=True, on=Refused)(service.target)
    with lab.naps() as naps:
        outcome = await lab.call(guarded)
    said = ", ".join(name if ":" in value else f"{name}: {value}" for name, value in headers.items())
    check(outcome.result == "ok", f"`{said}`: {outcome.error!r}")
    check(least_s <= sum(naps) <= most_s, f"`{said}`: waited {sum(naps):.2f} s")


@case("5", "three layers of three attempts reach the service three times", "layers")
async def layers(lab: Lab) -> None:
    service = lab.service(DOWN)
    guarded = service.target
    for _ in range(3):
        guarded = lab.guard(attempts=3)(_passing_on(lab, guarded))

    async def scene(_: int) -> None:
        outcome = await lab.call(guarded)
        check(isinstance(outcome.error, Down), f"{outcome.error!r}")

    await lab.each_alone(scene)
    callers = lab.crowd if lab.face == "threads" else 1
    check(service.calls <= 3 * callers, f"{service.calls / callers:.0f} calls")


@case("7a", "what may do harm is not repeated", "effects", alone=True)
async def effect_once(lab: Lab) -> None:
    service = lab.service(DOWN, OK)
    guarded = lab.guard_once(attempts=3, keyed=False)(service.target)
    await lab.call(guarded, "key-1")
    check(service.calls == 1, f"{service.calls} attempts")


@case("7b", "but it is with an idempotency key, or where nothing was sent", "effects", alone=True)
async def effect_with_key(lab: Lab) -> None:
    service = lab.service(DOWN, OK)
    guarded = lab.guard_once(attempts=3, keyed=True)(service.target)
    outcome = await lab.call(guarded, "key-1")
    check(outcome.result == "ok", f"{outcome.error!r} after {service.calls} attempts with a key")
    check(service.handed_in == [("key-1",)] * 2, f"keys {service.handed_in}")
    service = lab.service(Step(error=ConnectionRefusedError(111, "refused")), OK)
    guarded = lab.guard_once(attempts=3, keyed=False)(service.target)
    outcome = await lab.call(guarded, "key-1")
    check(outcome.result == "ok", f"{outcome.error!r} although nothing was sent")


@case(
    "8a",
    "KeyboardInterrupt, SystemExit and GeneratorExit are never tried again, also where all but one type are",
    "retry",
    alone=True,
)
async def fatal(lab: Lab) -> None:
    for kind in _FATAL:
        service = lab.service(Step(error=kind), OK)
        guarded = lab.guard(attempts=3, unless=ValueError)(service.target)
        outcome = await lab.call(guarded)
        check(service.calls == 1, f"{kind.__name__}: {service.calls} attempts")
        check(isinstance(outcome.error, kind), f"{kind.__name__} became {outcome.error!r}")


@case("17a", "in the end the caller gets the very exception of the service", "retry", alone=True)
async def original(lab: Lab) -> None:
    errors = [Down("first"), Down("second"), Down("third")]
    service = lab.service(*(Step(error=error) for error in errors))
    outcome = await lab.call(lab.guard(attempts=3)(service.target))
    check(service.calls == 3, f"{service.calls} attempts")
    check(outcome.error is errors[-1], f"{outcome.error!r} instead")


@case("17b", "and its notes say how often and how long it was tried", "notes", alone=True)
async def notes(lab: Lab) -> None:
    service = lab.service(DOWN)
    outcome = await lab.call(lab.guard(attempts=3)(service.target))
    said = " ".join(getattr(outcome.error, "__notes__", ()))
    check("3 attempts" in said, f"notes: {said or 'none'}")


@case("18", "settings that make no sense are refused when they are made", "retry", faces=("sync", "asyncio"))
async def misuse(lab: Lab) -> None:
    _refuses(
        lab, {"attempts": 0}, {"attempts": -1}, {"attempts": 2, "wait_s": -1.0}, {"attempts": 2, "wait_s": math.nan}
    )


@case("18b", "the same for breakers", "breaker", faces=("sync", "asyncio"))
async def breaker_misuse(lab: Lab) -> None:
    _refuses(
        lab, {"failures": 0}, {"failures": -1}, {"failures": 3, "open_s": -1.0}, {"failures": 3, "open_s": math.nan}
    )


def _refuses(lab: Lab, *wishes: dict[str, Any]) -> None:
    accepted = []
    for wish in wishes:
        try:
            lab.guard(**wish)(lab.service().target)
        except (ValueError, TypeError):
            continue
        except Exception as error:
            check("onfig" in type(error).__name__, f"{error!r}")
        else:
            accepted.append(", ".join(f"{name}={value}" for name, value in wish.items()))
    check(not accepted, f"accepts {'; '.join(accepted)}")


@case(
    "R1",
    "a client error (400, 401, 404, 409, 422) is not tried again; 408, 425, 429, 500, 503 are",
    "statuses",
    alone=True,
)
async def client_errors(lab: Lab) -> None:
    for status, attempts in (
        (400, 1),
        (401, 1),
        (404, 1),
        (409, 1),
        (422, 1),
        (408, 2),
        (425, 2),
        (429, 2),
        (500, 2),
        (503, 2),
    ):
        service = lab.service(Step(error=Refused(status)), OK)
        await lab.call(lab.guard(attempts=3)(service.target))
        check(service.calls == attempts, f"{status}: {service.calls} attempts")


def _broken(*args: object, **kwargs: object) -> None:
    raise RuntimeError("the listener is broken")


def _passing_on(lab: Lab, function: Function) -> Function:
    """Return a layer of its own around a function."""
    if lab.face == "asyncio":

        async def layer() -> object:
            return await function()

        return layer

    def layer_now() -> object:
        return function()

    return layer_now
