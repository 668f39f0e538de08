"""The database goes away under running workers and comes back: they go on by themselves, and no call is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from chaos.postgres import Postgres, postgres

from prunella.core.clock import SystemClock
from prunella.core.errors import StoreUnavailable
from prunella.core.events import Listeners
from prunella.runner.contract import STALE_S, Runner
from prunella.runner.procrastinate import ProcrastinateRunner
from runner.ground import Calls, queue_of, running, workers

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
_BACK_S = 10.0


@pytest.fixture
def server() -> Iterator[Postgres]:
    """Lend a server of the test's own."""
    with postgres() as started:
        yield started


async def test_workers_go_on_after_the_database_was_away(server: Postgres) -> None:
    """Away for longer than after which a worker counts as dead: new calls begin within 10 s of its return, and one that
    was under way ends as if nothing had been; away for good, stopping still ends.
    """
    url = await asyncio.to_thread(server.migrated)
    runners = [ProcrastinateRunner(url, SystemClock(), Listeners()) for _ in range(2)]
    calls, go = Calls(), asyncio.Event()
    for number, runner in enumerate(runners):
        runner.handle("hold", calls.handler("hold", str(number), lambda *_: go.wait()))
        runner.handle("quick", calls.handler("quick", str(number), None))
    async with running(*runners), _released(go):
        for name in ("a", "b", "c", "d"):
            await runners[0].submit("hold", name)
        await calls.until(lambda: len(calls.begun) == 4)
        await asyncio.to_thread(server.stop)
        with pytest.raises(StoreUnavailable, match="PostgreSQL does not answer"):
            await runners[0].submit("quick", "refused")
        await asyncio.sleep(STALE_S + 1)  # an outage is as long as it is
        assert "the queue was not heard of for 5 s" in str(runners[0].trouble())
        await asyncio.to_thread(server.start)
        back = monotonic()
        await _accepted(runners[1], "quick", "first")
        await calls.until(lambda: ("quick", "first") in calls.begun)
        assert monotonic() - back < _BACK_S
        await asyncio.sleep(max(back + STALE_S + 2.5 - monotonic(), 0))  # until the dead are looked for again
        assert [runner.trouble() for runner in runners] == [None, None]
        go.set()
        await calls.times(5)
        await _empty(runners[0])
        assert sorted(calls.ids) == ["a", "b", "c", "d", "first"]
        await asyncio.to_thread(server.stop)
        async with asyncio.timeout(_BACK_S):
            await asyncio.gather(*(runner.stop() for runner in runners))


async def test_workers_go_on_after_all_connections_were_cut(migrated_postgres_url: str) -> None:
    """Every connection ended by the server, the listening one too: a call under way ends once, new ones are heard of."""
    async with workers(migrated_postgres_url, 1) as (_, (runner,)):
        calls, go = Calls(), asyncio.Event()
        runner.handle("hold", calls.handler("hold", "", lambda *_: go.wait()))
        runner.handle("quick", calls.handler("quick", "", None))
        with queue_of(migrated_postgres_url) as ask:
            async with running(runner), _released(go):
                await runner.submit("hold", "a")
                await calls.until(lambda: len(calls.begun) == 1)
                await _listening(ask)
                cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                ask(cut + "WHERE datname = current_database() AND pid <> pg_backend_pid()")
                cut_at = monotonic()
                go.set()
                await _accepted(runner, "quick", "first")
                await calls.times(2)
                assert monotonic() - cut_at < _BACK_S
                await _listening(ask)
                await _empty(runner)
        assert calls.ids == ["a", "first"]


@asynccontextmanager
async def _released(go: asyncio.Event) -> AsyncIterator[None]:
    """Let what waits end however the test does."""
    try:
        yield
    finally:
        go.set()


async def _accepted(runner: Runner, *key: str) -> None:
    """Submit until the database takes it."""
    while True:
        try:
            await runner.submit(*key)
        except StoreUnavailable:
            await asyncio.sleep(0.05)
        else:
            return


async def _empty(runner: Runner) -> None:
    async with asyncio.timeout(10):
        while await runner.queued():  # noqa: ASYNC110  rows go a moment after their handlers have ended
            await asyncio.sleep(0.02)


async def _listening(ask: Callable[..., list[tuple[Any, ...]]]) -> None:
    async with asyncio.timeout(_BACK_S):
        listeners = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND starts_with(query, 'LISTEN')"
        )
        while not ask(listeners):  # noqa: ASYNC110  another process tells nothing
            await asyncio.sleep(0.02)
