"""What comes next is decided on what is known alone: states, attempts, evidence and time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from engine.ward import ORDER, Ward, procedure
from engine.world import START
from prunella.core.clock import ManualClock
from prunella.core.findings import Finding
from prunella.core.procedures import Limits
from prunella.core.states import IncidentState, RunState
from prunella.engine import ladder
from prunella.engine.ladder import Next
from store.making import incident, run

_S = IncidentState
MINUTE = timedelta(minutes=1)
SICK = Finding(key="a", issue="SICK", message="a is sick")
DONE = run(state=RunState.DONE, remedy="treat", started_at=START)
READY = procedure(Ward(ManualClock()), limits=Limits(cool_down_s=600, attempts=3))


@pytest.mark.parametrize(
    ("changed", "following", "reason"),
    [
        ({}, Next.ACT, "it is due"),
        ({"state": "pending"}, Next.ACT, "it is due"),
        ({"state": "awaiting_approval"}, Next.ACT, "it is due"),
        ({"state": "escalated", "held_reason": "ask ada"}, Next.WAIT, "ask ada"),
        ({"state": "suppressed"}, Next.WAIT, "it waits for a person"),
        ({"claimed_by": "w", "lease_until": START + MINUTE}, Next.WAIT, "it is being healed by w"),
        ({"claimed_by": "w", "lease_until": START}, Next.ACT, "it is due"),
        ({"next_at": START + MINUTE}, Next.WAIT, "next attempt 00:01:00 UTC"),
        ({"next_at": START}, Next.ACT, "it is due"),
        ({"attempts": 2}, Next.ACT, "it is due"),
        ({"attempts": 3}, Next.GIVE_UP, "3 attempts did not help"),
        ({"attempts": 3, "next_at": START + MINUTE}, Next.GIVE_UP, "3 attempts did not help"),
        ({"regressions": 3}, Next.GIVE_UP, "flapping: it came back 3 times soon after it was well"),
        ({"regressions": 3, "state": "escalated"}, Next.WAIT, "it waits for a person"),
    ],
)
def test_thing_that_is_found(changed: dict[str, Any], following: Next, reason: str) -> None:
    """Leases and people come first, then flapping, attempts and time."""
    turn = ladder.found(READY, incident(**changed), SICK, None, START)
    assert (turn.next, turn.reason) == (following, reason)


def test_attempt_of_a_dead_worker_is_made_again_beyond_the_limit() -> None:
    """The third attempt died half-way: that it is repeated costs no fourth."""
    spent = incident(attempts=3)
    assert ladder.found(READY, spent, SICK, None, START, repeats=True).next is Next.ACT
    assert ladder.found(READY, replace(spent, regressions=3), SICK, None, START, repeats=True).next is Next.GIVE_UP


@pytest.mark.parametrize(
    ("arose_min", "over", "following"),
    [
        (None, False, Next.WAIT),
        (None, True, Next.INEFFECTIVE),
        (-5, False, Next.WAIT),
        (-5, True, Next.PROVEN),
        (0, True, Next.PROVEN),
        (5, False, Next.INEFFECTIVE),
        (5, True, Next.INEFFECTIVE),
    ],
)
def test_proof(arose_min: int | None, *, over: bool, following: Next) -> None:
    """Evidence from before the act says nothing about it; newer evidence says at once that it did not help."""
    until = START if over else START + MINUTE
    memory = {"acted_there": START.isoformat()}
    waiting = incident(state=_S.VERIFYING, next_at=until, memory=memory)
    arose = None if arose_min is None else START + arose_min * MINUTE
    assert ladder.found(READY, waiting, replace(SICK, occurred_at=arose), DONE, START).next is following


def test_thing_that_is_gone() -> None:
    """Proven at once; unless it is being healed, or flapped and has to be well for four hours."""
    assert ladder.gone(READY, incident(), START).reason == "it is well; it recovered by itself"
    assert ladder.gone(READY, incident(state=_S.VERIFYING), START).reason == "it is well"
    leased = incident(claimed_by="w", lease_until=START + MINUTE)
    assert ladder.gone(READY, leased, START).next is Next.WAIT
    flapping = incident(memory={"flapping": True})
    assert ladder.gone(READY, flapping, START).next is Next.WAIT
    clean = incident(memory={"flapping": True, "clean_since": START.isoformat()})
    assert ladder.gone(READY, clean, START + ladder.QUIET - MINUTE).next is Next.WAIT
    assert ladder.gone(READY, clean, START + ladder.QUIET).next is Next.PROVEN


def test_back_off() -> None:
    """Twice as long each time; an entity's cycle is its cool-down; configured delays are taken in their order."""
    waits = [(ladder.again_at(READY, n, START) - START).total_seconds() for n in (1, 2, 3, 9, 99)]
    assert waits == [600, 1200, 2400, 600 * 64, 600 * 64]
    assert ladder.again_at(procedure(Ward(ManualClock()), entity=ORDER), 2, START) == START
    delayed = procedure(Ward(ManualClock()), delays_s=(60.0, 120.0, 240.0))
    assert [(ladder.again_at(delayed, n, START) - START).total_seconds() for n in (1, 2, 3)] == [120, 240, 240]


def test_how_long_a_proof_may_take() -> None:
    """As configured; one look where nothing lies about; an interval where the evidence does, or steps take time."""
    ward = Ward(ManualClock())
    old = replace(SICK, occurred_at=START)
    assert ladder.proof_by(READY, SICK, START) is None
    assert ladder.proof_by(READY, old, START) == START + 5 * MINUTE
    assert ladder.proof_by(procedure(ward, entity=ORDER), SICK, START) == START + 5 * MINUTE
    assert ladder.proof_by(procedure(ward, verify_within_s=60.0), SICK, START) == START + MINUTE
