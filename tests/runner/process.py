"""A worker of its own process that tells what it does: `python -m runner.process URL CONCURRENCY`.

`hold:NAME` waits until a line NAME is read from standard input; `quick:NAME` ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from prunella.core.clock import SystemClock
from prunella.core.events import Listeners
from prunella.runner.procrastinate import ProcrastinateRunner


async def work(url: str, concurrency: int) -> None:
    """Run one worker until a SIGTERM."""
    loop, released = asyncio.get_running_loop(), set[str]()
    changed = asyncio.Event()
    runner = ProcrastinateRunner(url, SystemClock(), Listeners(), concurrency=concurrency)

    def read() -> None:
        if line := sys.stdin.readline().strip():
            released.add(line)
            changed.set()

    async def hold(name: str) -> None:
        print(f"begin {name}", flush=True)
        while name not in released:
            changed.clear()
            await changed.wait()
        print(f"end {name}", flush=True)

    async def quick(name: str) -> None:
        print(f"begin {name}\nend {name}", flush=True)

    runner.handle("hold", hold)
    runner.handle("quick", quick)
    loop.add_reader(sys.stdin.fileno(), read)
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    running = asyncio.create_task(runner.run())
    print("up", flush=True)
    await stopping.wait()
    await runner.stop()
    await running
    await runner.close()


@dataclass
class Process:
    """A worker process as its parent sees it: each line it prints, with the moment it came."""

    child: subprocess.Popen[str]
    heard: list[tuple[float, str]] = field(default_factory=list)
    _news: queue.Queue[None] = field(default_factory=queue.Queue)

    @classmethod
    def start(cls, url: str, concurrency: int = 1) -> Process:
        """Start a worker and wait until it is up."""
        child = subprocess.Popen(
            [sys.executable, "-m", "runner.process", url, str(concurrency)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        process = cls(child)
        threading.Thread(target=process._read, daemon=True).start()
        return process

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.heard.append((time.monotonic(), line.rstrip()))
            self._news.put(None)

    def until(self, holds: Callable[[list[str]], bool], within_s: float = 20.0) -> float:
        """Wait until what it has printed fits; return when its last line came."""
        end = time.monotonic() + within_s
        while not holds(self.lines):
            try:
                self._news.get(timeout=max(end - time.monotonic(), 0.001))
            except queue.Empty:
                raise AssertionError(f"it did not say so: {self.lines}") from None
        return self.heard[-1][0]

    def says(self, line: str, within_s: float = 20.0) -> float:
        """Wait until it has printed `line`; return when."""
        self.until(lambda lines: line in lines, within_s)
        return next(at for at, said in self.heard if said == line)

    @property
    def lines(self) -> list[str]:
        return [line for _, line in self.heard]

    def release(self, name: str) -> None:
        """Let `hold:NAME` end."""
        assert self.child.stdin is not None
        self.child.stdin.write(f"{name}\n")
        self.child.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.child.send_signal(number)

    def end(self) -> None:
        """Leave nothing behind."""
        self.child.kill()
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))
