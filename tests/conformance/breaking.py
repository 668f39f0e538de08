"""Cases of breakers: who is let through when, and what late, lost and cancelled calls do to the state."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from conformance.contract import Down, Function, Wish
from conformance.judge import NotOffered, case, check
from conformance.lab import Lab, in_child
from conformance.service import DOWN, OK, Service, Step

_FAILURES = 3
_FORKS = 30


async def _opened(lab: Lab, service: Service, guarded: Function) -> None:
    service.answers(DOWN)
    for _ in range(_FAILURES):
        await lab.call(guarded)
    check(lab.refused(await lab.call(guarded)), f"not open after {_FAILURES} failures")


async def _due(lab: Lab) -> tuple[Service, Function]:
    """Return a service, and a function behind a breaker whose open time is over."""
    service = lab.service()
    guarded = lab.guard(failures=_FAILURES)(service.target)
    await _opened(lab, service, guarded)
    await lab.pass_s(lab.period_s)
    return service, guarded


def _all_inside(lab: Lab, service: Service) -> None:
    if service.inside < lab.crowd:
        raise NotOffered  # a breaker that lets one call in at a time has no late ones


@case("A", "a herd when the open time ends: one call reaches the service", "breaker")
async def herd(lab: Lab) -> None:
    service, guarded = await _due(lab)
    gate = lab.gate()
    service.answers(Step(gate=gate))
    callers = lab.start(guarded, lab.crowd)
    await lab.settled(callers, service)
    reached = service.inside
    gate.open()
    await lab.finished(callers)
    check(reached == 1, f"{reached} of {lab.crowd} reached the service")
    check((await lab.call(guarded)).result == "ok", "still refuses after a good probe")


@case("B", "calls through a closed breaker run side by side", "breaker")
async def side_by_side(lab: Lab) -> None:
    service, gate = lab.service(), lab.gate()
    service.answers(Step(gate=gate))
    guarded = lab.guard(failures=_FAILURES)(service.target)
    callers = lab.start(guarded, lab.crowd)
    await lab.settled(callers, service)
    at_once = service.inside
    gate.open()
    await lab.finished(callers)
    check(at_once == lab.crowd, f"{at_once} of {lab.crowd} at once")


@case("C", "wall clock set back by an hour while open: the probe comes on time", "breaker")
async def wall_clock(lab: Lab) -> None:
    service, guarded = await _due(lab)
    service.answers(OK)
    with lab.wall_clock_set_back(1):
        outcomes = await lab.at_once(guarded, lab.crowd)
    check(any(outcome.result == "ok" for outcome in outcomes), "stays open for the hour")


@case("D", "a probe that is cancelled frees its place and is no failure", "breaker")
async def cancelled_probe(lab: Lab) -> None:
    service, guarded = await _due(lab)
    gate = lab.gate()
    if lab.face == "asyncio":
        service.answers(Step(gate=gate))
        (probe,) = lab.start(guarded)
        await lab.settled([probe], service)
        assert probe.task is not None
        probe.task.cancel()
        await lab.finished([probe])
    else:
        service.answers(Step(error=KeyboardInterrupt))
        await lab.at_once(guarded, 1 if lab.face == "sync" else lab.crowd)
    service.answers(OK)
    outcome = await lab.call(guarded)
    check(outcome.result == "ok", "refuses after the cancelled probe")


@case("E", "a success that began before the opening moves nothing while open", "breaker")
async def late_success_while_open(lab: Lab) -> None:
    service, gate = lab.service(), lab.gate()
    guarded = lab.guard(failures=_FAILURES)(service.target)
    service.answers(Step(gate=gate))
    late = lab.start(guarded, lab.crowd)
    await lab.settled(late, service)
    _all_inside(lab, service)
    await _opened(lab, service, guarded)
    gate.open()
    await lab.finished(late)
    service.answers(OK)
    check(lab.refused(await lab.call(guarded)), "lets calls through before the open time is over")


@case("F", "a success of before lands while the probe is out: still half open", "breaker")
async def late_success_while_probing(lab: Lab) -> None:
    service, gate, probing = lab.service(), lab.gate(), lab.gate()
    guarded = lab.guard(failures=_FAILURES)(service.target)
    service.answers(Step(gate=gate))
    late = lab.start(guarded, lab.crowd)
    await lab.settled(late, service)
    _all_inside(lab, service)
    await _opened(lab, service, guarded)
    await lab.pass_s(lab.period_s)
    service.answers(Step(gate=probing))
    probe = lab.start(guarded)
    await lab.settled([*late, *probe], service)
    gate.open()
    await lab.finished(late)
    callers = lab.start(guarded, lab.crowd)
    await lab.settled([*probe, *callers], service)
    let_through = service.inside - 1
    probing.open()
    await lab.finished([*probe, *callers])
    check(let_through == 0, f"{let_through} of {lab.crowd} let through beside the probe")


@case("G", "a probe that never returns: another after a period, and one only", "breaker")
async def hung_probe(lab: Lab) -> None:
    service, guarded = await _due(lab)
    gate = lab.gate()
    service.answers(Step(gate=gate))
    callers = lab.start(guarded)
    await lab.settled(callers, service)
    for _ in range(3):
        await lab.pass_s(lab.period_s)
        before = service.inside
        callers += lab.start(guarded, lab.crowd)
        await lab.settled(callers, service)
        probes = service.inside - before
        if probes:
            break
    if probes == 0 and not any(lab.refused(caller.outcome) for caller in callers if caller.outcome is not None):
        check(False, "everybody waits behind the probe that never returns")
    check(probes > 0, "refused for three periods")
    check(probes == 1, f"{probes} of {lab.crowd} let through beside the hung probe")


@case("G2", "what the hung probe brings back in the end moves nothing", "breaker")
async def hung_probe_returns(lab: Lab) -> None:
    service, guarded = await _due(lab)
    first_gate, second_gate = lab.gate(), lab.gate()
    service.answers(Step(gate=first_gate), Step(gate=second_gate, error=Down()), OK)
    first = lab.start(guarded)
    await lab.settled(first, service)
    await lab.pass_s(lab.period_s)
    second = lab.start(guarded)
    await lab.settled([*first, *second], service)
    check(service.inside == 2, "no second probe")
    first_gate.open()
    await lab.finished(first)
    check(lab.refused(await lab.call(guarded)), "closed by the probe whose lease was over")
    second_gate.open()
    await lab.finished(second)
    check(lab.refused(await lab.call(guarded)), "not open after the second probe failed")


@case("H", "five cancelled calls are no failures", "breaker")
async def cancelled_calls(lab: Lab) -> None:
    service, gate = lab.service(), lab.gate()
    guarded = lab.guard(failures=_FAILURES)(service.target)
    if lab.face == "asyncio":
        service.answers(Step(gate=gate))
        callers = lab.start(guarded, 5)
        await lab.settled(callers, service)
        for caller in callers:
            assert caller.task is not None
            caller.task.cancel()
        await lab.finished(callers)
    else:
        service.answers(Step(error=KeyboardInterrupt))
        await lab.at_once(guarded, 5 if lab.face == "sync" else lab.crowd)
    service.answers(OK)
    check((await lab.call(guarded)).result == "ok", "opened")


@case("2", "a failure of before moves nothing: not the probe's period, not the closed state after it", "breaker")
async def late_failures(lab: Lab) -> None:
    service, gate, second_gate, probing = lab.service(), lab.gate(), lab.gate(), lab.gate()
    guarded = lab.guard(failures=_FAILURES)(service.target)
    service.answers(Step(gate=gate, error=Down()))
    late = lab.start(guarded, lab.crowd)
    await lab.settled(late, service)
    _all_inside(lab, service)
    service.answers(Step(gate=second_gate, error=Down()))
    later = lab.start(guarded, lab.crowd)
    await lab.settled([*late, *later], service)
    await _opened(lab, service, guarded)
    await lab.pass_s(lab.period_s)
    service.answers(Step(gate=probing))
    probe = lab.start(guarded)
    await lab.settled([*late, *later, *probe], service)
    gate.open()
    await lab.finished(late)
    probing.open()
    await lab.finished(probe)
    service.answers(OK)
    check((await lab.call(guarded)).result == "ok", "a late failure opened it anew while the probe was out")
    second_gate.open()
    await lab.finished(later)
    check((await lab.call(guarded)).result == "ok", "late failures opened it after it had closed")


@case("10a", "opens at exactly half of the calls, and not below", "rate", faces=("sync", "asyncio"))
async def boundary(lab: Lab) -> None:
    service = lab.service()
    guarded = lab.guard(failure_rate=0.5, min_calls=4)(service.target)
    service.answers(OK, OK, OK, DOWN, DOWN, DOWN, OK)
    for number in range(6):
        outcome = await lab.call(guarded)
        check(not lab.refused(outcome), f"open after {number} calls")
    check(lab.refused(await lab.call(guarded)), "closed although 3 of 6 failed")


@case("10b", "what is older than the window no longer counts", "rate", faces=("sync", "asyncio"))
async def stale(lab: Lab) -> None:
    service = lab.service()
    guarded = lab.guard(failure_rate=0.5, min_calls=4, window_s=0.2)(service.target)
    service.answers(DOWN)
    for _ in range(3):
        await lab.call(guarded)
    await lab.pass_s(0.5)
    await lab.call(guarded)
    service.answers(OK)
    check((await lab.call(guarded)).result == "ok", "opened by failures of before the window")


@case("11", "each failed probe makes the next open time longer", "growing", faces=("sync", "asyncio"))
async def growing(lab: Lab) -> None:
    service, guarded = await _due(lab)
    await lab.call(guarded)
    await lab.pass_s(lab.period_s)
    service.answers(OK)
    check(lab.refused(await lab.call(guarded)), "probes again after the same time")
    await lab.pass_s(lab.period_s)
    check((await lab.call(guarded)).result == "ok", "still open after twice the time")


@case("12", "one breaker serves two event loops in two threads", "breaker", faces=("threads",))
async def two_loops(lab: Lab) -> None:
    aservice = Service("asyncio", lab.clock, (OK,))
    if "asyncio" not in lab.adapter.faces:
        raise NotOffered
    guarded = lab.adapter.guard(Wish(failures=_FAILURES), "asyncio")(aservice.target)

    def on_a_loop() -> str:
        async def calls() -> None:
            for _ in range(50):
                await guarded()

        asyncio.run(calls())
        return "ok"

    begun = time.monotonic()
    outcomes = await lab.at_once(on_a_loop, 2)
    wrong = [outcome.error for outcome in outcomes if outcome.result != "ok"]
    check(not wrong, f"{wrong[:1]}")
    check(time.monotonic() - begun < 5, "blocked")


@case("12b", "a process that forks while calls are under way: the child's calls pass", "breaker", faces=("threads",))
async def forked(lab: Lab) -> None:
    if not hasattr(os, "fork"):
        raise NotOffered
    gate, held = lab.gate(), threading.Event()

    def target() -> None:  # no lock of the lab's own: it would be held in the child too
        if not held.is_set():
            held.set()
            gate.threads.wait(20)
        raise Down

    guarded = lab.guard(failures=10**6)(target)
    lab.start(guarded)
    held.wait(5)
    ended = threading.Event()

    def call() -> None:
        with suppress(Down):
            guarded()

    def hammer() -> None:
        while not ended.is_set():
            call()

    lab.start(hammer, 4)

    with _threads_taking_turns_often():
        fine = all(in_child(call) == 0 for _ in range(_FORKS))
    ended.set()
    check(fine, "the child is stuck in its first call")


@contextmanager
def _threads_taking_turns_often() -> Iterator[None]:
    """Let a fork meet other threads in the middle of what they do, also of what takes moments."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
