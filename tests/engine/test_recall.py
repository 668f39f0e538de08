"""Rows are deleted only when they were seen twice, and left alone when they flap."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.ward import Ward, procedure
from engine.world import START
from prunella.core.clock import ManualClock
from prunella.core.findings import Finding
from prunella.core.procedures import Sightings
from prunella.engine import recall
from prunella.engine.ladder import Next
from store.making import incident

TWICE = procedure(Ward(ManualClock()), sightings=Sightings(count=2, apart_s=60))
KEYS = st.lists(st.integers(0, 9), unique=True, min_size=1)
SECOND = timedelta(seconds=1)


def rows(keys: list[int]) -> Finding:
    return Finding(key="beds", issue="ROWS", message="rows", keys=tuple(keys), count=len(keys), total=100)


@given(first=KEYS, second=KEYS, apart_s=st.integers(0, 120))
def test_only_what_was_seen_twice_is_acted_on(first: list[int], second: list[int], apart_s: int) -> None:
    """A minute apart at least, and only the rows that both looks saw."""
    seen = incident(memory=recall.remembered(TWICE, incident(), rows(first), START))
    turn = recall.seen_enough(TWICE, seen, rows(second), START + apart_s * SECOND)
    both = set(first) & set(second)
    assert (turn.next is Next.ACT) is (apart_s >= 60 and bool(both))
    assert set(recall.targets(TWICE, seen, rows(second)).keys) == both


def test_first_look_is_the_one_that_counts() -> None:
    """Looks in between do not put the second sighting off, for sets of rows and for single things."""
    for finding in (rows([1, 2]), Finding(key="a", issue="SICK", message="")):
        memory = recall.remembered(TWICE, incident(), finding, START)
        again = recall.remembered(TWICE, incident(memory=memory), finding, START + 30 * SECOND)
        assert again["seen_at"] == START.isoformat()


def test_rows_that_come_back_three_times_are_left_alone() -> None:
    """Their neighbours are healed on."""
    one = incident()
    for _ in range(3):
        one = recall.healed(one, rows([1, 2]))
    one = recall.healed(one, rows([2, 3]))
    once = procedure(Ward(ManualClock()))
    assert recall.targets(once, one, rows([1, 2, 3])).keys == (3,)
    assert recall.healed(one, Finding(key="a", issue="SICK", message="")) == one
    assert recall.without(replace(one, memory={"a": 1, "b": 2}), "a").memory == {"b": 2}
