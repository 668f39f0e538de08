"""Live parts find the connection, and the connection finds live parts, while others come and go."""

from __future__ import annotations

import threading
import weakref

from prunella.guard.forks import living
from prunella.guard.limiter import AdaptiveLimiter, LiveLimiter
from prunella.guard.link import LINK


def test_parts_are_known_as_long_as_they_live() -> None:
    """A part that nobody holds any more is not kept alive by the link."""
    limiter = LiveLimiter("crm-link", AdaptiveLimiter(rate_per_s=5), lambda *_: None)
    assert limiter in living(LINK.limiters)
    del limiter
    assert "crm-link" not in [part.name for part in living(LINK.limiters)]


def test_set_that_changes_while_it_is_read_is_read_again() -> None:
    """Other threads make parts all the time."""

    class Part:
        pass

    parts: weakref.WeakSet[Part] = weakref.WeakSet()
    kept: list[Part] = []
    stop = threading.Event()

    def make() -> None:
        while not stop.is_set() and len(kept) < 20_000:
            kept.append(Part())
            parts.add(kept[-1])

    maker = threading.Thread(target=make)
    maker.start()
    try:
        for _ in range(300):
            living(parts)
    finally:
        stop.set()
        maker.join()
    assert set(living(parts)) == set(kept)
