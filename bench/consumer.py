"""A worker on a queue with one no-op call: prunella's, or bare Procrastinate with our concurrency and polling.

As a process of its own, `python -m bench.consumer KIND URL`, it says "up", waits for a line, works until the queue
is empty, says "done" and waits for another line.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psycopg
from procrastinate import App, PsycopgConnector

from prunella.core.clock import SystemClock
from prunella.core.events import Listeners
from prunella.runner.procrastinate import ProcrastinateRunner

TABLES = {"bare": "public.procrastinate_jobs", "prunella": "prunella.procrastinate_jobs"}
_CONCURRENCY = 64
_POLL_S = 0.5

Submit = Callable[[int], Awaitable[object]]
Heard = Callable[[], None]


@asynccontextmanager
async def working(kind: str, url: str, heard: Heard) -> AsyncIterator[Submit]:
    """Run one worker in this process, and lend a way to submit to it."""
    async with (_ours if kind == "prunella" else _bare)(url, heard) as submit:
        yield submit


@asynccontextmanager
async def _ours(url: str, heard: Heard) -> AsyncIterator[Submit]:
    runner = ProcrastinateRunner(url, SystemClock(), Listeners(), concurrency=_CONCURRENCY)

    async def call(_: str) -> None:
        heard()

    runner.handle("call", call)
    work = asyncio.create_task(runner.run())
    try:
        yield lambda number: runner.submit("call", str(number))
    finally:
        await runner.stop()
        await work
        await runner.close()


@asynccontextmanager
async def _bare(url: str, heard: Heard) -> AsyncIterator[Submit]:
    app = App(connector=PsycopgConnector(conninfo=url))

    @app.task(name="call")
    async def call(number: int) -> None:
        heard()

    async with app.open_async():
        work = asyncio.create_task(
            app.run_worker_async(
                concurrency=_CONCURRENCY,
                fetch_job_polling_interval=_POLL_S,
                delete_jobs="always",
                install_signal_handlers=False,
            )
        )
        try:
            yield lambda number: call.defer_async(number=number)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def _work(kind: str, url: str) -> None:
    """Be one worker process, up to an empty queue."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        async with working(kind, url, lambda: None):
            left = f"SELECT FROM {TABLES[kind]} LIMIT 1".encode()
            while (await connection.execute(left)).rowcount:  # noqa: ASYNC110  another process may take the last one
                await asyncio.sleep(0.01)
            print("done", flush=True)
            await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], sys.argv[2]))
