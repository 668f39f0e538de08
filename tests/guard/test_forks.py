"""A child process can use every part at once, whoever held its lock at the fork."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from prunella.guard.breaker import Breaker, LiveBreaker, NoBreaker
from prunella.guard.budget import RetryBudget
from prunella.guard.bulkhead import Bulkhead, LiveBulkhead
from prunella.guard.fallback import Fallback
from prunella.guard.forks import renew_after_fork
from prunella.guard.limiter import AdaptiveLimiter, LiveLimiter

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # that is what is tested here


def works_in_a_child(use: Callable[[], object]) -> bool:
    """Fork, call `use` in the child, and tell whether it came to its end within five seconds."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)
        failed = 1
        try:
            use()
            failed = 0
        finally:
            os._exit(failed)
    return os.waitpid(child, 0)[1] == 0


def with_lock_held(lock: Any, use: Callable[[], object]) -> bool:
    """Fork while another thread holds `lock`, and tell whether the child can do `use`."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        return works_in_a_child(use)
    finally:
        done.set()
        thread.join()


def test_breaker_works_in_a_child() -> None:
    """The child counts failures and opens, although a thread of the parent was counting."""
    breaker = LiveBreaker("crm", Breaker(failures=1), lambda *_: None, 30.0)
    assert with_lock_held(breaker._lock, lambda: breaker.failed(breaker.enter()))


def test_counting_of_successes_works_in_a_child() -> None:
    """The same where a policy has no breaker."""
    none = NoBreaker()
    assert with_lock_held(none._lock, none.successes_seen)


def test_limiter_works_in_a_child() -> None:
    """The child gets its turn."""
    limiter = LiveLimiter("crm", AdaptiveLimiter(rate_per_s=10), lambda *_: None)
    assert with_lock_held(limiter._lock, lambda: limiter.reserve(1.0))


def test_budget_works_in_a_child() -> None:
    """The child takes its retry."""
    budget = RetryBudget()
    assert with_lock_held(budget._ledger._lock, lambda: budget.take(1))


def test_fallback_works_in_a_child() -> None:
    """The child keeps its last good result."""
    fallback = Fallback(last_good=True)
    assert with_lock_held(fallback._kept._lock, lambda: fallback.keep(print, (), {}, 1))


def test_bulkhead_of_a_child_is_empty() -> None:
    """Places of threads that exist in the parent only do not stay taken in the child for ever."""
    bulkhead = LiveBulkhead("crm", Bulkhead(1))
    bulkhead.enter()

    def use() -> None:
        assert bulkhead.under_way == 0
        assert bulkhead.enter() is None

    assert with_lock_held(bulkhead._lock, use)
    assert bulkhead.under_way == 1


def test_child_that_forked_in_mid_call_never_owes_a_place() -> None:
    """A call that goes on in the child gives back a place that the child never counted."""
    bulkhead = LiveBulkhead("crm", Bulkhead(1))
    bulkhead.enter()

    def use() -> None:
        bulkhead.leave()
        assert bulkhead.under_way == 0

    assert works_in_a_child(use)


def test_part_that_does_not_begin_anew_is_noticed() -> None:
    """The check can fail: a bare lock that is held at the fork stops the child."""
    lock = threading.Lock()

    def take() -> None:
        assert lock.acquire(timeout=0.05)

    assert not with_lock_held(lock, take)


def test_parts_are_not_kept_alive() -> None:
    """What nobody uses any more is freed, and no child looks at it."""
    freed = threading.Event()

    class Part:
        def renew(self) -> None: ...

        def __del__(self) -> None:
            freed.set()

    part = Part()
    renew_after_fork(part)
    del part
    assert freed.is_set()
