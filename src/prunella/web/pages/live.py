"""GET /live: what happens, pushed as it happens (server-sent events, WHATWG HTML section 9.2).

One poller per process reads the audit, and only while somebody listens, so every process sees what any of them did.
A listener that does not keep up is let go and comes back with the last id it has seen.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response, StreamingResponse

from prunella.app import App
from prunella.core.errors import StoreError
from prunella.core.records import AuditEntry
from prunella.web.access import Reads
from prunella.web.auth import Caller, Gatehouse
from prunella.web.pages.frame import Frame
from prunella.web.pages.overview import may_see
from prunella.web.problems import Problem

POLL_S = 0.5
_BEAT_S = 15.0
_ASK_AGAIN_S = 5.0
"""How long a stream may outlive its session."""
_BATCH_MAX = 500
_LOOK_BACK = 20
_QUEUE_MAX = 20
_LATE_POLLS = 10
"""An entry's id is older than its commit: entries of the last polls are looked for again, so that none is missed."""

LISTENERS_MAX = 500
"""Streams of one process; a page without one works, and is only not told."""
OF_ONE_MAX = 30
"""Streams of one person: a page that is not seen gives its own up, so these are windows side by side."""

Batch = Sequence[AuditEntry]


class Live:
    """Hand new entries of the audit to those who listen."""

    def __init__(self, app: App, poll_s: float = POLL_S) -> None:
        self._app = app
        self._poll_s = poll_s
        self._listeners: dict[asyncio.Queue[Batch | None], str] = {}
        self._poller: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    @property
    def listening(self) -> int:
        """Count those who listen."""
        return len(self._listeners)

    def is_full(self, who: str) -> bool:
        """Tell whether one more stream, of this person, would be too many."""
        own = sum(name == who for name in self._listeners.values())
        return own >= OF_ONE_MAX or self.listening >= LISTENERS_MAX

    async def listen(self, after: str | None, who: str = "") -> AsyncGenerator[Batch, None]:
        """Yield what is new since `after` (None: from now on) batch by batch; an empty batch is a heartbeat.

        What came between `after` and the first look comes once, although the poller finds it, too.
        """
        queue: asyncio.Queue[Batch | None] = asyncio.Queue(_QUEUE_MAX)
        self._listeners[queue] = who
        told: set[str] = set()
        try:
            await self._begin()
            if after is not None:
                missed = await self._since(after)
                told = {entry.id for entry in missed}
                yield missed
            while (batch := await self._next(queue)) is not None:
                yield [one for one in batch if one.id not in told and (after is None or one.id > after)]
        finally:
            self._listeners.pop(queue, None)
            if not self._listeners and self._poller is not None:
                self._poller.cancel()
                self._poller = None

    async def _next(self, queue: asyncio.Queue[Batch | None]) -> Batch | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_BEAT_S, _ASK_AGAIN_S)):
                return await queue.get()
        return ()

    async def _begin(self) -> None:
        """Let the poller look from here on; what is there already is seen."""
        async with self._turn:
            if self._poller is not None:
                return
            async with self._app.store.transaction() as tx:
                latest = await tx.glance.audit_latest(_LOOK_BACK)
            floor = latest[-1].id if len(latest) == _LOOK_BACK else ""
            self._poller = asyncio.create_task(self._poll(floor, {entry.id for entry in latest}), name="live")

    async def _poll(self, floor: str, seen: set[str]) -> None:
        """Look until this process is told to stop, or the last listener has gone and cancels it."""
        stopping = asyncio.ensure_future(self._app.life.stopping.wait())
        floors = [floor] * (_LATE_POLLS - 1) + [max(seen, default="")]
        try:
            while not (await asyncio.wait([stopping], timeout=self._poll_s))[0]:
                with suppress(StoreError):  # it comes back, and nothing is lost meanwhile
                    found = await self._since(floors[0])
                    fresh = [entry for entry in found if entry.id not in seen]
                    newest = max([floors[-1], *(entry.id for entry in fresh)])
                    floors = [*floors[1:], newest] if len(found) < _BATCH_MAX else [newest] * _LATE_POLLS
                    seen = {one for one in seen if one > floors[0]} | {entry.id for entry in fresh}
                    if fresh:
                        self._hand(fresh)
        finally:
            stopping.cancel()
            if self._poller is asyncio.current_task():
                self._poller = None
                for queue in list(self._listeners):
                    self._let_go(queue)

    async def _since(self, after: str) -> Batch:
        async with self._app.store.transaction() as tx:
            return await tx.glance.audit_after(after, _BATCH_MAX)

    def _hand(self, batch: Batch) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(batch)
            except asyncio.QueueFull:
                self._let_go(queue)

    def _let_go(self, queue: asyncio.Queue[Batch | None]) -> None:
        self._listeners.pop(queue, None)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the stream."""
    live = Live(app)

    @routes.get("/live")
    async def stream(
        caller: Reads,
        request: Request,
        feed: bool = False,
        incident: str | None = None,
        after: str | None = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        def spell(batch: Batch) -> str:
            """Spell what is for this listener."""
            own = [one for one in batch if may_see(caller, one) and incident in (None, one.incident_id)]
            return _messages(frame, request, own, feed=feed)

        if live.is_full(caller.name):
            words = f"at most {OF_ONE_MAX} pages of one person are told what happens, and {LISTENERS_MAX} of all"
            raise Problem(429, "Too many pages listen", words, headers={"retry-after": "30"})
        async with app.store.transaction() as tx:  # a database that is away is told now, not in mid-stream
            await tx.glance.audit_latest(1)
        stays = _stays(app, request, caller)
        headers = {"x-accel-buffering": "no"}
        told = _told(live.listen(last_event_id or after, caller.name), spell, stays)
        return StreamingResponse(told, media_type="text/event-stream", headers=headers)


async def _told(
    listening: AsyncGenerator[Batch, None], spell: Callable[[Batch], str], stays: Callable[[], AsyncIterator[bool]]
) -> AsyncIterator[str]:
    """Write the stream; it ends with the process, or with the session of who listens."""
    yield "retry: 1000\n: prunella\n\n"
    still = stays()
    async with aclosing(listening) as heard:
        async for batch in heard:
            if not await anext(still):
                return
            yield spell(batch) if batch else ": beat\n\n"


def _stays(app: App, request: Request, caller: Caller) -> Callable[[], AsyncIterator[bool]]:
    """Return what tells whether who listens may still come in; it asks at most every few seconds."""
    gatehouse: Gatehouse = request.app.state.gatehouse
    clock = app.parts.clock

    async def stays() -> AsyncIterator[bool]:
        asked_at, known = clock.monotonic(), True
        while True:
            if clock.monotonic() - asked_at >= _ASK_AGAIN_S:
                with suppress(StoreError):
                    known = await gatehouse.who(request) is not None
                asked_at = clock.monotonic()
            yield known and (caller.until is None or clock.now() < caller.until)

    return stays


def _messages(frame: Frame, request: Request, entries: Batch, *, feed: bool) -> str:
    """Spell entries as events: a fragment to put on top of the feed, and the news that something moved."""
    if not entries:
        return ": beat\n\n"
    told = ""
    last = max(entry.id for entry in entries)
    if feed:
        html = frame.fragment(request, "feed_lines.html", entries=list(reversed(entries)))
        told = "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
    moved = json.dumps(sorted({entry.incident_id for entry in entries if entry.incident_id}))
    return f"{told}id: {last}\nevent: moved\ndata: {moved}\n\n"
