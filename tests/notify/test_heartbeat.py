"""The sign of life: once per interval over all workers, and only while work is carried out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.world import World, play
from prunella.core.errors import EgressFailed, SecretError
from prunella.core.redact import Secret
from prunella.egress import Egress, Reply
from prunella.notify.heartbeat import HEARTBEAT, Heartbeat

URL = "https://watcher.example/ping/Zx9secret"


@dataclass
class Watcher:
    """The world outside under virtual time: a watcher that answers as it is told, 200 unless told otherwise."""

    answers: list[int | Exception] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def request(self, method: str, url: str, **how: Any) -> Reply:
        """Take a call."""
        self.calls.append(f"{method} {url}")
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer, {}, b"", 0.0)


def heart(world: World, caller: Watcher | Egress, url: str | Exception | None = URL) -> Heartbeat:
    """Return a heart that beats every minute."""

    async def opened() -> Secret:
        if isinstance(url, Exception):
            raise url
        return Secret(url or "")

    watched: Callable[[], Awaitable[Secret]] | None = None if url is None else opened
    return Heartbeat(world.store, world.runner, caller, watched, 60.0, world.parts.listeners)


async def health(world: World) -> dict[str, object]:
    async with world.store.transaction() as tx:
        return (await tx.channels.all()).get(HEARTBEAT, {})


def test_heart_beats_once_a_minute_and_stops_when_work_is_overdue(sqlite_path: Path) -> None:
    """The watcher is called; while an incident is overdue it is not, and the health says why; then it is again."""
    watcher = Watcher()

    async def story(world: World) -> None:
        beat = heart(world, watcher)
        await beat.beat()
        assert world.due_in_s(handler=HEARTBEAT) == 60.0
        assert watcher.calls == [f"POST {URL}"]
        late = (await world.fail()).incident_id
        await world.later(121)
        await beat.beat()
        assert len(watcher.calls) == 1
        assert "1 incidents are overdue" in str((await health(world))["last_error"])
        await world.heal(late)
        await beat.beat()
        assert len(watcher.calls) == 2
        assert (await health(world))["failing_since"] is None

    play(sqlite_path, story)


def test_watcher_that_does_not_answer_is_known(sqlite_path: Path) -> None:
    """A refusal, a silence and a missing secret are in the channel's health, and stop no further beat."""
    watcher = Watcher([500, EgressFailed("no reply within 10 s", exc_type="TimeoutError")])

    async def story(world: World) -> None:
        told: list[tuple[str | Exception, str]] = [
            (URL, "heartbeat: the watcher answered 500"),
            (URL, "heartbeat: no reply within 10 s"),
            (SecretError("the secret watcher is not stored"), "the secret watcher is not stored"),
        ]
        for number, (url, words) in enumerate(told, start=1):
            await heart(world, watcher, url).beat()
            ill = await health(world)
            assert (ill["last_error"], ill["failures"]) == (words, number)
            assert world.due_in_s(handler=HEARTBEAT) == 60.0

    play(sqlite_path, story)


def test_nobody_watches_nothing_is_sent(sqlite_path: Path) -> None:
    """Without a watcher the handler does nothing and does not come back."""

    async def story(world: World) -> None:
        await heart(world, Egress(), None).beat()
        assert world.queued(HEARTBEAT) == []

    play(sqlite_path, story)
