"""Guard generators up to their first item: what has brought something can't be begun again unnoticed.

Retry, breaker and the rest watch over opening the stream and its first item. What fails later reaches the caller as
it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from functools import wraps
from types import TracebackType
from typing import Any

Function = Callable[..., Any]
_END = object()


def guard_generator(target: Function, guard: Callable[[Function], Function]) -> Function:
    """Return a twin of a generator function; `guard` guards the opening."""

    @wraps(target)
    def opening(*args: Any, **kwargs: Any) -> Opened:
        stream = target(*args, **kwargs)
        try:
            return Opened(stream, next(stream))
        except StopIteration as end:
            return Opened(stream, _END, end.value)

    guarded_opening = guard(opening)

    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from guarded_opening(*args, **kwargs))

    return guarded


def guard_async_generator(target: Function, guard: Callable[[Function], Function]) -> Function:
    """Return a twin of an asynchronous generator function; `guard` guards the opening."""

    @wraps(target)
    async def opening(*args: Any, **kwargs: Any) -> tuple[AsyncGenerator[Any, Any], Any]:
        stream = target(*args, **kwargs)
        return stream, await anext(stream, _END)

    guarded_opening = guard(opening)

    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        stream, item = await guarded_opening(*args, **kwargs)
        if item is _END:
            return
        try:
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:
                    item = await stream.athrow(error)
                else:
                    item = await stream.asend(sent)
        except StopAsyncIteration:
            return
        finally:
            await stream.aclose()

    return guarded


class Opened(Generator[Any, Any, Any]):
    """A generator whose first item is known already."""

    def __init__(self, stream: Generator[Any, Any, Any], first: Any, returned: Any = None) -> None:
        self._stream = stream
        self._first = first
        self._returned = returned
        self._begun = False

    def send(self, value: Any) -> Any:
        if self._begun:
            return self._stream.send(value)
        self._begun = True
        if self._first is _END:
            raise StopIteration(self._returned)
        first, self._first = self._first, None
        return first

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None) -> Any:
        return self._stream.throw(typ if val is None else val)

    def close(self) -> None:
        self._stream.close()
