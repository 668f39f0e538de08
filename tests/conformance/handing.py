"""Cases of handing over: what can't be settled now is written down before the caller hears of it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from datetime import timedelta
from functools import partial

from conformance.contract import Down, Refused, Wish
from conformance.judge import NotOffered, case, check
from conformance.lab import Lab, in_child
from conformance.service import DOWN, OK, Step


@case("15a", "exhausted: written once per key, before the caller is told when it is due", "durable")
async def exhausted(lab: Lab) -> None:
    service = lab.service(DOWN)
    with lab.adapter.durable(Wish(attempts=2), lab.face) as desk:
        guarded = desk.guard(service.target)
        begun = lab.clock.wall()

        async def scene(number: int) -> None:
            for _ in range(2):
                outcome = await lab.call(guarded, f"key-{number}")
                due_at = getattr(outcome.error, "due_at", None)
                check(due_at is not None, f"the caller gets {outcome.error!r}")
                assert due_at is not None
                check(due_at > begun, f"due at {due_at}")

        await lab.each_alone(scene)
        expected = lab.crowd if lab.face == "threads" else 1
        check(desk.waiting() == expected, f"{desk.waiting()} written for {expected} keys")


@case("15b", "a call that is killed as soon as the caller was told is there exactly once", "durable", faces=("sync",))
async def killed(lab: Lab) -> None:
    if not hasattr(os, "fork"):
        raise NotOffered
    service = lab.service(DOWN)
    with lab.adapter.durable(Wish(attempts=2), lab.face) as desk:
        guarded = desk.guard(service.target)

        def call_and_die(key: str) -> None:
            with suppress(Exception):
                guarded(key)
            os.kill(os.getpid(), signal.SIGKILL)

        for number in range(5):
            ended = in_child(partial(call_and_die, f"key-{number}"))
            check(ended == signal.SIGKILL, f"the child ended with {ended}")
            check(desk.waiting() == number + 1, f"{desk.waiting()} written after {number + 1} calls")


@case("15c", "where nothing can be written the caller gets the service's own error", "durable")
async def store_down(lab: Lab) -> None:
    service = lab.service(DOWN)
    with lab.adapter.durable(Wish(attempts=2), lab.face) as desk:
        guarded = desk.guard(service.target)
        desk.breaks()
        outcome = await lab.call(guarded, "key-1")
        check(isinstance(outcome.error, Down), f"{outcome.error!r}")


@case(
    "15d", "written down it is made later, with its key; what succeeded is not made again", "durable", faces=("sync",)
)
async def made_later(lab: Lab) -> None:
    service = lab.service(DOWN)
    with lab.adapter.durable(Wish(attempts=2), lab.face) as desk:
        await lab.call(desk.guard(service.target), "key-1")
        service.answers(OK)
        desk.comes_due()
        check(desk.waiting() == 0, "still waiting")
        check(service.handed_in == [("key-1",)] * 3, f"{service.handed_in}")
        desk.comes_due()
        check(service.calls == 3, f"made again: {service.calls} calls")


@case("9b", "a far Retry-After and an open breaker are handed over until then", "durable", "breaker")
async def due_then(lab: Lab) -> None:
    service = lab.service(Step(error=Refused(429, {"Retry-After": "3600"})))
    with lab.adapter.durable(Wish(attempts=2, failures=1, open_s=600.0), lab.face) as desk:
        guarded = desk.guard(service.target)
        for step, asked_s in ((None, 3600.0), (DOWN, 600.0), (OK, 600.0)):
            if step is not None:
                service.answers(step)
            begun = lab.clock.wall()
            outcome = await lab.call(guarded, f"key-{step}")
            due_at = getattr(outcome.error, "due_at", begun)
            in_s = (due_at - begun) / timedelta(seconds=1)
            check(asked_s - 2 <= in_s <= asked_s * 1.2, f"due in {in_s:.0f} s instead of {asked_s:.0f}")
        check(service.calls == 2, f"{service.calls} calls")
