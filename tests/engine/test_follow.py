"""What follows an attempt is decided on what came back alone: no database, no clock, the same answer each time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from engine.world import START, case
from prunella.core.clock import Rng
from prunella.core.records import Category, Failure, Operation
from prunella.core.states import IncidentState, OperationState
from prunella.engine import follow
from prunella.engine.follow import Result
from prunella.engine.gatekeeper import Answer, Verdict
from prunella.engine.plan import TRIES, Plan
from prunella.remedies.contract import Outcome
from store.making import operation, run

REPLAY = Plan(procedure="recover.network", remedy="replay", action="replay the original request")
DOWN = Outcome(ok=False, detail="HTTP 503", failure=Failure(service="crm", status=503, message="down"))
WRONG = Outcome(ok=False, detail="HTTP 422", failure=Failure(service="crm", status=422, message="no email"))
WELL = Outcome(ok=True, status=200)


def replayed(*outcomes: Outcome) -> list[Result]:
    return [Result(run(number), operation(number), outcome) for number, outcome in enumerate(outcomes)]


def after(outcomes: list[Result], *, joined: bool = False, due_s: float | None = None, **changed: Any) -> follow.Step:
    due = None if due_s is None else START + timedelta(seconds=due_s)
    return follow.after(case(**changed), REPLAY, outcomes, Rng(1), joined=joined, due=due)


@pytest.mark.parametrize(
    ("wave", "good", "bad", "following"),
    [
        (1, 1, 0, 2),
        (8, 8, 0, 16),
        (64, 64, 0, 64),
        (4, 3, 1, 8),
        (4, 1, 3, 1),
        (4, 0, 4, 1),
        (4, 0, 1, 4),
        (4, 0, 0, 4),
    ],
)
def test_wave_grows_while_most_go_through(wave: int, good: int, bad: int, following: int) -> None:
    """It doubles up to 64; two failures that are more than half start it over; one failing target changes nothing."""
    assert follow.next_wave(wave, replayed(*[WELL] * good, *[DOWN] * bad)) == following


def test_event_that_joined_is_looked_at_before_anything_is_called_well() -> None:
    """Whatever the replays said, another event of the incident means another look at once."""
    step = after(replayed(WELL), joined=True, operations={"done": 1})
    assert (step.state, step.next_at, step.proof) == (IncidentState.OPEN, START, None)


def test_replays_that_all_went_through_prove_it() -> None:
    """Only when none is left does the incident end, with the proof."""
    step = after(replayed(WELL), operations={"done": 1})
    assert step.state is IncidentState.RESOLVED
    assert step.proof is not None
    assert after(replayed(WELL), operations={"done": 1, "waiting": 1}, due_s=0.5).proof is None


def test_wait_is_short_or_durable() -> None:
    """What is due within 10 s goes on by itself; a longer wait is held with its reason."""
    short = after(replayed(DOWN), operations={"waiting": 1}, due_s=9.9)
    assert (short.action, short.held_reason) == ("retry sequence started", None)
    long = after(replayed(DOWN), operations={"waiting": 1}, due_s=60)
    assert (long.held_reason, long.next_at) == ("HTTP 503", START + timedelta(seconds=60))


def test_quarantine_is_a_persons() -> None:
    """What was refused for its data is escalated, and says what stands where."""
    step = after(replayed(WRONG), operations={"dead": 1})
    assert (step.state, step.person) == (IncidentState.ESCALATED, "0 of 1 requests went through, 1 in quarantine")


def follows(outcome: Outcome, **changed: Any) -> Operation:
    one = case()
    return follow.of_operation(one, operation(**changed), outcome, follow.diagnose(one, outcome), Rng(1))


def test_request_ends_where_its_answer_says() -> None:
    """Well: done. Data: quarantine. Anything else: again after a wait, and after the last try it rests."""
    assert follows(WELL).state is OperationState.DONE
    assert follows(WRONG).state is OperationState.DEAD
    again = follows(DOWN)
    assert (again.state, again.attempts) == (OperationState.WAITING, 1)
    assert again.due_at is not None
    assert follows(DOWN, attempts=TRIES[Category.NETWORK] - 1).due_at is None


def test_call_that_was_never_made_costs_no_try() -> None:
    """Where our own tables were away, the request waits half a second and has lost nothing."""
    busy = follows(Outcome(ok=False, busy=True), attempts=2)
    assert (busy.attempts, busy.due_at) == (2, START + timedelta(seconds=0.5))


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (Answer.PROPOSE, IncidentState.AWAITING_APPROVAL),
        (Answer.REFUSE, IncidentState.ESCALATED),
        (Answer.WAIT, IncidentState.OPEN),
    ],
)
def test_objection_decides_the_state(answer: Answer, state: IncidentState) -> None:
    """A proposal waits for approval, a refusal for a person, a wait for its time; the reason is kept."""
    until = START + timedelta(seconds=30)
    step = follow.held(case(), REPLAY, Verdict(answer, "because", until), None)
    assert (step.state, step.held_reason) == (state, "because")
    assert step.next_at == (until if answer is Answer.WAIT else None)
