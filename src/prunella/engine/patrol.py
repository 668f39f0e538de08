"""Look again: the scan over what rests, the probes of what is shut, and the schedule that calls both.

A procedure never overlaps itself (a lease in its row), a failing one stops no other, and each run leaves its log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cronsim import CronSim

from prunella.core import redact
from prunella.core.errors import PrunellaError, StoreError
from prunella.core.records import Category, Gate, Incident, Level
from prunella.core.services import Service
from prunella.core.states import GateState, IncidentState
from prunella.engine import gates, lane, notices, report, trail
from prunella.engine.parts import Parts
from prunella.engine.perform import perform
from prunella.engine.ready import Ready
from prunella.engine.sweep import sweep
from prunella.remedies.contract import Outcome, Target
from prunella.store.contract import Transaction, again_on_conflict

SCAN_EVERY_S = 900.0
SCAN_WINDOW_MINUTES = 15
SCAN_LIMIT = 50
"""How often the scan runs by itself, how far it looks back and how much it takes (document B)."""

_SCHEDULED_WINDOW_MINUTES = 25 * 60  # beyond the 24 hours after which what rests is left to a person
_SCAN_BUDGET_S = 8.0
_FIRST_RUN_S = 10.0
_SPREAD_S = 5.0
_PROCEDURE_LEASE_S = 60.0
_HEALTH_FAILURES = 2  # one lost answer is no outage
_SLOWLY = {"by_probe": 2, "by_person": 10}
"""A disabled service is asked at every second turn, or, where the answer lifts nothing, at every tenth."""
_EARLY = 0.9  # a tick of two workers' clocks and queues is one tick
_SPENT = frozenset({"flapping", "clean_since", "gave_up", "healed", "fix"})
"""What of an incident's memory a person's retry forgives."""
_RETRIED_BY_SCAN = frozenset({Category.AUTH, Category.NETWORK, Category.RATE_LIMIT})


@dataclass(frozen=True, slots=True)
class Round:
    """Something that is done every so often; `run` returns what the log shall say.

    Args:
        every_s, cron: how often, or when; one of them.
        code: what the documents call it (HEAL_SYNC_001).
        waits: the first run comes after the first interval, not soon after the start.
        quiet: an ordinary run leaves no entry in the audit; what it decides has its own.
        paced: never sooner than its interval, whichever worker's queue brings it.
    """

    name: str
    every_s: float | None
    run: Callable[[Parts], Awaitable[Mapping[str, Any]]]
    cron: str | None = None
    waits: bool = False
    code: str | None = None
    paced: bool = False
    quiet: bool = False

    def after(self, moment: datetime) -> datetime:
        """Return when the run after one at `moment` is due; ticks that were missed count as one."""
        if self.every_s is not None:
            return moment + timedelta(seconds=self.every_s)
        assert self.cron is not None  # settings demand one of them
        return next(CronSim(self.cron, moment))


def rounds(services: Mapping[str, Service], procedures: Mapping[str, Ready]) -> dict[str, Round]:
    """Return what every deployment does, a scan and a probe per service with a health check, and its procedures."""
    found = [Round("scan", SCAN_EVERY_S, _scheduled_scan)]
    found += [_round(ready) for ready in procedures.values()]
    found += [
        Round(f"probe:{service.name}", service.health.every_s, _prober(service.name), paced=True)
        for service in services.values()
        if service.health is not None
    ]
    return {one.name: one for one in found}


def _round(ready: Ready) -> Round:
    async def run(parts: Parts) -> Mapping[str, Any]:
        return (await sweep(parts, ready)).as_log()

    policy = ready.policy
    return Round(policy.name, policy.every_s, run, policy.cron, policy.first_run == "wait", policy.id)


async def schedule(parts: Parts, procedures: Mapping[str, Round]) -> None:
    """Submit each round's next run: soon after the start, unless its last run is younger than its interval."""
    now = parts.clock.now()
    for one in procedures.values():
        async with parts.store.transaction() as tx:
            row = await tx.procedures.register(one.name, one.code)
        first = now + timedelta(seconds=_FIRST_RUN_S + parts.rng.random() * _SPREAD_S)
        last: datetime | None = row["last_started_at"]
        unseen = one.after(now) if one.waits else first
        due = max(first, one.after(last)) if last is not None else unseen
        await parts.runner.submit("procedure", one.name, at=due)


async def run_procedure(parts: Parts, one: Round, *, tells: bool = False) -> bool:
    """Run once, log how it went, and submit the next run; False where it runs already, or a person paused it.

    Args:
        tells: what it raises is logged and raised again, for a person who waits for it.
    """
    started = parts.clock.now()
    await parts.runner.submit("procedure", one.name, at=one.after(started))
    async with parts.store.transaction() as tx:
        await tx.procedures.register(one.name)
        until = started + timedelta(seconds=_PROCEDURE_LEASE_S)
        rested = timedelta(seconds=(one.every_s or 0.0) * _EARLY) if one.paced else timedelta()
        if not await tx.procedures.claim(one.name, parts.worker, started, until, rested=rested):
            return False
    async with _keeping(parts, one.name):
        result, error = await _carried_out(parts, one)
    failed = error is not None
    ended = parts.clock.now()
    result["took_s"] = round((ended - started).total_seconds(), 3)
    async with parts.store.transaction() as tx:
        await tx.procedures.finish(one.name, parts.worker, ended, failed=failed, result=result)
        action = "procedure.failed" if failed else "procedure.finished"
        if failed or not one.quiet:
            await trail.note(parts, tx, action, one.name, reason=spell_result(result))
    if error is not None and tells:
        raise error
    return True


def spell_result(result: Mapping[str, Any]) -> str:
    """Say what a run came to: found 3, healed 3, took 24 ms."""
    told = [f"{name.replace('_', ' ')} {value}" for name, value in result.items() if name != "took_s"]
    return ", ".join([*told, f"took {notices.spell_duration(result['took_s'])}"] if "took_s" in result else told)


async def _carried_out(parts: Parts, one: Round) -> tuple[dict[str, Any], Exception | None]:
    """Run it and return what the log shall say; a failing procedure must stop no other."""
    try:
        return dict(await one.run(parts)), None
    except Exception as error:
        parts.listeners.emit("engine.failed", handler=one.name, error=type(error).__name__)
        words = str(error) if isinstance(error, PrunellaError) else f"{type(error).__name__}: {error}"
        return {"error": redact.scrub(words)[:500]}, error


@asynccontextmanager
async def _keeping(parts: Parts, name: str) -> AsyncIterator[None]:
    """Keep the lease of a run that takes longer."""

    async def renew() -> None:
        while True:
            await parts.clock.sleep(_PROCEDURE_LEASE_S / 3)
            with suppress(StoreError):  # an outage of the store must not end the renewing
                async with parts.store.transaction() as tx:
                    until = parts.clock.now() + timedelta(seconds=_PROCEDURE_LEASE_S)
                    await tx.procedures.extend(name, parts.worker, until)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def scan(parts: Parts, *, window_minutes: float, limit: int) -> list[Incident]:
    """Take every incident that is due, or rests and was seen within the window, one step further.

    Returns what was decided on, refusals included, as it stands after at most 8 s: no request lasts 10 s, and what
    takes longer goes on by itself.
    """
    now = parts.clock.now()
    async with parts.store.transaction() as tx:
        found = await tx.incidents.due(now, now - timedelta(minutes=window_minutes), limit)
    until = parts.clock.monotonic() + _SCAN_BUDGET_S
    return list(await asyncio.gather(*(_look_again(parts, incident, until) for incident in found)))


async def _look_again(parts: Parts, found: Incident, until: float) -> Incident:
    """Wake what rests and may be tried again, and wait how far it comes."""
    async with parts.store.transaction() as tx:
        current = await tx.incidents.take(found.id)
        again = current.category in _RETRIED_BY_SCAN or await tx.operations.died_over(current.id)
        if again and _is_idle(current, parts.clock.now()):
            await wake(parts, tx, current)
        elif current.next_at is not None or current.lease_until is not None:
            await parts.runner.submit("heal", current.id, tx=tx)
    left = max(until - parts.clock.monotonic(), 0.0)
    standing = await report.settled(parts, report.Receipt(found.id, "", duplicate=False), within_s=left)
    assert standing is not None  # it has an incident
    return standing.incident


async def wake(
    parts: Parts, tx: Transaction, incident: Incident, *, by_person: bool = False, resting: bool = True
) -> None:
    """Make what rests in an incident due now; one that waits for a person is woken by a person only.

    Args:
        resting: its resting operations, too; otherwise only what is due already.
    """
    now = parts.clock.now()
    if resting:
        await tx.operations.wake(incident.id, now)
    if not by_person and not _is_idle(incident, now):
        return
    woken = replace(incident, state=IncidentState.OPEN, next_at=now, attempts=min(incident.attempts, 2))
    if by_person:
        memory = {name: value for name, value in incident.memory.items() if name not in _SPENT}
        woken = replace(woken, attempts=0, refresh_failed=False, held_reason=None, level=Level.L0, memory=memory)
        woken = replace(woken, regressions=0)
    await tx.incidents.save(woken)
    if incident.procedure:  # what a check found is looked at by its procedure alone
        await parts.runner.submit("procedure", incident.procedure, tx=tx)
    else:
        await parts.runner.submit("heal", incident.id, tx=tx)


def _is_idle(incident: Incident, now: datetime) -> bool:
    """Nobody works on it, and it waits for no person."""
    leased = incident.lease_until is not None and incident.lease_until > now
    return not leased and incident.state in (IncidentState.OPEN, IncidentState.VERIFYING)


async def wake_service(parts: Parts, tx: Transaction, service: str, *, by_person: bool) -> int:
    """Wake every open incident of a service; return how many."""
    woken: Sequence[Incident] = await tx.incidents.open_of(service)
    for incident in woken:
        await wake(parts, tx, await tx.incidents.take(incident.id), by_person=by_person)
    return len(woken)


async def _scheduled_scan(parts: Parts) -> Mapping[str, Any]:
    decided = await scan(parts, window_minutes=_SCHEDULED_WINDOW_MINUTES, limit=SCAN_LIMIT)
    return {"processed": len(decided), "resolved": sum(not incident.is_open for incident in decided)}


def _prober(service: str) -> Callable[[Parts], Awaitable[Mapping[str, Any]]]:
    async def run(parts: Parts) -> Mapping[str, Any]:
        return await probe(parts, service)

    return run


async def probe(parts: Parts, name: str, *, by_person: bool = False) -> Mapping[str, Any]:
    """Ask a service whether it is well (HEAL_CONN_003): shut its gate when it is down, let calls pass when it is back.

    While the gate is shut what is meant for the service waits; once it is back, that resumes in its order. A paused
    service is not asked, a disabled one slowly, unless a person wants to know.
    """
    service = parts.services[name]
    async with parts.store.transaction() as tx:
        gate = await tx.gates.take(name, parts.clock.now())
    if gate.state is GateState.PAUSED:
        return {"gate": gate.state.value}
    if gate.state is GateState.DISABLED and not by_person and gate.reopen_at and gate.reopen_at > parts.clock.now():
        return {"gate": gate.state.value, "next_probe": gate.reopen_at.isoformat()}
    target = Target(service=service, account="", incident_id="probe", idempotency_key=f"probe:{parts.ids.new()}")
    outcome = await perform(parts, "probe", lambda: target)
    return {"gate": await _judged(parts, service, outcome), "well": outcome.ok, "detail": outcome.detail}


@again_on_conflict
async def _judged(parts: Parts, service: Service, outcome: Outcome) -> str:
    """Let a health check's answer move the gate; return the state that it leads to."""
    async with parts.store.transaction() as tx:
        before = await tx.gates.take(service.name, parts.clock.now())
        gate = await (_well if outcome.ok else _down)(parts, tx, service, before, outcome.detail)
    return gate.state.value


async def _well(parts: Parts, tx: Transaction, service: Service, before: Gate, detail: str) -> Gate:
    """A service answers: close its gate step by step, and say how long it was down."""
    now = parts.clock.now()
    if before.state is GateState.DISABLED:
        if _lifted(service, before) != "by_probe":
            return await _asked_slowly(tx, service, before, now)
        await enable(parts, tx, service.name, by="a passed health probe")
        return await tx.gates.take(service.name, now)
    gate = gates.count_success(before, now)
    if before.state in (GateState.OPEN, GateState.HALF_OPEN):
        half_open = gates.begin_probe(replace(before, reopen_at=now), now)
        gate = gates.record_call(half_open, True, service.gate, now, parts.rng)
    if gate != before:
        await tx.gates.save(gate)
    await lane.moved(parts, tx, before, gate)
    return gate


async def _down(parts: Parts, tx: Transaction, service: Service, before: Gate, detail: str) -> Gate:
    """A service does not answer: shut its gate at the second time in a row, and say so while it lasts."""
    now = parts.clock.now()
    if before.state is GateState.DISABLED:
        return await _asked_slowly(tx, service, before, now)
    limits = replace(service.gate, failures=min(service.gate.failures, _HEALTH_FAILURES))
    gate = gates.record_call(before, False, limits, now, parts.rng)
    await tx.gates.save(gate)
    await lane.moved(parts, tx, before, gate)
    if gate.down_since is not None and service.health is not None:
        next_at = now + timedelta(seconds=service.health.every_s)
        link = f"{parts.public_url}/services/{service.name}"
        told = notices.still_down(service.name, detail, gate.down_since, now, service.health.status_page, next_at, link)
        await trail.tell(parts, tx, [told])
        if before.down_since is None:
            await trail.note(parts, tx, "gate.down", service.name, reason=detail)
    return gate


def _lifted(service: Service, gate: Gate) -> str:
    """Return what lifts a disablement: what a person did, only a person undoes."""
    return service.enable_again if gate.changed_by == gates.MACHINE else "by_person"


async def _asked_slowly(tx: Transaction, service: Service, before: Gate, now: datetime) -> Gate:
    """Note when a disabled service is asked again."""
    assert service.health is not None  # or it would not have been asked
    turns = _SLOWLY[_lifted(service, before)] - 0.5  # between two looks, so that the next of them is not just too early
    gate = replace(before, reopen_at=now + timedelta(seconds=service.health.every_s * turns))
    await tx.gates.save(gate)
    return gate


async def enable(parts: Parts, tx: Transaction, name: str, *, by: str, person: bool = False) -> None:
    """Let calls to a service pass again, and wake what waited for it."""
    before = await tx.gates.take(name, parts.clock.now())
    gate = gates.enable(before, parts.clock.now(), by=by)
    await tx.gates.save(gate)
    await trail.note(parts, tx, "gate.enabled", name, reason=before.reason or "", by=by)
    if before.down_since is not None:
        await trail.recovered(parts, tx, name, before.down_since)
    if before.state is GateState.DISABLED:
        link = f"{parts.public_url}/services/{name}"
        await trail.tell(parts, tx, [notices.enabled(before, by, parts.clock.now(), link)])
    if person:
        await wake_service(parts, tx, name, by_person=True)
    await lane.resume(parts, tx, name)  # after a person's word, too: it wakes the oldest only
    tx.on_commit(lambda: parts.listeners.emit("gate.changed", service=name, state="closed", reason=f"enabled by {by}"))
