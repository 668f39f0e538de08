"""Each rule that is never bent: its answer and its reason, in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ward import Ward, procedure
from engine.world import START
from prunella.core.clock import ManualClock
from prunella.core.findings import Finding, Sighting
from prunella.core.procedures import Limits
from prunella.core.records import Level
from prunella.engine import limits
from prunella.engine.gatekeeper import Answer
from prunella.engine.limits import Situation
from prunella.engine.pauses import Rest
from prunella.engine.stock import Due
from store.making import incident

ROWS = Finding(key="beds", issue="ROWS", message="rows", keys=tuple(range(20)), count=20, total=100)


def due(finding: Finding = ROWS, **changed: Any) -> Due:
    return Due(incident=incident(**changed), finding=finding, remedy="treat", looked_at=START, seen_at=START)


def situation(**changed: Any) -> Situation:
    level = changed.pop("level", Level.L0)
    ready = procedure(Ward(ManualClock()), level=level, limits=Limits(share_max=0.20))
    fields: dict[str, Any] = {
        "ready": ready,
        "due": [due()],
        "sighting": Sighting(at=START),
        "rest": None,
        "paused_by": None,
        "now": START,
    }
    return Situation(**{**fields, **changed})


@pytest.mark.parametrize(
    ("changed", "answer", "reason"),
    [
        ({}, Answer.RUN, "no rule objects"),
        ({"due": []}, Answer.WAIT, "there is nothing to do"),
        ({"rest": Rest("a window", START)}, Answer.WAIT, "a window"),
        ({"paused_by": "ada"}, Answer.WAIT, "ward is paused by ada; go on with: prunella resume --procedure ward"),
        ({"level": Level.L1}, Answer.RUN, "no rule objects"),
        ({"level": Level.L2}, Answer.PROPOSE, "level L2: a person approves the plan first"),
        ({"level": Level.L3}, Answer.REFUSE, "level L3: a person carries the plan out"),
        ({"due": [due(level=Level.L3)]}, Answer.REFUSE, "level L3: a person carries the plan out"),
        ({"level": Level.L2, "paused_by": "ada"}, Answer.WAIT, "ward is paused by ada"),
    ],
)
def test_rule_answers_with_its_reason(changed: dict[str, Any], answer: Answer, reason: str) -> None:
    """The strictest level counts, and what rests is not even proposed."""
    verdict = limits.admit(situation(**changed))
    assert verdict.answer is answer
    assert verdict.reason.startswith(reason)


@given(count=st.integers(1, 300), total=st.integers(0, 300))
def test_share_is_held_beyond_its_limit(count: int, total: int) -> None:
    """A fifth of the table is the most, at its exact edge, whatever the table's size; an empty total is no leave."""
    found = replace(ROWS, count=count, total=total)
    for level in Level:
        verdict = limits.admit(situation(due=[due(found)], level=level))
        assert ("share_max" in verdict.reason) is (count * 5 > total)


@given(st.lists(st.integers(1, 9), max_size=5), st.integers(0, 60))
def test_waves_keep_everything_in_its_order(sizes: list[int], count: int) -> None:
    """Nothing is lost, doubled or empty; each wave has the size that is wanted, the last takes the rest."""
    targets = [due() for _ in range(count)]
    cut = limits.waves(sizes, targets)
    assert [one for wave in cut for one in wave] == targets
    assert all(cut)
    assert all(len(wave) == size for wave, size in zip(cut[:-1], sizes, strict=False))


@pytest.mark.parametrize(
    ("bad", "is_bad"),
    [([], False), ([1], False), ([1, 0], False), ([1, 1], True), ([1, 1, 0, 0], False), ([1, 1, 1, 0, 0], True)],
)
def test_wave_is_bad_when_most_of_it_went_badly(bad: list[int], *, is_bad: bool) -> None:
    """More than half, and at least two: a single failing target never stops the others."""
    assert limits.is_bad([bool(one) for one in bad]) is is_bad


def test_run_is_cut_to_its_most() -> None:
    """Things beyond targets_max wait for the next run, and so do rows of a set."""
    ready = procedure(Ward(ManualClock()), limits=Limits(targets_max=7))
    mine, left = limits.cut(ready, [due()] * 9)
    assert (len(mine), len(left)) == (7, 2)
    assert {len(one.finding.keys) for one in mine} == {7}
