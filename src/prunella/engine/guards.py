"""What guards in applications noticed becomes Signals: a breaker that opened a failure, a proven one a success."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from prunella.core.records import Failure, Signal
from prunella.engine.intake import Intake
from prunella.engine.parts import Parts
from prunella.guard.board import Notice, SqlBoard

HANDLER = "guards"
_LOOK_EVERY = timedelta(seconds=1)
_AT_ONCE = 100


async def take_notices(parts: Parts, intake: Intake, board: SqlBoard) -> None:
    """Accept what was noticed, forget it only then, and look again in a second."""
    try:
        notices = await asyncio.to_thread(board.notices, _AT_ONCE)
        for notice in notices:
            await intake.accept(_signal(parts, notice))
        if notices:
            await asyncio.to_thread(board.taken, notices)
    finally:
        await parts.runner.submit(HANDLER, at=parts.clock.now() + _LOOK_EVERY)


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
