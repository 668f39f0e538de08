"""A storm: events pour in while workers and PostgreSQL, or one process on SQLite, die; then calm, and the ledger."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from chaos import audit
from chaos.book import Book
from chaos.crew import Crew, Zygote, zygote
from chaos.killer import Killer
from chaos.postgres import Postgres, postgres
from chaos.senders import Senders, scan
from chaos.stories import free_address
from chaos.world import World, environment
from prunella.store import migrations

_AHEAD = 20  # events that are out before the first kill
_SENT_WITHIN_S = 180.0
_BEHIND = 10  # kills for which events may lag
_SCAN_EVERY_S = 2.0
_TEMPLATE = "template.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """How bad it gets.

    Args:
        kills: of workers.
        postgres_kills: of the whole PostgreSQL tree, at moments among the others.
        workers: beside the one that takes events in, which is killed like the others.
        gap_s: mean time between kills.
        kill_s: no kill comes later than that; the ledger then says that some are missing.
        keyed, keyless: how many services honour idempotency keys, and how many do not.
        slow_s: how long a reply takes at most.
        only_in_mid_call: kill nobody but who is calling.
        calm_s: when the storm is over, everything is waited for as long as something moves within this time; and for
            what is put off because workers died over it, a quarter of an hour at most.
        plant: bugs to plant, to see that they are found.
    """

    seed: int = 1
    kills: int = 1000
    postgres_kills: int = 20
    events: int = 10_000
    workers: int = 3
    gap_s: float = 0.15
    kill_s: float = 3600.0
    keyed: int = 16
    keyless: int = 8
    slow_s: float = 0.08
    only_in_mid_call: bool = False
    calm_s: float = 60.0
    plant: Sequence[str] = ()


def chosen(options: argparse.Namespace) -> tuple[str, Book]:
    """Play the storm that the command line asks for, on each kind of database."""
    book = Book()
    storm = Storm(
        seed=options.seed,
        kills=options.kills,
        postgres_kills=options.pg_kills,
        events=options.events,
        workers=options.workers,
        kill_s=options.minutes * 60,
    )
    with places() as (folder, server, forks):
        book.add(play(on_sqlite(storm), folder, None, forks), "SQLite: ")
        book.add(play(storm, folder, server, forks), "PostgreSQL: ")
    return f"storm, seed {storm.seed}", book


def on_sqlite(storm: Storm) -> Storm:
    """Return the storm as it can come over one process and one file: each kill leaves nobody, until the next is up."""
    return replace(storm, workers=0, postgres_kills=0, gap_s=storm.gap_s * 4)


@contextmanager
def places() -> Iterator[tuple[Path, Postgres, Zygote]]:
    """Lend a folder with a migrated SQLite file, a server, and a process that forks."""
    with (
        tempfile.TemporaryDirectory(prefix="prunella-chaos-") as folder,
        postgres() as server,
        zygote(Path(folder) / "zygote.log") as forks,
    ):
        migrations.upgrade(f"sqlite:///{folder}/{_TEMPLATE}")  # here, because Alembic is not for several threads
        yield Path(folder), server, forks


def play(storm: Storm, folder: Path, server: Postgres | None, forks: Zygote) -> Book:
    """Play a storm, on SQLite where there is no server, and return its ledger."""
    began_s = time.monotonic()
    here = Path(tempfile.mkdtemp(prefix="storm-", dir=folder))
    database_url = migrated_file(folder, here) if server is None else server.migrated()
    address = free_address()
    with World(storm.seed, storm.keyed, storm.keyless) as world:
        world.play(2 * storm.events // len(world.services) + 5, storm.slow_s)
        config = here / "prunella.yaml"
        config.write_text(world.configuration())
        environ = environment(database_url, f"{address[0]}:{address[1]}")
        crew = Crew(forks, config, here / "workers.log", environ, storm.plant)
        manners = (0, 1, 0) if storm.only_in_mid_call else (5, 5, 1)
        killer = Killer(
            *(storm.seed, crew, world, server, storm.kills, storm.postgres_kills, storm.gap_s, manners),
            may_kill=lambda number: len(senders.accepted) >= (number - _BEHIND) * storm.events // max(storm.kills, 1),
            within_s=storm.kill_s,
        )
        senders = Senders(address, world.services, storm.events, storm.seed, lambda: _may_send(storm, killer))
        try:
            senders.start()
            _weather(storm, crew, killer, senders, address, database_url)
        finally:
            senders.stop()
            crew.close()
        book = _book(storm, crew, killer, senders)
        audit.enter(book, database_url, world, senders.accepted, crew.deaths, killer.outages)
    book.count("seconds", time.monotonic() - began_s)
    return book


def migrated_file(folder: Path, here: Path) -> str:
    """Put a SQLite file with prunella's tables and no rows there, out of a folder that `places` lent."""
    shutil.copy(folder / _TEMPLATE, here / "prunella.db")
    return f"sqlite:///{here / 'prunella.db'}"


def _weather(
    storm: Storm, crew: Crew, killer: Killer, senders: Senders, address: tuple[str, int], database_url: str
) -> None:
    """Start everybody, kill, and let it become calm."""
    crew.start("up", "up")
    for number in range(storm.workers):
        crew.start(f"w{number}", "worker")
    over = threading.Event()
    supervisor = threading.Thread(target=_supervise, args=(crew, over), daemon=True)
    supervisor.start()
    try:
        killer.run()
        if killer.done < storm.kills:
            senders.enough()
        senders.join(_SENT_WITHIN_S)
        _calm(storm, address, database_url)
    finally:
        over.set()
        supervisor.join()


def _calm(storm: Storm, address: tuple[str, int], database_url: str) -> None:
    """Wait until everything is settled, or nothing has moved for a while and nothing waits to be called again."""
    before, moved_s = -1, time.monotonic()
    while time.monotonic() < moved_s + storm.calm_s and (undecided := audit.left(database_url)):
        if len(undecided) != before or audit.is_put_off(database_url):
            before, moved_s = len(undecided), time.monotonic()
        scan(address)
        time.sleep(_SCAN_EVERY_S)


def _may_send(storm: Storm, killer: Killer) -> int:
    """Keep events coming for as long as there are kills."""
    return storm.events if killer.done >= storm.kills else _AHEAD + killer.done * storm.events // storm.kills


def _supervise(crew: Crew, over: threading.Event) -> None:
    while not over.wait(0.1):
        crew.look()


def _book(storm: Storm, crew: Crew, killer: Killer, senders: Senders) -> Book:
    book = Book()
    book.count("kills of workers", killer.done, must_be=storm.kills)
    for manner, number in sorted(killer.how.items()):
        book.count(f"  {manner}", number)
    book.count("kills of PostgreSQL", len(killer.outages), must_be=min(storm.postgres_kills, storm.kills))
    book.count("events sent again", senders.repeats)
    book.count("events never accepted", senders.events - len(senders.accepted), must_be=0)
    book.blame("events refused", senders.refused)
    alone = [
        one.name
        for one in crew.ended
        if not any(one.started_epoch_s < outage.until_epoch_s for outage in killer.outages)
    ]
    book.count("ended by themselves while PostgreSQL was away", len(crew.ended) - len(alone))
    book.blame("ended by themselves although PostgreSQL was there", alone)
    return book
