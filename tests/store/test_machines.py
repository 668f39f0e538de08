"""Gate, incident, operation, approval, known issue: anything in any order over real rows (`make machines`: deeper)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import ModuleType

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from sqlalchemy import update

from prunella.core.errors import IllegalTransition
from prunella.core.states import ApprovalState, GateState, IncidentState, OperationState
from prunella.store import approvals, gates, incidents, learning, operations, tables
from prunella.store.sql import Sql, member_of, param
from store import decisions, machines

DEEP = settings().max_examples > 100
SIZE = settings(max_examples=400 if DEEP else 8, stateful_step_count=50 if DEEP else 25)
PLANTED = settings(max_examples=200, stateful_step_count=30, phases=[Phase.generate], print_blob=False)
ALL = (
    machines.GateMachine,
    machines.IncidentMachine,
    machines.OperationMachine,
    decisions.ApprovalMachine,
    decisions.IssueMachine,
)


@pytest.mark.parametrize("machine", ALL)
def test_rows_follow_the_model(machine: type[RuleBasedStateMachine]) -> None:
    """Whatever is done, in whatever order and with however old a reading: the rows say what a few lines say."""
    run_state_machine_as_test(machine, settings=SIZE)


def _claims_over_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    t = tables.incidents
    values = {"claimed_by": param("worker"), "lease_until": param("until"), "state": IncidentState.HEALING.value}
    claim = update(t).where(t.c.id == param("id_"), t.c.state != IncidentState.RESOLVED.value)
    monkeypatch.setattr(incidents, "_CLAIM", Sql(claim.values(**values, version=t.c.version + 1).returning(*t.c)))


def _begins_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    t = tables.operations
    begin = update(t).where(member_of(t.c.id, "ids")).values(state=OperationState.RUNNING.value)
    monkeypatch.setattr(operations, "_BEGIN", Sql(begin.returning(t.c.id)))


def _forgets_the_ordering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations.OperationRows, "turn", _anybodys_turn)


async def _anybodys_turn(rows: operations.OperationRows, incident_id: str, now: datetime, most: int) -> operations.Turn:
    waiting = await rows.list(most=most, incident_id=incident_id, state=OperationState.WAITING.value)
    return operations.Turn(waiting, {})


def _carries_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    t = tables.approvals
    use = update(t).where(t.c.id == param("id_"), t.c.state == ApprovalState.APPROVED.value)
    monkeypatch.setattr(approvals, "_USE", Sql(use.values(used_at=param("now"))))


def _tells_no_conflict(room: ModuleType) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(room, "must_change", lambda *_: None)


_S, _I = ApprovalState, IncidentState


def _gate_is_saved_over(machine: machines.GateMachine) -> None:
    machine.person_shuts(0, GateState.PAUSED)
    machine.call_ends(1, ok=True)


def _two_workers_claim(machine: machines.IncidentMachine) -> None:
    machine.report()
    machine.claim("one")
    machine.claim("two")


def _lost_worker_saves(machine: machines.IncidentMachine) -> None:
    _two_workers_claim(machine)
    machine.time_passes(61)
    machine.claim("two")
    machine.attempt_ends("one", _I.RESOLVED)


def _two_begin(machine: machines.OperationMachine) -> None:
    machine.queue(1, "")
    machine.turn_comes(1)
    machine.another_begins_the_same(0)


def _two_of_one_order(machine: machines.OperationMachine) -> None:
    machine.queue(1, "order-1")
    machine.queue(2, "order-1")
    machine.turn_comes(2)
    machine.rows_are_the_model()


def _plan_is_carried_out_twice(machine: decisions.ApprovalMachine) -> None:
    machine.answer(_S.WAITING, _S.APPROVED, "one")
    machine.carry_out()
    machine.carry_out()


def _two_answer(machine: decisions.ApprovalMachine) -> None:
    machine.answer(_S.WAITING, _S.REJECTED, "one")
    machine.answer(_S.WAITING, _S.APPROVED, "two")


def _issue_is_saved_over(machine: decisions.IssueMachine) -> None:
    machine.person_binds(0, "reload")
    machine.person_unbinds(1)


PLANTS = [
    (_gate_is_saved_over, machines.GateMachine, _tells_no_conflict(gates)),
    (_two_workers_claim, machines.IncidentMachine, _claims_over_a_lease),
    (_lost_worker_saves, machines.IncidentMachine, _tells_no_conflict(incidents)),
    (_two_begin, machines.OperationMachine, _begins_what_runs),
    (_two_of_one_order, machines.OperationMachine, _forgets_the_ordering),
    (_plan_is_carried_out_twice, decisions.ApprovalMachine, _carries_out_twice),
    (_two_answer, decisions.ApprovalMachine, _tells_no_conflict(approvals)),
    (_issue_is_saved_over, decisions.IssueMachine, _tells_no_conflict(learning)),
]
EACH_PLANT = pytest.mark.parametrize(
    ("story", "machine", "plant"), PLANTS, ids=lambda one: getattr(one, "__name__", "")
)


@EACH_PLANT
def test_machines_see_planted_bugs(
    story: Callable[..., None],
    machine: type[machines.Rows],
    plant: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A condition that one statement lacks, or a conflict that is not told, is noticed; without it all is well."""
    story(machine())
    plant(monkeypatch)
    with pytest.raises((AssertionError, IllegalTransition)):
        story(machine())


if DEEP:  # a search takes seconds for each

    @EACH_PLANT
    def test_planted_bugs_are_found_by_chance(
        story: Callable[..., None],
        machine: type[machines.Rows],
        plant: Callable[[pytest.MonkeyPatch], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Nobody has to know the way to it."""
        plant(monkeypatch)
        with pytest.raises((AssertionError, IllegalTransition)):
            run_state_machine_as_test(machine, settings=PLANTED)
