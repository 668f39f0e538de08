"""One simulated history: a storm of failures, deaths and people, then calm weather to see what is left.

Everything is drawn from one seed before and while it plays; the same seed plays the same history.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from prunella.app import sealed_credential
from prunella.core import redact
from prunella.core.clock import Rng
from prunella.core.errors import IllegalTransition, InvalidInput, StoreUnavailable
from prunella.core.records import Signal
from prunella.core.redact import Secret
from prunella.core.services import GateLimits, Health, OAuth, SecretRef, Service
from prunella.engine import patrol, people, report
from prunella.engine.report import Receipt
from prunella.testing import SimulatedCrash, virtual_time
from prunella.web.api.events import FailureEvent, to_signal
from simulation.invariants import at_the_end, healed_by_now
from simulation.machine import KEYS, STEPS_MAX, Machine, Process
from simulation.world import MOODS, PROVIDER_MOODS, START, Flight, Moods, Place, World

FAILURES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "network": (
        {"http_status": 503, "error_code": "service_unavailable", "error_message": "try later"},
        {"error_code": "ECONNRESET", "error_message": "socket hang up"},
        {"http_status": 504, "error_message": "gateway timeout"},
    ),
    "auth": ({"http_status": 401, "error_code": "invalid_token", "error_message": "Token expired"},),
    "rate_limit": (
        {"http_status": 429, "error_code": "rate_limit_exceeded", "headers": {"retry-after": "2"}},
        {"http_status": 429, "error_code": "rate_limit_exceeded", "headers": {"retry-after": "30"}},
        {"http_status": 429, "error_code": "rate_limit_exceeded"},
    ),
    "data": ({"http_status": 422, "error_code": "validation_error", "error_message": "amount is missing"},),
    "unknown": ({"error_message": "the flux is out of order"},),
}
_WEIGHTS = {"network": 6, "auth": 3, "rate_limit": 3, "data": 1, "unknown": 1}
_USERS = ("ada", "bob")


def services() -> list[Service]:
    """Return the third parties: with and without tokens, honouring keys or not, patient or not."""

    def oauth(name: str, *, per_user: bool) -> OAuth:
        secret = SecretRef(f"{name}-client")
        return OAuth(token_url=f"https://{name}.example/token", client_id=name, client_secret=secret, per_user=per_user)

    return [
        Service(
            name="crm",
            base_url="https://crm.example",
            oauth=oauth("crm", per_user=True),
            health=Health(path="/health", every_s=600.0),
            honours_idempotency_key=True,
        ),
        Service(name="shop", base_url="https://shop.example", oauth=oauth("shop", per_user=False)),
        Service(
            name="mail",
            base_url="https://mail.example",
            bearer=Secret("a-bearer-for-the-mail"),
            health=Health(path="/health", every_s=600.0),
            enable_again="by_probe",
        ),
        Service(
            name="books",
            base_url="https://books.example",
            bearer=SecretRef("books-key"),
            gate=GateLimits(failures=3, successes=2, open_s=20.0),
            honours_idempotency_key=True,
            calls_max=2,
        ),
    ]


@dataclass
class Post:
    """One event that an integration has to get rid of."""

    at_s: float
    body: dict[str, Any]
    echo_of: str | None = None
    receipt: Receipt | None = None


@dataclass
class Result:
    """What a history showed."""

    seed: int
    digest: str
    wrongs: list[str]
    lines: list[str]
    counts: dict[str, int] = field(default_factory=dict)


class Scenario:
    """One seed's history."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = rng = Rng(f"{seed}/scenario")
        self.world = World(seed)
        long = rng.random() < 0.12
        self.storm_s = rng.uniform(1200, 3000) if long else rng.uniform(20, 150)
        self.end_s = self.storm_s + 2500.0
        self.world.calm_from_s = self.storm_s
        self.workers = 2 if rng.random() < 0.35 else 1
        self.generation = 0
        self.done: set[float] = set()
        self.machine = Machine(
            self.world,
            slowness=rng.choice((1.0, 3.0, 6.0, 10.0)),
            outages=[(at_s, at_s + rng.uniform(0.01, 4.0)) for at_s in self._moments(rng.choice((0, 0, 0, 1, 4)))],
            crash_at=sorted(rng.randrange(5, 2500) for _ in range(rng.choice((0, 1, 1, 2, 3)))),
        )
        self._found_places(mean_s=300.0 if long else rng.choice((5.0, 20.0)))
        self.posts = [self._post(number) for number in range(rng.randrange(4, 24))]
        self.kills = self._moments(rng.choice((0, 1, 2)) if self.workers > 1 else 0)
        self.acts = self._moments(rng.randrange(0, 14))
        self.expiries = [rng.uniform(0, self.storm_s + 250.0) for _ in range(rng.randrange(0, 5))]

    def _moments(self, count: int) -> list[float]:
        """Draw moments of the storm."""
        return sorted(self.rng.uniform(0, self.storm_s) for _ in range(count))

    def play(self) -> Result:
        """Play the history to its end, crash after crash."""
        self._seed_store()
        result = self._play()
        self.machine.database.close()
        self.world.trace.lines = []  # what a crash abandoned is kept for ever, so let it hold little
        return result

    def _play(self) -> Result:
        while True:
            with virtual_time(self.rng.getrandbits(32)) as loop:
                self.machine.boot(loop)
                self.world.loop = loop
                redact.known._spellings = {}  # a new process knows no tokens yet
                try:
                    loop.run_until_complete(self._live())
                    return self._result()
                except SimulatedCrash:
                    if self.machine.steps >= STEPS_MAX:
                        self.world.wrong("it works without end")
                        return self._result()
                    for process in self.machine.processes:
                        self.machine.watch.died(process.name)
                    self.world.crash()
                    self.world.epoch_s += loop.time() + self.rng.choice((0.1, 5.0, 25.0))

    def _result(self) -> Result:
        at_the_end(self.world, self.machine.database, self.machine.watch)
        self._acknowledged()
        database = self.machine.database
        counts = {
            f"incidents {state}": number
            for state, number in database.execute("SELECT state, count(*) FROM incidents GROUP BY state").fetchall()
        }
        counts |= {
            f"runs {state}": number
            for state, number in database.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall()
        }
        counts |= {"steps": self.machine.steps, "interrupted": len(self.machine.watch.interrupted)}
        counts |= {f"failed {name}": number for name, number in self.machine.watch.failures.items()}
        return Result(self.seed, self.world.trace.digest(), self.world.wrongs, self.world.trace.lines, counts)

    # The history ---------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """Live until the end, or until the power fails."""
        loop = asyncio.get_running_loop()
        if self.world.now_s() < self.storm_s:
            self.world.echo = self._echo
            self.machine.begun = self._meddle
        for number in range(self.workers):
            self._start(number)
        now_s = self.world.now_s()
        others = [self._send(post) for post in self.posts if post.receipt is None]
        others += [self._again(post) for post in self.posts if post.receipt is not None and self.rng.random() < 0.2]
        others += [self._at(at_s, self._act) for at_s in self.acts if at_s > now_s]
        others += [self._at(at_s, self._kill) for at_s in self.kills if at_s > now_s]
        others += [self._at(at_s, self._expire) for at_s in self.expiries if at_s > now_s]
        others += [self._once(self.storm_s + after_s, act) for after_s, act in self._calm()]
        working = [loop.create_task(other) for other in others]
        await asyncio.sleep(max(self.end_s - now_s, 60.0))
        for task in working:
            if not task.done():
                self.world.wrong(f"somebody waits for ever: {task}")
            elif task.exception() is not None:
                raise task.exception()  # type: ignore[misc]  # checked above

    def _calm(self) -> list[tuple[float, Callable[[], Awaitable[None]]]]:
        """What people do, and look at, so many seconds after the storm."""
        return [
            (45.0, self._repair),
            (90.0, self._ask_again),
            (300.0, self._repair),
            (345.0, self._ask_again),
            (2250.0, self._look_at_the_scan),
            (2260.0, self._report_successes),
        ]

    async def _once(self, at_s: float, act: Callable[[], Awaitable[None]]) -> None:
        """Do something that is not done yet, also when the power fails in the middle of it."""
        if at_s not in self.done:
            await self._at(at_s, act)
            self.done.add(at_s)

    def _start(self, number: int) -> None:
        self.generation += 1
        process = Process(self.machine, f"w{number}.{self.generation}")
        self.world.trace.say(self.world.now_s(), "start", process.name)
        work = self.machine.loop.create_task(process.work(alone=self.workers == 1))
        work.add_done_callback(lambda done: done.cancelled() or self.world.wrong(f"{process.name} ended: {done}"))

    async def _at(self, at_s: float, act: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(max(at_s - self.world.now_s(), 0.0))
        await act()

    async def _expire(self) -> None:
        """Let an access token end before its time."""
        service, name = self.rng.choice(self._accounts())
        account = self.world.places[service].accounts[name]
        if account.since_s < self.world.now_s() - 60.0:
            self.world.trace.say(self.world.now_s(), "expire", service, name)
            account.access = "expired"

    async def _look_at_the_scan(self) -> None:
        """What only rested has been healed by the scan, without a person and without a success from outside."""
        healed_by_now(self.world, self.machine.database)

    async def _kill(self) -> None:
        victim = self.rng.choice(self.machine.processes)
        number = int(victim.name[1])
        self.machine.kill(victim)
        await asyncio.sleep(self.rng.choice((0.5, 30.0)))
        self._start(number)

    # Integrations --------------------------------------------------------------------------------------------

    def _post(self, number: int) -> Post:
        rng = self.rng
        kind = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        service = rng.choice(["crm", "crm", "shop", "shop", "mail", "books", "ghost" if rng.random() < 0.3 else "mail"])
        body: dict[str, Any] = {"event_id": f"event-{number}", "service_name": service, **rng.choice(FAILURES[kind])}
        if service == "crm":
            body["user_id"] = rng.choice(_USERS)
        if rng.random() < 0.15:
            body["error_message"] = f"failed with api_key={self.world.secret('key-')} for {number}"
        if rng.random() < 0.8:
            query = f"?api_key={self.world.secret('qry-')}" if rng.random() < 0.1 else ""
            body["endpoint"] = f"/{rng.choice(('items', 'notes'))}/{number}{query}"
            body["method"] = rng.choice(("POST", "POST", "POST", "PUT", "GET"))
            body["payload"] = {"number": number, "card": self.world.secret("card-")}
        return Post(rng.uniform(0, self.storm_s) if rng.random() < 0.5 else rng.uniform(0, 10), body)

    async def _send(self, post: Post) -> None:
        """Post until somebody says that it is safe, as integrations do."""
        await asyncio.sleep(max(post.at_s - self.world.now_s(), 0.0))
        while post.receipt is None:
            post.receipt = await self._deliver(post)
            await asyncio.sleep(self.rng.uniform(0.1, 5.0))
        if self.rng.random() < 0.2:
            await self._again(post)

    async def _again(self, post: Post) -> None:
        """Post a known event once more: nothing may come of it."""
        await asyncio.sleep(self.rng.uniform(0.0, 30.0))
        receipt = await self._deliver(post)
        if receipt is None or post.receipt is None:
            return
        if not receipt.duplicate or receipt.incident_id != post.receipt.incident_id:
            self.world.wrong(f"a known event was taken for a new one: {post.body['event_id']}")

    async def _deliver(self, post: Post) -> Receipt | None:
        process = self._any()
        if process is None:
            return None
        world, parts = self.world, process.parts
        event = FailureEvent.model_validate(post.body)
        signal: Signal = to_signal(event, parts.services.get(event.service_name), parts.ids, parts.clock, None)

        async def accept() -> Receipt:
            receipt = await process.intake.accept(signal, echo_of=post.echo_of)
            world.trace.say(world.now_s(), "accepted", process.name, event.event_id, receipt.incident_id, receipt.duplicate)
            return receipt

        receipt = await self._unless_dead(process, accept())
        if receipt is not None and self.rng.random() < 0.2:
            await self._unless_dead(process, report.settled(parts, receipt, within_s=8.0))
        return receipt

    def _meddle(self, incident: str) -> None:
        """Sometimes a person takes an incident over while a worker is at it, and sometimes that worker dies of it."""
        if self.rng.random() > 0.04 or not self.world.stormy():
            return
        act = self.rng.choice(("escalate", "escalate", "suppress", "retry"))
        at_s = self.world.now_s() + self.rng.uniform(0.0, 2.0)
        task = self.machine.loop.create_task(self._at(at_s, lambda: self._take_over(incident, act)))
        task.set_name(f"{act} {incident}")

    async def _take_over(self, incident: str, act: str) -> None:
        process = self._any()
        if process is None:
            return
        await self._person(process, f"{act} {incident}", self._on_incident(process, incident, act))
        if self.rng.random() < 0.3:
            self.machine.crash_at.add(self.machine.steps + self.rng.randrange(1, 60))

    def _echo(self, flight: Flight) -> None:
        """Sometimes an integration reports the failure of our own replay."""
        incident = flight.headers.get("x-prunella-recovery")
        if incident is None or self.rng.random() > 0.1:
            return
        body = {"event_id": f"echo-{len(self.posts)}", "service_name": flight.service, "http_status": 503}
        post = Post(self.world.now_s(), body, echo_of=incident)
        self.posts.append(post)
        task = self.machine.loop.create_task(self._send(post))
        task.set_name(f"echo {len(self.posts)}")

    def _acknowledged(self) -> None:
        """Whatever was acknowledged is there, in the incident that was named."""
        for post in self.posts:
            if post.receipt is None:
                continue
            row = self.machine.database.execute(
                "SELECT incident_id FROM signals WHERE event_id = ?", (post.body["event_id"],)
            ).fetchone()
            if row is None or row[0] != post.receipt.incident_id:
                self.world.wrong(f"an accepted event was lost: {post.body['event_id']} {post.receipt.incident_id}")

    # People --------------------------------------------------------------------------------------------------

    async def _act(self) -> None:
        """Do one of the things that people do."""
        process = self._any()
        if process is None:
            return
        rng, parts = self.rng, process.parts
        service = rng.choice(sorted(self.world.places))
        incident = self._some_incident()
        acts: list[tuple[str, Awaitable[Any]]] = []
        what = rng.choice(("service", "service", "incident", "token", "secret", "scan", "success"))
        if what == "service":
            act = rng.choice(people.SERVICE_ACTS)
            acts.append((f"{act} {service}", self._on_service(process, service, act)))
        elif what == "incident" and incident is not None:
            act = rng.choice(people.INCIDENT_ACTS)
            acts.append((f"{act} {incident}", self._on_incident(process, incident, act)))
        elif what == "token":
            acts.append(("connect", self._connect(process, *rng.choice(self._accounts()))))
        elif what == "secret":
            name = rng.choice(("crm-client", "shop-client", "books-key"))
            acts.append((f"secret {name}", self._secret(process, name, drop=rng.random() < 0.5)))
        elif what == "scan":
            acts.append(("scan", patrol.scan(parts, window_minutes=15, limit=50)))
        elif what == "success":
            acts.append(("success", self._success(process, service)))
        for name, awaitable in acts:
            await self._person(process, name, awaitable)

    async def _person(self, process: Process, name: str, act: Awaitable[Any]) -> None:
        self.world.trace.say(self.world.now_s(), "person", process.name, name)
        self.machine.watch.people_at_work += 1
        try:
            await self._unless_dead(process, act)
        except (IllegalTransition, InvalidInput) as error:
            self.world.trace.say(self.world.now_s(), "refused", error)
        except Exception as error:
            self.world.wrong(f"a person's act failed: {name}: {type(error).__name__} {error}")
        finally:
            self.machine.watch.people_at_work -= 1

    async def _repair(self) -> None:
        """With the storm over, people put everything right."""
        for name in ("crm-client", "shop-client", "books-key"):
            await self._until_done(lambda process, name=name: self._secret(process, name, drop=False))  # type: ignore[misc]
        for service, account in self._accounts():
            if not self._cut_off(service, account):
                continue
            await self._until_done(
                lambda process, service=service, account=account: self._connect(process, service, account)  # type: ignore[misc]
            )
        for service in sorted(self.world.places):
            for act in ("resume", "enable"):
                await self._until_done(
                    lambda process, act=act, service=service: self._on_service(process, service, act)  # type: ignore[misc]
                )

    def _cut_off(self, service: str, account: str) -> bool:
        """Tell whether only a person's consent brings an account back."""
        sealed, needs_person = self.machine.database.execute(
            "SELECT refresh_sealed, needs_person FROM credentials WHERE service = ? AND account = ?", (service, account)
        ).fetchone()
        held = KEYS.open(sealed, f"credentials:{service}:{account}:refresh").decode()
        there = self.world.places[service].accounts[account]
        return there.revoked or needs_person is not None or held != there.refresh

    async def _ask_again(self) -> None:
        """People look once at everything that waits for them."""
        rows = self.machine.database.execute(
            "SELECT id FROM incidents WHERE state IN ('escalated', 'suppressed') ORDER BY id"
        ).fetchall()
        for (incident,) in rows:
            if incident in self.machine.watch.kept and self.rng.random() < 0.5:
                continue  # whoever put it aside had a reason
            await self._until_done(
                lambda process, incident=incident: self._on_incident(process, incident, "retry")  # type: ignore[misc]
            )

    async def _report_successes(self) -> None:
        for service in [*sorted(self.world.places), "ghost"]:
            await self._until_done(lambda process, service=service: self._success(process, service))  # type: ignore[misc]

    async def _until_done(self, act: Callable[[Process], Awaitable[Any]]) -> None:
        while True:
            process = self._any()
            if process is None:
                await asyncio.sleep(1.0)
                continue
            await self._person(process, "repairs", act(process))
            if not process.died.done():
                return

    async def _on_service(self, process: Process, service: str, act: str) -> None:
        await people.act_on_service(process.parts, service, act, by="ann", reason="to see")

    async def _on_incident(self, process: Process, incident: str, act: str) -> None:
        await people.act_on_incident(process.parts, incident, act, by="ann")
        if act in ("suppress", "escalate"):
            self.machine.watch.kept[incident] = "suppressed" if act == "suppress" else "escalated"

    async def _connect(self, process: Process, service: str, account: str) -> None:
        tokens = self.world.connect(service, account)
        credential = sealed_credential(process.vault, service, account, tokens.access, tokens.refresh, None)
        await people.put_credential(process.parts, credential, by="ann")

    async def _secret(self, process: Process, name: str, *, drop: bool) -> None:
        if drop:
            await people.drop_secret(process.parts, name, by="ann")
        else:
            value = self.world.secret("sec-")
            await people.put_secret(process.parts, process.vault.sealed(SecretRef(name), value), name, by="ann")

    async def _success(self, process: Process, service: str) -> None:
        """Report a success; it happened a moment before it is posted."""
        self.generation += 1
        body = {"event_id": f"good-{self.generation}", "service_name": service, "outcome": "success", "endpoint": "/items/1"}
        event = FailureEvent.model_validate(body)
        self.world.successes[service] = self.world.now_s()
        users = _USERS if service == "crm" else ("",)
        for user in users:
            named = event.model_copy(update={"user_id": user or None, "event_id": f"{event.event_id}{user}"})
            parts = process.parts
            await process.intake.accept(to_signal(named, parts.services.get(service), parts.ids, parts.clock, None))

    # Odds and ends -------------------------------------------------------------------------------------------

    def _any(self) -> Process | None:
        return self.rng.choice(self.machine.processes) if self.machine.processes else None

    async def _unless_dead(self, process: Process, act: Awaitable[Any]) -> Any:
        """Wait for `act`, or for the death of whoever does it."""
        task = asyncio.ensure_future(act)
        await asyncio.wait({task, process.died}, return_when=asyncio.FIRST_COMPLETED, timeout=120.0)
        if not task.done():
            return None
        try:
            return task.result()
        except StoreUnavailable:
            if not self.machine.outages:
                raise
            return None  # whoever asked comes again, or does without

    def _some_incident(self) -> str | None:
        states = self.rng.choice(("= 'healing'", "<> 'resolved'"))
        rows = self.machine.database.execute(f"SELECT id FROM incidents WHERE state {states} ORDER BY id").fetchall()
        return str(self.rng.choice(rows)[0]) if rows else None

    def _accounts(self) -> list[tuple[str, str]]:
        return [("crm", "ada"), ("crm", "bob"), ("shop", "")]

    def _found_places(self, mean_s: float) -> None:
        for service in services():
            rng = Rng(f"{self.seed}/{service.name}")
            self.world.places[service.name] = Place(
                service,
                Moods(rng, MOODS, mean_s, self.storm_s),
                Moods(Rng(f"{self.seed}/{service.name}/tokens"), PROVIDER_MOODS, mean_s, self.storm_s),
            )

    def _seed_store(self) -> None:
        """What was there before: connected accounts and secrets."""
        redact.set_hash_key(b"simulation")
        logging.getLogger("prunella").setLevel(logging.CRITICAL + 1)
        with virtual_time() as loop:
            self.machine.boot(loop)
            self.world.loop = loop
            process = Process(self.machine, "w0.0")
            self.machine.outages, outages = (), self.machine.outages
            self.machine.crash_at, crash_at = set(), self.machine.crash_at

            async def fill() -> None:
                for service, account in self._accounts():
                    await self._connect(process, service, account)
                for name in ("crm-client", "shop-client", "books-key"):
                    await self._secret(process, name, drop=False)

            loop.run_until_complete(fill())
            self.machine.outages, self.machine.crash_at, self.machine.steps = outages, crash_at, 0


def play(seed: int) -> Result:
    """Play one history."""
    return Scenario(seed).play()


__all__ = ["KEYS", "START", "Result", "Scenario", "play", "timedelta"]
