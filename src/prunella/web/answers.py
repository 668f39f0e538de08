"""Answers that are kept for a day under the key that a request carried, sealed, so that a repeated one gets them again.

Keys belong to a caller: nobody is answered what somebody else asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from prunella.core.clock import Clock
from prunella.core.retention import ANSWERS_S
from prunella.store.contract import Store
from prunella.store.secrets import Keys
from prunella.web.auth import Caller

_STRAY_AFTER = timedelta(seconds=60)
"""No request lasts as long: who began it has died."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a key was used for.

    Args:
        request: fingerprint of the request.
        body: what was answered; None: it is still being answered.
    """

    request: str
    status: int
    body: bytes | None


class Answers:
    """Keep answers."""

    def __init__(self, store: Store, keys: Keys, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock

    async def begin(self, caller: Caller, key: str, request: str) -> Standing | None:
        """Take a key for a request; return what it was used for already, None where it is free."""
        now, who = self._clock.now(), _who(caller)
        async with self._store.transaction() as tx:
            if await tx.answers.begin(
                who, key, request, now, stray=now - _STRAY_AFTER, over=now - timedelta(seconds=ANSWERS_S)
            ):
                return None
            row = await tx.answers.get(who, key)
        if row is None:  # given back in between
            return Standing(request, 0, None)
        body = None if row["body"] is None else self._keys.open(row["body"], _row(who, key))
        return Standing(row["request"], row["status"] or 0, body)

    async def end(self, caller: Caller, key: str, status: int, body: bytes) -> None:
        """Keep an answer; a key that is made stands in it, so it is sealed."""
        who = _who(caller)
        sealed = self._keys.seal(body, _row(who, key))
        async with self._store.transaction() as tx:
            await tx.answers.end(who, key, status, sealed, self._clock.now())

    async def drop(self, caller: Caller, key: str) -> None:
        """Give a key back: what was refused may be sent again."""
        async with self._store.transaction() as tx:
            await tx.answers.drop(_who(caller), key)


def _who(caller: Caller) -> str:
    return f"{caller.role} {caller.name}"


def _row(who: str, key: str) -> str:
    return f"answers:{who}:{key}"
