"""The short form of `make chaos`: a storm passes, and with bugs planted the ledger says which promises they broke."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from chaos.audit import Book
from chaos.storm import Storm, places, play

pytestmark = pytest.mark.slow

STORM = Storm(seed=20261122, kills=6, postgres_kills=1, events=60, workers=2, gap_s=0.3, calm_s=60)
FOUND = {
    "new key per try": "double effects with keys",
    "repeat keyless": "repeated although nobody knows what became of",
    "accept before commit": "lost",
    "hide the unknown": "of these shown as unknown",
}
"""Planted bug -> what the ledger says."""
PLANTED = replace(
    replace(STORM, seed=7, kills=8, postgres_kills=0, gap_s=0.1, calm_s=12, plant=list(FOUND)),
    keyed=3,
    keyless=6,
    slow_s=0.4,
    only_in_mid_call=True,
)


@pytest.fixture(scope="module")
def books() -> dict[str, Book]:
    """Play both storms beside each other: they mostly wait for the dead to be missed."""
    storms = {"honest": STORM, "planted": PLANTED}
    with places() as (folder, server, forks), ThreadPoolExecutor() as threads:
        playing = {name: threads.submit(play, storm, folder, server, forks) for name, storm in storms.items()}
        return {name: one.result() for name, one in playing.items()}


def test_storm_loses_and_doubles_nothing(books: dict[str, Book]) -> None:
    """Workers and PostgreSQL die at seeded moments: nothing accepted is lost or done twice, the rest is shown."""
    assert books["honest"].wrongs == [], f"\n{books['honest']}"
    assert books["honest"].figures["events accepted"] == f"{STORM.events}"


@pytest.mark.parametrize("bug", FOUND)
def test_planted_bug_is_named(books: dict[str, Book], bug: str) -> None:
    """The ledger of a storm with planted bugs names each promise that they broke."""
    assert any(wrong.startswith(FOUND[bug]) for wrong in books["planted"].wrongs), f"\n{books['planted']}"
