"""Guard a block of code: once, or again and again until it succeeds.

A block can't be called, so it has no fallback and no hand-over, and its limits in time are seen by `remaining_s()`
only. Everything else holds as for a function.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

from prunella.guard.call import GAVE_UP, Call, Carried, Invoke, Step, Story
from prunella.guard.core import UNSET, Core, Unwanted
from prunella.guard.deadline import AMBIENT
from prunella.guard.drive import aperform, perform
from prunella.guard.flow import attempt, story


def _block() -> None:
    """Stand for the block in what is told about it."""


class Turn:
    """One attempt at a block; set `result` where validation or `on_result` shall see it."""

    def __init__(self, steps: Story, call: Call) -> None:
        self.result: Any = UNSET
        self._outside = math.inf
        self._steps = steps
        self._call = call
        self._step: Step | None = None
        self._entered = False
        self.done = False

    @property
    def number(self) -> int:
        """Which attempt this is, from 1."""
        return self._call.attempt

    def __enter__(self) -> Self:
        self._entered, self.result = True, UNSET
        self._outside = AMBIENT.get()
        if isinstance(self._step, Invoke):
            AMBIENT.set(self._step.ends_at)
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        AMBIENT.set(self._outside)
        try:
            self.advance(error)
        except BaseException as raised:
            if raised is error or (isinstance(raised, Carried) and raised.error is error):
                return False
            raise
        return error is not None

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> bool:
        return self.__exit__(kind, error, tb)

    def waits(self) -> Step | None:
        """Return the step to carry out before the block may run; None where it may run, or is done."""
        return None if self.done or self._is_block() else self._step

    def advance(self, error: BaseException | None = None, outcome: Any = None) -> None:
        """Go on to the next step, given how this one ended; a block ends with its `result`."""
        try:
            self._step = self._next(error, outcome)
        except Unwanted:
            self.done = True
            return
        except StopIteration as end:
            self.done = True
            if end.value is not GAVE_UP:
                return
        else:
            return
        error, self._call.error, self._call.before = self._call.error, None, None
        assert error is not None
        raise error

    def _next(self, error: BaseException | None, outcome: Any) -> Step:
        if error is not None:
            return self._steps.throw(Carried(error) if isinstance(error, StopIteration) else error)
        return self._steps.send(self.result if self._is_block() else outcome)

    def _is_block(self) -> bool:
        return isinstance(self._step, Invoke) and not self._step.between

    def must_be_entered(self) -> None:
        """Refuse a loop whose block stands beside `with attempt:`; it would never end."""
        if not self._entered:
            raise RuntimeError("attempts: the loop's block must be inside `with attempt:`")
        self._entered = False

    def close(self) -> None:
        """Give back what the attempt holds."""
        self._steps.close()


class Block:
    """`with policy.attempt() as a:` or `async with`: one attempt."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._turn: Turn | None = None

    def __enter__(self) -> Turn:
        turn = self._begin()
        while (step := turn.waits()) is not None:
            turn.advance(*_carried_out(step))
        return turn.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._turn is not None
        self._turn.__exit__(kind, error, tb)

    async def __aenter__(self) -> Turn:
        turn = self._begin()
        while (step := turn.waits()) is not None:
            turn.advance(*await _acarried_out(step))
        return turn.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._turn is not None
        self._turn.__exit__(kind, error, tb)

    def _begin(self) -> Turn:
        if self._turn is not None:
            raise RuntimeError("attempt: it guards one block once; call policy.attempt() for each")
        call = Call(_block, block=True)
        call.deadline_at = min(AMBIENT.get(), call.begun_at + self._core.deadline_s)
        self._turn = Turn(attempt(self._core, call), call)
        self._turn.advance()
        return self._turn


class Attempts:
    """`for attempt in policy.attempts():` or `async for`; each loop has attempts of its own."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __iter__(self) -> Iterator[Turn]:
        turn = self._begin()
        try:
            while not turn.done:
                if (step := turn.waits()) is not None:
                    turn.advance(*_carried_out(step))
                else:
                    yield turn
                    turn.must_be_entered()
        finally:
            turn.close()

    async def __aiter__(self) -> AsyncIterator[Turn]:
        turn = self._begin()
        try:
            while not turn.done:
                if (step := turn.waits()) is not None:
                    turn.advance(*await _acarried_out(step))
                else:
                    yield turn
                    turn.must_be_entered()
        finally:
            turn.close()

    def _begin(self) -> Turn:
        call = Call(_block, block=True)
        turn = Turn(story(self._core, call), call)
        turn.advance()
        return turn


def _carried_out(step: Step) -> tuple[BaseException | None, Any]:
    try:
        return None, perform(step)
    except BaseException as error:
        return error, None


async def _acarried_out(step: Step) -> tuple[BaseException | None, Any]:
    try:
        return None, await aperform(step)
    except BaseException as error:
        return error, None
