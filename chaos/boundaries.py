"""One death per boundary: the process ends before or after each commit and each call, and a second one goes on."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from chaos.book import Book
from chaos.crew import Crew, Zygote
from chaos.failpoints import DIED
from chaos.postgres import Postgres
from chaos.stories import STORIES, Shop, Stage, Story, free_address, with_schema
from chaos.storm import migrated_file, places
from chaos.world import order_of
from prunella.testing import FaultyServer
from prunella.testing.ledger import Request
from prunella.testing.words import Reply, Word

_TURN_S = 0.1
_WRONG_TURNS = 30
_OCCURRENCES_MAX = 2
_AT_ONCE = 6
_NOT_OURS = ("engine.workers.",)
"""Boundaries that are passed every second, in no order that a run could repeat."""

_LEFT = (
    """SELECT o.id FROM operations o JOIN incidents i ON i.id = o.incident_id
    WHERE o.state = 'running' OR (o.state = 'waiting' AND i.state <> 'escalated')""",
    "SELECT id FROM incidents WHERE state NOT IN ('resolved', 'escalated') OR lease_until IS NOT NULL",
    "SELECT id FROM runs WHERE state IN ('planned', 'running')",
    "SELECT id FROM notifications WHERE channel = 'ops' AND state <> 'sent'",
)


@dataclass(frozen=True, slots=True)
class Played:
    """How a story went."""

    story: str
    died_at: str
    died: bool
    points: Sequence[str]
    wrongs: Sequence[str]
    calls: Sequence[str] = ()
    lost: str = ""


class Losing(FaultyServer):
    """Lose one reply: what was asked for is done, and the connection is reset.

    Args:
        lose: which call's, as `POST /token#1`; empty: none.
    """

    def __init__(self, lose: str, *, honour_keys: bool) -> None:
        super().__init__(honour_keys=honour_keys, identity=order_of)
        self.calls: list[str] = []
        self._lose = lose

    def answer(self, request: Request) -> tuple[Word, Reply]:
        """Decide, do the deed, and perhaps say nothing."""
        word, reply = super().answer(request)
        with self.ledger.changed:
            name = f"{request.method} {request.path}"
            self.calls.append(f"{name}#{1 + sum(one.startswith(f'{name}#') for one in self.calls)}")
            lost = self.calls[-1] == self._lose
        return replace(word, delivery="reset") if lost else word, reply


@dataclass(frozen=True, slots=True)
class Ground:
    """Where stories are played: databases of one kind, and a process that forks.

    Args:
        server: where databases are made; None: on SQLite.
        within_s: how long a story may take until everything is settled.
    """

    folder: Path
    forks: Zygote
    server: Postgres | None = None
    within_s: float = 45.0

    def play(self, story: Story, die_at: str = "", plant: Sequence[str] = (), lose: str = "") -> Played:
        """Play a story until everything is settled; a process dies at `die_at`, the next one goes on.

        Args:
            lose: the call whose reply is lost after what it asked for was done, as `POST /token#1`; empty: none.
        """
        here = Path(tempfile.mkdtemp(prefix="story-", dir=self.folder))
        store_url, shop_url = self._databases(here)
        store, shop = Shop(with_schema(store_url)), Shop(shop_url)
        with Losing(lose, honour_keys=story.honours) as server:
            stage = Stage(server, store, shop, server.webhook("/ops"), free_address())
            stage.notes |= {"lost": lose} if lose else {}
            server.script("/vendor/orders", story.words)
            shop.run(*story.tables)
            if story.prepare is not None:
                story.prepare(stage)
            config, trace = here / "prunella.yaml", here / "trace"
            config.write_text(story.configuration(stage))
            environ = {**story.environ(stage, store_url), **_texts(stage.notes)}
            crew = Crew(self.forks, config, here / "up.log", environ, plant)
            try:
                crew.start("up", "up", trace=str(trace), die_at=die_at)
                wrongs = self._until_settled(story, stage, crew, die_at)
            finally:
                crew.close()
            died = [one.status == DIED for one in crew.ended]
            wrongs += [f"a process ended by itself; see its log:\n{_tail(here)}"] * (died.count(False) > 0)
            wrongs += story.judge(stage, die_at) + _told(stage, die_at or lose)
            store.close()
            shop.close()
            calls = list(server.calls)
        return Played(story.name, die_at, any(died), trace.read_text().splitlines(), wrongs, calls, lose)

    def _databases(self, here: Path) -> tuple[str, str]:
        if self.server is not None:
            return self.server.migrated(), self.server.database()
        return migrated_file(self.folder, here), f"sqlite:///{here / 'shop.db'}"

    def _until_settled(self, story: Story, stage: Stage, crew: Crew, die_at: str) -> list[str]:
        """Tell the story again and again until it has nothing left to do; one that stays wrong is not waited for."""
        end_s, wrong_turns = time.monotonic() + self.within_s, 0
        while time.monotonic() < end_s and wrong_turns < _WRONG_TURNS:
            story.act(stage)
            crew.look()
            if "up" in crew.alive and _is_settled(stage):
                if not story.judge(stage, die_at):
                    return []
                wrong_turns += stage.accepted and bool(crew.ended)
            else:
                wrong_turns = 0
            time.sleep(_TURN_S)
        found = [(query, rows) for query in _LEFT if (rows := stage.store.rows(query))]
        return [f"not settled within {self.within_s:g} s: {found}"] if found else []


def chosen(options: argparse.Namespace) -> tuple[str, Book]:
    """Die at every boundary of every story, on both kinds of database."""
    book = Book()
    with places() as (folder, server, forks):
        for kind, ground in (("SQLite", Ground(folder, forks)), ("PostgreSQL", Ground(folder, forks, server))):
            began_s = time.monotonic()
            played = die_everywhere(ground, STORIES.values(), options.every)
            enter(book, kind, played)
            book.count(f"{kind}: seconds", time.monotonic() - began_s)
    return "boundaries: one death at each", book


def die_everywhere(ground: Ground, stories: Iterable[Story], every: int) -> list[Played]:
    """Play each story once without a death, and once for each boundary (or each n-th) that it passed."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        calm = list(threads.map(ground.play, stories))
        deaths = [(STORIES[one.story], point) for one in calm for point in points_of(one)[::every]]
        return calm + list(threads.map(lambda death: ground.play(*death), deaths))


def points_of(played: Played) -> list[str]:
    """Return the boundaries at which to die: the first times that each was reached."""
    return [
        point
        for point in dict.fromkeys(played.points)
        if not point.startswith(_NOT_OURS) and int(point.rpartition("#")[2]) <= _OCCURRENCES_MAX
    ]


def enter(book: Book, kind: str, played: Sequence[Played]) -> None:
    """Enter how the stories went."""
    deaths = [one for one in played if one.died_at]
    book.count(f"{kind}: boundaries", len(deaths))
    book.count(f"{kind}: deaths", sum(one.died for one in deaths))
    book.count(f"{kind}: stories that went wrong", sum(bool(one.wrongs) for one in played), must_be=0)
    for one in played:
        book.blame(f"{kind}, {one.story}, died at {one.died_at or 'no boundary'}", one.wrongs)


def _told(stage: Stage, died_at: str) -> list[str]:
    """Every message arrived; one that came twice carries the same id, and only where a death cut its settling."""
    wanted = [row[0] for row in stage.store.rows("SELECT id FROM notifications WHERE channel = 'ops'")]
    got = [request.headers["webhook-id"] for request in stage.messages.received]
    missing = sorted(set(wanted) - set(got))
    twice = sorted({one for one in got if got.count(one) > 1})
    wrongs = [f"messages that nobody got: {missing}"] if missing else []
    return wrongs + ([f"messages that came twice: {twice}"] if twice and not died_at else [])


def _is_settled(stage: Stage) -> bool:
    return not any(stage.store.rows(query) for query in _LEFT)


def _texts(notes: dict[str, object]) -> dict[str, str]:
    return {name: value for name, value in notes.items() if isinstance(value, str)}


def _tail(here: Path) -> str:
    return (here / "up.log").read_text()[-1500:]
