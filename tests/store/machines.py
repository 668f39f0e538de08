"""State machines over the real rows in a SQLite database in memory, each beside a model that is a few lines long.

What is read may be old by the time it is saved: every machine keeps what it read, and saves that, too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from fuzz.cutting import finished
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prunella.core.clock import ManualClock, Rng
from prunella.core.errors import Conflict
from prunella.core.records import Gate, Incident
from prunella.core.services import GateLimits
from prunella.core.states import OPERATION, GateState, IncidentState, OperationState
from prunella.engine import gates
from prunella.engine.operations import ALLOWED
from prunella.store import migrations
from prunella.store.contract import Transaction
from prunella.store.sqlite import SqliteStore
from store.making import NOW, SECOND, incident, operation

T = TypeVar("T")
WORKERS = st.sampled_from(("one", "two"))
OLD = st.integers(0, 2)
"""How many readings ago: 0 is the newest."""


@cache
def _migrated() -> sqlite3.Connection:
    """Return a database with every table and no row."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "empty.db")
        migrations.upgrade(f"sqlite:///{path}")
        database = sqlite3.connect(":memory:")
        with sqlite3.connect(path) as file:
            file.backup(database)
        file.close()
    return database


class Rows(RuleBasedStateMachine):
    """A fresh store, and a moment."""

    def __init__(self) -> None:
        super().__init__()
        self._database = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        _migrated().backup(self._database)
        self.store = SqliteStore(self._database, ManualClock(NOW))
        self.now: datetime = NOW

    def teardown(self) -> None:
        self._database.close()

    def do(self, act: Callable[[Transaction], Awaitable[T]]) -> T:
        """Carry something out in a transaction of its own."""

        async def whole() -> T:
            async with self.store.transaction() as tx:
                return await act(tx)

        return finished(whole())

    def tried(self, act: Callable[[Transaction], Awaitable[Any]]) -> bool:
        """Carry something out; tell whether it was, and not refused because somebody was quicker."""
        try:
            self.do(act)
        except Conflict:
            return False
        return True

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND


class GateMachine(Rows):
    """A gate that several read, change and save: the quickest wins, and a pause is lifted by a person alone."""

    def __init__(self) -> None:
        super().__init__()
        self.model = self.do(lambda tx: tx.gates.take("crm", NOW))
        self.read = [self.model]
        self.limits = GateLimits(failures=2, successes=1, open_s=30)

    def save(self, seen: Gate, changed: Gate, by: str = "prunella") -> None:
        saved = self.tried(lambda tx: tx.gates.save(changed))
        assert saved == (seen.version == self.model.version), f"version {seen.version} over {self.model.version}"
        if not saved:
            return
        shut = (GateState.PAUSED, GateState.DISABLED)
        assert self.model.state not in shut or changed.state in shut or by == "ada", "a machine lifted it"
        self.model = replace(changed, version=seen.version + 1)
        self.read.append(self.model)

    def seen(self, old: int) -> Gate:
        return self.read[max(len(self.read) - 1 - old, 0)]

    @rule(old=OLD, ok=st.booleans())
    def call_ends(self, old: int, ok: bool) -> None:
        seen = self.seen(old)
        self.save(seen, gates.record_call(gates.begin_probe(seen, self.now), ok, self.limits, self.now, Rng(1)))

    @rule(old=OLD)
    def success_arrives(self, old: int) -> None:
        self.save(self.seen(old), gates.count_success(self.seen(old), self.now))

    @rule(old=OLD, state=st.sampled_from((GateState.PAUSED, GateState.DISABLED)))
    def person_shuts(self, old: int, state: GateState) -> None:
        self.save(self.seen(old), gates.move(self.seen(old), state, self.now, reason="why", by="ada"), "ada")

    @rule(old=OLD)
    def person_enables(self, old: int) -> None:
        self.save(self.seen(old), gates.enable(self.seen(old), self.now, by="ada"), "ada")

    @invariant()
    def row_is_the_model(self) -> None:
        assert self.do(lambda tx: tx.gates.take("crm", self.now)) == self.model
        assert (self.model.reopen_at is not None) == (self.model.state is GateState.OPEN)


class IncidentMachine(Rows):
    """One scope, two workers: nothing reported is lost, one incident is open, one worker has it."""

    def __init__(self) -> None:
        super().__init__()
        self.reports = 0
        self.held: dict[str, Incident] = {}
        self.lease: datetime | None = None
        self.open = False

    def standing(self) -> Incident | None:
        found = self.do(lambda tx: tx.incidents.open_of("hubspot"))
        assert len(found) <= 1, "two incidents are open for one scope"
        return found[0] if found else None

    @rule()
    def report(self) -> None:
        self.reports += 1
        fresh = incident(self.reports, fingerprint="print", first_seen=self.now, last_seen=self.now, next_at=self.now)
        stands = self.do(lambda tx: tx.incidents.open_or_join(fresh))
        assert (stands.id == fresh.id) == (not self.open)
        if stands.id == fresh.id:
            self.lease = None
        self.open = True

    @rule(worker=WORKERS)
    def claim(self, worker: str) -> None:
        before = self.standing()
        if before is None:
            return
        until = self.now + timedelta(seconds=60)
        won = self.do(lambda tx: tx.incidents.claim(before.id, worker, self.now, until))
        if self.lease is not None and self.lease > self.now:
            assert won is None, "somebody else has it"
        if won is not None:
            assert (won.claimed_by, won.state) == (worker, IncidentState.HEALING)
            self.held[worker], self.lease = won, until

    @precondition(lambda self: self.held)
    @rule(
        worker=WORKERS,
        state=st.sampled_from((IncidentState.OPEN, IncidentState.RESOLVED, IncidentState.ESCALATED)),
    )
    def attempt_ends(self, worker: str, state: IncidentState) -> None:
        mine = self.held.pop(worker, None)
        if mine is None:
            return
        stands = self.do(lambda tx: tx.incidents.get(mine.id))
        assert stands is not None
        over = self.now if state is IncidentState.RESOLVED else None
        ended = replace(mine, state=state, claimed_by=None, lease_until=None, resolved_at=over)
        saved = self.tried(lambda tx: tx.incidents.save(ended))
        assert saved == (stands.version == mine.version), "a lost worker wrote over who took over"
        if saved:
            self.lease = None
            self.open = state is not IncidentState.RESOLVED

    @invariant()
    def nothing_is_lost(self) -> None:
        every = self.do(lambda tx: tx.incidents.list(most=100))
        assert sum(one.count for one in every) == self.reports
        assert (self.standing() is not None) == self.open
        assert all((one.resolved_at is not None) == (one.state is IncidentState.RESOLVED) for one in every)


@dataclass
class Piece:
    """What the model knows of an operation."""

    state: OperationState
    key: str
    attempts: int = 0


class OperationMachine(Rows):
    """A lane: one operation per idempotency key, one at a time per ordering key, and no way but the allowed ones."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Piece] = {}

    def move(self, id_: str, state: OperationState) -> None:
        OPERATION.check(self.model[id_].state, state)
        self.model[id_].state = state

    def some(self, pick: int) -> str | None:
        return sorted(self.model)[pick % len(self.model)] if self.model else None

    @rule(number=st.integers(1, 5), key=st.sampled_from(("", "order-1")))
    def queue(self, number: int, key: str) -> None:
        self.now += SECOND
        fresh = operation(number, ordering_key=key, created_at=self.now, due_at=self.now)
        self.do(lambda tx: tx.operations.add([fresh]))
        self.model.setdefault(fresh.id, Piece(OperationState.WAITING, key))

    @rule(most=st.integers(1, 3))
    def turn_comes(self, most: int) -> None:
        async def begin(tx: Transaction) -> list[str]:
            turn = await tx.operations.turn("incident-1", self.now, most)
            return await tx.operations.begin([one.id for one in turn.free])

        for id_ in self.do(begin):
            self.move(id_, OperationState.RUNNING)
            self.model[id_].attempts += 1

    @rule(pick=st.integers(0, 4))
    def another_begins_the_same(self, pick: int) -> None:
        if (id_ := self.some(pick)) is not None and self.model[id_].state is not OperationState.WAITING:
            assert self.do(lambda tx: tx.operations.begin([id_])) == [], "it was begun a second time"

    @rule(pick=st.integers(0, 4), state=st.sampled_from(("waiting", "done", "dead")))
    def call_ends(self, pick: int, state: str) -> None:
        if (id_ := self.some(pick)) is None:
            return
        read = self.do(lambda tx: tx.operations.get(id_))
        assert read is not None
        ended = replace(read, state=OperationState(state), due_at=self.now if state == "waiting" else None)
        saved = self.tried(lambda tx: tx.operations.save(ended, OperationState.RUNNING))
        assert saved == (self.model[id_].state is OperationState.RUNNING)
        if saved:
            self.move(id_, OperationState(state))

    @rule(pick=st.integers(0, 4), wish=st.sampled_from(tuple(ALLOWED)))
    def person_acts(self, pick: int, wish: str) -> None:
        if (id_ := self.some(pick)) is None:
            return
        becomes = {
            "replay": OperationState.WAITING,
            "cancel": OperationState.CANCELLED,
            "quarantine": OperationState.DEAD,
        }
        if wish == "replay":
            moved = self.do(lambda tx: tx.backlog.again([id_], ALLOWED[wish], self.now))
        else:
            moved = self.do(lambda tx: tx.backlog.end([id_], ALLOWED[wish], becomes[wish], "because"))
        assert (id_ in moved) == (self.model[id_].state in ALLOWED[wish])
        if moved:
            self.move(id_, becomes[wish])
            self.model[id_].attempts *= wish != "replay"

    @invariant()
    def rows_are_the_model(self) -> None:
        every = self.do(lambda tx: tx.operations.list(most=100))
        assert {one.id: (one.state, one.attempts) for one in every} == {
            id_: (one.state, one.attempts) for id_, one in self.model.items()
        }
        running = [one.key for one in self.model.values() if one.state is OperationState.RUNNING and one.key]
        assert len(running) == len(set(running)), "two of one ordering key run at once"
