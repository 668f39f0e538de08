"""The workers of a run: started by a zygote, killed by us, started again as a supervisor would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_START_AGAIN_S = 0.3


@dataclass(slots=True)
class Worker:
    """One process.

    Args:
        seat: the place that it fills; whoever follows it has the same.
        name: its own, never used again.
        status: how it ended, where it ended by itself.
    """

    seat: str
    name: str
    kind: str
    pid: int
    started_epoch_s: float
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """Who died when, by the clock that the tables are kept by: what ends its runs from then on is somebody else."""

    worker: Worker
    at_epoch_s: float


class Zygote:
    """The process that forks; one order at a time."""

    def __init__(self, errors: Path) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        with errors.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "chaos.zygote"],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._lock = threading.Lock()

    def order(self, **what: Any) -> dict[str, Any]:
        """Give an order and return what it said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it; it takes its children along."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@contextmanager
def zygote(errors: Path) -> Iterator[Zygote]:
    """Keep a zygote until the block ends."""
    one = Zygote(errors)
    try:
        yield one
    finally:
        one.close()


@dataclass
class Crew:
    """Keep every seat taken.

    Args:
        environ: what every worker finds in its environment; CHAOS_WORKER is added.
        plant: bugs to plant in every worker.
    """

    zygote: Zygote
    config: Path
    log: Path
    environ: Mapping[str, str]
    plant: Sequence[str] = ()
    alive: dict[str, Worker] = field(default_factory=dict)
    deaths: list[Death] = field(default_factory=list)
    ended: list[Worker] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _again: dict[str, tuple[str, float]] = field(default_factory=dict)
    _count: int = 0

    def start(self, seat: str, kind: str, **extra: Any) -> Worker:
        """Start a worker on a seat."""
        with self._lock:
            self._count += 1
            name = f"{seat}.{self._count}"
            answer = self.zygote.order(
                start=name,
                kind=kind,
                config=str(self.config),
                log=str(self.log),
                environ={**self.environ, "CHAOS_WORKER": name},
                plant=list(self.plant),
                **extra,
            )
            worker = Worker(seat, name, kind, answer["pid"], time.time())
            self.alive[seat] = worker
            return worker

    def living(self) -> list[Worker]:
        """Return who sits somewhere now."""
        with self._lock:
            return list(self.alive.values())

    def kill(self, seat: str, name: str = "") -> Worker | None:
        """Kill who sits there, if it is still `name`, and start the next; return who died."""
        with self._lock:
            worker = self.alive.get(seat)
            if worker is None or (name and worker.name != name):
                return None
            self.end(seat)
            self.start(seat, worker.kind)
            return worker

    def end(self, seat: str) -> None:
        """Kill who sits there and leave the seat empty."""
        with self._lock:
            worker = self.alive.pop(seat)
            os.kill(worker.pid, signal.SIGKILL)
            self.zygote.order(reap=worker.pid)
            self.deaths.append(Death(worker, time.time()))

    def look(self) -> None:
        """Start anew whoever ended without being killed, as a supervisor does: after a moment, once."""
        with self._lock:
            for worker in list(self.alive.values()):
                answer = self.zygote.order(gone=worker.pid)
                if not answer["gone"]:
                    continue
                worker.status = answer["status"]
                self.ended.append(worker)
                self.deaths.append(Death(worker, time.time()))
                del self.alive[worker.seat]
                self._again[worker.seat] = (worker.kind, time.monotonic() + _START_AGAIN_S)
            for seat, (kind, due_s) in list(self._again.items()):
                if due_s <= time.monotonic():
                    del self._again[seat]
                    self.start(seat, kind)

    def close(self) -> None:
        """End everybody."""
        for seat in list(self.alive):
            self.end(seat)
