"""A book counts what lies within its window, and neither memory nor cost grow with the calls."""

from __future__ import annotations

import math
import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from prunella.guard.book import Book, Page


def test_page_counts_each_success_once() -> None:
    """Reading takes a number too, and is not counted: asked twice, a page says the same."""
    page = Page(math.inf)
    for _ in range(5):
        page.ok()
    assert [page.successes(), page.successes()] == [5, 5]
    page.ok()
    assert page.successes() == 6


def test_successes_of_many_threads_are_all_counted() -> None:
    """32 threads that count at once lose nothing, although there is no lock."""
    page, start = Page(math.inf), threading.Barrier(32)

    def count_500() -> None:
        start.wait()
        for _ in range(500):
            page.ok()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=count_500) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert page.successes() == 32 * 500


def test_page_ends_after_a_tenth_of_the_window() -> None:
    """The admission of a call stands for a tenth of the window, then it has to ask again."""
    book = Book(60.0)
    first = book.turn(100.0)
    assert first.ends_at == 106.0
    assert book.turn(105.9) is first
    assert book.turn(106.0) is not first


def test_what_lies_behind_the_window_is_torn_out() -> None:
    """A page counts until its last call is older than the window, and not longer."""
    book = Book(60.0)
    page = book.turn(0.0)
    page.ok()
    page.failed += 1
    page.slow += 1
    assert book.totals(65.9) == (1, 1, 1)
    assert book.totals(66.0) == (0, 0, 0)


def test_pause_of_an_hour_leaves_nothing_stale() -> None:
    """After a long pause (or a suspended machine) only the fresh page is there."""
    book = Book(60.0)
    for second in range(60):
        book.turn(float(second)).failed += 1
    assert book.totals(59.0)[1] == 60
    assert book.totals(59.0 + 3600.0) == (0, 0, 0)
    assert len(book._pages) == 1


def test_success_on_a_torn_out_page_counts_nowhere() -> None:
    """A call that takes longer than the window says nothing about the window in which it ends."""
    book = Book(10.0)
    old = book.turn(0.0)
    book.turn(100.0)
    old.ok()
    assert book.totals(100.0) == (0, 0, 0)


def test_successes_ever_survive_the_window() -> None:
    """What was counted before its page was torn out stays counted once."""
    book = Book(10.0)
    for instant in range(0, 1000, 3):
        book.turn(float(instant)).ok()
    assert book.successes_ever() == len(range(0, 1000, 3))
    assert book.successes_ever() == len(range(0, 1000, 3))


def test_memory_does_not_grow_with_calls() -> None:
    """After ten hours and 100,000 calls there are still no more than a window's pages."""
    book, most = Book(60.0), 0
    for call in range(100_000):
        book.turn(call * 0.36).ok()
        most = max(most, len(book._pages))
    assert most <= 12
    assert book.successes_ever() == 100_000


def test_endless_window_has_one_page() -> None:
    """A breaker that counts failures in a row never turns a page."""
    book = Book(math.inf)
    first = book.turn(0.0)
    assert book.turn(1e12) is first
    assert first.ends_at == math.inf


@given(st.floats(1e-12, 1e12), st.lists(st.floats(0, 1e9), min_size=1, max_size=20).map(sorted))
def test_any_window_and_any_pause_give_a_page(window_s: float, instants: list[float]) -> None:
    """Not even a window that is too short for the clock's resolution leaves a call without a page."""
    book = Book(window_s)
    for now in instants:
        assert book.turn(now).ends_at >= now
        assert len(book._pages) <= 12
