"""The engine with all around it real but the outside: the SQLite store in memory, virtual time, scripted remedies.

`play` runs a story over a fresh world. The hands do what remedies would: they answer from a script, take virtual
time for it, and let a test act in the middle of a call.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from prunella.core.advice import Advisor, Allowance
from prunella.core.clock import Ids, Rng
from prunella.core.events import Event, Listeners
from prunella.core.issues import KnownIssue
from prunella.core.records import (
    AuditEntry,
    Category,
    Credential,
    Diagnosis,
    Failure,
    Gate,
    Incident,
    Notification,
    Operation,
    Request,
    Run,
    Severity,
    Signal,
)
from prunella.core.services import GateLimits, Health, OAuth, Service
from prunella.diagnosis.classify import classify
from prunella.diagnosis.patterns import Pattern
from prunella.engine import escalation, heal, patrol, proposals
from prunella.engine.advise import Desk
from prunella.engine.intake import Intake
from prunella.engine.learning import occurrences
from prunella.engine.learning.known import KnownIssues
from prunella.engine.notices import DASHBOARD, Route, Routes
from prunella.engine.parts import ADVISE, LEARN, LEASE_S, Parts
from prunella.engine.pauses import Pauses
from prunella.engine.plan import Case
from prunella.engine.report import Receipt
from prunella.plugin import RemedyFunction
from prunella.remedies.contract import Outcome, Target
from prunella.remedies.known import FunctionForIssue, RefreshAuth
from prunella.runner.local import LocalRunner
from prunella.store.secrets import Keys
from prunella.store.sqlite import SqliteStore
from prunella.testing import LoopClock, run_virtual
from store.making import operation

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The moment at which every story begins."""
WORKER = "worker-1"
KEYS = Keys([b"k" * 32])
CRM = Service(name="crm", base_url="https://api.example.com", gate=GateLimits(failures=1000))
"""A service whose gate never opens by our own calls, so that a story is about one thing."""
SHY = Service(name="shy", base_url="https://shy.example.com", gate=GateLimits(failures=2, successes=2, open_s=60))
PROBED = Service(name="probed", base_url="https://probed.example.com", health=Health(path="/health"))
OAUTHED = Service(
    name="oauthed",
    base_url="https://oauthed.example.com",
    oauth=OAuth(token_url="https://oauthed.example.com/token", client_id="app"),
    gate=GateLimits(failures=1000),
)

DONE = Outcome(ok=True, status=200, detail="HTTP 200", token_version=1)
BUSY = Outcome(ok=False, busy=True, detail="another worker is at it")


def refused(
    status: int | None = 503,
    message: str = "refused",
    *,
    code: str | None = None,
    version: int | None = 1,
    **headers: str,
) -> Outcome:
    """Return what a replay brings back that was answered with `status`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    failure = Failure(service="crm", status=status, code=code, message=message, headers=named)
    return Outcome(ok=False, status=status, detail=f"HTTP {status}", failure=failure, token_version=version)


class NoServices:
    """Nowhere to call: what stands by for known issues in these stories needs nothing outside."""

    async def request(self, *_: Any, **__: Any) -> Any:
        """Refuse."""
        raise AssertionError("no service may be called")


NO_SERVICES = NoServices()


@dataclass
class Deed:
    """One call of a remedy."""

    remedy: str
    target: Target
    at_s: float


@dataclass
class Hands:
    """Do what remedies would, by script: one answer per call, the last repeats; unscripted, all goes well.

    Args:
        takes_s: virtual seconds per call.
        during: runs in the middle of every call.
    """

    clock: LoopClock
    script: dict[str, Sequence[Outcome | Exception]] = field(default_factory=dict)
    by_endpoint: dict[str, Outcome] = field(default_factory=dict)
    takes_s: float = 0.01
    during: Callable[[Target], Awaitable[None]] | None = None
    known: Sequence[RefreshAuth | FunctionForIssue] = ()
    deeds: list[Deed] = field(default_factory=list)
    under_way: int = 0
    most_at_once: int = 0

    async def act(self, remedy: str, target: Target) -> Outcome:
        """Answer as the script says."""
        self.deeds.append(Deed(remedy, target, self.clock.monotonic()))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self.clock.sleep(self.takes_s)
            if self.during is not None:
                await self.during(target)
        finally:
            self.under_way -= 1
        function = next((one for one in self.known if one.name == remedy), None)
        if isinstance(function, FunctionForIssue):
            return await function.apply(target)
        return self._answer(remedy, target)

    def _answer(self, remedy: str, target: Target) -> Outcome:
        if target.request is not None and target.request.endpoint in self.by_endpoint:
            return self.by_endpoint[target.request.endpoint]
        answer, *rest = self.script.get(remedy, [DONE])
        self.script[remedy] = rest or [answer]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def rotate(self, store: SqliteStore) -> None:
        """Let every refresh really bring new tokens."""

        async def during(target: Target) -> None:
            if target.request is not None:
                return
            async with store.transaction() as tx:
                held = await tx.credentials.read(target.service.name, target.account)
                assert held is not None
                await tx.credentials.rotate(held, b"a2", b"r2", None, self.clock.now())

        self.during = during

    def did(self, remedy: str = "replay") -> list[Deed]:
        """Return the calls of one remedy."""
        return [deed for deed in self.deeds if deed.remedy == remedy]

    def waves(self, remedy: str = "replay") -> list[int]:
        """Return how many calls began at the same moment, moment after moment."""
        moments = [deed.at_s for deed in self.did(remedy)]
        return [moments.count(moment) for moment in dict.fromkeys(moments)]


@dataclass
class World:
    """One engine; the methods are what a story tells and asks."""

    parts: Parts
    store: SqliteStore
    runner: LocalRunner
    intake: Intake
    hands: Hands
    heard: list[Event]
    numbers: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def signal(self, service: str = "crm", **changed: Any) -> Signal:
        """Return an event: a POST that was answered with 503, unless told otherwise.

        `status`, `message`, `code`, `headers`, `operation` go to the failure, `endpoint`, `payload`, `method` to the
        request (`endpoint` None: no request), everything else to the signal.
        """
        self.numbers[service] += 1
        now = self.parts.clock.now()
        evidence: dict[str, Any] = {"status": 503, "message": "Service Unavailable", "operation": "POST /orders"}
        evidence |= {
            name: changed.pop(name) for name in ("status", "message", "code", "headers", "operation") if name in changed
        }
        call: dict[str, Any] = {"method": "POST", "endpoint": "/orders", "payload": {"n": self.numbers[service]}}
        call |= {name: changed.pop(name) for name in ("method", "endpoint", "payload") if name in changed}
        failed = changed.get("outcome", "failure") == "failure"
        fields: dict[str, Any] = {
            "id": self.parts.ids.new(),
            "source": "webhook",
            "event_id": f"{service}-{self.numbers[service]}",
            "service": service,
            "occurred_at": now,
            "received_at": now,
            "failure": Failure(service=service, **evidence) if failed else None,
            "request": Request(**call) if call["endpoint"] is not None else None,
        }
        return Signal(**{**fields, **changed})

    async def fail(self, service: str = "crm", *, echo_of: str | None = None, **changed: Any) -> Receipt:
        """Report a failure."""
        return await self.intake.accept(self.signal(service, **changed), echo_of=echo_of)

    async def fail_together(self, count: int, service: str = "crm", **changed: Any) -> str:
        """Report failures of one cause at the same moment; return the id of their incident."""
        receipts = await asyncio.gather(*(self.fail(service, **changed) for _ in range(count)))
        (incident_id,) = {receipt.incident_id for receipt in receipts}
        assert incident_id is not None
        return incident_id

    async def succeed(self, service: str = "crm", **changed: Any) -> Receipt:
        """Report a success."""
        return await self.intake.accept(self.signal(service, outcome="success", **changed))

    async def heal(self, incident_id: str | None) -> None:
        """Take one step by hand."""
        assert incident_id is not None
        await heal.heal(self.parts, incident_id)

    async def heal_and_be_taken_for_dead(self, incident_id: str | None) -> None:
        """Take a step that calls for longer than its lease lasts; a second worker goes on with its incident meanwhile."""
        assert incident_id is not None
        second = replace(self.parts, worker="worker-2")

        async def taken_over(_: Target) -> None:
            self.hands.during = None
            await self.later(LEASE_S + 1)
            await heal.heal(second, incident_id)

        self.hands.during = taken_over
        await self.heal(incident_id)

    async def later(self, seconds: float) -> None:
        """Let time pass."""
        await self.parts.clock.sleep(seconds)

    def now_s(self) -> float:
        """Return the virtual seconds since the story began."""
        return self.parts.clock.monotonic()

    async def incident(self, incident_id: str | None) -> Incident:
        """Return one incident as it stands."""
        async with self.parts.store.transaction() as tx:
            found = await tx.incidents.get(incident_id or "")
        assert found is not None
        return found

    async def incidents(self) -> list[Incident]:
        """Return every incident, oldest first."""
        async with self.parts.store.transaction() as tx:
            return (await tx.incidents.list(most=500))[::-1]

    async def save(self, incident: Incident) -> None:
        """Write an incident past the engine."""
        async with self.parts.store.transaction() as tx:
            await tx.incidents.save(incident)

    async def operations(self, **equal: Any) -> list[Operation]:
        """Return operations, oldest first."""
        async with self.parts.store.transaction() as tx:
            return (await tx.operations.list(most=500, **equal))[::-1]

    async def runs(self, incident_id: str | None) -> list[Run]:
        """Return an incident's runs, oldest first."""
        async with self.parts.store.transaction() as tx:
            return await tx.runs.of_incident(incident_id or "")

    async def gate(self, service: str = "crm") -> Gate:
        """Return a service's gate as it stands."""
        async with self.parts.store.transaction() as tx:
            return await tx.gates.take(service, self.parts.clock.now())

    async def set_gate(self, gate: Gate) -> None:
        """Write a gate past the engine."""
        async with self.parts.store.transaction() as tx:
            before = await tx.gates.take(gate.service, self.parts.clock.now())
            await tx.gates.save(replace(gate, version=before.version))

    async def audit(self, action: str | None = None) -> list[AuditEntry]:
        """Return audit entries, oldest first, of one action where it is named."""
        equal: dict[str, Any] = {} if action is None else {"action": action}
        async with self.parts.store.transaction() as tx:
            return (await tx.audit.list(most=500, **equal))[::-1]

    async def learn(self) -> dict[str, Any]:
        """Learn from what failed since the last time."""
        return dict(await occurrences.learn(self.parts))

    async def issue(self, issue_id: str) -> KnownIssue:
        """Return a known issue as it stands."""
        async with self.parts.store.transaction() as tx:
            found = await tx.learning.issue(issue_id)
        assert found is not None
        return found

    async def issues(self) -> list[KnownIssue]:
        """Return every known issue."""
        async with self.parts.store.transaction() as tx:
            return await tx.learning.issues()

    async def put_issue(self, issue: KnownIssue) -> None:
        """Write a known issue past those who curate them."""
        async with self.parts.store.transaction() as tx:
            await tx.learning.add([issue], self.parts.clock.now())
        self.parts.known.forget()

    async def change_issue(self, issue_id: str, **changed: Any) -> KnownIssue:
        """Change a known issue past those who curate them."""
        async with self.parts.store.transaction() as tx:
            found = await tx.learning.issue(issue_id)
            assert found is not None
            saved = await tx.learning.save(replace(found, **changed), self.parts.clock.now())
        self.parts.known.forget()
        return saved

    async def told(self, kind: str | None = None) -> list[Notification]:
        """Return what was put into the outbox for a channel of the rules, oldest first, of one kind where it is named."""
        equal: dict[str, Any] = {} if kind is None else {"kind": kind}
        async with self.parts.store.transaction() as tx:
            told = (await tx.outbox.list(most=500, **equal))[::-1]
        return [one for one in told if one.channel != DASHBOARD]

    async def put_tokens(self, service: str = "oauthed", account: str = "", **changed: Any) -> None:
        """Store an account's tokens."""
        fields: dict[str, Any] = {"service": service, "account": account, "access_sealed": b"a", "refresh_sealed": b"r"}
        async with self.parts.store.transaction() as tx:
            await tx.credentials.put(Credential(**{**fields, **changed}))

    def queued(self, handler: str = "heal") -> list[tuple[str, ...]]:
        """Return the ids that wait in the runner for a handler."""
        return [one.ids for one in self.runner.in_memory() if one.handler == handler]

    def due_in_s(self, *ids: str, handler: str = "heal") -> float:
        """Return in how many seconds the runner will call a handler."""
        (due,) = [one.due_in_s for one in self.runner.in_memory() if (one.handler, one.ids) == (handler, ids)]
        return due

    def emitted(self, name: str) -> list[Event]:
        """Return the events of one name."""
        return [event for event in self.heard if event.name == name]


Story = Callable[[World], Awaitable[None]]


def play(
    migrated: Path,
    story: Story,
    *,
    services: Sequence[Service] = (CRM, SHY, PROBED, OAUTHED),
    running: bool = False,
    seed: int = 7,
    advisor: Advisor | None = None,
    allowance: Allowance | None = None,
    routes: Routes | None = None,
    bindable: Sequence[RemedyFunction] = (),
    shipped: Sequence[Pattern] = (),
) -> World:
    """Run a story over a fresh world and return it.

    Args:
        migrated: a SQLite file with tables and no rows; it is copied into memory.
        running: the runner calls handlers as they fall due; otherwise the story calls them.
        advisor, allowance: who gives opinions, and how often; None: nobody is asked.
        routes: who hears what; None: the channel `ops` hears everything.
        bindable, shipped: functions that known issues may be repaired by, and patterns that come along.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        with closing(sqlite3.connect(migrated)) as source:
            source.backup(database)
        database.execute("PRAGMA foreign_keys = ON")

        async def run() -> World:
            world = build(database, services, seed, advisor, allowance, routes, bindable, shipped)
            if not running:
                await story(world)
                return world
            work = asyncio.create_task(world.runner.run())
            await story(world)
            await world.runner.stop()
            await work
            return world

        return run_virtual(run())


def build(
    database: sqlite3.Connection,
    services: Sequence[Service],
    seed: int,
    advisor: Advisor | None = None,
    allowance: Allowance | None = None,
    routes: Routes | None = None,
    bindable: Sequence[RemedyFunction] = (),
    shipped: Sequence[Pattern] = (),
) -> World:
    """Put a world together on an open database."""
    clock, rng, listeners, heard = LoopClock(START), Rng(seed), Listeners(), list[Event]()
    listeners.subscribe(heard.append)
    runner, hands = LocalRunner(clock, listeners), Hands(clock)
    store = SqliteStore(database, clock)
    hands.known = [RefreshAuth(), *(FunctionForIssue(one, NO_SERVICES, clock) for one in bindable)]
    parts = Parts(
        store=store,
        runner=runner,
        services={service.name: service for service in services},
        routes=routes or Routes((Route(frozenset(Severity), ("ops",)),)),
        act=hands.act,
        seal=KEYS.seal,
        unseal=KEYS.open,
        clock=clock,
        ids=Ids(clock, rng),
        rng=rng,
        listeners=listeners,
        worker=WORKER,
        public_url="https://prunella.example",
        procedures={},
        pauses=Pauses(store, clock),
        known=KnownIssues(clock, shipped),
        bindable={one.name: one for one in hands.known},
        advised=advisor is not None,
    )
    if advisor is not None:
        aside = replace(parts, ids=Ids(clock, Rng(seed)))
        runner.handle(ADVISE, Desk(aside, advisor, allowance or Allowance()).advise)
    runner.handle("heal", partial(heal.heal, parts))
    runner.handle("deliver", _nothing)
    runner.handle("approval", partial(proposals.expire, parts))
    runner.handle(escalation.HANDLER, partial(escalation.climb, parts))
    runner.handle("procedure", partial(_run_procedure, parts))
    return World(parts, store, runner, Intake(parts), hands, heard)


def open_gate(**changed: Any) -> Gate:
    """Return a gate; closed, unless told otherwise."""
    fields: dict[str, Any] = {"service": "crm", "since": START, "counting_from": START}
    return Gate(**{**fields, **changed})


def case(**changed: Any) -> Case:
    """Return what planning looks at: a network failure with one request that is due.

    `status`, `code`, `headers`, `message` shape the failure; `incident` takes a mapping of changes.
    """
    evidence = {name: changed.pop(name) for name in ("status", "code", "headers", "message") if name in changed}
    failure = Failure(service="crm", **{"status": 503, **evidence})
    diagnosis = changed.pop("diagnosis", None) or classify(failure, now=START)
    fields: dict[str, Any] = {
        "incident": opened(diagnosis, **changed.pop("incident", {})),
        "failure": failure,
        "diagnosis": diagnosis,
        "service": CRM,
        "gate": open_gate(),
        "credential": None,
        "due": (operation(service="crm"),),
        "operations": {"waiting": 1},
        "quarantined": None,
        "in_flight": 0,
        "now": START,
    }
    return Case(**{**fields, **changed})


def opened(diagnosis: Diagnosis, **changed: Any) -> Incident:
    """Return an incident of a diagnosis."""
    fields: dict[str, Any] = {
        "id": "incident-1",
        "service": "crm",
        "account": "",
        "fingerprint": "f",
        "signal_id": "signal-1",
        "title": f"crm: {diagnosis.kind}",
        "category": diagnosis.category,
        "kind": diagnosis.kind,
        "confidence": diagnosis.confidence,
        "because": diagnosis.because,
        "advice": diagnosis.advice,
        "severity": Severity.MEDIUM,
        "wave": 16,
        "first_seen": START,
        "last_seen": START,
    }
    return Incident(**{**fields, **changed})


def of_category(category: Category) -> dict[str, Any]:
    """Return the evidence of a failure of one category."""
    evidence: dict[Category, dict[str, Any]] = {
        Category.AUTH: {"status": 401, "code": "invalid_token"},
        Category.RATE_LIMIT: {"status": 429},
        Category.NETWORK: {"status": 503},
        Category.DATA: {"status": 422, "code": "validation_error"},
        Category.UNKNOWN: {"status": None, "message": "it went wrong somehow"},
    }
    return evidence[category]


async def _nothing(*ids: str) -> None:
    """Deliver nothing: the outbox is what stories look at."""


async def _run_procedure(parts: Parts, name: str) -> None:
    rounds = {**patrol.rounds(parts.services, parts.procedures), LEARN: occurrences.ROUND}
    await patrol.run_procedure(parts, rounds[name])
