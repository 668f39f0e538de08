"""Answers that are kept for a day under the key that a request carried, sealed, so that a repeated one gets them again.

Keys belong to a caller: nobody is answered what somebody else asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from prunella.core.clock import Clock
from prunella.core.retention import ANSWERS_S
from prunella.store.contract import Store
from prunella.store.secrets import Keys
from prunella.web.auth import Caller

_STRAY_AFTER = timedelta(minutes=10)
"""Nobody waits for an answer as long (an act over many operations takes the longest): who began it has died."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to answer a request under its key."""

    caller: str
    key: str
    begun_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """What a key was used for.

    Args:
        request: fingerprint of the request.
        etag: of the answer; empty: it had none.
        body: what was answered; None: it is still being answered.
    """

    request: str
    status: int
    etag: str
    body: bytes | None


class Answers:
    """Keep answers."""

    def __init__(self, store: Store, keys: Keys, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock

    async def begin(self, caller: Caller, key: str, request: str) -> Turn | Standing:
        """Take a key for a request, or return what it was used for already."""
        turn = Turn(caller.identity, key, now := self._clock.now())
        over = now - timedelta(seconds=ANSWERS_S)
        async with self._store.transaction() as tx:
            if await tx.answers.begin(turn.caller, key, request, now, stray=now - _STRAY_AFTER, over=over):
                return turn
            row = await tx.answers.get(turn.caller, key)
        if row is None:  # given back in between
            return Standing(request, 0, "", None)
        if row["body"] is None:
            return Standing(row["request"], 0, "", None)
        etag, _, body = self._keys.open(row["body"], _row(turn)).partition(b"\n")
        return Standing(row["request"], row["status"], etag.decode(), body)

    async def end(self, turn: Turn, status: int, etag: str, body: bytes) -> None:
        """Keep an answer; a key that is made stands in it, so it is sealed."""
        sealed = self._keys.seal(f"{etag}\n".encode() + body, _row(turn))
        async with self._store.transaction() as tx:
            await tx.answers.end(turn.caller, turn.key, turn.begun_at, status, sealed, self._clock.now())

    async def drop(self, turn: Turn) -> None:
        """Give a key back: what was refused may be sent again."""
        async with self._store.transaction() as tx:
            await tx.answers.drop(turn.caller, turn.key, turn.begun_at)


def _row(turn: Turn) -> str:
    return f"answers:{turn.caller}:{turn.key}"
