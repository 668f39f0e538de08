"""Nobody is called dead by somebody who did not look."""

from __future__ import annotations

import pytest

from prunella.core.clock import ManualClock
from prunella.runner.vigil import Vigil


@pytest.mark.parametrize(
    ("looks", "knows"),
    [
        ([0, 1, 2, 3, 4], False),
        ([0, 1, 2, 3, 4, 5], True),
        ([0, 2, 4, 6], True),
        ([0, 1, 2, 3, 9], False),  # an outage, or a freeze: the others could not beat either
        ([0, 1, 2, 3, 9, 10, 11, 12, 13], False),
        ([0, 1, 2, 3, 9, 10, 11, 12, 13, 14], True),
        ([0, 3, 6, 9], False),  # looks too seldom to have seen what happened in between
    ],
)
def test_dead_are_known_after_five_seconds_without_a_gap(looks: list[float], knows: bool) -> None:
    """Only who has looked again and again for five seconds knows who is not there."""
    clock = ManualClock()
    vigil, answer, before = Vigil(clock), False, 0.0
    for moment in looks:
        clock.advance(moment - before)
        before, answer = moment, vigil.goes_on()
    assert answer is knows
