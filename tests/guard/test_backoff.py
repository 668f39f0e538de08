"""Waits stay within the figures of document B, whatever chance says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.clock import Rng
from prunella.guard.backoff import RECOVERY_WAIT_MAX_S, RECOVERY_WAITS_S, at_least_s, recovery_wait_s


class Chance(Rng):
    """Chance that always says the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


NEARLY_ONE = math.nextafter(1.0, 0.0)


def test_steps_are_document_bs() -> None:
    """500 ms, 1 s and 2 s before the three tries, and no wait over 10 s within a request."""
    assert (RECOVERY_WAITS_S, RECOVERY_WAIT_MAX_S) == ((0.5, 1.0, 2.0), 10.0)


@pytest.mark.parametrize(
    ("attempt", "shortest_s", "longest_s"),
    [(1, 0.25, 0.5), (2, 0.5, 1.0), (3, 1.0, 2.0), (4, 1.0, 2.0), (100, 1.0, 2.0)],
)
def test_jitter_spreads_a_step_over_its_upper_half(attempt: int, shortest_s: float, longest_s: float) -> None:
    """Document B: delay times 0.5 to 1.0; later tries keep the last step."""
    assert recovery_wait_s(attempt, Chance(0.0)) == shortest_s
    assert recovery_wait_s(attempt, Chance(NEARLY_ONE)) == pytest.approx(longest_s)


@given(st.integers(1, 10_000), st.integers())
def test_recovery_wait_never_leaves_its_bounds(attempt: int, seed: int) -> None:
    """Every wait is at least a quarter of a second and at most two."""
    step = RECOVERY_WAITS_S[min(attempt, 3) - 1]
    assert step / 2 <= recovery_wait_s(attempt, Rng(seed)) <= step <= RECOVERY_WAIT_MAX_S


@given(st.floats(0, 1e9), st.integers())
def test_wait_that_was_asked_for_is_never_cut(asked_s: float, seed: int) -> None:
    """Jitter goes upwards only, by at most half."""
    assert asked_s <= at_least_s(asked_s, Rng(seed)) <= asked_s * 1.5


@given(st.integers(1, 3), st.integers())
def test_same_chance_gives_the_same_wait(attempt: int, seed: int) -> None:
    """A seed repeats a wait, so that a run can be replayed."""
    assert recovery_wait_s(attempt, Rng(seed)) == recovery_wait_s(attempt, Rng(seed))
    assert at_least_s(1.0, Rng(seed)) == at_least_s(1.0, Rng(seed))
