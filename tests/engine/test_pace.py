"""As many are begun at once as fit into a second, whatever one of them takes."""

from __future__ import annotations

import pytest

from prunella.core.clock import ManualClock
from prunella.engine.pace import Pace


@pytest.mark.parametrize(("each_s", "size"), [(0.0, 200), (0.001, 200), (0.1, 10), (0.6, 1), (30.0, 1)])
def test_parts_last_about_a_second(each_s: float, size: int) -> None:
    """Quick ones go in hundreds, slow ones one by one, so that a kill switch is heard in time."""
    clock = ManualClock()
    pace = Pace(clock)
    for _ in range(4):
        count = pace.size
        with pace.measured(count):
            clock.advance(each_s * count)
    assert pace.size == size
