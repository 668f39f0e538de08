"""A wired procedure answers from its policy, or from its entity where it has one."""

from __future__ import annotations

from dataclasses import replace

from engine.ward import ORDER, Treatment, Ward, procedure
from prunella.core.clock import ManualClock
from prunella.core.findings import Finding
from prunella.core.procedures import Limits
from prunella.engine.ready import FUTURE_ROW, MANUAL

SICK = Finding(key="a", issue="SICK", message="a is sick")
WARD = Ward(ManualClock())


def test_attempts_and_last_remedy_are_the_entitys() -> None:
    """An entity names its own; otherwise the policy's limit counts and a person is the last remedy."""
    plain = procedure(WARD, limits=Limits(attempts=7))
    assert (plain.name, plain.attempts, plain.give_up) == ("ward", 7, MANUAL)
    ladder = procedure(WARD, entity=replace(ORDER, attempts=2, give_up="cancel"))
    assert (ladder.attempts, ladder.give_up) == (2, "cancel")


def test_remedy_fits_the_finding() -> None:
    """The finding's own, or the only one; a row from the future is a person's, and so is what has no remedy."""
    one = procedure(WARD, remedies={"treat": Treatment(WARD), "cancel": Treatment(WARD, name="cancel")})
    assert one.remedy_for(SICK) == "treat"
    assert one.remedy_for(replace(SICK, remedy="cancel")) == "cancel"
    assert one.remedy_for(replace(SICK, issue=FUTURE_ROW, remedy="cancel")) == MANUAL
    assert replace(one, remedies={}).remedy_for(SICK) == MANUAL
