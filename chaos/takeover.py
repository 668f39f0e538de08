"""How long until another worker goes on when the one that calls is killed; and that a slow one is left alone."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Self

from chaos.book import Book
from chaos.crew import Crew, Zygote
from chaos.postgres import Postgres
from chaos.senders import Senders
from chaos.stories import free_address
from chaos.storm import places
from chaos.world import World, environment
from prunella.runner.contract import STALE_S
from prunella.testing import delayed
from prunella.testing.words import ok

_WITHIN_S = 10.0
_SEEN_WITHIN_S = 30.0
_SLOW_S = STALE_S + 3.0


def chosen(options: argparse.Namespace) -> tuple[str, Book]:
    """Measure as often as the command line asks for."""
    book = Book()
    with places() as (folder, server, forks):
        measured = [_take_over(folder, server, forks, number) for number in range(options.take_overs)]
        times_s = [one for one in measured if one is not None]
        book.count("kills in mid-call", len(measured))
        book.count("gone on", len(times_s), must_be=len(measured))
        book.count("p50, seconds", statistics.median(times_s or [0.0]))
        book.count("longest, seconds", max(times_s, default=0.0))
        book.blame(f"longer than {_WITHIN_S:g} s", [round(one, 1) for one in times_s if one > _WITHIN_S])
        calls = calls_of_a_slow_one(folder, server, forks)
        book.count(f"calls of a live worker whose call lasts {_SLOW_S:g} s", calls, must_be=1)
    return "take-over, at default settings", book


def _take_over(folder: Path, server: Postgres, forks: Zygote, number: int) -> float | None:
    """Kill a worker in the middle of a call; return how long it took until another one made the call."""
    with _Scene(folder, server, forks, seed=number, slow_s=2.5) as scene:
        first = scene.world.calls.get(timeout=_SEEN_WITHIN_S)
        scene.crew.end(first.worker.partition(".")[0])
        began_s = time.monotonic()
        try:
            second = scene.world.calls.get(timeout=_SEEN_WITHIN_S)
        except Exception:
            return None
        assert second.worker != first.worker
        return time.monotonic() - began_s


def calls_of_a_slow_one(folder: Path, server: Postgres, forks: Zygote, plant: tuple[str, ...] = ()) -> int:
    """Let a call last longer than a worker may be silent; return how often it is made."""
    with _Scene(folder, server, forks, seed=1, slow_s=_SLOW_S, plant=plant) as scene:
        scene.world.calls.get(timeout=_SEEN_WITHIN_S)
        time.sleep(_SLOW_S + 1.0)
        return 1 + scene.world.calls.qsize()


class _Scene:
    """Two workers and one event for a service that is slow the first time."""

    def __init__(
        self, folder: Path, server: Postgres, forks: Zygote, *, seed: int, slow_s: float, plant: tuple[str, ...] = ()
    ) -> None:
        here = Path(tempfile.mkdtemp(prefix="takeover-", dir=folder))
        self.world = World(seed, keyed=1, keyless=0)
        self._here, self._seed, self._slow_s = here, seed, slow_s
        self._address = free_address()
        environ = environment(server.migrated(), f"{self._address[0]}:{self._address[1]}")
        self.crew = Crew(forks, here / "prunella.yaml", here / "workers.log", environ, plant)

    def __enter__(self) -> Self:
        self.world.__enter__()
        self.world.honest.script("/keyed0", [delayed(self._slow_s, ok), ok])
        config = self.world.configuration().replace("timeout: 2s", "timeout: 10s")
        (self._here / "prunella.yaml").write_text(config)
        for seat, kind in (("up", "up"), ("w0", "worker"), ("w1", "worker")):
            self.crew.start(seat, kind)
        self._senders = Senders(self._address, self.world.services, 1, self._seed, lambda: 1, threads=1)
        self._senders.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._senders.stop()
        self.crew.close()
        self.world.__exit__()
