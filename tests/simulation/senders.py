"""The integrations: they post what failed until somebody says that it is safe, twice or late if it so happens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from prunella.core.clock import Rng
from prunella.engine import report
from prunella.engine.report import Receipt
from prunella.web.api.events import FailureEvent, to_signal
from simulation.machine import Machine, Process
from simulation.places import Flight
from simulation.services import FAILURES, HOW_OFTEN, USERS


@dataclass
class Post:
    """One event that an integration has to get rid of."""

    at_s: float
    body: dict[str, Any]
    echo_of: str | None = None
    receipt: Receipt | None = None


class Senders:
    """Everybody who reports."""

    def __init__(self, machine: Machine, rng: Rng, storm_s: float, posts: int, early: float) -> None:
        self._machine, self._world, self._rng, self._storm_s = machine, machine.world, rng, storm_s
        self._successes = 0
        self._early = early
        self.posts = [self._post(number) for number in range(posts)]

    async def send(self, post: Post) -> None:
        """Post until it is accepted, as integrations do; a few cannot let go even then."""
        await asyncio.sleep(max(post.at_s - self._world.now_s(), 0.0))
        while post.receipt is None:
            post.receipt = await self._deliver(post)
            await asyncio.sleep(self._rng.uniform(0.1, 5.0))
        while self._world.stormy() and self._rng.random() < 0.6:
            await self.send_again(post)

    async def send_again(self, post: Post) -> None:
        """Post a known event once more: nothing may come of it."""
        await asyncio.sleep(self._rng.uniform(0.0, 30.0))
        receipt = await self._deliver(post)
        if receipt is None or post.receipt is None or self.may_be_forgotten(post):
            return
        if not receipt.duplicate or receipt.incident_id != post.receipt.incident_id:
            self._world.wrong(f"a known event was taken for a new one: {post.body['event_id']}")

    def echo(self, flight: Flight) -> None:
        """Sometimes report the failure of prunella's own replay."""
        incident = flight.headers.get("x-prunella-recovery")
        if incident is None or self._rng.random() > 0.1:
            return
        self._world.marks["echo"] += 1
        body = {"event_id": f"echo-{len(self.posts)}", "service_name": flight.service, "http_status": 503}
        post = Post(self._world.now_s(), body, echo_of=incident)
        self.posts.append(post)
        self._machine.start(self.send(post))

    async def report_success(self, process: Process, service: str) -> None:
        """Say that a service works; it worked a moment before that is said."""
        self._successes += 1
        self._world.successes[service] = self._world.wall_s()
        parts = process.parts
        for user in USERS if service == "crm" else (None,):
            body = {"event_id": f"good-{self._successes}-{user}", "service_name": service, "outcome": "success"}
            event = FailureEvent.model_validate({**body, "endpoint": "/items/1", "user_id": user})
            await process.intake.accept(to_signal(event, parts.services.get(service), parts.ids, parts.clock, None))

    def known(self) -> list[Post]:
        """Return what was acknowledged and is not so old that it would be taken for something new."""
        return [post for post in self.posts if post.receipt is not None and not self.may_be_forgotten(post)]

    def must_be_there(self) -> None:
        """Judge, at the end, whether what was acknowledged is there, in the incident that was named."""
        for post in self.known():
            assert post.receipt is not None
            row = self._machine.database.execute(
                "SELECT incident_id FROM signals WHERE event_id = ?", (post.body["event_id"],)
            ).fetchone()
            if row is None or row[0] != post.receipt.incident_id:
                self._world.wrong(f"an accepted event was lost: {post.body['event_id']} {post.receipt.incident_id}")

    def may_be_forgotten(self, post: Post) -> bool:
        """Tell whether an event is so old that it would be taken for a new one."""
        return post.at_s < self._world.now_s() - self._machine.kept_s

    def _post(self, number: int) -> Post:
        rng, secret = self._rng, self._world.secret
        kind = rng.choices(list(HOW_OFTEN), list(HOW_OFTEN.values()))[0]
        service = rng.choice(("crm", "crm", "shop", "shop", "mail", "books", "ghost" if rng.random() < 0.3 else "mail"))
        body: dict[str, Any] = {"event_id": f"event-{number}", "service_name": service, **rng.choice(FAILURES[kind])}
        if service == "crm":
            body["user_id"] = rng.choice(USERS)
        if rng.random() < 0.15:
            body["error_message"] = f"failed with api_key={secret('key-')} for {number}"
        if rng.random() < 0.8:
            query = f"?api_key={secret('qry-')}" if rng.random() < 0.1 else ""
            body["endpoint"] = f"/{rng.choice(('items', 'notes'))}/{number}{query}"
            body["method"] = rng.choice(("POST", "POST", "POST", "PUT", "GET"))
            body["payload"] = {"number": number, "card": secret("card-")}
        return Post(rng.uniform(0, self._storm_s) if rng.random() >= self._early else rng.uniform(0, 10), body)

    async def _deliver(self, post: Post) -> Receipt | None:
        """Post once; None where nobody said that it is safe."""
        process = self._machine.any(self._rng)
        if process is None:
            return None
        receipt: Receipt | None = await self._machine.unless_dead(process, self._accept(process, post))
        if receipt is not None and self._rng.random() < 0.2:
            await self._machine.unless_dead(process, report.settled(process.parts, receipt, within_s=8.0))
        return receipt

    async def _accept(self, process: Process, post: Post) -> Receipt:
        parts = process.parts
        event = FailureEvent.model_validate(post.body)
        signal = to_signal(event, parts.services.get(event.service_name), parts.ids, parts.clock, None)
        receipt = await process.intake.accept(signal, echo_of=post.echo_of)
        facts = (process.name, event.event_id, receipt.incident_id, receipt.duplicate)
        self._world.trace.say(self._world.now_s(), "accepted", *facts)
        self._world.marks["duplicate"] += receipt.duplicate
        return receipt
