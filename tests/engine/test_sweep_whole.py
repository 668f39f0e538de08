"""Whatever happens in whatever order - failures, heals by themselves, people, deaths, restarts - the rules hold."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.crew import Tables
from engine.ward import ORDER, Treatment, Ward, procedure
from engine.world import World, build
from prunella.core.errors import IllegalTransition
from prunella.core.outcomes import Outcome
from prunella.core.states import IncidentState, RunState
from prunella.engine import orders, people
from prunella.engine.ready import Ready
from prunella.engine.sweep import sweep
from prunella.testing import run_virtual

_I = IncidentState
_THINGS = ("a", "b", "c")
_ANSWERS: dict[str, Any] = {
    "done": Outcome.done(),
    "failed": Outcome.failed("no"),
    "skip": Outcome.skip("moved on"),
    "busy": Outcome(ok=False, busy=True, detail="another is at it"),
    "person": Outcome(ok=False, detail="no", needs_person="the card is gone"),
    "raises": RuntimeError("boom"),
    "dies": KeyboardInterrupt(),
}
_STEPS = st.one_of(
    st.tuples(st.just("ill"), st.sampled_from(_THINGS)),
    st.tuples(st.just("well"), st.sampled_from(_THINGS)),
    st.tuples(st.just("sweep"), st.sampled_from(sorted(_ANSWERS))),
    st.tuples(st.just("sweep"), st.sampled_from(["futile", "done", "failed"])),
    st.tuples(st.just("later"), st.sampled_from(["30", "70", "300", "700", "4000", "16000"])),
    st.tuples(st.just("act"), st.sampled_from(["ack", "retry", "suppress", "escalate"])),
    st.tuples(st.just("pause"), st.sampled_from(["all", "ward"])),
    st.tuples(st.just("resume"), st.sampled_from(["all", "ward"])),
    st.tuples(st.just("heal"), st.sampled_from(_THINGS)),
)


class Whole:
    """One world, what was done to it, and what must hold whatever that was."""

    def __init__(self, world: World, *, entity: bool, idempotent: bool, last: bool) -> None:
        self.world = world
        self.ward = Ward(world.parts.clock)
        remedies = {"treat": Treatment(self.ward, idempotent=idempotent)}
        extra: dict[str, Any] = {}
        if entity:
            extra["entity"] = replace(ORDER, give_up="cancel" if last else ORDER.give_up)
        if entity and last:
            remedies["cancel"] = Treatment(self.ward, name="cancel", idempotent=idempotent)
        self.ready: Ready = procedure(self.ward, remedies=remedies, **extra)
        self.world.parts = replace(world.parts, procedures={"ward": self.ready})
        self.tables = Tables(world.store)
        self.may_act: set[str] = set(_THINGS)
        self.paused: set[str] = set()
        self.worker = 0
        self.how = "done"
        self.used: set[str] = set()
        self.broken: list[str] = []
        self.ward.during = self._watch

    async def _watch(self, assignment: Any) -> None:
        """Look at every act in its middle; a remedy's exceptions end in its outcome, so they are kept here."""
        running = Counter(one.resource for one in await self.tables.runs() if one.state is RunState.RUNNING)
        thing = assignment.finding.key
        broken = {
            "acted while paused": bool(self.paused),
            "two live attempts at one thing": max(running.values()) > 1,
            "acted on what a person has": thing not in self.may_act,
            "one key for two attempts": assignment.idempotency_key in self.used,
        }
        self.broken += [rule for rule, is_broken in broken.items() if is_broken]
        if self.how not in ("dies", "busy"):
            self.used.add(assignment.idempotency_key)

    async def do(self, what: str, how: str) -> None:
        """Carry out one step."""
        parts = self.world.parts
        match what:
            case "ill":
                self.ward.sick[how] = "SICK"
            case "well":
                self.ward.sick.pop(how, None)
            case "later":
                await self.world.later(float(how))
            case "pause" if how not in self.paused:
                await orders.pause(parts, None if how == "all" else how, by="ada")
                self.paused.add(how)
            case "resume" if how in self.paused:
                self.paused.discard(how)
                await orders.resume(parts, None if how == "all" else how, by="ada")
            case "act":
                await self._act(how)
            case "sweep":
                await self._sweep(how)
            case "heal":
                self.may_act, self.how, self.ward.cures = set(_THINGS), "done", True
                await orders.heal_one(parts, "ward", how, remedy=None, by="ada")

    async def _act(self, act: str) -> None:
        for one in await self.tables.incidents():
            if one.is_open:
                try:
                    await people.act_on_incident(self.world.parts, one.id, act, by="ada")
                except IllegalTransition:
                    continue

    async def _sweep(self, how: str) -> None:
        self.may_act = set(_THINGS) - {
            one.resource for one in await self.tables.incidents() if one.state in (_I.ESCALATED, _I.SUPPRESSED)
        }
        self.ward.cures = how != "futile"
        self.how = how
        answer = _ANSWERS.get(how, _ANSWERS["done"])
        self.ward.script = [answer] * 9
        try:
            swept = await sweep(self.world.parts, self.ready)
        except KeyboardInterrupt:  # the process died in mid-call; another worker comes
            self.worker += 1
            self.world.parts = replace(self.world.parts, worker=f"worker-{self.worker}")
            return
        finally:
            self.ward.script = []
        acted = {run.resource for run in swept.runs}
        found = [one.resource for one in await self.tables.incidents() if one.is_open]
        silent = [key for key in found if key in self.ward.sick and key not in acted and key not in swept.waiting]
        running = [one.resource for one in await self.tables.runs() if one.state is RunState.RUNNING]
        assert set(running) <= {one.resource for one in await self.tables.incidents() if one.lease_until}
        handed = [one.resource for one in await self.tables.incidents() if one.state is _I.ESCALATED]
        assert set(silent) <= set(handed), "left alone without a reason"

    async def check(self) -> None:
        """Hold what must always hold."""
        found = await self.tables.incidents()
        opened = Counter(one.resource for one in found if one.is_open)
        assert all(number == 1 for number in opened.values()), "two open incidents of one thing"
        limit = self.ready.attempts + 1  # what a person orders is counted, too
        assert all(one.attempts <= limit or one.action_taken for one in found)
        told = Counter(notice.key for notice in await self.world.told())
        assert all(number == 1 for number in told.values())
        assert self.broken == []
        escalations = [one for one in found if one.state is _I.ESCALATED]
        assert all(one.held_reason for one in escalations)
        assert all(one.lease_until is None or one.state is not _I.RESOLVED for one in found)


@pytest.fixture(scope="module")
def empty(_migrated_file: Path) -> Path:
    """Return a migrated file that nobody writes to."""
    return _migrated_file


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(_STEPS, max_size=30), entity=st.booleans(), idempotent=st.booleans(), last=st.booleans())
def test_rules_hold_whatever_happens(
    empty: Path, steps: list[tuple[str, str]], *, entity: bool, idempotent: bool, last: bool
) -> None:
    """One open incident per thing, one live attempt, none while paused or a person's, every wait with its reason."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        with closing(sqlite3.connect(empty)) as source:
            source.backup(database)

        async def story() -> None:
            whole = Whole(build(database, (), 7), entity=entity, idempotent=idempotent, last=last)
            for what, how in steps:
                await whole.do(what, how)
                await whole.check()

        run_virtual(story())
