"""The short form of `make chaos`: storms and deaths at boundaries pass, and planted bugs are named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from chaos.book import Book
from chaos.boundaries import Ground, Played
from chaos.breakers import Outages
from chaos.breakers import play as play_breakers
from chaos.crew import Zygote
from chaos.deliveries import Mail
from chaos.deliveries import play as play_mail
from chaos.infrastructure import Place as Infrastructure
from chaos.infrastructure import clock_jumps
from chaos.postgres import Postgres
from chaos.stories import STORIES
from chaos.storm import Storm, on_sqlite, places, play
from chaos.tokens import play as play_tokens

pytestmark = pytest.mark.slow

STORM = Storm(seed=20261122, kills=4, postgres_kills=1, events=40, workers=1, gap_s=0.3, calm_s=60)
FOUND = {
    "new key per try": "double effects with keys",
    "repeat keyless": "repeated although nobody knows what became of",
    "accept before commit": "lost",
    "hide the unknown": "of these shown as unknown",
}
"""Planted bug -> what the ledger says."""
PLANTED = replace(
    replace(STORM, seed=7, kills=7, postgres_kills=0, gap_s=0.1, calm_s=25, plant=list(FOUND)),
    keyed=3,
    keyless=6,
    slow_s=0.4,
    only_in_mid_call=True,
)


def few(storm: Storm) -> Storm:
    """Return a storm over one process and one file; each kill ends everything, so that few of them show as much."""
    return replace(on_sqlite(storm), kills=2, events=16, gap_s=0.1)


STORMS = {
    "PostgreSQL": STORM,
    "SQLite": few(STORM),
    "PostgreSQL, planted": PLANTED,
    "SQLite, planted": few(PLANTED),
}
AFTER_THE_REPLY = "POST /vendor/orders, after the reply#1"
DEATHS = [
    ("replay", "engine.intake.record, before its commit#1"),
    ("replay without keys", AFTER_THE_REPLY),
    ("refresh_token", "remedies.oauth.RefreshToken._store_pair.<locals>.rotate, before its commit#1"),
    ("change rows", "shop: _Batches._apply_batch.<locals>.<lambda>, before its commit#2"),
    ("heal an entity", AFTER_THE_REPLY),
]
"""Story and boundary: those that are the hardest to get right; `python -m chaos boundaries` dies at all of them."""


@dataclass(frozen=True)
class Place:
    """What all of this runs on; it takes a second to make."""

    folder: Path
    server: Postgres
    forks: Zygote


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Lend a PostgreSQL server and a process that forks."""
    with places() as made:
        yield Place(*made)


@pytest.fixture(scope="module")
def books(place: Place) -> dict[str, Book]:
    """Play all storms beside each other: they mostly wait for the dead to be missed."""

    def played(name: str) -> Book:
        server = place.server if name.startswith("PostgreSQL") else None
        return play(STORMS[name], place.folder, server, place.forks)

    with ThreadPoolExecutor() as threads:
        return dict(zip(STORMS, threads.map(played, STORMS), strict=True))


@pytest.mark.parametrize("kind", ["SQLite", "PostgreSQL"])
def test_storm_loses_and_doubles_nothing(books: dict[str, Book], kind: str) -> None:
    """Workers and PostgreSQL die at seeded moments: nothing accepted is lost or done twice, the rest is shown."""
    assert books[kind].wrongs == [], f"\n{books[kind]}"
    assert books[kind].figures["events accepted"] == f"{STORMS[kind].events}"


@pytest.mark.parametrize("kind", ["SQLite", "PostgreSQL"])
@pytest.mark.parametrize("bug", FOUND)
def test_planted_bug_is_named(books: dict[str, Book], bug: str, kind: str) -> None:
    """The ledger of a storm with planted bugs names each promise that they broke."""
    book = books[f"{kind}, planted"]
    assert any(wrong.startswith(FOUND[bug]) for wrong in book.wrongs), f"\n{book}"


def test_death_at_a_boundary_is_survived_and_a_planted_bug_is_seen(place: Place) -> None:
    """A process dies at a boundary and the next one goes on: once, or shown as unknown; a silent repeat is noticed."""
    ground = Ground(place.folder, place.forks)

    def die(story: str, point: str) -> Played:
        return ground.play(STORIES[story], point)

    with ThreadPoolExecutor() as threads:
        bad = threads.submit(ground.play, STORIES["replay without keys"], AFTER_THE_REPLY, ["repeat keyless"])
        played = list(threads.map(lambda death: die(*death), DEATHS))
    assert [(one.story, one.died_at) for one in played if not one.died] == []
    assert [one for one in played if one.wrongs] == []
    assert any("called done with 2 effects" in wrong for wrong in bad.result().wrongs), bad.result()


def test_lost_reply_is_survived_and_a_planted_bug_is_seen(place: Place) -> None:
    """The deed is done and nobody says so: it is asked for again under its key, or shown as unknown and left alone."""
    ground = Ground(place.folder, place.forks)
    wished = [
        ("replay", "POST /vendor/orders#2", ["new key per try"]),
        ("replay", "POST /vendor/orders#2", []),
        ("heal an entity", "POST /vendor/orders#1", []),
        ("heal an entity, not to be repeated", "POST /vendor/orders#1", []),
    ]

    def lose(story: str, call: str, plant: Sequence[str]) -> Played:
        return ground.play(STORIES[story], plant=plant, lose=call)

    with ThreadPoolExecutor() as threads:
        bad, *good = threads.map(lambda one: lose(*one), wished)
    assert [one.wrongs for one in good] == [[], [], []]
    assert [sum("POST /vendor" in call for call in one.calls) for one in good] == [3, 2, 1]
    assert any("effects: Counter" in wrong for wrong in bad.wrongs), bad


def test_refresh_by_everybody_is_seen(place: Place) -> None:
    """Where no process asks who else refreshes, the provider sees tokens used twice, and so does the ledger."""
    plant = ["refresh by everybody"]
    book = play_tokens(place.folder, place.server, place.forks, 24, 0, 1, processes=3, plant=plant, within_s=4.0)
    assert any(wrong.startswith("re-uses that count as theft") for wrong in book.wrongs), f"\n{book}"


def test_deliveries_are_counted_once_and_planted_bugs_are_named(place: Place) -> None:
    """Copies in any order, forged ones among them, a receiver that dies behind its answers: kept, and counted, once."""
    mail = Mail(events=40, kills=2, per_s=100)
    bugs = {"lost": "accept before commit", "forged": "believe every signature", "events kept": "count every copy"}
    lossy = replace(mail, kills=4, plant=["accept before commit", "believe every signature"])  # another copy may help
    mails = [mail, lossy, replace(mail, kills=0, plant=["count every copy"])]

    def delivered(number: int) -> Book:
        url = f"sqlite:///{place.folder / f'deliveries-{number}.db'}"
        return play_mail(mails[number], place.folder, url, place.forks)

    with ThreadPoolExecutor() as threads:
        honest, *planted = threads.map(delivered, range(len(mails)))
    assert honest.wrongs == [], f"\n{honest}"
    for wrong, bug in bugs.items():
        named = [book for book, told in zip(planted, mails[1:], strict=True) if bug in told.plant]
        assert any(one.startswith(wrong) for one in named[0].wrongs), f"{bug}\n{named[0]}"


def test_probe_is_one_processes_and_everybody_probing_is_named(place: Place) -> None:
    """Three processes behind one breaker: the service that is down hears of one probe, and of each where all may."""
    outage = Outages(processes=3, outages=1, down_s=2.3, up_s=0.5)

    def played(plant: Sequence[str]) -> Book:
        board = f"sqlite:///{place.folder / f'board-{len(plant)}.db'}"
        return play_breakers(outage, place.folder, board, place.forks, plant)

    with ThreadPoolExecutor() as threads:
        honest, planted = threads.map(played, [(), ("everybody probes",)])
    assert honest.wrongs == [], f"\n{honest}"
    assert any(wrong.startswith("requests within the open time") for wrong in planted.wrongs), f"\n{planted}"


def test_clock_that_jumps_costs_nothing_and_a_planted_loss_is_named(place: Place) -> None:
    """A day ahead, a day behind and right again: everything is healed within seconds; what was never written is lost."""

    def played(plant: Sequence[str]) -> Book:
        one = Infrastructure(place.folder, place.forks, place.server, plant)
        return one.play(clock_jumps, clock=str(one.here / "clock"))

    with ThreadPoolExecutor() as threads:
        honest, planted = threads.map(played, [(), ("answer and forget",)])
    assert [one for one in honest.wrongs if "healed within" not in one] == [], f"\n{honest}"
    assert any(wrong.startswith("lost") for wrong in planted.wrongs), f"\n{planted}"
