"""May this plan run now? Pure; one rule per function, asked in order, and every answer says why and until when."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from prunella.core.records import Level
from prunella.core.states import GateState
from prunella.engine import rate
from prunella.engine.plan import INLINE_WAIT_MAX_S, Case, Plan

_BUSY_S = 0.25
_HALF_OPEN_S = 1.0
_TURN_MIN_S = 0.02  # a lane of many calls per second takes several per turn


class Answer(StrEnum):
    """What the gate keeper can say."""

    RUN = "run"
    WAIT = "wait"
    PROPOSE = "propose"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer with its reason; `until` is the next look, None when only an outside change can move it."""

    answer: Answer
    reason: str
    until: datetime | None = None


Rule = Callable[[Case, Plan], Verdict | None]


def admit(case: Case, plan: Plan) -> Verdict:
    """Return the first rule's objection, or leave to run."""
    for rule in _RULES:
        verdict = rule(case, plan)
        if verdict is not None:
            return verdict
    return Verdict(Answer.RUN, "no rule objects")


def wave(case: Case, plan: Plan) -> Plan:
    """Cut the targets to what the service may get at once: one while half open, else the free places and tokens."""
    if case.service is None or not plan.targets:
        return plan
    most = 1 if case.gate.state is not GateState.CLOSED else case.service.calls_max - case.in_flight
    tokens = rate.free(case.gate, case.service)
    if tokens is not None:
        most = min(most, tokens)
    return replace(plan, targets=plan.targets[: max(most, 1)])


def _turn(case: Case, wait_s: float) -> datetime:
    """Return when to look again after `wait_s`; in a crowd each has a place of its own: not all come at once."""
    place = zlib.crc32(case.incident.id.encode()) / 2**32
    return case.now + timedelta(seconds=wait_s * max(1.0, place * case.crowd))


def _resting(case: Case, plan: Plan) -> Verdict | None:
    return Verdict(Answer.WAIT, case.rest.reason, case.rest.until) if case.rest is not None else None


def _configured(case: Case, plan: Plan) -> Verdict | None:
    if case.service is not None:
        return None
    name = case.incident.service
    return Verdict(
        Answer.REFUSE,
        f"{name} is not configured, so nothing is sent to it; add services.{name} to prunella.yaml",
    )


def _disabled(case: Case, plan: Plan) -> Verdict | None:
    if case.gate.state is not GateState.DISABLED:
        return None
    return Verdict(Answer.WAIT, f"{case.incident.service} is disabled: {case.gate.reason}; enable it when it is well")


def _paused(case: Case, plan: Plan) -> Verdict | None:
    if case.gate.state is GateState.PAUSED:
        return Verdict(Answer.WAIT, f"{case.incident.service} is paused by {case.gate.changed_by}: {case.gate.reason}")
    if not case.gate.auto_recovery_enabled:
        return Verdict(Answer.WAIT, f"automatic recovery of {case.incident.service} is switched off")
    return None


def _possible(case: Case, plan: Plan) -> Verdict | None:
    if plan.remedy is not None:
        return None
    if plan.person:
        return Verdict(Answer.REFUSE, plan.action)
    return Verdict(Answer.WAIT, plan.action)


def _level(case: Case, plan: Plan) -> Verdict | None:
    level = max(case.incident.level, plan.level)
    if level is Level.L2:
        return Verdict(Answer.PROPOSE, "level L2: a person approves the plan first")
    if level is Level.L3:
        return Verdict(Answer.REFUSE, "level L3: a person carries the plan out")
    return None


def _throttled(case: Case, plan: Plan) -> Verdict | None:
    until = case.gate.throttled_until
    if until is None or until <= case.now or plan.remedy == "refresh_token":
        return None
    return Verdict(Answer.WAIT, f"{case.incident.service} asked for silence until {until:%H:%M:%S} UTC", until)


def _open(case: Case, plan: Plan) -> Verdict | None:
    if case.gate.state is not GateState.OPEN or case.gate.reopen_at is None or case.gate.reopen_at <= case.now:
        return None
    probe = f"next probe {case.gate.reopen_at:%H:%M:%S} UTC"
    reason = f"the gate of {case.incident.service} is open: {case.gate.reason}; {probe}"
    return Verdict(Answer.WAIT, reason, case.gate.reopen_at)


def _crowded(case: Case, plan: Plan) -> Verdict | None:
    assert case.service is not None  # `_configured` spoke before
    if case.gate.state is not GateState.CLOSED and case.in_flight:
        until = _turn(case, _HALF_OPEN_S)
        return Verdict(Answer.WAIT, f"a probe of {case.incident.service} is under way", until)
    if case.in_flight >= case.service.calls_max:
        until = _turn(case, _BUSY_S)
        return Verdict(Answer.WAIT, f"{case.in_flight} calls to {case.incident.service} are under way", until)
    return None


def _paced(case: Case, plan: Plan) -> Verdict | None:
    assert case.service is not None  # `_configured` spoke before
    if plan.remedy != "replay" or rate.free(case.gate, case.service) != 0:
        return None
    next_at = rate.next_at(case.gate, case.service, case.now)
    until = _turn(case, max((next_at - case.now).total_seconds(), _TURN_MIN_S))
    reason = f"the lane of {case.incident.service} goes at {rate.spell(case.gate, case.service)}"
    waits_s = (until - case.now).total_seconds()
    when = f"{until:%H:%M:%S} UTC" if waits_s >= INLINE_WAIT_MAX_S else "as soon as its turn comes"
    return Verdict(Answer.WAIT, f"{reason}; goes on {when}", until)


_RULES: tuple[Rule, ...] = (
    *(_resting, _configured, _disabled, _paused, _possible),
    *(_level, _throttled, _open, _crowded, _paced),
)
