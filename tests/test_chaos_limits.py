"""What `make limits` judges by: who hammers, who comes too early and who crawls is named, whoever is careful is not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from chaos.book import Book
from chaos.limits import Post, TooMany, enter_forms, ours, play


def hammering(post: Post) -> Post:
    """Call again in a moment, whatever was asked for."""

    def again(number: int) -> None:
        while True:
            try:
                return post(number)
            except TooMany:
                time.sleep(0.2)

    return again


def crawling(post: Post) -> Post:
    """Call ten times too slowly."""

    def slowly(number: int) -> None:
        time.sleep(4.0)
        post(number)

    return slowly


@pytest.mark.parametrize(
    ("guard", "calls", "wrongs"),
    [
        (hammering, 60, ["requests before the wait was over", "rejected too often"]),
        (crawling, 16, ["slower than allowed"]),
    ],
)
def test_planted_manner_is_named(guard: object, calls: int, wrongs: list[str]) -> None:
    """A caller that only retries, and one that hardly calls."""
    book = play(guard, calls, judged=True, learns_s=0.0)  # type: ignore[arg-type]
    assert [one.partition(":")[0] for one in book.wrongs] == wrongs


def test_every_form_is_followed_and_a_deaf_caller_is_named() -> None:
    """Each form in which a service asks for a wait, put to prunella, and to who listens to none."""
    honest, planted = Book(), Book()
    with ThreadPoolExecutor() as threads:
        for one in [threads.submit(enter_forms, honest, ours), threads.submit(enter_forms, planted, hammering)]:
            one.result()
    assert honest.wrongs == []
    assert planted.figures["of these misunderstood"] == "6  (must be 0)"
