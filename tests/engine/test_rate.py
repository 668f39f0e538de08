"""The rate of a lane: what may begin, when the next one may, and what answers teach (HEAL_RATE_001)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.world import CRM, START, open_gate
from prunella.core.records import Gate
from prunella.engine import rate

LIMITED = replace(CRM, rate_per_s=5.0)
SECOND = timedelta(seconds=1)


def taught(gate: Gate, *, refused: int = 0, good: int = 0, at_s: float = 0.0, began_s: float | None = None) -> Gate:
    """Return the gate after a round of calls that ended at `at_s`."""
    now, began = START + at_s * SECOND, START + (at_s if began_s is None else began_s) * SECOND
    return rate.learned(gate, LIMITED, now, began=began, good=good, refused=refused)


def test_without_a_configured_rate_nothing_is_counted() -> None:
    """No limit: every function leaves the gate alone."""
    gate = open_gate()
    assert rate.of(gate, CRM) is None
    assert rate.free(gate, CRM) is None
    assert rate.filled(gate, CRM, START) is gate
    assert rate.begun(gate, CRM, 3) is gate
    assert rate.learned(gate, CRM, START, began=START, good=9, refused=9) is gate
    assert rate.next_at(gate, CRM, START) == START


def test_tokens_come_with_time_and_never_pile_up() -> None:
    """Half a second's worth may begin at once; then one per fifth of a second, however long the lane rested."""
    gate = rate.filled(open_gate(), LIMITED, START)
    assert rate.free(gate, LIMITED) == 2
    gate = rate.begun(gate, LIMITED, 2)
    assert rate.free(gate, LIMITED) == 0
    assert rate.next_at(gate, LIMITED, START) - START < SECOND / 5
    at = rate.next_at(gate, LIMITED, START)
    assert rate.free(rate.filled(gate, LIMITED, at), LIMITED) == 1
    assert rate.free(rate.filled(gate, LIMITED, START + 3600 * SECOND), LIMITED) == 2


def test_clock_that_runs_behind_takes_no_tokens_back() -> None:
    """A worker whose idea of the database's time lags a little counts nothing twice."""
    gate = rate.filled(open_gate(), LIMITED, START + SECOND)
    earlier = rate.filled(rate.begun(gate, LIMITED, 2), LIMITED, START)
    assert rate.free(earlier, LIMITED) == 0
    assert earlier.tokens_at == START + SECOND


def test_refusal_slows_down_once_per_round() -> None:
    """x 0.8 for a round, however many 429s it brought; calls that began before the change teach nothing."""
    gate = taught(open_gate(), refused=16)
    assert rate.of(gate, LIMITED) == pytest.approx(4.0)
    assert taught(gate, refused=1, at_s=1, began_s=-1) is gate
    assert rate.of(taught(gate, refused=1, at_s=1), LIMITED) == pytest.approx(3.2)


def test_rate_grows_while_all_goes_well() -> None:
    """x 1.1 after ten good calls, at most once a second, and a refusal starts the count anew."""
    gate = taught(open_gate(), good=9)
    assert rate.of(gate, LIMITED) == 5.0
    gate = taught(gate, good=1)
    assert rate.of(gate, LIMITED) == pytest.approx(5.5)
    assert rate.of(taught(gate, good=50, at_s=0.9), LIMITED) == pytest.approx(5.5)
    assert rate.of(taught(gate, good=50, at_s=1), LIMITED) == pytest.approx(6.05)
    assert taught(gate, refused=1, good=9, at_s=1).rate_good == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 64)), max_size=200))
def test_rate_stays_between_a_tenth_and_twice(rounds: list[tuple[bool, int]]) -> None:
    """Document A's floor and ceiling hold whatever the answers were."""
    gate = open_gate()
    for at_s, (refused, calls) in enumerate(rounds):
        gate = taught(gate, refused=calls * refused, good=calls * (not refused), at_s=at_s)
        learned = rate.of(gate, LIMITED)
        assert learned is not None
        assert 0.5 <= learned <= 10.0


def test_rate_follows_its_configuration() -> None:
    """What was learned under another configuration is cut to what is configured now."""
    gate = replace(open_gate(), rate_per_s=50.0)
    assert rate.of(gate, LIMITED) == 10.0
    assert rate.of(gate, replace(LIMITED, rate_per_s=1000.0)) == 100.0


def test_rate_is_spelled_for_people() -> None:
    """The words name the rate, and the configured one where it differs."""
    assert rate.spell(open_gate(), LIMITED) == "5 calls per second"
    assert rate.spell(taught(open_gate(), refused=1), LIMITED) == "4 calls per second (learned; configured 5)"
