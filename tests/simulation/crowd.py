"""The people: they meddle while it storms, and put right what only they can when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from prunella.app import sealed_credential
from prunella.core.clock import Rng
from prunella.core.errors import IllegalTransition, InvalidInput
from prunella.core.services import SecretRef
from prunella.core.states import ApprovalState
from prunella.engine import operations, patrol, people, proposals
from simulation.machine import KEYS, Machine, Process
from simulation.senders import Senders
from simulation.services import ACCOUNTS, SECRETS, known_issues
from simulation.watch import moment

_INSISTED_S = 10.0  # what is known nowhere else survives an outage of less than 8 s, and that is promised


class Crowd:
    """Everybody who may act on incidents and services."""

    def __init__(self, machine: Machine, senders: Senders, rng: Rng) -> None:
        self._machine, self._world, self._senders, self._rng = machine, machine.world, senders, rng
        self.pulls_plugs = True

    async def act(self) -> None:
        """Do one of the things that people do."""
        rng, process = self._rng, self._machine.any(self._rng)
        if process is None:
            return
        service, incident = rng.choice(sorted(self._world.places)), self._some_incident()
        what = rng.choice(("service", "service", "incident", "token", "secret", "scan", "success", "plan", "plan"))
        if what == "service":
            await self._do(process, self._on_service, service, rng.choice(people.SERVICE_ACTS))
        elif what == "incident" and incident is not None:
            await self._do(process, self._on_incident, incident, rng.choice(people.INCIDENT_ACTS))
        elif what == "token":
            await self._do(process, self._connect, *rng.choice(ACCOUNTS))
        elif what == "secret":
            await self._do(process, rng.choice((self._put_secret, self._drop_secret)), rng.choice(SECRETS))
        elif what == "scan":
            await self._do(process, self._scan)
        elif what == "plan":
            await self._do(process, self._answer_a_plan)
        elif what == "success":
            await self._do(process, self._senders.report_success, service)

    def meddle(self, incident: str) -> None:
        """Sometimes take an incident over while a worker is at it; sometimes that worker then dies."""
        if self._rng.random() < 0.08 and self._world.stormy():
            self._machine.start(
                self._take_over(incident, self._rng.choice(("escalate", "escalate", "suppress", "retry")))
            )

    def pull_the_plug(self) -> None:
        """Sometimes the database goes away just when a token was rotated."""
        now_s = self._world.now_s()
        if self._rng.random() < 0.2 and self._world.stormy() and not self._machine.is_away_about(now_s, _INSISTED_S):
            begin_s = now_s + self._rng.uniform(0.0, 0.5)
            self._machine.outages += ((begin_s, begin_s + self._rng.uniform(0.1, 3.0)),)

    def cut_in(self, service: str, token: str) -> None:
        """Sometimes a person consents again while a token is refreshed; sometimes the power fails meanwhile."""
        lot = self._rng.random() if self._world.stormy() else 1.0
        accounts = self._world.places[service].accounts
        if lot < 0.1:
            for account in [name for name, one in accounts.items() if one.refresh == token]:
                self._machine.start(self._consent(service, account))
        elif lot < 0.2 and self.pulls_plugs:
            self._machine.crash_at.add(self._machine.steps + 1)

    async def move_in(self, process: Process) -> None:
        """Do what comes before everything: connect the accounts, set the secrets."""
        for service, account in ACCOUNTS:
            await self._connect(process, service, account)
        for name in SECRETS:
            await self._put_secret(process, name)
        async with process.store.transaction() as tx:
            await tx.learning.add(known_issues(), process.parts.clock.now())

    async def repair(self) -> None:
        """With the storm over, put everything right."""
        for name in self._missing():
            await self._until_done(self._put_secret, name)
        for service, account in ACCOUNTS:
            if self._is_cut_off(service, account):
                await self._until_done(self._connect, service, account)
        for service, act in self._shut():
            await self._until_done(self._on_service, service, act)

    async def ask_again(self) -> None:
        """Look once at everything that waits for people; some of what they put aside stays aside."""
        for _ in self._plans():
            await self._until_done(self._answer_a_plan)
        rows = self._machine.database.execute(
            "SELECT id FROM incidents WHERE state IN ('escalated', 'suppressed') ORDER BY id"
        ).fetchall()
        for (incident,) in rows:
            if incident not in self._machine.watch.kept or self._rng.random() < 0.3:
                await self._until_done(self._on_incident, incident, "retry")

    async def clear_away(self, older_s: float) -> None:
        """Cancel what has been open for so long, and say that it is over: whoever sent it has seen to it."""
        old = "SELECT id FROM incidents WHERE state <> 'resolved' AND first_seen < ? ORDER BY id"
        left = "SELECT id FROM operations WHERE incident_id = ? AND state IN ('waiting', 'dead') ORDER BY id"
        database, before = self._machine.database, moment(self._world.wall_s() - older_s)
        for (incident,) in database.execute(old, (before,)).fetchall():
            for (operation,) in database.execute(left, (incident,)).fetchall():
                await self._until_done(self._cancel, operation)
            await self._until_done(self._on_incident, incident, "resolve")

    async def report_successes(self) -> None:
        """Let every service be seen to work."""
        for service in [*sorted(self._world.places), "ghost"]:
            await self._until_done(self._senders.report_success, service)

    async def _do(self, process: Process, act: Callable[..., Awaitable[Any]], *facts: str) -> None:
        """Act, and expect to be told so where the act is not possible."""
        name = f"{getattr(act, '__name__', act)} {' '.join(facts)}"
        self._world.trace.say(self._world.now_s(), "person", process.name, name)
        self._machine.watch.people_at_work += 1
        try:
            await self._machine.unless_dead(process, act(process, *facts))
        except (IllegalTransition, InvalidInput) as error:
            self._world.trace.say(self._world.now_s(), "refused", error)
        except Exception as error:
            self._world.wrong(f"a person's act failed: {name}: {type(error).__name__} {error}")
        finally:
            self._machine.watch.people_at_work -= 1

    async def _until_done(self, act: Callable[..., Awaitable[Any]], *facts: str) -> None:
        while True:
            process = self._machine.any(self._rng)
            if process is None:
                await asyncio.sleep(1.0)
                continue
            await self._do(process, act, *facts)
            if not process.died.done():
                return

    async def _take_over(self, incident: str, act: str) -> None:
        await asyncio.sleep(self._rng.uniform(0.0, 2.0))
        process = self._machine.any(self._rng)
        if process is None:
            return
        await self._do(process, self._on_incident, incident, act)
        if self.pulls_plugs and self._rng.random() < 0.4:
            self._machine.crash_at.add(self._machine.steps + self._rng.randrange(1, 30))

    async def _consent(self, service: str, account: str) -> None:
        process = self._machine.any(self._rng)
        if process is not None:
            await self._do(process, self._connect, service, account)

    async def _on_service(self, process: Process, service: str, act: str) -> None:
        await people.act_on_service(process.parts, service, act, by="ann", reason="to see")

    async def _on_incident(self, process: Process, incident: str, act: str) -> None:
        await people.act_on_incident(process.parts, incident, act, by="ann")
        if act in ("suppress", "escalate"):
            self._machine.watch.kept[incident] = "suppressed" if act == "suppress" else "escalated"

    async def _cancel(self, process: Process, operation: str) -> None:
        await operations.act(process.parts, operation, "cancel", by="ann")

    async def _answer_a_plan(self, process: Process) -> None:
        plans = self._plans()
        if plans:
            plan, digest = self._rng.choice(plans)
            state = self._rng.choice((ApprovalState.APPROVED, ApprovalState.APPROVED, ApprovalState.REJECTED))
            await proposals.answer(process.parts, plan, state, by="ann", digest=digest, reason="as it seems")

    def _plans(self) -> list[tuple[str, str]]:
        return self._machine.database.execute(
            "SELECT id, digest FROM approvals WHERE state = 'waiting' ORDER BY id"
        ).fetchall()

    async def _connect(self, process: Process, service: str, account: str) -> None:
        tokens = self._world.connect(service, account)
        credential = sealed_credential(process.vault, service, account, tokens.access, tokens.refresh, None)
        await people.put_credential(process.parts, credential, by="ann")

    async def _put_secret(self, process: Process, name: str) -> None:
        value = self._world.secret("sec-")
        await people.put_secret(process.parts, process.vault.sealed(SecretRef(name), value), name, by="ann")

    async def _drop_secret(self, process: Process, name: str) -> None:
        await people.drop_secret(process.parts, name, by="ann")

    async def _scan(self, process: Process) -> None:
        await patrol.scan(process.parts, window_minutes=15, limit=50)

    def _some_incident(self) -> str | None:
        states = self._rng.choice(("= 'healing'", "<> 'resolved'"))
        rows = self._machine.database.execute(f"SELECT id FROM incidents WHERE state {states} ORDER BY id").fetchall()
        return str(self._rng.choice(rows)[0]) if rows else None

    def _shut(self) -> list[tuple[str, str]]:
        """Return which services a person has shut, and the act that opens each."""
        return self._machine.database.execute(
            "SELECT service, CASE state WHEN 'paused' THEN 'resume' ELSE 'enable' END FROM gates "
            "WHERE state IN ('paused', 'disabled') ORDER BY service"
        ).fetchall()

    def _missing(self) -> list[str]:
        there = {row[0] for row in self._machine.database.execute("SELECT name FROM secrets")}
        return [name for name in SECRETS if name not in there]

    def _is_cut_off(self, service: str, account: str) -> bool:
        """Tell whether only a person's consent brings an account back, or may: whoever began to refresh it is gone."""
        sealed, needs_person, begun = self._machine.database.execute(
            "SELECT refresh_sealed, needs_person, refreshing_since FROM credentials WHERE service = ? AND account = ?",
            (service, account),
        ).fetchone()
        held = KEYS.open(sealed, f"credentials:{service}:{account}:refresh").decode()
        there = self._world.places[service].accounts[account]
        return there.revoked or needs_person is not None or begun is not None or held != there.refresh
