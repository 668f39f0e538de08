"""Cases of time and load: timeouts, deadlines, budgets, limiters, bulkheads, and how the parts work together."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections import deque
from contextlib import suppress

from conformance.contract import Down, Function, Refused, Response
from conformance.judge import case, check
from conformance.lab import Lab
from conformance.service import DOWN, OK, Step

_QUANTUM_S = 0.06
PAGE = Response(200, {"content-type": "text/html"})


@case("L", "0.5 s for everything: waits never go beyond", "total", alone=True)
async def total(lab: Lab) -> None:
    service = lab.service(DOWN)
    guarded = lab.guard(attempts=6, wait_s=0.2, total_s=0.5)(service.target)
    begun = lab.now()
    outcome = await lab.call(guarded)
    took_s = lab.now() - begun
    check(took_s <= 0.5 + _QUANTUM_S, f"took {took_s:.2f} s")
    check(service.calls >= 2, f"{service.calls} attempts")
    check(outcome.error is not None, "no error")


@case("4a", "and neither does an attempt that hangs", "deadline", faces=("asyncio",))
async def total_with_hanging_attempt(lab: Lab) -> None:
    service = lab.service(Step(takes_s=0.2, error=Down()), Step(takes_s=3.0))
    guarded = lab.guard(attempts=3, wait_s=0.05, total_s=0.5)(service.target)
    begun = lab.now()
    outcome = await lab.call(guarded)
    took_s = lab.now() - begun
    check(took_s <= 0.5 + _QUANTUM_S, f"took {took_s:.2f} s")
    check(isinstance(outcome.error, TimeoutError), f"{outcome.error!r}")


@case("4b", "what is called within has no more time than is left", "deadline", faces=("asyncio",))
async def nested_totals(lab: Lab) -> None:
    service = lab.service(Step(takes_s=3.0))
    inner = lab.guard(total_s=2.0)(service.target)

    async def work() -> object:
        return await inner()

    begun = lab.now()
    await lab.call(lab.guard(total_s=0.3)(work))
    took_s = lab.now() - begun
    check(took_s <= 0.3 + _QUANTUM_S, f"took {took_s:.2f} s")


@case("4c", "nor does the wait for a turn", "total", "limiter", faces=("sync", "asyncio"))
async def total_with_queue(lab: Lab) -> None:
    service = lab.service()
    guarded = lab.guard(limit_per_s=1.0, total_s=0.3)(service.target)
    await lab.call(guarded)
    begun = lab.now()
    outcome = await lab.call(guarded)
    took_s = lab.now() - begun
    check(took_s <= 0.3 + _QUANTUM_S, f"took {took_s:.2f} s")
    check(outcome.error is not None, "came through too early")


@case("P", "40 synchronous calls of 0.2 s at once, 0.8 s allowed: all come back", "thread_timeout", faces=("threads",))
async def timeouts_at_once(lab: Lab) -> None:
    service = lab.service(Step(takes_s=0.2))
    guarded = lab.guard(attempt_s=0.8)(service.target)
    outcomes = await lab.at_once(guarded, 40)
    back = sum(outcome.result == "ok" for outcome in outcomes)
    check(back == 40, f"{back} came back, {40 - back} timed out")


@case("Q", "context variables are kept under a synchronous timeout", "thread_timeout", faces=("sync", "threads"))
async def context_kept(lab: Lab) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="lost")

    async def scene(number: int) -> None:
        variable.set(f"kept {number}")
        outcome = await lab.call(lab.guard(attempt_s=1.0)(_reading(variable)))
        check(outcome.result == f"kept {number}", f"{outcome.result or outcome.error!r}")

    await lab.each_alone(scene)


@case("R", "100 synchronous timeouts in a row: a bounded number of threads", "thread_timeout", faces=("sync",))
async def threads_bounded(lab: Lab) -> None:
    service, gate = lab.service(), lab.gate()
    service.answers(Step(gate=gate))
    guarded = lab.guard(attempt_s=0.004)(service.target)
    before = threading.active_count()
    for _ in range(100):
        outcome = await lab.call(guarded)
        check(isinstance(outcome.error, TimeoutError), f"{outcome.error or outcome.result!r}")
    threads = threading.active_count() - before
    check(threads <= 64, f"{threads} threads")


@case("U", "five attempts around a breaker that opens at the first failure: one call, no wait", "retry", "breaker")
async def retry_and_breaker(lab: Lab) -> None:
    service, callers = lab.service(DOWN), lab.crowd if lab.face == "threads" else 1
    guarded = lab.guard(attempts=5, wait_s=0.5, failures=1, open_s=30.0)(service.target)
    with lab.naps() as naps:
        await lab.at_once(guarded, callers)
    check(service.calls <= callers, f"{service.calls} calls by {callers}")
    check(sum(naps) == 0, f"waited {max(naps, default=0):.1f} s in vain")


@case("9", "an open breaker ends the attempts at once with its own error", "retry", "breaker")
async def open_breaker(lab: Lab) -> None:
    service = lab.service(DOWN)
    guarded = lab.guard(attempts=5, wait_s=0.5, failures=1, open_s=30.0)(service.target)
    with lab.naps():
        await lab.call(guarded)
    calls = service.calls
    with lab.naps() as naps:
        outcomes = await lab.at_once(guarded, lab.crowd)
    check(service.calls == calls, "called in spite of it")
    check(sum(naps) == 0, f"waited {max(naps, default=0):.1f} s in vain")
    check(all(lab.refused(outcome) for outcome in outcomes), f"{outcomes[0].error!r}")


@case("V", "an outage, 1,000 callers, 4 attempts, a budget of 10 %: about 1,100 calls", "budget")
async def outage(lab: Lab) -> None:
    service = lab.service(DOWN)
    guarded = lab.guard(attempts=4, wait_s=0.001, budget_ratio=0.1)(service.target)

    async def calls(count: int) -> None:
        for _ in range(count):
            await lab.call(guarded)

    if lab.face == "sync":
        await calls(1000)
    elif lab.face == "asyncio":
        await asyncio.gather(*(calls(1) for _ in range(1000)))
    else:

        def calls_now() -> None:
            for _ in range(25):
                with suppress(Down):
                    guarded()

        await lab.at_once(calls_now, 40)
    check(1000 <= service.calls <= 1130, f"{service.calls} calls")
    check(service.calls >= 1050, f"only {service.calls} calls: the budget allows more")


@case(
    "6",
    "a retry that waits holds its place in the budget, and one that is cancelled keeps it",
    "budget",
    faces=("asyncio",),
)
async def waiting_retries(lab: Lab) -> None:
    service = lab.service(DOWN)
    guarded = lab.guard(attempts=2, wait_s=0.2, budget_ratio=0.1)(service.target)
    callers = lab.start(guarded, 200)
    await lab.pass_s(0.05)
    for caller in callers:
        if caller.task is not None:
            caller.task.cancel()
    await lab.finished(callers)
    more = lab.start(guarded, 200)
    await lab.finished(more)
    retries = service.calls - 400
    check(retries <= 25, f"{retries} retries after 30 that were cancelled; 50 are allowed in all")


@case("8b", "cancelled calls give back probes and places", "bulkhead", faces=("asyncio",))
async def nothing_leaks(lab: Lab) -> None:
    lot, service = random.Random(7), lab.service()
    guarded = lab.guard(places=2, place_wait_s=0.05)(service.target)
    for number in range(20):
        gate = lab.gate()
        service.answers(Step(gate=gate, error=Down() if number % 2 else None))
        callers = lab.start(guarded, 6)
        opens_at = lot.randrange(6)
        await lab.pass_s(lot.random() * 0.01)
        for place, caller in enumerate(lot.sample(callers, 6)):
            if place == opens_at:
                gate.open()
            if lot.random() < 0.6 and caller.task is not None:
                caller.task.cancel()
            if lot.random() < 0.5:
                await lab.pass_s(lot.random() * 0.005)
        await lab.finished(callers)
    gate = lab.gate()
    service.answers(Step(gate=gate))
    callers = lab.start(guarded, 2)
    await lab.settled(callers, service)
    check(service.inside == 2, f"{service.inside} of 2 places are left")
    refused = await lab.call(guarded)
    check(lab.refused(refused), f"a third came in: {refused}")


@case(
    "8c",
    "cancelled from outside within an attempt's time: CancelledError, no TimeoutError",
    "timeout",
    faces=("asyncio",),
)
async def outer_cancel(lab: Lab) -> None:
    for after_s in (0.0, 0.02, 0.05):
        service = lab.service(Step(takes_s=1.0))
        guarded = lab.guard(attempts=2, attempt_s=0.05, on=TimeoutError)(service.target)
        (caller,) = lab.start(guarded)
        await lab.pass_s(after_s)
        assert caller.task is not None
        cancelled = caller.task.cancel()
        (outcome,) = await lab.finished([caller])
        if cancelled and after_s < 0.05:
            check(isinstance(outcome.error, asyncio.CancelledError), f"after {after_s} s: {outcome.error!r}")


@case("8d", "an attempt that takes too long is cancelled and tried again", "timeout", "retry", faces=("asyncio",))
async def slow_attempt(lab: Lab) -> None:
    service = lab.service(Step(takes_s=1.0), OK)
    guarded = lab.guard(attempts=2, attempt_s=0.05, on=TimeoutError)(service.target)
    begun = lab.now()
    outcome = await lab.call(guarded)
    check(outcome.result == "ok", f"{outcome.error!r}")
    check(service.inside == 0, "the slow attempt goes on")
    check(lab.now() - begun < 0.5, f"took {lab.now() - begun:.2f} s")


@case("8e", "so many at once and no more; who may wait is let in, in turn", "bulkhead")
async def bulkhead(lab: Lab) -> None:
    service, gate = lab.service(), lab.gate()
    service.answers(Step(gate=gate))
    guarded = lab.guard(places=2)(service.target)
    callers = lab.start(guarded, lab.crowd)
    await lab.settled(callers, service)
    check(service.inside == 2, f"{service.inside} at once")
    gate.open()
    outcomes = await lab.finished(callers)
    refused = sum(lab.refused(outcome) for outcome in outcomes)
    check(refused == lab.crowd - 2, f"{refused} of {lab.crowd - 2} refused")
    check((await lab.call(guarded)).result == "ok", "no place came back")


@case(
    "13a",
    "a service that allows 10/s, called from 50/s on: found within 20 s, at most 5 % refused then; a raised limit too",
    "adaptive",
    faces=("sync", "asyncio"),
)
async def converges(lab: Lab) -> None:
    service = Throttling(lab)
    guarded = lab.guard(adaptive_per_s=50.0)(service.target)
    await service.load(guarded, 20.0)
    accepted, refused = await service.load(guarded, 10.0)
    check(refused <= 0.05 * (accepted + refused), f"{refused / (accepted + refused):.0%} refused after 20 s")
    check(accepted >= 50, f"{accepted / 10:.1f} calls per second accepted instead of 10")
    service.allowed = 20
    await service.load(guarded, 10.0)
    accepted, _ = await service.load(guarded, 10.0)
    check(accepted >= 120, f"{accepted / 10:.1f} calls per second accepted after the limit rose to 20")


@case("13b", "waiters that are cancelled do not hold up the next caller", "limiter", faces=("asyncio",))
async def cancelled_waiters(lab: Lab) -> None:
    service = lab.service()
    guarded = lab.guard(limit_per_s=10.0)(service.target)
    await lab.call(guarded)
    callers = lab.start(guarded, 20)
    await lab.pass_s(0.02)
    for caller in reversed(callers):
        assert caller.task is not None
        caller.task.cancel()
    await lab.finished(callers)
    begun = lab.now()
    outcome = await lab.call(guarded)
    took_s = lab.now() - begun
    check(outcome.result == "ok", f"{outcome.error!r}")
    check(took_s <= 0.4, f"waited {took_s:.2f} s behind callers that are gone")


@case("13c", "no more calls per second than allowed", "limiter")
async def limited(lab: Lab) -> None:
    service = lab.service()
    guarded = lab.guard(limit_per_s=200.0)(service.target)
    begun = lab.now()
    if lab.face == "threads":

        def calls_now() -> None:
            for _ in range(10):
                guarded()

        await lab.at_once(calls_now, lab.crowd)
    else:
        for _ in range(320):
            await lab.call(guarded)
    took_s, calls = lab.now() - begun, service.calls
    check(calls <= 200.0 * took_s + 201.0, f"{calls} calls within {took_s:.2f} s")
    check(calls == 320, f"only {calls} calls came through")


@case("13d", "a call that is refused for want of a place says nothing about the service", "breaker", "bulkhead")
async def own_refusals(lab: Lab) -> None:
    service, gate = lab.service(), lab.gate()
    guarded = lab.guard(failures=3, places=1)(service.target)
    service.answers(Step(gate=gate))
    held = lab.start(guarded)
    await lab.settled(held, service)
    outcomes = await lab.at_once(guarded, lab.crowd)
    check(all(lab.refused(outcome) for outcome in outcomes), "more than one at once")
    gate.open()
    await lab.finished(held)
    check((await lab.call(guarded)).result == "ok", "the breaker opened")


@case("14", "a page of HTML with status 200 counts as a failure for the breaker", "results")
async def bad_results(lab: Lab) -> None:
    service = lab.service(Step(result=PAGE))
    guarded = lab.guard(failures=3, refuse_result=_is_page)(service.target)
    for _ in range(3):
        await lab.call(guarded)
    outcomes = await lab.at_once(guarded, lab.crowd)
    check(all(lab.refused(outcome) for outcome in outcomes), "still closed after three pages")
    check(service.calls == 3, f"{service.calls} calls")


def _reading(variable: contextvars.ContextVar[str]) -> Function:
    def read() -> str:
        return variable.get()

    return read


def _is_page(result: object) -> bool:
    return isinstance(result, Response) and result.headers.get("content-type") == "text/html"


class Throttling:
    """A service that allows so many calls within any second."""

    def __init__(self, lab: Lab) -> None:
        self.allowed = 10
        self._lab = lab
        self._recent: deque[float] = deque()

    @property
    def target(self) -> Function:
        """The function to guard."""
        if self._lab.face != "asyncio":
            return self._answer

        async def answer() -> str:
            return self._answer()

        return answer

    async def load(self, guarded: Function, for_s: float) -> tuple[int, int]:
        """Call as fast as the limiter allows; return how many calls were accepted and refused."""
        ends_at, outcomes = self._lab.now() + for_s, []
        while self._lab.now() < ends_at:
            outcomes.append(await self._lab.call(guarded))
        accepted = sum(outcome.result == "ok" for outcome in outcomes)
        return accepted, len(outcomes) - accepted

    def _answer(self) -> str:
        now = self._lab.now()
        while self._recent and self._recent[0] <= now - 1.0:
            self._recent.popleft()
        if len(self._recent) >= self.allowed:
            raise Refused(429)
        self._recent.append(now)
        return "ok"
