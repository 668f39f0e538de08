"""Every rule of the gate keeper: its answer, its reason, and until when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.world import CRM, START, case, open_gate
from prunella.core.records import Level
from prunella.core.states import GateState
from prunella.engine.gatekeeper import Answer, Verdict, admit, wave
from prunella.engine.plan import Plan
from store.making import operation

REPLAY = Plan(procedure="recover.network", remedy="replay", action="replay the original request")
REFRESH = Plan(procedure="recover.auth", remedy="refresh_token", action="refresh the OAuth token")
SECOND = timedelta(seconds=1)
SOON = START + 90 * SECOND


@pytest.mark.parametrize(
    ("changed", "plan", "verdict"),
    [
        ({}, REPLAY, Verdict(Answer.RUN, "no rule objects")),
        (
            {"service": None},
            REPLAY,
            Verdict(
                Answer.REFUSE,
                "crm is not configured, so nothing is sent to it; add services.crm to prunella.yaml",
            ),
        ),
        (
            {"gate": {"state": "disabled", "reason": "5 consecutive data failures"}},
            REPLAY,
            Verdict(Answer.WAIT, "crm is disabled: 5 consecutive data failures; enable it when it is well"),
        ),
        (
            {"gate": {"state": "paused", "reason": "release", "changed_by": "ada"}},
            REPLAY,
            Verdict(Answer.WAIT, "crm is paused by ada: release"),
        ),
        (
            {"gate": {"auto_recovery_enabled": False}},
            REPLAY,
            Verdict(Answer.WAIT, "automatic recovery of crm is switched off"),
        ),
        (
            {},
            Plan(procedure="p", remedy=None, action="retry scheduled"),
            Verdict(Answer.WAIT, "retry scheduled"),
        ),
        (
            {},
            Plan(procedure="p", remedy=None, action="correct the data", person=True),
            Verdict(Answer.REFUSE, "correct the data"),
        ),
        ({"level": Level.L1}, REPLAY, Verdict(Answer.RUN, "no rule objects")),
        ({"level": Level.L2}, REPLAY, Verdict(Answer.PROPOSE, "level L2: a person approves the plan first")),
        ({"level": Level.L3}, REPLAY, Verdict(Answer.REFUSE, "level L3: a person carries the plan out")),
        (
            {"gate": {"throttled_until": SOON}},
            REPLAY,
            Verdict(Answer.WAIT, "crm asked for silence until 00:01:30 UTC", SOON),
        ),
        ({"gate": {"throttled_until": SOON}}, REFRESH, Verdict(Answer.RUN, "no rule objects")),
        ({"gate": {"throttled_until": START}}, REPLAY, Verdict(Answer.RUN, "no rule objects")),
        (
            {"gate": {"state": "open", "reason": "5 failed calls in a row", "reopen_at": SOON}},
            REPLAY,
            Verdict(Answer.WAIT, "the gate of crm is open: 5 failed calls in a row; next probe 00:01:30 UTC", SOON),
        ),
        ({"gate": {"state": "open", "reopen_at": START}}, REPLAY, Verdict(Answer.RUN, "no rule objects")),
        ({"gate": {"state": "half_open"}}, REPLAY, Verdict(Answer.RUN, "no rule objects")),
        (
            {"gate": {"state": "half_open"}, "in_flight": 1},
            REPLAY,
            Verdict(Answer.WAIT, "a probe of crm is under way", START + SECOND),
        ),
        (
            {"gate": {"state": "open", "reopen_at": START}, "in_flight": 1},
            REPLAY,
            Verdict(Answer.WAIT, "a probe of crm is under way", START + SECOND),
        ),
        ({"in_flight": 7}, REPLAY, Verdict(Answer.RUN, "no rule objects")),
        (
            {"in_flight": 8},
            REPLAY,
            Verdict(Answer.WAIT, "8 calls to crm are under way", START + timedelta(seconds=0.25)),
        ),
    ],
)
def test_rule_speaks_with_its_reason(changed: dict[str, Any], plan: Plan, verdict: Verdict) -> None:
    """One rule at a time: answer, words and the moment of the next look, None where only an outside change moves it."""
    assert admit(looked(**changed), plan) == verdict


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"service": None, "gate": {"state": "paused", "reason": "r"}}, "not configured"),
        ({"gate": {"state": "disabled", "reason": "r"}, "level": Level.L2}, "disabled"),
        ({"gate": {"state": "paused", "reason": "r", "throttled_until": SOON}}, "paused"),
        ({"level": Level.L2, "gate": {"throttled_until": SOON}}, "level L2"),
        ({"gate": {"throttled_until": SOON, "state": "open", "reopen_at": SOON}}, "silence"),
        ({"gate": {"state": "open", "reason": "r", "reopen_at": SOON}, "in_flight": 99}, "open"),
    ],
)
def test_stronger_rule_speaks_first(changed: dict[str, Any], words: str) -> None:
    """Where several object, the one that a person has to know is heard: what only they can lift comes first."""
    assert words in admit(looked(**changed), REPLAY).reason


@given(
    st.sampled_from(GateState),
    st.sampled_from(Level),
    st.integers(0, 10),
    st.booleans(),
    st.sampled_from([None, START - SECOND, START, SOON]),
    st.booleans(),
)
def test_nothing_runs_that_a_rule_forbids(
    state: GateState, level: Level, in_flight: int, auto: bool, silent: Any, person: bool
) -> None:
    """Whatever comes together: a run means that no rule was broken, and every other answer gives a reason."""
    gate = {"state": state, "reason": "r", "auto_recovery_enabled": auto, "throttled_until": silent}
    gate["reopen_at"] = SOON if state is GateState.OPEN else None
    plan = Plan(procedure="p", remedy=None if person else "replay", action="a", person=person)
    verdict = admit(looked(gate=gate, level=level, in_flight=in_flight), plan)
    if verdict.answer is Answer.RUN:
        assert state in (GateState.CLOSED, GateState.HALF_OPEN)
        assert level in (Level.L0, Level.L1)
        assert auto
        assert not person
        assert silent is None or silent <= START
        assert in_flight < (8 if state is GateState.CLOSED else 1)
    assert verdict.reason
    assert verdict.until is None or (verdict.answer is Answer.WAIT and verdict.until > START)


@pytest.mark.parametrize(
    ("state", "in_flight", "size"),
    [
        ("closed", 0, 8),
        ("closed", 3, 5),
        ("closed", 7, 1),
        ("closed", 8, 1),
        ("half_open", 0, 1),
        ("open", 0, 1),
    ],
)
def test_wave_is_cut_to_what_the_service_may_get(state: str, in_flight: int, size: int) -> None:
    """The free places while closed, one probe otherwise, never none; the oldest come first."""
    targets = tuple(operation(number) for number in range(20))
    plan = wave(looked(gate={"state": state}, in_flight=in_flight), replace(REPLAY, targets=targets))
    assert plan.targets == targets[:size]


def test_wave_leaves_plans_without_targets_alone() -> None:
    """A refresh has nothing to cut, and neither has a service that nobody configured."""
    assert wave(looked(), REFRESH) is REFRESH
    aimed = replace(REPLAY, targets=(operation(),))
    assert wave(looked(service=None), aimed) is aimed


def looked(**changed: Any) -> Any:
    """Return a case, its gate given as a mapping of changes."""
    gate = open_gate(**changed.pop("gate", {}))
    level = changed.pop("level", Level.L0)
    return case(gate=gate, incident={"level": level}, **{"service": CRM, **changed})
