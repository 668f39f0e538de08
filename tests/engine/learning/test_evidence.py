"""What is proven decides: a mean chooses, a bound trusts, and neither is moved by luck."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.issues import Effect, Evidence
from prunella.engine.learning import evidence
from prunella.engine.learning.evidence import (
    HALF_LIFE,
    NOTHING,
    Option,
    as_of,
    expected,
    lower_bound,
    may_act_alone,
    noted,
)
from store.making import NOW

GOOD, BAD, UNDONE = Effect.VERIFIED, Effect.INEFFECTIVE, Effect.UNDONE
COUNTS = st.integers(0, 10_000_000).map(lambda count: count / 1000)
OUTCOMES = st.lists(st.tuples(st.sampled_from(Effect), st.floats(0, 40)), max_size=30)


def seen(good: float, bad: float = 0, *, row: int = 0, moment: datetime = NOW) -> Evidence:
    """Return evidence in which nothing has faded."""
    return Evidence(
        tried=int(good + bad), verified=int(good), ineffective=int(bad), good=float(good), bad=float(bad),
        failures_in_a_row=row, at=moment,
    )  # fmt: skip


def after(*effects: Effect) -> Evidence:
    found = NOTHING
    for effect in effects:
        found = noted(found, effect, NOW)
    return found


# Outcomes are noted


def test_outcomes_are_counted_by_what_they_were() -> None:
    """Whatever is not verified counts against it, and ends a row of good ones."""
    found = after(GOOD, GOOD, BAD, UNDONE)
    assert found == Evidence(
        tried=4, verified=2, ineffective=1, undone=1, good=2.0, bad=2.0, failures_in_a_row=2, at=NOW
    )
    assert noted(found, GOOD, NOW).failures_in_a_row == 0


def test_outcome_counts_half_after_a_month() -> None:
    """And a quarter after two; how often it was tried stays as it was."""
    month = NOW + HALF_LIFE
    assert as_of(seen(8, 4), month) == replace(seen(8, 4), good=4.0, bad=2.0, at=month)
    assert noted(seen(8, 4), GOOD, month + HALF_LIFE).good == 3.0
    assert as_of(NOTHING, NOW) == replace(NOTHING, at=NOW)


@given(OUTCOMES)
def test_looking_in_between_changes_nothing(outcomes: Sequence[tuple[Effect, float]]) -> None:
    """Whoever looks at evidence on the way, what it counts in the end is the same."""
    plain = watched = NOTHING
    now = NOW
    for effect, days in outcomes:
        for part in (0.25, 0.75):
            now += timedelta(days=days * part)
            watched = as_of(watched, now)
        plain, watched = noted(plain, effect, now), noted(watched, effect, now)
    assert (watched.tried, watched.failures_in_a_row) == (plain.tried, plain.failures_in_a_row)
    assert [watched.good, watched.bad] == pytest.approx([plain.good, plain.bad])
    assert plain.verified + plain.ineffective + plain.undone == plain.tried


def test_clock_that_is_behind_does_not_fade_twice() -> None:
    """What a worker with a slow clock notes neither grows nor fades, and the next one fades from the later moment."""
    month = NOW + HALF_LIFE
    assert noted(seen(8, moment=month), GOOD, NOW) == replace(seen(9, moment=month), good=9.0)
    assert as_of(as_of(seen(8, moment=month), NOW), month).good == 8.0


# A mean chooses


def test_expectation_of_the_unknown_is_even() -> None:
    """With nothing known (s + 1) / (n + 2): a half; and the same where own outcomes are all there is."""
    assert expected(Option(remedy="a")) == 0.5
    assert expected(Option(remedy="a", own=seen(3, 1))) == pytest.approx(4 / 6)


def test_expectation_begins_with_what_is_known_elsewhere() -> None:
    """What helped in 8 of 8 cases of the kind begins at 0.9, as two outcomes of its own; soon its own ones count."""
    elsewhere = seen(8)
    assert expected(Option(remedy="a", elsewhere=elsewhere)) == pytest.approx(0.9)
    assert expected(Option(remedy="a", elsewhere=elsewhere, own=seen(0, 2))) == pytest.approx(0.45)
    assert expected(Option(remedy="a", elsewhere=elsewhere, own=seen(0, 16))) == pytest.approx(0.1)


@given(st.builds(seen, COUNTS, COUNTS), st.builds(seen, COUNTS, COUNTS))
def test_expectation_rises_with_a_good_outcome_and_falls_with_a_bad_one(own: Evidence, elsewhere: Evidence) -> None:
    """Wherever it stands, between 0 and 1."""
    option = Option(remedy="a", own=own, elsewhere=elsewhere)
    better, worse = replace(own, good=own.good + 1), replace(own, bad=own.bad + 1)
    assert 0 < expected(replace(option, own=worse)) < expected(option) < expected(replace(option, own=better)) < 1


def test_equal_ones_are_ordered_by_risk_then_cost_then_name() -> None:
    """In whatever order they come; one that is expected to do better goes before all of them."""
    tied = [
        Option(remedy="d", risk=0, cost=1.0),
        Option(remedy="a", risk=0, cost=2.0),
        Option(remedy="c", risk=0, cost=2.0, own=seen(1, 1)),
        Option(remedy="b", risk=1, cost=0.0),
    ]
    best = Option(remedy="z", own=seen(1), risk=9, cost=9.0)
    for order in itertools.permutations([*tied, best]):
        assert "".join(option.remedy for _, option in evidence.ranked(order)) == "zdacb"
    score, first = evidence.ranked([best, tied[0]])[0]
    assert score == pytest.approx(2 / 3)
    assert first == best


def test_sums_in_another_order_are_no_difference() -> None:
    """Scores that differ by the rounding of their sums are equal ones: the name decides."""
    first, second = seen(8.3), seen(8.3 + 1e-12)
    options = [Option(remedy="a", own=first), Option(remedy="b", own=second)]
    assert expected(options[0]) < expected(options[1])
    assert [option.remedy for _, option in evidence.ranked(options)] == ["a", "b"]


# A bound trusts


@pytest.mark.parametrize(
    ("good", "count", "bound"),
    [(0, 0, 0.0), (0, 10, 0.0), (1, 1, 0.2065), (10, 10, 0.7225), (16, 16, 0.8064), (5, 10, 0.2366), (81, 263, 0.2553)],
)
def test_lower_bound_is_wilsons(good: int, count: int, bound: float) -> None:
    """As published, the last one by Newcombe (1998)."""
    assert lower_bound(good, count - good) == pytest.approx(bound, abs=0.00005)


@given(COUNTS, COUNTS)
def test_lower_bound_stays_below_the_share_and_rises_with_what_is_known(good: float, bad: float) -> None:
    """Twice as much of the same says more; a bad outcome never raises it."""
    bound = lower_bound(good, bad)
    assert 0.0 <= bound <= (good / (good + bad) if good + bad else 0.0) + 1e-12
    assert lower_bound(2 * good, 2 * bad) >= bound - 1e-12
    assert lower_bound(good, bad + 1) <= bound + 1e-12


@pytest.mark.parametrize(
    ("found", "alone"),
    [
        (seen(16), False),  # the bound is reached, by too few
        (seen(24), False),
        (seen(25), True),
        (seen(25, 1), True),
        (seen(25, 2), False),  # enough of them, below the bound
        (seen(60, 5), True),
        (seen(60, 5, row=1), True),
        (seen(60, 5, row=2), False),
        (replace(seen(25), good=15.0), False),  # long ago
    ],
)
def test_trust_is_won_by_many_and_clean_outcomes(found: Evidence, alone: bool) -> None:
    """From 25 verified ones on, with a bound of 0.8, and not after two failures in a row."""
    assert may_act_alone(found, trusted=False) is alone


@pytest.mark.parametrize(
    ("found", "alone"),
    [
        (seen(25, 5), True),  # 0.66: not enough to win trust, enough to keep it
        (seen(25, 7), True),
        (seen(25, 8), False),
        (seen(6), True),
        (seen(5), False),
        (seen(1000, row=1), True),
        (seen(1000, row=2), False),
    ],
)
def test_trust_is_lost_below_a_lower_bound_or_by_two_failures(found: Evidence, alone: bool) -> None:
    """Below 0.6, or at once after two failures in a row, whatever stood before."""
    assert may_act_alone(found, trusted=True) is alone


def test_trust_that_is_lost_is_won_again_from_the_beginning() -> None:
    """One good outcome after two failures ends the row, and still the bound for those without trust counts."""
    found = after(*[GOOD] * 25, BAD, BAD)
    assert not may_act_alone(found, trusted=True)
    found = noted(found, GOOD, NOW)
    assert may_act_alone(found, trusted=True)
    assert not may_act_alone(found, trusted=False)


@given(OUTCOMES, st.booleans())
def test_trust_never_stands_on_two_failures(outcomes: Sequence[tuple[Effect, float]], trusted: bool) -> None:
    """Whatever happened before, at whatever pace."""
    found, now = seen(500), NOW
    for effect, days in outcomes:
        now += timedelta(days=days)
        found = noted(found, effect, now)
    for _ in range(2):
        found = noted(found, BAD, now)
    assert not may_act_alone(found, trusted=trusted)


# Waiting is the measure


def test_lift_is_told_once_both_are_known_a_little() -> None:
    """Before that there is none; a remedy that does as waiting does has none."""
    assert evidence.lift(seen(9), seen(1)) is None
    assert evidence.lift(seen(1), seen(9)) is None
    assert evidence.lift(seen(8), seen(0, 8)) == pytest.approx(0.8)
    assert evidence.lift(seen(4, 4), seen(4, 4)) == 0.0
    assert evidence.lift(seen(0, 8), seen(8)) == pytest.approx(-0.8)


@pytest.mark.parametrize(
    ("mine", "waiting", "bounds"),
    [
        (seen(56, 14), seen(48, 32), (0.0524, 0.3339)),
        (seen(9, 1), seen(3, 7), (0.1705, 0.8090)),
        (seen(10), seen(0, 20), (0.6791, 1.0)),
        (NOTHING, NOTHING, (-1.0, 1.0)),
    ],
)
def test_lift_lies_between_newcombes_bounds(mine: Evidence, waiting: Evidence, bounds: tuple[float, float]) -> None:
    """As published (Newcombe 1998, table II, method 10); with nothing known anything may be."""
    assert evidence.lift_between(mine, waiting) == pytest.approx(bounds, abs=0.00005)


@given(st.builds(seen, COUNTS, COUNTS), st.builds(seen, COUNTS, COUNTS))
def test_bounds_of_the_lift_are_the_others_turned_round(mine: Evidence, waiting: Evidence) -> None:
    """What one does better the other does worse."""
    least, most = evidence.lift_between(mine, waiting)
    assert least <= most + 1e-12
    assert evidence.lift_between(waiting, mine) == pytest.approx((-most, -least))


def test_scopes_are_apart() -> None:
    """An issue and a kind of one name are two."""
    assert evidence.scope_of_issue("auth.expired") != evidence.scope_of_kind("auth.expired")
