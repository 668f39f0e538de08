"""What guards in applications noticed becomes Signals: a breaker that opened a failure, a proven one a success."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from prunella.core.errors import StoreError
from prunella.core.records import Failure, Signal
from prunella.engine.intake import Intake
from prunella.engine.parts import Parts
from prunella.guard.board import Notice
from prunella.guard.place import DatabasePlace

HANDLER = "guards"
_LOOK_EVERY = timedelta(seconds=2)  # a look is a call through the queue: half of what an idle worker does
_AT_ONCE = 100
_log = logging.getLogger(__name__)


async def take_notices(parts: Parts, intake: Intake, place: DatabasePlace) -> None:
    """Accept what was noticed, forget it only then, and look again soon."""
    settled: list[Notice] = []
    try:
        for notice in await asyncio.to_thread(_look, place):
            await _settle(parts, intake, notice)
            settled.append(notice)
    finally:
        await parts.runner.submit(HANDLER, at=parts.clock.now() + _LOOK_EVERY)
        if settled:
            await asyncio.to_thread(place.board.taken, settled)


def _look(place: DatabasePlace) -> list[Notice]:
    place.tidy()
    return place.board.notices(_AT_ONCE)


async def _settle(parts: Parts, intake: Intake, notice: Notice) -> None:
    """Accept a notice; one that can't be accepted is set aside in the log, where it holds up no other."""
    try:
        await intake.accept(_signal(parts, notice))
    except StoreError:
        raise  # it says nothing about the notice: the rest would fare no better
    except Exception:
        _log.exception("guards: the notice %s (%s of %r) was set aside", notice.id, notice.code, notice.service)


def _signal(parts: Parts, notice: Notice) -> Signal:
    now = parts.clock.now()
    failure = Failure(service=notice.service, source="guard", code=notice.code, message=notice.message)
    return Signal(
        id=parts.ids.new(),
        source="guard",
        event_id=notice.id,
        service=notice.service,
        outcome="success" if notice.recovered else "failure",
        occurred_at=now,
        received_at=now,
        failure=None if notice.recovered else failure,
    )
