"""What people ask for in SQL (document D: auto_heal_order) is taken, carried out as any wish is, and answered."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from prunella.core import redact
from prunella.core.errors import PrunellaError
from prunella.engine import entities
from prunella.engine.parts import Parts

HANDLER = "requests"
_LOOK_EVERY = timedelta(seconds=5)
_log = logging.getLogger(__name__)


class Wish(Protocol):
    """One thing that somebody wants healed."""

    @property
    def id(self) -> str: ...
    @property
    def entity(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def issue(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def requested_by(self) -> str: ...


class Desk(Protocol):
    """Where wishes lie in one database."""

    async def take(self) -> Sequence[Wish]:
        """Take the wishes that nobody has taken, oldest first."""
        ...

    async def answer(self, wish_id: str, words: str) -> None:
        """Write what came of one."""
        ...


async def take_wishes(parts: Parts, desks: Sequence[Desk]) -> None:
    """Carry out what lies on each desk, and look again in 5 s; a database that is away holds up no other."""
    try:
        for desk in desks:
            try:
                for wish in await desk.take():
                    await desk.answer(wish.id, await _carried_out(parts, wish))
            except PrunellaError as error:
                _log.warning("requests: %s", error)
    finally:
        await parts.runner.submit(HANDLER, at=parts.clock.now() + _LOOK_EVERY)


async def _carried_out(parts: Parts, wish: Wish) -> str:
    """Heal as wished and say what came of it; what can't be done is the answer, too."""
    ready = entities.ready_of(parts, wish.entity)
    if ready is None:
        return f"FAILED: there is no entity {wish.entity!r}"
    by = f"{wish.requested_by} (SQL)"
    try:
        healing = await entities.heal(
            parts, ready, wish.key, issue=wish.issue, action=wish.action, by=by, run_id=wish.id
        )
    except PrunellaError as error:
        return f"FAILED: {redact.scrub(str(error))}"
    return f"{healing.status}: {healing.message}" if healing is not None else f"FAILED: there is no {wish.key!r}"
