"""Each reply of each story is lost once: what was asked for is done, and nobody says so.

Nobody dies here. Where keys are honoured nothing is done twice; where they are not, it is shown or known, never hidden.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from chaos.book import Book
from chaos.boundaries import Ground, Played
from chaos.stories import STORIES
from chaos.storm import places

_AT_ONCE = 6


def chosen(options: argparse.Namespace) -> tuple[str, Book]:
    """Lose every reply of every story, on both kinds of database."""
    book = Book()
    with places() as (folder, server, forks):
        for kind, ground in (("SQLite", Ground(folder, forks)), ("PostgreSQL", Ground(folder, forks, server))):
            began_s = time.monotonic()
            enter(book, f"{kind}: ", lose_everywhere(ground))
            book.count(f"{kind}: seconds", time.monotonic() - began_s)
    return "replies: each is lost once", book


def lose_everywhere(ground: Ground) -> list[Played]:
    """Play each story once in peace, and once for each reply that it got."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        calm = list(threads.map(ground.play, STORIES.values()))
        losses = [(STORIES[one.story], call) for one in calm for call in one.calls]
        return calm + list(threads.map(lambda loss: ground.play(loss[0], lose=loss[1]), losses))


def enter(book: Book, prefix: str, played: list[Played]) -> None:
    """Enter how the stories went."""
    losses = [one for one in played if one.lost]
    book.count(f"{prefix}replies lost", len(losses))
    book.count(f"{prefix}stories that went wrong", sum(bool(one.wrongs) for one in played), must_be=0)
    for one in played:
        book.blame(f"{prefix}{one.story}, without the reply to {one.lost or 'nothing'}", one.wrongs)
