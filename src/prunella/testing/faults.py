"""Let a policy's calls meet a script instead of the world: `with faults(crm, [503, throttled(7), "ok"]): ...`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prunella.core.clock import HOST
from prunella.guard.policy import Policy
from prunella.testing.words import Word


class Fault(Exception):
    """Stand for the error that a client would raise for an HTTP status."""

    def __init__(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self.status_code = status
        self.headers = dict(headers or {})
        super().__init__(f"HTTP {status} (scripted)")


@contextmanager
def faults(policy: Policy, script: Iterable[object]) -> Iterator[deque[object]]:
    """Give each attempt under `policy` the next word of a script; after its end the real function is called.

    Yields what is left of the script: empty when everything was used.

    Args:
        script: a status from 400 to 599 is raised as a `Fault`, so is a word such as `throttled(7)`; an exception is
            raised as it is; anything else is returned as the result.
    """
    left = deque(script)

    def stand_in(function: Callable[..., Any]) -> Callable[..., Any]:
        if not left:
            return function
        word = left.popleft()
        return lambda *_, **__: _say(word)

    with policy.standing_in(stand_in):
        yield left


def _say(word: object) -> object:
    if isinstance(word, BaseException) or (isinstance(word, type) and issubclass(word, BaseException)):
        raise word
    if isinstance(word, Word):
        if word.reply is None:
            return word.name
        headers = dict(word.reply.headers)
        if word.hint is not None:
            headers |= word.hint.headers(HOST.now().timestamp())
        if word.reply.status >= 400:
            raise Fault(word.reply.status, headers)
        return word.reply.body
    if type(word) is int and 400 <= word <= 599:
        raise Fault(word)
    return word
