"""The live stream: who listens hears everything once, in time, and costs nothing when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta

import pytest
from fastapi import Request

from prunella.engine import entrances, trail
from prunella.web.auth import Caller, Role
from prunella.web.pages import live as module
from prunella.web.pages.live import Batch, Live, _stays, _told
from web.conftest import Web

pytestmark = pytest.mark.anyio
POLL_S = 0.01


async def note(web: Web, *reasons: str, incident: str | None = None) -> None:
    async with web.app.store.transaction() as tx:
        for reason in reasons:
            await trail.note(web.app.parts, tx, "test.noted", "crm", reason=reason, incident=incident)


async def heard(stream: AsyncIterator[Batch], count: int) -> list[str]:
    """Return the reasons of the next entries."""
    reasons: list[str] = []
    async with asyncio.timeout(5):
        while len(reasons) < count:
            reasons += [entry.reason for entry in await anext(stream)]
    return reasons


async def test_every_listener_hears_what_is_new_once(web: Web) -> None:
    """Two listeners, one poller; entries come in order, none twice, and the poller ends with the last listener."""
    live = Live(web.app, POLL_S)
    await note(web, "before")
    async with aclosing(live.listen(None)) as one, aclosing(live.listen(None)) as two:
        first, second = (asyncio.create_task(heard(stream, 3)) for stream in (one, two))
        await asyncio.sleep(5 * POLL_S)
        await note(web, "a", "b")
        await asyncio.sleep(15 * POLL_S)
        await note(web, "c")
        assert await first == await second == ["a", "b", "c"]
    assert live.listening == 0
    assert live._poller is None


async def test_flood_is_heard_to_its_end(web: Web) -> None:
    """More at once than one look reads: all of it is told, and what comes after it."""
    live = Live(web.app, POLL_S)
    many = [f"n{number}" for number in range(1100)]
    async with aclosing(live.listen(None)) as stream:
        told = asyncio.create_task(heard(stream, len(many) + 1))
        await asyncio.sleep(5 * POLL_S)
        await note(web, *many)
        await asyncio.sleep(10 * POLL_S)
        await note(web, "after")
        assert await told == [*many, "after"]


async def test_late_commit_is_heard(web: Web) -> None:
    """An entry whose id is older than one that was told already is told all the same."""
    live = Live(web.app, POLL_S)
    late = trail.entry(web.app.parts, "test.noted", "crm", reason="late")
    async with aclosing(live.listen(None)) as stream:
        told = asyncio.create_task(heard(stream, 2))
        await asyncio.sleep(5 * POLL_S)
        await note(web, "early")
        await asyncio.sleep(3 * POLL_S)
        async with web.app.store.transaction() as tx:
            await tx.audit.add([late])
        assert await told == ["early", "late"]


async def test_listener_goes_on_where_it_stopped(web: Web) -> None:
    """Last-Event-ID: what happened meanwhile comes first."""
    await note(web, "seen", "missed", "missed, too")
    async with web.app.store.transaction() as tx:
        seen = (await tx.glance.audit_latest(3))[-1]
    async with aclosing(Live(web.app, POLL_S).listen(seen.id)) as stream:
        assert await heard(stream, 2) == ["missed", "missed, too"]
        await asyncio.sleep(5 * POLL_S)
        await note(web, "new")
        assert await heard(stream, 1) == ["new"]


async def test_listener_that_does_not_keep_up_is_let_go(web: Web) -> None:
    """The queue is bounded: who reads nothing is dropped, and does not hold the others up."""
    live = Live(web.app, POLL_S)
    async with aclosing(live.listen(None)) as slow:
        pending = asyncio.create_task(heard(slow, 1))
        await asyncio.sleep(5 * POLL_S)
        await note(web, "first")
        assert await pending == ["first"]
        for number in range(25):
            await note(web, f"n{number}")
            await asyncio.sleep(2 * POLL_S)
        assert live.listening == 0
        with pytest.raises(StopAsyncIteration):
            await heard(slow, 100)


async def test_stream_ends_with_the_process(web: Web) -> None:
    """Told to stop, the process lets everybody go, so that its goodbye does not wait for browsers."""
    live = Live(web.app, POLL_S)

    async def listen() -> None:
        async with aclosing(live.listen(None)) as stream:
            async for _ in stream:
                pass

    ended = asyncio.create_task(listen())
    await asyncio.sleep(5 * POLL_S)
    web.app.life.stopping.set()
    async with asyncio.timeout(2):
        await ended


async def test_stream_ends_with_the_session(web: Web) -> None:
    """Who signed out, or whose session has ended, hears nothing more."""
    live = Live(web.app, POLL_S)
    caller = Caller("ada", Role.ADMIN, until=web.clock.now() + timedelta(seconds=60))

    async def stays() -> AsyncIterator[bool]:
        while True:
            yield caller.until is not None and web.clock.now() < caller.until

    async def listen() -> list[str]:
        spell = ", ".join
        return [
            part async for part in _told(live.listen(None), lambda batch: spell(one.reason for one in batch), stays)
        ]

    ended = asyncio.create_task(listen())
    await asyncio.sleep(5 * POLL_S)
    await note(web, "while signed in")
    await asyncio.sleep(5 * POLL_S)
    web.clock.advance(61)
    await note(web, "afterwards")
    async with asyncio.timeout(5):
        told = await ended
    assert "while signed in" in told
    assert "afterwards" not in "".join(told)


async def test_streams_of_one_and_of_all_are_bounded(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens page upon page is refused one more; others still listen; what ends makes room."""
    monkeypatch.setattr(module, "OF_ONE_MAX", 2)
    monkeypatch.setattr(module, "LISTENERS_MAX", 3)
    live = Live(web.app, POLL_S)
    streams = [live.listen("~", who) for who in ("ada", "ada", "bob")]
    for stream, full in zip(streams, (False, True, True), strict=True):
        assert list(await anext(stream)) == []
        assert live.is_full("ada") is full
    assert live.is_full("bob")
    await streams[0].aclose()
    assert (live.is_full("ada"), live.is_full("bob")) == (False, False)
    for stream in streams[1:]:
        await stream.aclose()


async def test_one_page_too_many_is_told_so(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 with a time to come again; nothing is streamed."""
    monkeypatch.setattr(module, "OF_ONE_MAX", 0)
    answer = await web.ask("GET", "/live", web.token(Role.VIEWER))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")


async def test_stream_asks_anew_whether_who_listens_may(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that somebody ended, from wherever, is heard of by the streams that it opened."""
    monkeypatch.setattr(module, "_ASK_AGAIN_S", 0.0)
    await web.client.post("/login", data={"token": web.token(Role.VIEWER)})
    cookie = web.client.cookies["prunella_session"]
    headers = [(b"cookie", f"prunella_session={cookie}".encode())]
    asked = Request({"type": "http", "app": web.api, "path": "/live", "query_string": b"", "headers": headers})
    stays = _stays(web.app, asked, Caller("cli", Role.VIEWER))()
    assert await anext(stays)
    await entrances.end_session(web.app.parts, cookie, by="ada")
    assert not await anext(stays)
