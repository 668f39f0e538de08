"""What is guarded in the cases: a service that answers by a script, held at gates, counted."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from conformance.contract import Clock, Down, Face, Function

_sleep, _asleep = time.sleep, asyncio.sleep  # whatever a clock puts in their place


class Gate:
    """Holds calls until it is opened; one kind for threads and one for tasks."""

    def __init__(self, face: Face) -> None:
        self.asynchronous = asyncio.Event() if face == "asyncio" else None
        self.threads = threading.Event()

    def open(self) -> None:
        """Let everybody through."""
        self.threads.set()
        if self.asynchronous is not None:
            self.asynchronous.set()


@dataclass(frozen=True)
class Step:
    """What the service does with one call."""

    result: Any = "ok"
    error: BaseException | type[BaseException] | None = None
    takes_s: float = 0.0
    gate: Gate | None = None


OK = Step()
DOWN = Step(error=Down)


class Service:
    """What is guarded: answers by a script, the last step for ever, and counts."""

    def __init__(self, face: Face, clock: Clock, script: Sequence[Step]) -> None:
        self.face = face
        self.clock = clock
        self.script = list(script)
        self.inside = 0
        self.handed_in: list[Any] = []
        self._numbers = itertools.count()
        self._counted = 0
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        """Return how many calls reached the service."""
        return self._counted

    def answers(self, *script: Step) -> None:
        """Begin a new script; the count of calls goes on."""
        self.script, self._numbers = list(script), itertools.count()

    @property
    def target(self) -> Function:
        """The function to guard."""
        if self.face == "asyncio":

            async def call(*args: Any) -> Any:
                with self._entered(args) as step:
                    if step.takes_s:
                        await _asleep(step.takes_s)
                    if step.gate is not None and step.gate.asynchronous is not None:
                        await step.gate.asynchronous.wait()
                    return _ending(step)

            return call

        def call_now(*args: Any) -> Any:
            with self._entered(args) as step:
                if step.takes_s:
                    self._spend(step.takes_s)
                if step.gate is not None:
                    step.gate.threads.wait(20)
                return _ending(step)

        return call_now

    @property
    def stream(self) -> Function:
        """The function to guard, as a generator of two items."""
        if self.face == "asyncio":

            async def items(*args: Any) -> Any:
                with self._entered(args) as step:
                    yield _ending(step)
                    yield "end"

            return items

        def items_now(*args: Any) -> Any:
            with self._entered(args) as step:
                yield _ending(step)
                yield "end"

        return items_now

    @property
    def object(self) -> Any:
        """The function to guard, as an object that can be called."""
        target = self.target
        if self.face == "asyncio":

            class Caller:
                async def __call__(self, *args: Any) -> Any:
                    return await target(*args)

            return Caller()

        class CallerNow:
            def __call__(self, *args: Any) -> Any:
                return target(*args)

        return CallerNow()

    def _spend(self, seconds: float) -> None:
        if self.face == "threads":
            _sleep(seconds)
        else:
            self.clock.pass_s(seconds)

    @contextmanager
    def _entered(self, args: tuple[Any, ...]) -> Iterator[Step]:
        with self._lock:
            self._counted += 1
            self.inside += 1
            self.handed_in.append(args)
            step = self.script[min(next(self._numbers), len(self.script) - 1)]
        try:
            yield step
        finally:
            with self._lock:
                self.inside -= 1


def _ending(step: Step) -> Any:
    if step.error is not None:
        raise step.error
    return step.result
