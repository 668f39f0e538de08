"""The runner on PostgreSQL against bare Procrastinate, in one database: rates, start latency, two workers, an idle one.

Floor: Procrastinate as its documents show it, with our concurrency, polling and deletion.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from procrastinate import App, PsycopgConnector

from bench import places
from bench.consumer import TABLES, working
from bench.harness import Options, Report, Row, Spread, percentile
from bench.places import Places
from prunella.core.clock import SystemClock
from prunella.core.events import Listeners
from prunella.runner.procrastinate import ProcrastinateRunner, install
from prunella.store import migrations

_CALLS = 2000
_LATENCIES = 200
_SUBMITTERS = 8
_IDLE_S = 20.0
_TARGET, _TARGET_TWO, _TARGET_CPU, _TARGET_MB = 0.7, 1.6, 1.0, 130.0
_KINDS = ("bare", "prunella")


def run(options: Options) -> Report:
    """Measure everything in one database."""
    calls = options.amount(_CALLS)
    figures: dict[str, list[float]] = {}
    with places.places() as place:
        url = place.database("postgresql")
        migrations.upgrade(url)
        asyncio.run(_install(url))
        for _ in range(options.rounds):
            for kind in _KINDS:
                for what, figure in asyncio.run(_end_to_end(kind, url, calls)).items():
                    figures.setdefault(f"{kind} {what}", []).append(figure)
                for count in (1, 2):
                    figures.setdefault(f"{kind} drain {count}", []).append(_drained(kind, url, calls, count))
        cpu_percent, megabytes = _idle(place, url, _IDLE_S * min(options.scale, 1.0))
    rows = [
        _against("submitted and called", "calls/s", figures, "rate", f"ratio >= {_TARGET}", _TARGET),
        _against("a ready backlog, 1 worker process", "calls/s", figures, "drain 1", "", None),
        _against("a ready backlog, 2 worker processes", "calls/s", figures, "drain 2", "", None),
        *(_two(kind, figures) for kind in _KINDS),
        _against("begins after its submission, p50", "ms", figures, "p50_ms", "", None),
        _against("begins after its submission, p99", "ms", figures, "p99_ms", "", None),
        _idle_row("idle `prunella worker`, CPU of one core", "%", cpu_percent, _TARGET_CPU),
        _idle_row("idle `prunella worker`, resident", "MB", megabytes, _TARGET_MB),
    ]
    return Report("runner: no-op calls through the queue", rows, [f"{os.cpu_count()} cores, shared with PostgreSQL"])


async def _install(url: str) -> None:
    await install(url)
    async with App(connector=PsycopgConnector(conninfo=url)).open_async() as app:
        await app.schema_manager.apply_schema_async()


async def _end_to_end(kind: str, url: str, calls: int) -> dict[str, float]:
    """Submit from several sides while one worker calls; then one at a time, for the latency."""
    news, count = asyncio.Event(), 0

    def heard() -> None:
        nonlocal count
        count += 1
        news.set()

    async def until(expected: int) -> None:
        while count < expected:
            news.clear()
            await news.wait()

    async with working(kind, url, heard) as submit:
        for number in range(20):  # warm: connections, plans, the listening
            await submit(-1 - number)
            await until(number + 1)

        async def some(first: int) -> None:
            for number in range(first, calls, _SUBMITTERS):
                await submit(number)

        begun_s, before = time.perf_counter(), count
        await asyncio.gather(*(some(first) for first in range(_SUBMITTERS)))
        await until(before + calls)
        rate = calls / (time.perf_counter() - begun_s)
        taken_ms = []
        for number in range(max(min(calls, _LATENCIES), 2)):
            begun_s, before = time.perf_counter(), count
            await submit(calls + number)
            await until(before + 1)
            taken_ms.append((time.perf_counter() - begun_s) * 1000)
    return {"rate": rate, "p50_ms": percentile(taken_ms, 0.5), "p99_ms": percentile(taken_ms, 0.99)}


def _drained(kind: str, url: str, calls: int, count: int) -> float:
    """Return how many calls a second `count` worker processes make of a backlog."""
    asyncio.run(_backlog(kind, url, calls))
    with _processes(kind, url, count) as children:
        begun_s = time.perf_counter()
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            _expect(child, "done")
        return calls / (time.perf_counter() - begun_s)


async def _backlog(kind: str, url: str, calls: int) -> None:
    runner = ProcrastinateRunner(url, SystemClock(), Listeners())
    if kind == "prunella":
        await runner.submit_many((("call", str(number)), None) for number in range(calls))
    else:
        app = App(connector=PsycopgConnector(conninfo=url))
        numbers: list[dict[str, Any]] = [{"number": number} for number in range(calls)]
        async with app.open_async():
            await app.configure_task("call").batch_defer_async(*numbers)
    await runner.close()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"ANALYZE {TABLES[kind]}".encode())


@contextmanager
def _processes(kind: str, url: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "bench.consumer", kind, url]
    root = Path(__file__).parents[1]
    children = [
        subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for child in children:
            _expect(child, "up")
        yield children
    finally:
        for child in children:
            child.communicate("\n", timeout=30)


def _expect(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdout is not None
    if (said := child.stdout.readline().strip()) != line:
        raise RuntimeError(f"{child.args!r} said {said!r} instead of {line!r}")


def _idle(place: Places, url: str, seconds: float) -> tuple[float, float]:
    """Return what a real worker with nothing to do takes of one core, in percent, and its memory in MB."""
    path = place.directory / "idle.yaml"
    path.write_text("service: {database_url: '${BENCH_DATABASE_URL}', environment: development}\n")
    given = {**os.environ, "BENCH_DATABASE_URL": url, "PRUNELLA_SECRET_KEY": places.KEY}
    command = [sys.executable, "-m", "prunella", "-c", str(path), "worker"]
    with (place.directory / "idle.log").open("ab") as log:
        child = subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert child.stdout is not None
        if not any(line.startswith("worker ") for line in child.stdout):
            raise RuntimeError(f"the worker did not come up:\n{(place.directory / 'idle.log').read_text()[-2000:]}")
        time.sleep(2)
        before = _ticks(child.pid)
        time.sleep(seconds)
        cpu_percent = 100 * (_ticks(child.pid) - before) / os.sysconf("SC_CLK_TCK") / seconds
        status = Path(f"/proc/{child.pid}/status").read_text()
    finally:
        child.terminate()
        child.communicate(timeout=30)
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return cpu_percent, int(resident.split()[1]) / 1024


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _against(
    what: str, unit: str, figures: dict[str, list[float]], name: str, target: str, at_least: float | None
) -> Row:
    ours, floor = figures[f"prunella {name}"], figures[f"bare {name}"]
    ratio = Spread.of([mine / theirs for mine, theirs in zip(ours, floor, strict=True)])
    met = None if at_least is None else ratio.median >= at_least
    return Row(what=what, unit=unit, floor=Spread.of(floor), ours=Spread.of(ours), ratio=ratio, target=target, met=met)


def _two(kind: str, figures: dict[str, list[float]]) -> Row:
    """2 worker processes against 1, of the same kind."""
    one, two = figures[f"{kind} drain 1"], figures[f"{kind} drain 2"]
    ratio = Spread.of([both / single for both, single in zip(two, one, strict=True)])
    ours: dict[str, Any] = {}
    if kind == "prunella":
        ours = {"target": f"ratio >= {_TARGET_TWO} where cores allow", "met": ratio.median >= _TARGET_TWO}
    return Row(
        what=f"{kind}: 2 processes by 1", unit="calls/s", floor=Spread.of(one), ours=Spread.of(two), ratio=ratio, **ours
    )


def _idle_row(what: str, unit: str, figure: float, most: float) -> Row:
    return Row(what=what, unit=unit, ours=Spread.of([figure]), target=f"<= {most:g}", met=figure <= most)
