"""Retries stay a share of first attempts, over any ten seconds, whoever asks and whenever."""

from __future__ import annotations

import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prunella as pr
from guard.conftest import ManualTime, manual_time
from prunella.core.clock import Rng
from prunella.guard import budget as budgets
from prunella.guard.budget import RetryBudget

EXAMPLES = int(os.environ.get("PRUNELLA_EXAMPLES", "100"))

Ask = tuple[float, int, float]
"""Seconds that pass, first attempts since then, and how long the retry would wait."""

ASKS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.01, 0.05, 0.099, 0.1, 0.7, 3.0, 9.9, 10.0]),
        st.integers(0, 12),
        st.sampled_from([0.0, 0.0, 0.5, 10.0, 60.0]),
    ),
    min_size=15,
    max_size=120,
)


def judge(ratio: float, floor_per_s: float, asks: list[Ask]) -> int:
    """Ask a budget, compare each answer with a list of all that ever was, and return how many were granted."""
    budget = RetryBudget(ratio, floor_per_s)
    firsts: list[tuple[float, int]] = []
    retries: list[float] = []
    with manual_time() as clock:
        for pause_s, fresh, wait_s in asks:
            clock.passes(pause_s)
            now = clock.monotonic()
            firsts.append((now, fresh))
            granted = budget.take(fresh, wait_s)
            held = sum(made_at + 10.0 > now for made_at in retries) + 1
            allowed = floor_per_s * 10 + ratio * sum(number for at, number in firsts if at > now - 10.0)
            surely = floor_per_s * 10 + ratio * sum(number for at, number in firsts if at > now - 9.89)
            if granted:
                retries.append(now + wait_s)
                assert held <= allowed + 1e-6, "more retries than the budget allows"
            else:
                assert held > surely - 1e-6, "a retry was refused that the budget allows"
    most = floor_per_s * 10 + ratio * most_within_ten_seconds(firsts)
    assert most_within_ten_seconds([(made_at, 1) for made_at in retries]) <= most + 1e-6
    return len(retries)


def most_within_ten_seconds(log: list[tuple[float, int]]) -> int:
    return max((sum(number for at, number in log if end - 10.0 + 1e-9 < at <= end) for end, _ in log), default=0)


@settings(max_examples=EXAMPLES)
@given(st.sampled_from([0.0, 0.1, 0.2, 1.0]), st.sampled_from([0.0, 0.1, 0.5, 1.0]), ASKS)
def test_budget_keeps_its_promise_over_any_ten_seconds(ratio: float, floor_per_s: float, asks: list[Ask]) -> None:
    """Never more than floor + ratio x first attempts, counting those that wait; and never less than that."""
    judge(ratio, floor_per_s, asks)


@pytest.mark.parametrize("window_s", [8.0, 12.0])
def test_judge_finds_a_wrong_window(window_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: a window that is too short grants too much, one that is too long too little."""
    monkeypatch.setattr(budgets, "_WINDOW_S", window_s)
    rng = Rng(1)
    asks = [(rng.choice([0.0, 0.05, 0.5]), rng.randrange(5), 0.0) for _ in range(300)]
    with pytest.raises(AssertionError, match="budget allows"):
        judge(0.2, 0.2, asks)


def test_waiting_retry_holds_its_place(clock: ManualTime) -> None:
    """A retry that waits for a minute counts until ten seconds after it was made."""
    budget = RetryBudget(0.0, 0.1)
    assert budget.take(0, wait_s=60.0)
    clock.passes(69.9)
    assert not budget.take(0)
    clock.passes(0.1)
    assert budget.take(0)


@pytest.mark.parametrize("seed", range(3))
def test_budget_holds_for_threads_together(seed: int, clock: ManualTime) -> None:
    """Eight threads ask at once, at random moments: together they get exactly what one would."""
    rng, budget, alone = Rng(seed), RetryBudget(0.3, 0.4), RetryBudget(0.3, 0.4)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(60):
            clock.passes(rng.choice([0.0, 0.2, 1.0, 4.0]))
            start, fresh = threading.Barrier(8), rng.randrange(4)

            def ask(start: threading.Barrier = start, fresh: int = fresh) -> int:
                start.wait(10)
                return sum([budget.take(0) for _ in range(fresh)])

            assert budget.take(8 * fresh) == alone.take(8 * fresh)
            granted = sum(one.result() for one in [pool.submit(ask) for _ in range(8)])
            assert granted == sum(alone.take(0) for _ in range(8 * fresh))


class Hesitant(list[float]):
    """Places that let other threads come between being counted and being taken."""

    def __len__(self) -> int:
        counted = super().__len__()
        time.sleep(0)
        return counted


def test_no_place_is_given_twice(clock: ManualTime) -> None:
    """Eight threads that all look before any of them takes still get the five places there are."""
    budget, start, granted = RetryBudget(0.0, 0.5), threading.Barrier(8), []
    budget._ledger._places = Hesitant()

    def ask() -> None:
        start.wait(10)
        granted.append(sum(budget.take(0) for _ in range(5)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 5


def test_outage_adds_a_tenth_and_the_floor(clock: ManualTime) -> None:
    """A thousand calls of four attempts against a dead service make 1,100 attempts and not 4,000."""
    made = 0

    @pr.policy("crm", retry=pr.Retry(attempts=4, base_s=0.0), budget=RetryBudget(ratio=0.1, floor_per_s=0.0))
    def call() -> None:
        nonlocal made
        made += 1
        raise OSError("down")

    for _ in range(1000):
        with pytest.raises(OSError, match="down"):
            call()
        clock.passes(0.001)
    assert 1095 <= made <= 1100


def test_successes_raise_the_budget(clock: ManualTime) -> None:
    """100 calls that go well allow ten retries at a ratio of a tenth."""
    budget = RetryBudget(ratio=0.1, floor_per_s=0.0)
    assert sum([budget.take(100), *(budget.take(0) for _ in range(50))]) == 10


def test_quiet_service_is_retried_too(clock: ManualTime) -> None:
    """The floor allows ten a second, whatever the ratio says."""
    budget = RetryBudget()
    assert sum(budget.take(0) for _ in range(200)) == 100


def test_nothing_is_allowed_where_nothing_is_given(clock: ManualTime) -> None:
    """Without floor and ratio there is no retry."""
    assert not RetryBudget(0.0, 0.0).take(1000)


def test_pause_forgets_everything(clock: ManualTime) -> None:
    """An hour later neither first attempts nor retries of before count."""
    budget = RetryBudget(ratio=1.0, floor_per_s=0.0)
    assert budget.take(5)
    clock.passes(3600.0)
    assert not budget.take(0)
    assert budget.take(1)


def test_memory_does_not_grow_with_calls(clock: ManualTime) -> None:
    """Hours of calls and retries leave ten seconds of them."""
    budget = RetryBudget(ratio=0.2, floor_per_s=1.0)
    for _ in range(20_000):
        budget.take(3)
        clock.passes(0.05)
    assert len(budget._ledger._firsts) <= 102
    assert len(budget._ledger._places) <= 10 + 0.2 * 3 * 201


def test_each_budget_counts_for_itself(clock: ManualTime) -> None:
    """Two budgets with the same figures, or a changed copy, share no place; equal figures are equal."""
    first = RetryBudget(0.0, 0.1)
    second, third = RetryBudget(0.0, 0.1), replace(first, ratio=0.1)
    assert [budget.take(0) for budget in (first, second, third)] == [True, True, True]
    assert not first.take(0)
    assert first == second != third
    assert repr(first) == "RetryBudget(ratio=0.0, floor_per_s=0.1)"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ratio": -0.1}, "RetryBudget: ratio must be a number >= 0, got -0.1"),
        ({"ratio": math.nan}, "RetryBudget: ratio must be a number >= 0, got nan"),
        ({"floor_per_s": math.inf}, "RetryBudget: floor_per_s must be a number >= 0, got inf"),
        ({"floor_per_s": "10"}, "RetryBudget: floor_per_s must be a number >= 0, got '10'"),
    ],
)
def test_misuse_is_refused_with_what_is_allowed(wrong: dict[str, Any], message: str) -> None:
    """A budget that can't be kept is refused where it is declared."""
    with pytest.raises(ValueError, match=r".") as caught:
        RetryBudget(**wrong)
    assert str(caught.value) == message
