"""prunella, put through the cases."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import prunella as pr
from conformance.clocks import host_clock
from conformance.contract import FACES, FEATURES, Clock, Face, Function, Wish

_numbers = itertools.count(1)


class Prunella:
    """Everything that a policy offers."""

    name = "prunella"
    package = "prunella"
    faces = FACES
    features = frozenset(FEATURES) - ({"durable"} if not hasattr(pr.Policy, "durable") else set())
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
            listeners=[] if wish.listener is None else [wish.listener],
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


def _good(refuse: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda result: not refuse(result)
