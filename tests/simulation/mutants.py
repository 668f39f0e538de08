"""Planted bugs: each breaks one promise, and the simulation has to notice. A check that never failed proves nothing.

Half of them were real once: the simulation found them in the engine, and here they stay, so that it finds them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import update

from prunella.core.records import Category, Incident, Operation, Signal
from prunella.core.states import IncidentState
from prunella.engine import follow, gatekeeper, heal, intake, learn, patrol, perform, plan, trail, verify
from prunella.engine.intake import Arrival
from prunella.engine.learning import autofix, judging
from prunella.engine.parts import Parts
from prunella.engine.plan import Case
from prunella.engine.report import Receipt
from prunella.remedies import oauth
from prunella.remedies.contract import Outcome, Target
from prunella.remedies.oauth import RefreshToken
from prunella.store import incidents, operations
from prunella.store.credentials import CredentialRows
from prunella.store.signals import SignalRows
from prunella.store.sql import Sql, member_of, param
from prunella.store.tables import incidents as incident_table
from prunella.store.tables import operations as operation_table


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug, and how the simulation shows it.

    Args:
        shows: a part of what the simulation then says.
        seed: one that showed it when this was written, looked at first, to save time.
    """

    plant: Callable[[pytest.MonkeyPatch], None]
    shows: str
    seed: int = 0


def _double_claim(patch: pytest.MonkeyPatch) -> None:
    """Claim whatever is open, leased or not, and whatever is to be replayed, begun or not: either lock alone holds."""
    t = incident_table
    claim = (
        update(t)
        .where(t.c.id == param("id_"), t.c.state.in_(["pending", "open", "healing", "verifying"]))
        .values(claimed_by=param("worker"), lease_until=param("until"), state="healing", version=t.c.version + 1)
        .returning(*t.c)
    )
    patch.setattr(incidents, "_CLAIM", Sql(claim))
    o = operation_table
    begin = (
        update(o).where(member_of(o.c.id, "ids")).values(state="running", attempts=o.c.attempts + 1).returning(o.c.id)
    )
    patch.setattr(operations, "_BEGIN", Sql(begin))


def _early_answer(patch: pytest.MonkeyPatch) -> None:
    """Answer first, write later."""
    record = intake.record
    later: set[asyncio.Task[Any]] = set()

    async def at_once(parts: Parts, arrivals: Sequence[Arrival]) -> list[Receipt]:
        later.add(asyncio.get_running_loop().create_task(record(parts, arrivals)))
        return [Receipt(None, arrival.signal.id, duplicate=False) for arrival in arrivals]

    patch.setattr(intake, "record", at_once)


def _new_key_per_try(patch: pytest.MonkeyPatch) -> None:
    """Forget that a repeat must carry the key of the first try."""
    target = heal._target

    def with_a_new_key(parts: Parts, case: Case, chosen: Any, run: Any, operation: Operation | None) -> Target:
        return replace(
            target(parts, case, chosen, run, operation), idempotency_key=f"{run.idempotency_key}-{run.attempt}"
        )

    patch.setattr(heal, "_target", with_a_new_key)


def _refresh_by_everybody(patch: pytest.MonkeyPatch) -> None:
    """Refresh without asking who else does."""

    async def won(*_: object) -> bool:
        return True

    async def apply(self: RefreshToken, target: Target) -> Outcome:
        return await self._refresh(target)

    patch.setattr(CredentialRows, "claim_refresh", won)
    patch.setattr(RefreshToken, "apply", apply)


def _recovered_unverified(patch: pytest.MonkeyPatch) -> None:
    """Believe that whoever tried has succeeded."""
    patch.setattr(verify, "by_operations", lambda _: verify.Verification(True, "exit code 0"))


def _repeat_the_unrepeatable(patch: pytest.MonkeyPatch) -> None:
    """Repeat an interrupted call wherever it went."""
    patch.setattr(heal, "_REPEATABLE", heal._REPEATABLE | {"POST"})


def _without(*rules: gatekeeper.Rule) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(gatekeeper, "_RULES", tuple(rule for rule in gatekeeper._RULES if rule not in rules))

    return plant


def _forgetful_restart(patch: pytest.MonkeyPatch) -> None:
    """Start without looking at what waits."""

    async def nothing(parts: Parts, procedures: Any, *, alone: bool) -> int:
        return 0

    patch.setattr("simulation.machine.reconcile", nothing)


def _count_duplicates(patch: pytest.MonkeyPatch) -> None:
    """Take every arrival for a new event."""
    add = SignalRows.add

    async def all_new(self: SignalRows, arrived: Sequence[tuple[Signal, Any, Any]]) -> set[str]:
        await add(self, arrived)
        return {signal.id for signal, _, _ in arrived}

    patch.setattr(SignalRows, "add", all_new)


def _count_echoes(patch: pytest.MonkeyPatch) -> None:
    """Take the failure of our own replay for a new failure."""

    async def none_of_ours(*_: object) -> dict[str, str]:
        return {}

    patch.setattr(intake, "_echoes", none_of_ours)


def _believe_every_word(patch: pytest.MonkeyPatch) -> None:
    """Write down what a service says as it says it."""

    class Unwashed:
        @staticmethod
        def scrub(text: str) -> str:
            return text

    patch.setattr(perform, "redact", Unwashed)


def _try_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Never let a request rest."""
    patch.setattr(follow, "TRIES", dict.fromkeys(Category, 99))


def _overrule_people(patch: pytest.MonkeyPatch) -> None:
    """Wake what a person has put aside."""
    patch.setattr(patrol, "_is_idle", lambda incident, now: incident.lease_until is None)


def _say_nothing(patch: pytest.MonkeyPatch) -> None:
    """Forget every second message."""
    tell = trail.tell
    calls = 0

    async def sometimes(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            await tell(*args)

    patch.setattr(trail, "tell", sometimes)


def _leave_no_trace(patch: pytest.MonkeyPatch) -> None:
    """Resolve without an audit entry."""
    note = trail.note

    async def but_resolutions(parts: Parts, tx: Any, action: str, *args: Any, **facts: Any) -> None:
        if action != "incident.resolved":
            await note(parts, tx, action, *args, **facts)

    patch.setattr(trail, "note", but_resolutions)


# Real ones, found by the simulation ---------------------------------------------------------------------------------


def _narrow_scan(patch: pytest.MonkeyPatch) -> None:
    """Look back no further than the time since the last scan: what rested too late is never looked at again."""
    patch.setattr(patrol, "_SCHEDULED_WINDOW_MINUTES", 15)


def _wrong_account(patch: pytest.MonkeyPatch) -> None:
    """Refresh the incident's account and not the one whose token failed."""
    patch.setattr(heal, "_account", lambda case, operation: (operation or case.incident).account)


def _never_come_back(patch: pytest.MonkeyPatch) -> None:
    """Leave an incident alone for good when somebody has it who never settles."""

    async def no(*_: object) -> None:
        return

    patch.setattr(heal, "_come_back", no)


def _save_once(patch: pytest.MonkeyPatch) -> None:
    """Give a rotated pair up when the database blinks."""

    async def once(_: object, write: Callable[[], Awaitable[None]]) -> None:
        await write()

    patch.setattr(oauth, "insist", once)


def _hot_loop(patch: pytest.MonkeyPatch) -> None:
    """Take time for the only thing that holds an incident, and look again at once, and again."""

    def held(case: Case, chosen: Any, verdict: Any, due: datetime | None, behind: str | None = None) -> Any:
        if chosen.remedy is None and case.operations.get("waiting"):
            return follow._waiting_for_due(case, due)
        return true_held(case, chosen, verdict, due, behind)

    true_held = follow.held
    patch.setattr(follow, "held", held)


def _fresh_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Take a token that was refreshed for this failure for good ever after."""
    patch.setattr(plan, "_GOOD_FOR_S", 1e9)


def _kill_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Repeat at once, each time, what each time ends with a dead worker."""
    after_death = heal._after_death

    def at_once(service: Any, operation: Operation, now: datetime) -> Operation:
        return after_death(service, replace(operation, attempts=0), now)

    patch.setattr(heal, "_after_death", at_once)


def _leave_the_dead(patch: pytest.MonkeyPatch) -> None:
    """Let a run of a dead worker go on for ever where a person took the incident over."""

    async def no(parts: Parts, tx: Any, incident: Incident) -> None:
        return

    patch.setattr(heal, "_bury", no)


def _open_an_escalation(patch: pytest.MonkeyPatch) -> None:
    """Let a settling worker overrule a person who escalated meanwhile."""
    advance = learn._advance

    async def onward(
        parts: Parts, tx: Any, case: Case, incident: Incident, gate: Any, step: Any, *, goes_on: bool = False
    ) -> Case | None:
        if incident.state is IncidentState.ESCALATED and step.state is IncidentState.ESCALATED:
            step = replace(step, state=IncidentState.OPEN)
        return await advance(parts, tx, case, incident, gate, step, goes_on=goes_on)

    patch.setattr(learn, "_advance", onward)


def _forget_the_tried(patch: pytest.MonkeyPatch) -> None:
    """Never note which remedy was tried already."""

    async def begin(tx: Any, incident: Incident, *_: object) -> Incident:
        return incident

    patch.setattr(autofix, "begin", begin)


def _judge_twice(patch: pytest.MonkeyPatch) -> None:
    """Count each outcome of a remedy two times."""
    note = judging.note

    async def twice(*judged: Any) -> None:
        await note(*judged)
        await note(*judged)

    patch.setattr(judging, "note", twice)


def _credit_nothing(patch: pytest.MonkeyPatch) -> None:
    """Never look whether a repair has lasted."""

    async def none(*_: object, **__: object) -> list[Incident]:
        return []

    patch.setattr(incidents.IncidentRows, "watched", none)


def _learn_nothing(patch: pytest.MonkeyPatch) -> None:
    """Overlook every failure."""

    async def none(*_: object, **__: object) -> list[Incident]:
        return []

    patch.setattr(incidents.IncidentRows, "to_learn", none)


MUTANTS = {
    "forget_the_tried": Mutant(_forget_the_tried, "a remedy was tried again", 16),
    "act_without_leave": Mutant(_without(gatekeeper._level), "a remedy acted without leave", 3),
    "judge_twice": Mutant(_judge_twice, "judged more often than it acted", 1),
    "credit_nothing": Mutant(_credit_nothing, "never credited", 1),
    "learn_nothing": Mutant(_learn_nothing, "never learned from"),
    "double_claim": Mutant(_double_claim, "a live worker was taken for dead", 1),
    "early_answer": Mutant(_early_answer, "an accepted event was lost"),
    "new_key_per_try": Mutant(_new_key_per_try, "effects of one request", 3),
    "refresh_by_everybody": Mutant(_refresh_by_everybody, "a refresh token was used", 60),
    "recovered_unverified": Mutant(_recovered_unverified, "called resolved without proof", 3),
    "repeat_the_unrepeatable": Mutant(_repeat_the_unrepeatable, "silently repeated", 17),
    "ignore_the_shut_gate": Mutant(_without(gatekeeper._open), "an attempt began while", 8),
    "ignore_people": Mutant(_without(gatekeeper._paused, gatekeeper._disabled), "an attempt began while", 36),
    "ignore_the_asked_wait": Mutant(_without(gatekeeper._throttled), "had asked for silence", 31),
    "ignore_the_crowd": Mutant(_without(gatekeeper._crowded), "at once", 8),
    "forgetful_restart": Mutant(_forgetful_restart, "forgotten", 1),
    "count_duplicates": Mutant(_count_duplicates, "a count is not the number of its events"),
    "count_echoes": Mutant(_count_echoes, "a count is not the number of its events", 12),
    "believe_every_word": Mutant(_believe_every_word, "a secret", 9),
    "try_for_ever": Mutant(_try_for_ever, "in one round of", 8),
    "overrule_people": Mutant(_overrule_people, "and the machine made it", 24),
    "say_nothing": Mutant(_say_nothing, "told", 1),
    "leave_no_trace": Mutant(_leave_no_trace, "not in the audit", 1),
    "narrow_scan": Mutant(_narrow_scan, "the scan passed by", 14),
    "wrong_account": Mutant(_wrong_account, "looks for tokens where there are none", 29),
    "never_come_back": Mutant(_never_come_back, "nobody came", 1),
    "save_once": Mutant(_save_once, "held the new pair", 159),
    "hot_loop": Mutant(_hot_loop, "it works without end"),
    "fresh_for_ever": Mutant(_fresh_for_ever, "the scan passed by", 104),
    "kill_for_ever": Mutant(_kill_for_ever, "in one round of", 19),
    "leave_the_dead": Mutant(_leave_the_dead, "a run never ended", 185),
    "open_an_escalation": Mutant(_open_an_escalation, "and the machine made it", 3),
}
"""Every planted bug by name."""
