"""One door for webhook, guard and check: an arrival is durable, once per event id, before anybody is told so.

Arrivals of the same moment share one transaction: the commit is the dear part, and a flood shares it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from prunella.core import redact
from prunella.core.errors import StoreError
from prunella.core.records import (
    Category,
    Diagnosis,
    Failure,
    Gate,
    Incident,
    Level,
    Operation,
    Request,
    Severity,
    Signal,
)
from prunella.core.services import Service
from prunella.core.states import GateState, IncidentState, OperationState
from prunella.diagnosis.classify import classify
from prunella.diagnosis.fingerprint import fingerprint, operation_of
from prunella.engine import gates, learn, notices, patrol, payloads, sequence, trail, verify
from prunella.engine.learning import judging
from prunella.engine.parts import LEARN, Parts
from prunella.engine.report import Receipt
from prunella.store.contract import Transaction, again_on_conflict

_BATCH_MAX = 200
_REGRESSION = timedelta(hours=24)
_LEARN_AFTER = timedelta(seconds=1)
_LOUD = (Category.DATA, Category.UNKNOWN)
_LOUD_CODES = ("circuit_breaker_open",)
"""Document C counts an opened breaker among the severe ones."""
_NO_REPLAY = (Category.DATA,)

Scope = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event, diagnosed and ready to be recorded."""

    signal: Signal
    diagnosis: Diagnosis | None
    fingerprint: str
    echo_of: str | None

    @property
    def scope(self) -> Scope:
        """Return what makes events one problem: tokens belong to an account, everything else to the service."""
        assert self.diagnosis is not None
        account = self.signal.account if self.diagnosis.category is Category.AUTH else ""
        return (self.signal.service, account, self.fingerprint)


class Intake:
    """Accept events in batches."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting: list[tuple[Arrival, asyncio.Future[Receipt]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._learns_at = self._learns_again_at = 0.0

    async def accept(self, signal: Signal, *, echo_of: str | None = None) -> Receipt:
        """Record a signal and return once it is durable; `StoreUnavailable` means that nothing was recorded.

        Args:
            echo_of: the incident whose own recovery caused this event; it joins that one and counts nowhere.
        """
        arrival = _diagnosed(self._parts, signal, echo_of)
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrival, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await future

    async def _write(self) -> None:
        """Commit what waits, batch after batch, until nothing waits."""
        try:
            while self._waiting:
                await self._gather()
                batch, self._waiting = self._waiting[:_BATCH_MAX], self._waiting[_BATCH_MAX:]
                await self._commit(batch)
        finally:
            self._writer = None

    async def _gather(self) -> None:
        """Let more arrivals join as long as each turn of the event loop brings some."""
        loop = asyncio.get_running_loop()
        seen = 0
        while seen < len(self._waiting) < _BATCH_MAX:
            seen = len(self._waiting)
            turn: asyncio.Future[None] = loop.create_future()
            loop.call_soon(turn.set_result, None)
            await turn

    async def _commit(self, batch: Sequence[tuple[Arrival, asyncio.Future[Receipt]]]) -> None:
        try:
            receipts = await record(self._parts, [arrival for arrival, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreError):
                for one in batch:  # one event that cannot be recorded must not take the others down
                    await self._commit([one])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), receipt in zip(batch, receipts, strict=True):
            if not future.done():
                future.set_result(receipt)
        with suppress(StoreError):  # its round comes anyway
            await self._have_learned(receipts)

    async def _have_learned(self, receipts: Sequence[Receipt]) -> None:
        """Have what is new learned from soon, and what goes on once in a while; what comes within a moment together."""
        now, joined = self._parts.clock.monotonic(), [one.incident for one in receipts if one.incident is not None]
        is_new = any(not one.learned for one in joined)
        if not joined or now < (self._learns_at if is_new else self._learns_again_at):
            return
        self._learns_at = now + _LEARN_AFTER.total_seconds()
        self._learns_again_at = now + self._parts.learning.window_s
        await self._parts.runner.submit("procedure", LEARN, at=self._parts.clock.now() + _LEARN_AFTER)


@again_on_conflict
async def record(parts: Parts, arrivals: Sequence[Arrival]) -> list[Receipt]:
    """Write a batch of arrivals in one transaction."""
    async with parts.store.transaction() as tx:
        await parts.known.refresh(tx)
        echoes = await _echoes(tx, arrivals)
        new = await tx.signals.add(
            [  # an echo is kept without its category: what is counted by category comes from outside
                (one.signal, None if one.signal.id in echoes else one.diagnosis, _shape(one)) for one in arrivals
            ]
        )
        fresh = [arrival for arrival in arrivals if arrival.signal.id in new]
        belongs = {signal_id: incident_id for signal_id, incident_id in echoes.items() if signal_id in new}
        for signal_id, incident_id in belongs.items():
            await tx.signals.attach(incident_id, [signal_id])
        failures = [one for one in fresh if one.signal.outcome == "failure" and one.signal.id not in belongs]
        joined = await _open_or_join(parts, tx, failures)
        belongs |= {signal_id: incident.id for signal_id, incident in joined.items()}
        successes = [arrival.signal for arrival in fresh if arrival.signal.outcome == "success"]
        # incidents before gates before issues, as everywhere: else two transactions wait for each other
        well = {id_: one for signal in successes for id_, one in (await _prove(parts, tx, signal)).items()}
        counted = await _count(parts, tx, failures, joined)
        for name in sorted({signal.service for signal in successes}):
            await _count_success(parts, tx, name)
        for incident, how in well.values():
            await judging.proven(parts, tx, incident, how)
        await _submit(parts, tx, joined, counted)
        known = await _known(tx, [arrival for arrival in arrivals if arrival.signal.id not in new])
    for arrival in fresh:
        _emit(parts, arrival, belongs)
    return [
        Receipt(
            belongs.get(one.signal.id),
            one.signal.id,
            duplicate=False,
            incident=joined.get(one.signal.id),
            gate=counted.get(one.signal.service),
        )
        if one.signal.id in new
        else Receipt(*known[one.signal.source, one.signal.event_id], duplicate=True)
        for one in arrivals
    ]


def _diagnosed(parts: Parts, signal: Signal, echo_of: str | None) -> Arrival:
    if signal.failure is None:
        return Arrival(signal, None, "", echo_of)
    service = parts.services.get(signal.service)
    rules, names = service.rules if service is not None else (), _vendors(parts, signal.service)
    diagnosis = classify(signal.failure, now=signal.received_at, rules=rules, names=names)
    return Arrival(signal, diagnosis, fingerprint(signal.failure, diagnosis), echo_of)


def _shape(arrival: Arrival) -> Any:
    """Keep the payload's structure, never its values (document B: data failures)."""
    request = arrival.signal.request
    return redact.shape(request.payload) if request is not None and request.payload is not None else None


async def _echoes(tx: Transaction, arrivals: Sequence[Arrival]) -> dict[str, str]:
    """Return signal id -> the incident whose own recovery caused it; an unknown incident makes an ordinary event."""
    return {
        one.signal.id: one.echo_of
        for one in arrivals
        if one.echo_of and await tx.incidents.get(one.echo_of) is not None
    }


async def _open_or_join(parts: Parts, tx: Transaction, failures: Sequence[Arrival]) -> dict[str, Incident]:
    """Open one incident per problem, or join the one that is open; queue what may be replayed."""
    groups: defaultdict[Scope, list[Arrival]] = defaultdict(list)
    for arrival in failures:
        groups[arrival.scope].append(arrival)
    fresh = {scope: _incident(parts, scope, arrivals) for scope, arrivals in sorted(groups.items())}
    joined: dict[str, Incident] = {}
    operations: list[Operation] = []
    for incident in await tx.incidents.open_or_join_all(list(fresh.values())):
        scope = (incident.service, incident.account, incident.fingerprint)
        joined |= {arrival.signal.id: incident for arrival in groups[scope]}
        queued = [operation for arrival in groups[scope] if (operation := _operation(parts, arrival, incident))]
        if queued and _may_go_on(incident):
            await tx.incidents.save(replace(incident, state=IncidentState.OPEN, next_at=fresh[scope].next_at))
            await parts.runner.submit("heal", incident.id, tx=tx)
        operations += queued
        if incident.id == fresh[scope].id:
            await _announce_opened(parts, tx, incident, groups[scope][0])
    await tx.signals.attach_each({signal_id: incident.id for signal_id, incident in joined.items()})
    await tx.operations.add(operations)
    return joined


def _may_go_on(incident: Incident) -> bool:
    """What stopped earlier requests need not stop new ones, unless a person took the incident over."""
    return incident.state is IncidentState.ESCALATED and incident.level is not Level.L3


def _incident(parts: Parts, scope: Scope, arrivals: Sequence[Arrival]) -> Incident:
    service, account, print_ = scope
    first, last = arrivals[0], arrivals[-1]
    assert first.diagnosis is not None
    assert first.signal.failure is not None
    diagnosis = first.diagnosis
    return Incident(
        id=parts.ids.new(),
        service=service,
        account=account,
        fingerprint=print_,
        signal_id=last.signal.id,
        title=_title(first.signal.failure, diagnosis),
        category=diagnosis.category,
        kind=diagnosis.kind,
        confidence=diagnosis.confidence,
        because=diagnosis.because,
        advice=diagnosis.advice,
        severity=_severity(first.signal.failure, diagnosis),
        count=len(arrivals),
        first_seen=first.signal.received_at,
        last_seen=last.signal.received_at,
        next_at=last.signal.received_at,
        forced=all(arrival.signal.forced for arrival in arrivals),
        issue_id=parts.known.match(first.signal.failure, kind=diagnosis.kind, names=_vendors(parts, service)),
    )


def _vendors(parts: Parts, service: str) -> tuple[str, ...]:
    configured = parts.services.get(service)
    return configured.vendors if configured is not None else ()


def _severity(failure: Failure, diagnosis: Diagnosis) -> Severity:
    loud = diagnosis.category in _LOUD or failure.code in _LOUD_CODES
    return Severity.HIGH if loud else Severity.MEDIUM


def _title(failure: Failure, diagnosis: Diagnosis) -> str:
    evidence = failure.code or (f"HTTP {failure.status}" if failure.status else failure.exc_type) or "failure"
    where = f" on {failure.operation}" if failure.operation else ""
    return f"{failure.service}: {diagnosis.kind} ({evidence}){where}"[:200]


def _operation(parts: Parts, arrival: Arrival, incident: Incident) -> Operation | None:
    """Return the original request as work that waits; None where nothing may be replayed."""
    request, service = arrival.signal.request, parts.services.get(arrival.signal.service)
    if request is None or service is None:
        return None
    if incident.category in _NO_REPLAY and not parts.known.is_repaired(incident.issue_id):
        return None
    operation_id = parts.ids.new()
    refused = payloads.not_replayable(service, request)
    return Operation(
        id=operation_id,
        incident_id=incident.id,
        signal_id=arrival.signal.id,
        service=service.name,
        account=arrival.signal.account,
        method=request.method,
        endpoint=redact.scrub(request.endpoint),
        payload_sealed=payloads.seal_request(
            parts, operation_id, request if not refused else Request(method="", endpoint="")
        ),
        idempotency_key=f"prunella-{arrival.signal.id}",
        state=OperationState.DEAD if refused else OperationState.WAITING,
        last_error=refused,
        created_at=arrival.signal.received_at,
        ordering_key="" if refused else sequence.key_of(arrival.signal.account, request),
    )


async def _announce_opened(parts: Parts, tx: Transaction, incident: Incident, first: Arrival) -> None:
    """Tell that something new failed, and whether it came back."""
    previous = await tx.incidents.link_previous(incident, incident.first_seen - _REGRESSION)
    back = f"; it was resolved at {previous.resolved_at:%Y-%m-%d %H:%M} UTC and came back" if previous else ""
    await trail.note(
        parts, tx, "incident.opened", incident.service, reason=f"{incident.because}{back}", incident=incident.id
    )
    assert first.signal.failure is not None
    link = trail.link(parts, incident.id)
    told = notices.detected(incident, first.signal.failure, incident.advice, first.signal.event_id, link)
    await trail.tell(parts, tx, [told])


async def _count(
    parts: Parts, tx: Transaction, failures: Sequence[Arrival], joined: Mapping[str, Incident]
) -> dict[str, Gate]:
    """Count events from outside towards disablement (document B), one per event id; return the services' gates."""
    by_service: defaultdict[str, list[Arrival]] = defaultdict(list)
    for arrival in failures:
        if arrival.signal.service in parts.services:
            by_service[arrival.signal.service].append(arrival)
    counted: dict[str, Gate] = {}
    for name, arrivals in sorted(by_service.items()):
        service = parts.services[name]
        before = gate = await tx.gates.take(name, parts.clock.now())
        for arrival in arrivals:
            assert arrival.diagnosis is not None
            category = arrival.diagnosis.category
            # Auth counts recoveries that failed after a refresh: known here only where the refresh has failed already.
            if category is not Category.AUTH or joined[arrival.signal.id].refresh_failed:
                gate = gates.count_failures(gate, category, 1)
        network = await _network_count(parts, tx, service, arrivals, gate)
        if gate is not before or network:
            gate = await learn.settle_gate(parts, tx, gate, service, network)
        counted[name] = gate
    return counted


async def _submit(parts: Parts, tx: Transaction, joined: Mapping[str, Incident], counted: Mapping[str, Gate]) -> None:
    """Have each incident looked at, but for one that is known to wait until its service is enabled again."""
    for incident in {incident.id: incident for incident in joined.values()}.values():
        gate = counted.get(incident.service)
        if incident.held_reason is None or gate is None or gate.state is not GateState.DISABLED:
            await parts.runner.submit("heal", incident.id, tx=tx)


async def _network_count(
    parts: Parts, tx: Transaction, service: Service, arrivals: Sequence[Arrival], gate: Gate
) -> int:
    """Count the service's recent network failures where these may disable it; in a flood there are many to count."""
    if gate.state is GateState.DISABLED:
        return 0
    if not any(one.diagnosis is not None and one.diagnosis.category is Category.NETWORK for one in arrivals):
        return 0
    window = parts.clock.now() - timedelta(seconds=service.disable_after.network_within_s)
    return await tx.signals.count_since(service.name, Category.NETWORK.value, max(window, gate.counting_from))


async def _count_success(parts: Parts, tx: Transaction, name: str) -> None:
    """Let a service's failure counters start anew."""
    if name not in parts.services:
        return
    now = parts.clock.now()
    before = await tx.gates.take(name, now)
    gate = gates.count_success(before, now)
    if gate != before:
        await tx.gates.save(gate)


async def _prove(parts: Parts, tx: Transaction, signal: Signal) -> dict[str, tuple[Incident, str]]:
    """A success proves recovery: what only waited for proof is resolved and returned, the rest is tried."""
    well: dict[str, tuple[Incident, str]] = {}
    for incident in await tx.incidents.open_of(signal.service):
        if signal.about and (await tx.signals.failure(incident.signal_id)).operation != signal.about:
            continue  # an alert that ended says nothing about another one
        operations = await tx.operations.tally(incident.id)
        if operations.get("waiting"):
            await patrol.wake(parts, tx, incident)
        elif not operations.keys() - {OperationState.CANCELLED} and _proves(signal, incident):
            failure, proof = await tx.signals.failure(incident.signal_id), verify.by_success(signal)
            await learn.close(parts, tx, incident, failure, proof)
            well[incident.id] = (incident, proof.how)
    return well


def _proves(signal: Signal, incident: Incident) -> bool:
    """A success after the last failure proves it over; for a data failure it must be the same operation."""
    if signal.occurred_at < incident.last_seen or incident.lease_until is not None:
        return False
    if incident.account and signal.account != incident.account:
        return False
    operation = operation_of(signal.request.method, signal.request.endpoint) if signal.request else ""
    return incident.category is not Category.DATA or bool(operation and operation in incident.title)


async def _known(tx: Transaction, duplicates: Sequence[Arrival]) -> dict[tuple[str, str], tuple[str | None, str]]:
    """Return where events that were recorded before belong: (incident id, signal id)."""
    by_source: defaultdict[str, list[str]] = defaultdict(list)
    for arrival in duplicates:
        by_source[arrival.signal.source].append(arrival.signal.event_id)
    return {
        (source, event_id): place
        for source, event_ids in by_source.items()
        for event_id, place in (await tx.signals.known(source, event_ids)).items()
    }


def _emit(parts: Parts, arrival: Arrival, belongs: dict[str, str]) -> None:
    diagnosis = arrival.diagnosis
    parts.listeners.emit(
        "signal.accepted",
        service=arrival.signal.service,
        outcome=arrival.signal.outcome,
        category=diagnosis.category.value if diagnosis else None,
        kind=diagnosis.kind if diagnosis else None,
        because=diagnosis.because if diagnosis else None,
        incident=belongs.get(arrival.signal.id),
        forced=arrival.signal.forced,
        detected_s=(arrival.signal.received_at - arrival.signal.occurred_at).total_seconds(),
    )
