"""A prunella with a day behind it, served on loopback: incidents of every state, runs, an audit, stuck orders.

Nothing heals by itself here, so that a picture is the same each time; what a person does goes the usual way.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvicorn

from prunella.app import App, sealed_credential
from prunella.core.records import (
    Actor,
    AuditEntry,
    Category,
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
from prunella.core.states import GateState, IncidentState, RunState
from prunella.engine import orders, payloads
from prunella.settings import load
from prunella.store import migrations
from prunella.web.auth import Role
from prunella.web.server import bind, create
from web import learned
from web.market import HIDE, Market, filled, market

INGEST = "browser-ingest-token-0123456789"
_SERVICES = ("stripe", "crm", "warehouse", "mailer", "shipping")
_KINDS = (
    ("network.server", Category.NETWORK, 503, "Service temporarily unavailable", "POST /orders"),
    ("network.timeout", Category.NETWORK, None, "read timed out after 10 s", "GET /stock"),
    ("auth.expired", Category.AUTH, 401, "The access token expired", "POST /contacts"),
    ("rate_limit.window", Category.RATE_LIMIT, 429, "Too many requests, retry after 30 s", "POST /charges"),
    ("data.validation", Category.DATA, 422, "email is not a valid address", "POST /contacts"),
)
_FILE = """
service:
  listen: 127.0.0.1:8123
  environment: production
  ingest_tokens: ["${PRUNELLA_INGEST_TOKEN}"]
services:
"""


@dataclass
class World:
    """What a browser test looks at."""

    url: str
    market: Market
    loop: asyncio.AbstractEventLoop
    ids: dict[str, str] = field(default_factory=dict)
    sessions: dict[Role, str] = field(default_factory=dict)

    @property
    def app(self) -> App:
        """Return the wired prunella."""
        return self.market.app

    def run(self, work: Any) -> Any:
        """Carry a coroutine out where the server runs, and return what came of it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def token(self, role: Role = Role.ADMIN, name: str = "ada") -> str:
        """Return a good token."""
        return self.market.gatehouse.mint(role, timedelta(hours=1), name)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Serve a filled prunella until the block ends."""
    ready, ended = threading.Event(), threading.Event()
    made: list[World] = []
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            asyncio.run(_serve(folder, made, ready))
        except BaseException as error:  # told in the test's own thread
            failed.append(error)
        finally:
            ready.set()
            ended.set()

    thread = threading.Thread(target=serve, name="prunella", daemon=True)
    thread.start()
    ready.wait(30)
    if failed:
        raise failed[0]
    try:
        yield made[0]
    finally:
        made[0].loop.call_soon_threadsafe(made[0].app.life.stopping.set)
        assert ended.wait(20), "the server must end when it is told to stop, whoever listens"
    if failed:
        raise failed[0]


async def _serve(folder: Path, made: list[World], ready: threading.Event) -> None:
    file = folder / "prunella.yaml"
    rate = ", rate: {initial_per_s: 20}"
    services = (f"base_url: 'https://{name}.example'{rate if name == 'mailer' else ''}" for name in _SERVICES)
    file.write_text(_FILE + "".join(f"  {name}: {{{said}}}\n" for name, said in zip(_SERVICES, services, strict=True)))
    migrations.upgrade(f"sqlite:///{folder / 'prunella.db'}")
    settings = load(file, {"PRUNELLA_INGEST_TOKEN": INGEST})
    with filled(f"sqlite:///{folder / 'shop.db'}") as shop:
        async with market(shop, folder / "prunella.db", settings) as wired:
            bound = bind("127.0.0.1", 0)
            bound.listen(100)
            one = World(f"http://127.0.0.1:{bound.getsockname()[1]}", wired, asyncio.get_running_loop())
            one.ids = await fill(wired)
            server = uvicorn.Server(
                uvicorn.Config(create(wired.app), log_config=None, lifespan="off", timeout_graceful_shutdown=5)
            )
            serving = asyncio.create_task(server.serve(sockets=[bound]))
            made.append(one)
            ready.set()
            await wired.app.life.stopping.wait()
            server.should_exit = True
            await serving


async def fill(wired: Market) -> dict[str, str]:
    """Put a day into the store; return the ids of incidents by what they show."""
    chance = random.Random(7)
    app = wired.app
    now = app.parts.clock.now()
    ids: dict[str, str] = {}
    for number in range(96):
        service = chance.choices(_SERVICES, (9, 6, 4, 3, 2))[0]
        kind = chance.choices(_KINDS, (8, 4, 5, 4, 2))[0]
        began = now - timedelta(minutes=15 * (95 - number) + chance.random() * 14)
        state = _state(number, kind[1], chance)
        ids[state.value] = await _incident(app, service, kind, began, state, chance)
    for number, minutes in enumerate((44, 61, 95, 180), start=1001):
        wired.order(number, "PENDING" if number % 2 else "CONFIRMED", minutes)
    await _to_act_on(app, ids)
    ids["known"] = await learned.filled(app)
    return ids


async def _to_act_on(app: App, ids: dict[str, str]) -> None:
    """Leave people something to do: a plan, requests that wait, a service that is shut, a message."""
    parts, now = app.parts, app.parts.clock.now()
    await orders.run_now(parts, HIDE, by="prunella")
    shut = Gate(service="stripe", since=now - timedelta(minutes=7), counting_from=now)
    shut = replace(shut, state=GateState.DISABLED, reason="9 network failures within 60 minutes", data=2)
    notice = Notification(
        id=parts.ids.new(),
        key="told",
        channel="dashboard",
        kind="MANUAL_INTERVENTION_REQUIRED",
        severity=Severity.HIGH,
        title="Order 1004 needs a person",
        facts=(("Order", "1004"), ("Stuck for", "3 h")),
        incident_id=ids["escalated"],
        link=None,
        state="sent",
        next_at=None,
        created_at=now,
    )
    mail = replace(
        notice, id=parts.ids.new(), channel="mail", state="waiting", attempts=2, last_error="550 no such box"
    )
    tokens = sealed_credential(app.vault, "crm", "", "at", "rt", now + timedelta(minutes=51))
    async with parts.store.transaction() as tx:
        await tx.credentials.put(tokens)
        (approval,) = await tx.approvals.list(most=1)
        await tx.gates.save(replace(await tx.gates.take("stripe", now), **_moved(shut)))
        await tx.outbox.add([notice, replace(mail, next_at=now + timedelta(minutes=4))])
        await tx.operations.add([_operation(app, ids["open"], number) for number in range(6)])
        (ids["operation"], *_) = [one.id for one in await tx.operations.list(most=1)]
    ids["approval"] = approval.id


def _moved(gate: Gate) -> dict[str, Any]:
    return {name: getattr(gate, name) for name in ("state", "reason", "since", "data")}


def _operation(app: App, incident: str, number: int) -> Operation:
    """Return a request that waits."""
    operation_id = app.parts.ids.new()
    request = Request(method="POST", endpoint=f"/orders/{number}", payload={"lines": [{"sku": "A-1"}]})
    return Operation(
        id=operation_id,
        incident_id=incident,
        signal_id=operation_id,
        service="warehouse",
        account="",
        method=request.method,
        endpoint=request.endpoint,
        payload_sealed=payloads.seal_request(app.parts, operation_id, request),
        idempotency_key=operation_id,
        created_at=app.parts.clock.now() - timedelta(minutes=number),
    )


def _state(number: int, category: Category, chance: random.Random) -> IncidentState:
    latest = {95: IncidentState.HEALING, 94: IncidentState.OPEN, 93: IncidentState.VERIFYING}
    if number in latest:
        return latest[number]
    if category is Category.DATA and chance.random() < 0.45:
        return IncidentState.ESCALATED
    return IncidentState.RESOLVED


async def _incident(app: App, service: str, kind: Any, began: Any, state: IncidentState, chance: random.Random) -> str:
    name, category, status, words, operation = kind
    parts, took_s = app.parts, 2 + chance.expovariate(1 / 45)
    ended = began + timedelta(seconds=took_s)
    over = state is IncidentState.RESOLVED
    signal_id, incident_id = parts.ids.new(), parts.ids.new()
    failure = Failure(service=service, status=status, message=words, operation=operation, headers={"retry-after": "30"})
    incident = Incident(
        id=incident_id,
        service=service,
        account="",
        fingerprint=incident_id,
        signal_id=signal_id,
        title=f"{service}: {words}",
        category=category,
        kind=name,
        confidence=round(0.8 + chance.random() / 5, 2),
        because=f"status {status}" if status else "exception ReadTimeout",
        advice=_ADVICE[category],
        severity=Severity.HIGH if state is IncidentState.ESCALATED else Severity.MEDIUM,
        state=state,
        count=chance.randint(1, 40),
        attempts=chance.randint(1, 3),
        first_seen=began,
        last_seen=ended if over else began + timedelta(seconds=70),
        next_at=None if over or state is IncidentState.ESCALATED else parts.clock.now() + timedelta(seconds=90),
        held_reason="the data has to be corrected and sent again" if state is IncidentState.ESCALATED else None,
        action_taken="refreshed the OAuth token" if category is Category.AUTH else "replayed the original request",
        resolved_at=ended if over else None,
    )
    times = {"occurred_at": began, "received_at": began}
    signal = Signal(id=signal_id, source="events", event_id=signal_id, service=service, failure=failure, **times)
    async with parts.store.transaction() as tx:
        await tx.incidents.open_or_join(incident)
        await tx.signals.add([(signal, _diagnosis(name, incident), {"order": "number", "items": ["text"]})])
        await tx.signals.attach(incident_id, [signal_id])
        await tx.runs.add(_runs(app, incident, began, ended, state))
        await tx.audit.add(_entries(app, incident, began, ended))
    return incident_id


def _diagnosis(kind: str, incident: Incident) -> Diagnosis:
    return Diagnosis(
        kind=kind,
        confidence=incident.confidence,
        because=incident.because,
        retryable=incident.category is not Category.DATA,
        actor=Actor.SYSTEM,
        advice=incident.advice,
    )


def _runs(app: App, incident: Incident, began: Any, ended: Any, state: IncidentState) -> list[Run]:
    remedy = "refresh_token" if incident.category is Category.AUTH else "replay"
    runs = []
    for attempt in range(1, incident.attempts + 1):
        last = attempt == incident.attempts
        good = last and state is IncidentState.RESOLVED
        started = began + (ended - began) * (attempt / (incident.attempts + 1))
        runs.append(
            Run(
                id=app.parts.ids.new(),
                incident_id=incident.id,
                operation_id=None,
                service=incident.service,
                procedure="",
                remedy=remedy,
                state=RunState.VERIFIED if good else RunState.FAILED,
                attempt=attempt,
                idempotency_key=f"{incident.id}-{attempt}",
                worker="w1",
                started_at=started,
                ended_at=started + timedelta(seconds=1.1),
                status=200 if good else 503,
                detail="went through" if good else "Service temporarily unavailable",
            )
        )
    return runs


def _entries(app: App, incident: Incident, began: Any, ended: Any) -> list[AuditEntry]:
    told = [("incident.opened", began, incident.because)]
    if incident.attempts > 1:
        told.append(
            ("incident.wait", began + (ended - began) / 3, "retry 2 of 5 in 4 s: the service asked for silence")
        )
    if incident.resolved_at is not None:
        told.append(("incident.resolved", ended, "the replayed request was answered with 200"))
    if incident.state is IncidentState.ESCALATED:
        told.append(("incident.escalated", ended, incident.held_reason or ""))
    return [
        AuditEntry(
            id=app.parts.ids.new(),
            at=at,
            actor="prunella",
            action=action,
            target=incident.service,
            incident_id=incident.id,
            reason=reason,
        )
        for action, at, reason in told
    ]


_ADVICE = {
    Category.AUTH: "The access token is refreshed, and the request sent again with the new one.",
    Category.RATE_LIMIT: "Calls slow down until the service says that they may go on.",
    Category.NETWORK: "The request is sent again, later each time.",
    Category.DATA: "The request has to be corrected; it is not sent again as it is.",
    Category.UNKNOWN: "Nobody knows yet.",
}
