"""prunella, put through the cases."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import prunella as pr
from conformance.clocks import host_clock
from conformance.contract import FACES, FEATURES, Clock, Desk, Face, Function, Wish
from prunella.core.events import Event, Listener
from prunella.guard.connection import Connection

_numbers = itertools.count(1)


class Prunella:
    """Everything that a policy offers."""

    name = "prunella"
    faces: Sequence[Face] = FACES
    features: frozenset[str] = frozenset(FEATURES)
    refusals: tuple[type[BaseException], ...] = (pr.CircuitOpen, pr.RateLimited, pr.LoadShed)

    def clock(self, face: Face) -> AbstractContextManager[Clock]:
        return host_clock(face)

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        return self.policy(wish, face)

    def blocks(self, wish: Wish, face: Face) -> Callable[[], Any]:
        return self.policy(wish, face).attempts

    def guard_once(self, wish: Wish, face: Face, *, keyed: bool) -> Callable[[Function], Function]:
        key = (lambda order: order) if keyed else None
        return self.policy(wish, face)(effect="once", idempotency_key=key)

    @contextmanager
    def durable(self, wish: Wish, face: Face) -> Iterator[Desk]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "calls.db"
            with pr.connect(f"sqlite:///{path}", resume=False) as connection:
                yield SqliteDesk(self.policy(wish, face), path, connection)

    def policy(self, wish: Wish, face: Face) -> pr.Policy:
        """Return the policy that a wish describes."""
        budget = None if wish.budget_ratio is None else pr.RetryBudget(wish.budget_ratio, 1.0)
        return pr.policy(
            f"conformance-{next(_numbers)}",
            retry=self.retry(wish),
            budget=budget,
            breaker=self.breaker(wish),
            limiter=self.limiter(wish),
            bulkhead=None if wish.places is None else pr.Bulkhead(wish.places, wish.place_wait_s),
            deadline_s=wish.total_s,
            attempt_timeout_s=wish.attempt_s,
            sync_timeout="thread",
            validate=None if wish.refuse_result is None else _good(wish.refuse_result),
            listeners=[] if wish.listener is None else [_telling(wish.listener)],
        )

    def retry(self, wish: Wish) -> pr.Retry:
        """Return how often a wish wants it tried; what is worth it is left to prunella."""
        growing = wish.doubling_up_to_s
        return pr.Retry(
            attempts=wish.attempts,
            base_s=wish.wait_s,
            cap_s=10.0 if growing is None else growing,
            steps="constant" if growing is None else "exponential",
            jitter="none",
            not_on=wish.unless,
        )

    def breaker(self, wish: Wish) -> pr.Breaker | None:
        """Return the breaker that a wish describes."""
        if wish.failure_rate is not None:
            return pr.Breaker(
                failure_rate=wish.failure_rate, min_calls=wish.min_calls, window_s=wish.window_s, open_s=wish.open_s
            )
        return None if wish.failures is None else pr.Breaker(failures=wish.failures, open_s=wish.open_s)

    def limiter(self, wish: Wish) -> pr.AdaptiveLimiter | None:
        """Return the limiter that a wish describes."""
        if wish.adaptive_per_s is not None:
            return pr.AdaptiveLimiter(rate_per_s=wish.adaptive_per_s, profile="aimd")
        return None if wish.limit_per_s is None else pr.AdaptiveLimiter(rate_per_s=wish.limit_per_s)


class SqliteDesk:
    """The calls that prunella has written down, in a file of their own."""

    def __init__(self, policy: pr.Policy, path: Path, connection: Connection) -> None:
        self._policy = policy
        self._path = path
        self._connection = connection

    def guard(self, function: Function) -> Function:
        return self._policy.durable(lambda order: order, name=self._policy.name)(function)

    def waiting(self) -> int:
        (count,) = self._run("SELECT count(*) FROM durable_calls WHERE state = 'waiting'")
        return int(count)

    def comes_due(self) -> None:
        self._run("UPDATE durable_calls SET due_at = 0")
        self._connection.resume_due()

    def breaks(self) -> None:
        self._run("DROP TABLE durable_calls")

    def _run(self, statement: str) -> tuple[Any, ...]:
        with closing(sqlite3.connect(self._path)) as file, file:
            rows: list[tuple[Any, ...]] = file.execute(statement).fetchall()
        return rows[0] if rows else ()


def _telling(listener: Callable[[Any], object]) -> Listener:
    def tell(event: Event) -> None:
        listener(event)

    return tell


def _good(refuse: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda result: not refuse(result)
