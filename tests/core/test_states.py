"""A state machine answers which change is legal, and ours allow what the design draws and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.errors import IllegalTransition
from prunella.core.states import (
    APPROVAL,
    GATE,
    INCIDENT,
    OPERATION,
    RUN,
    ApprovalState,
    GateState,
    IncidentState,
    OperationState,
    RunState,
    StateMachine,
)

STATES = st.sampled_from(["NEW", "PAID", "SENT", "LOST", "DONE", "VOID"])
TABLES = st.dictionaries(STATES, st.lists(STATES, max_size=4), min_size=1, max_size=6)


@given(TABLES, STATES, STATES)
def test_machine_allows_what_its_table_lists_and_standing_still(
    table: dict[str, list[str]], current: str, new: str
) -> None:
    """A change is legal exactly when the table lists it, or when nothing changes; `check` agrees with `allows`."""
    machine = StateMachine(table, name="order")
    if current not in machine.states:
        with pytest.raises(IllegalTransition, match=f"order: unknown state '{current}'; known: "):
            machine.allows(current, new)
        return
    legal = new in table.get(current, []) or new == current
    assert machine.allows(current, new) is legal
    if legal:
        machine.check(current, new)
    else:
        with pytest.raises(IllegalTransition, match=f"order: {current} -> {new} is not allowed; from {current}: "):
            machine.check(current, new)


@given(TABLES)
def test_machine_knows_every_state_once(table: dict[str, list[str]]) -> None:
    """States of both sides are known, each once; one that nothing follows is terminal."""
    machine = StateMachine(table)
    both = set(table) | {state for following in table.values() for state in following}
    assert set(machine.states) == both
    assert len(machine.states) == len(both)
    assert {state for state in both if machine.is_terminal(state)} == {s for s in both if not table.get(s)}


@given(TABLES, st.lists(STATES, max_size=20))
def test_checked_walk_never_leaves_the_table(table: dict[str, list[str]], wishes: list[str]) -> None:
    """Whoever moves only where `allows` says yes stays within the listed changes for ever."""
    machine = StateMachine(table)
    current = machine.states[0]
    for wish in wishes:
        if machine.allows(current, wish):
            assert wish == current or wish in table[current]
            current = wish


def test_refusal_says_what_would_be_allowed() -> None:
    """The message names subject, change and what may follow; a terminal state says so."""
    machine = StateMachine({"NEW": ["PAID", "VOID"]}, name="order")
    with pytest.raises(IllegalTransition, match=r"^order: NEW -> SENT is not allowed; from NEW: PAID, VOID$"):
        machine.check("NEW", "SENT")
    with pytest.raises(IllegalTransition, match="from PAID: nothing, it is terminal"):
        machine.check("PAID", "NEW")


@pytest.mark.parametrize(
    ("machine", "states"),
    [
        (INCIDENT, IncidentState),
        (RUN, RunState),
        (APPROVAL, ApprovalState),
        (GATE, GateState),
        (OPERATION, OperationState),
    ],
    ids=["incident", "run", "approval", "gate", "operation"],
)
def test_our_machines_know_every_state_of_their_noun(machine: StateMachine, states: type[IncidentState]) -> None:
    """No state of an enumeration is missing from its machine, and each can be reached or is where things begin."""
    assert set(machine.states) == {state.value for state in states}
    first = machine.states[0]
    reached = {new for old in machine.states for new in machine.states if new != old and machine.allows(old, new)}
    assert set(machine.states) - reached <= {first}


@pytest.mark.parametrize(
    ("machine", "terminal"),
    [
        (INCIDENT, {"resolved"}),
        (RUN, {"failed", "timed_out", "unknown", "undone"}),
        (APPROVAL, {"rejected", "expired", "superseded", "closed"}),
        (GATE, set()),
        (OPERATION, {"done", "cancelled"}),
    ],
    ids=["incident", "run", "approval", "gate", "operation"],
)
def test_terminal_states_are_those_of_the_design(machine: StateMachine, terminal: set[str]) -> None:
    """What is over stays over: resolved, runs that failed or were undone, answers that ended a proposal, done and cancelled work; a gate always has a way on."""
    assert {state for state in machine.states if machine.is_terminal(state)} == terminal


@pytest.mark.parametrize(
    ("machine", "current", "new"),
    [
        (GATE, "paused", "half_open"),
        (GATE, "paused", "open"),
        (GATE, "disabled", "half_open"),
        (GATE, "disabled", "open"),
        (GATE, "closed", "half_open"),
        (INCIDENT, "healing", "suppressed"),
        (INCIDENT, "suppressed", "healing"),
        (INCIDENT, "escalated", "verifying"),
        (RUN, "unknown", "running"),
        (RUN, "failed", "verified"),
        (OPERATION, "dead", "running"),
        (OPERATION, "running", "cancelled"),
    ],
)
def test_machine_refuses_what_would_break_a_promise(machine: StateMachine, current: str, new: str) -> None:
    """A probe never opens what a person paused, an unknown run is never repeated, quarantine is left by a person."""
    assert not machine.allows(current, new)
