"""Waits stay within the figures of document B, whatever chance says and however long it goes on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.clock import Rng
from prunella.guard.backoff import (
    RECOVERY_WAIT_MAX_S,
    RECOVERY_WAITS_S,
    at_least_s,
    exponential_s,
    recovery_wait_s,
    spread_s,
)


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


@given(st.floats(0, 1e300), st.floats(0, 1), st.integers())
def test_spread_keeps_to_its_share(step_s: float, least: float, seed: int) -> None:
    """A spread wait lies between the least share of its step and all of it."""
    assert step_s * least * (1 - 1e-9) <= spread_s(step_s, least, Rng(seed)) <= step_s


def test_spread_uses_its_whole_room() -> None:
    """Chance 0 gives the least, chance near 1 the whole step."""
    assert spread_s(8.0, 0.25, Chance(0.0)) == 2.0
    assert spread_s(8.0, 0.25, Chance(NEARLY_ONE)) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("attempt", "expected_s"), [(1, 0.5), (2, 1.5), (3, 4.5), (4, 10.0), (3000, 10.0), (10**6, 10.0), (10**9, 10.0)]
)
def test_exponential_wait_grows_up_to_its_cap(attempt: int, expected_s: float) -> None:
    """0.5 s times 3 for each further attempt, and never more than the cap, however large the number."""
    assert exponential_s(0.5, 3.0, attempt, 10.0) == expected_s


@pytest.mark.parametrize("factor", [2, 2.0])
def test_whole_numbers_cost_no_more_than_floats(factor: float) -> None:
    """A factor given as an int is not raised to a number of a billion digits."""
    assert exponential_s(1, factor, 10**9, 10) == 10


def test_wait_of_nothing_stays_nothing() -> None:
    """A base of 0 s is 0 s for every attempt: not the cap once the factor is too large for a float."""
    assert {exponential_s(0.0, 2.0, attempt, 10.0) for attempt in (1, 2, 1024, 1025, 3000, 10**6)} == {0.0}


@given(st.floats(0, 1e300), st.floats(1, 1e10), st.integers(1, 10**6), st.floats(0, 1e300))
def test_exponential_wait_never_overflows(base_s: float, factor: float, attempt: int, cap_s: float) -> None:
    """Every wait is a number between 0 and the cap."""
    assert 0.0 <= exponential_s(base_s, factor, attempt, cap_s) <= cap_s
