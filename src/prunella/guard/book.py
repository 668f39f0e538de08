"""Count calls without a lock: successes by an atomic counter, failures by whoever already holds the breaker's lock.

A book has pages, each for a part of its window; an old page is torn out, so memory and cost never depend on how many
calls there were. A page is also the admission of a call: results that come late land on a page that nobody reads.
"""

from __future__ import annotations

from collections import deque
from itertools import count

_PAGES = 10


class Page:
    """One part of the window.

    Args:
        ends_at: monotonic instant from which calls belong on another page.
    """

    __slots__ = ("_next", "_reads", "book", "ends_at", "failed", "ok", "slow")

    def __init__(self, ends_at: float, book: Book | None = None) -> None:
        self.ends_at = ends_at
        self.book = book
        self.ok = self._next = count().__next__  # calling it counts one success; a C call, so no thread comes between
        self._reads = 0
        self.failed = 0
        self.slow = 0

    def successes(self) -> int:
        """Return how many successes were counted; under the owner's lock, as reading takes a number too."""
        seen = self._next() - self._reads
        self._reads += 1
        return seen


class Book:
    """The pages of one window.

    Args:
        window_s: how far back is counted, > 0; infinite makes a book of one page that never ends.
    """

    __slots__ = ("_page_s", "_pages", "_torn", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._page_s = window_s / _PAGES
        self._pages: deque[Page] = deque()
        self._torn = 0

    def turn(self, now: float) -> Page:
        """Return the page of `now`, a fresh one where the last has ended."""
        while self._pages and self._pages[0].ends_at <= now - self._window_s:
            self._torn += self._pages.popleft().successes()
        if not self._pages or self._pages[-1].ends_at <= now:
            self._pages.append(Page(now + self._page_s, self))
        return self._pages[-1]

    def totals(self, now: float) -> tuple[int, int, int]:
        """Return successes, failures and slow calls within the window."""
        self.turn(now)
        return (
            sum(page.successes() for page in self._pages),
            sum(page.failed for page in self._pages),
            sum(page.slow for page in self._pages),
        )

    def successes_ever(self) -> int:
        """Return the successes of all pages, torn out ones too."""
        return self._torn + sum(page.successes() for page in self._pages)
