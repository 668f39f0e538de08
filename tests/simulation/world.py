"""The outside, simulated: third parties with moods, token providers, a chat. All of it on virtual time, from one seed.

It plays no favourites and knows nothing of the engine: it sees requests and keeps a ledger of what they brought about.
A request is under way for a while before it has its effect, and the reply for a while after it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from prunella.core.clock import Rng
from prunella.core.errors import EgressFailed, Undelivered
from prunella.core.records import Notification
from prunella.egress import UNSET, Caller, Reply
from prunella.testing import LoopClock
from simulation.places import EFFECTS, Account, Flight, Place, answer, land, other_answer

START = datetime(2026, 1, 1, tzinfo=UTC)
SCAN_EVERY_S = 300.0  # three times as often as by default: what it makes good is seen sooner
PATIENCE = 0.4  # seconds at most, before and again after an effect


class Trace:
    """What happened, in order; two runs of one seed tell the same."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, at_s: float, what: str, *facts: object) -> None:
        """Note one thing."""
        self.lines.append(f"{at_s:11.6f} {what} {' '.join(map(str, facts))}")

    def digest(self) -> str:
        """Return what stands for the whole trace."""
        return hashlib.blake2b("\n".join(self.lines).encode(), digest_size=16).hexdigest()


class World:
    """Everything outside of prunella."""

    def __init__(self, seed: int, *, calm_from_s: float) -> None:
        self.seed = seed
        self.calm_from_s = calm_from_s
        self.trace = Trace()
        self.rng = Rng(f"{seed}/world")
        self.places: dict[str, Place] = {}
        self.flights: list[Flight] = []
        self.secrets: set[str] = set()
        self.replies: defaultdict[str, Counter[str]] = defaultdict(Counter)  # idempotency key -> answers sent
        self.probed_well: dict[str, float] = {}
        self.successes: dict[str, float] = {}
        self.wrongs: list[str] = []
        self.alive: set[str] = set()  # the processes that live at the moment
        self.marks: Counter[str] = Counter()  # where this history has been
        self.patient_until_s = 0.0  # until when what is due by a jump of the clock may wait
        self.set_at_s = -60.0  # when the clock was set last
        self.jumped_s = 0.0  # by how much the wall clock was set
        self.epoch_s = 0.0  # virtual seconds before the loop of the moment began
        self.loop: asyncio.AbstractEventLoop
        self.called: Callable[[str], None] | None = None  # hears of every call's key
        self.rotated: Callable[[], None] | None = None  # hears of each new pair of tokens
        self.refreshing: Callable[[str, str], None] | None = None  # hears of each refresh: service and token
        self.echo: Callable[[Flight], None] | None = None  # hears of every failed replay

    def now_s(self) -> float:
        """Return the virtual seconds since the beginning, crashes and all."""
        return self.epoch_s + self.loop.time()

    def wall_s(self) -> float:
        """Return what the machine's wall clock says, as seconds since the beginning; it may be set."""
        return self.now_s() + self.jumped_s

    def stormy(self) -> bool:
        """Tell whether things still go wrong."""
        return self.now_s() < self.calm_from_s

    def seen(self, what: str, *facts: object) -> None:
        """Note one thing, and that this history has been there."""
        self.marks[what] += 1
        self.trace.say(self.now_s(), what, *facts)

    def set_clock(self, by_s: float) -> None:
        """Set the machine's wall clock; what comes due by that is seen by the next scan, waits go on as they were."""
        self.jumped_s += by_s
        self.set_at_s = self.now_s()
        if by_s > 0:
            self.patient_until_s = self.now_s() + SCAN_EVERY_S
        self.seen("clock forward" if by_s > 0 else "clock back", f"{by_s:.3f}")

    def wrong(self, what: str) -> None:
        """Note that a promise was broken."""
        if what not in self.wrongs:
            self.wrongs.append(what)
            self.trace.say(self.now_s(), "WRONG", what)

    def secret(self, prefix: str) -> str:
        """Make up a secret that must turn up nowhere."""
        made = f"{prefix}{self.rng.getrandbits(96):024x}"
        self.secrets.add(made)
        return made

    def connect(self, service: str, account: str) -> Account:
        """Give an account new tokens, as when a person consents again."""
        fresh = Account(self.secret("acc-"), self.secret("ref-"), self.now_s())
        self.places[service].accounts[account] = fresh
        return fresh

    def forget(self) -> None:
        """Forget what was asked and answered."""
        self.replies.clear()
        self.secrets.clear()
        for place in self.places.values():
            place.effects.clear()
            place.memory.clear()

    # Requests ------------------------------------------------------------------------------------------------

    async def exchange(self, flight: Flight) -> Reply:
        """Carry one request out, as seen by who sent it."""
        for other in self.flights:
            if flight.key and other.key == flight.key and other.process == flight.process:
                self.wrong(f"two calls under one key at once: {flight.key}")
        self.flights.append(flight)
        if self.called is not None:
            self.called(flight.key)
        if self.refreshing is not None and flight.form is not None:
            self.refreshing(flight.service, flight.form["refresh_token"])
        self.trace.say(self.now_s(), "call", flight.process, flight.method, flight.service, flight.path, flight.key)
        self.loop.call_later(self._while(), self.arrive, flight)
        try:
            async with asyncio.timeout(flight.deadline_s):
                return await flight.reply
        except TimeoutError:
            fact = f"no reply within {flight.deadline_s:g} s"
            raise EgressFailed(f"{flight.service}: {fact}", exc_type="TimeoutError") from None
        finally:
            self.flights.remove(flight)

    def arrive(self, flight: Flight) -> None:
        """Let a request have its effect and send the answer on its way."""
        flight.arrived = True
        place = self.places[flight.service]
        is_token = flight.form is not None
        kind = (place.provider_moods if is_token else place.moods).draw(self.now_s())
        kind, reply = self._token(place, flight, kind) if is_token else self._serve(place, flight, kind)
        self.replies[flight.key][kind] += 1
        self.marks[f"{'token' if is_token else 'answer'} {kind}"] += 1
        self.trace.say(self.now_s(), "answer", flight.service, flight.path, flight.key, kind)
        if kind.startswith("timeout"):
            return
        self.loop.call_later(self._while(), land, flight, kind, reply)
        if self.echo is not None and kind != "ok" and not is_token and flight.path != "/health":
            self.echo(flight)

    def crash(self) -> None:
        """Forget who waits for replies; what is still on the wire arrives or does not."""
        self.echo = self.rotated = self.refreshing = None
        for flight in self.flights:
            if not flight.arrived and self.rng.random() < 0.5:
                self.arrive(flight)
        self.flights.clear()

    def _while(self) -> float:
        return self.rng.uniform(0.001, PATIENCE)

    def _serve(self, place: Place, flight: Flight, kind: str) -> tuple[str, Reply]:
        if flight.path == "/health":
            kind = kind if kind in ("ok", "503", "refused", "timeout") else "ok"
            if kind == "ok":
                self.probed_well[flight.service] = self.wall_s()
            return kind, answer(200 if kind == "ok" else 503, {"ok": True})
        if kind in (*EFFECTS, "422", "html", "ok_false") and not self._welcome(place, flight):
            token = flight.headers.get("authorization", "")
            return "401", answer(401, {"error": "invalid_token", "seen": token})
        if place.service.honours_idempotency_key and flight.key in place.memory and kind in EFFECTS:
            return kind, Reply(200, {"content-type": "application/json"}, place.memory[flight.key], 0.1)
        if kind in EFFECTS:
            reference = flight.key if flight.path == "/cache" else flight.path.rsplit("/", 1)[-1]
            place.effects[reference].append(flight.key)
            reply = answer(200, {"ok": True, "id": reference})
            place.memory[flight.key] = reply.body
            return kind, reply
        return kind, other_answer(kind, flight)

    def _welcome(self, place: Place, flight: Flight) -> bool:
        if place.service.oauth is None:
            return True
        known = [f"Bearer {account.access}" for account in place.accounts.values()]
        return flight.headers.get("authorization") in known

    def _token(self, place: Place, flight: Flight, kind: str) -> tuple[str, Reply]:
        """Rotate, refuse, or break off: the token endpoint."""
        assert flight.form is not None
        sent = flight.form["refresh_token"]
        account = next((one for one in place.accounts.values() if sent == one.refresh or sent in one.used), None)
        if kind not in EFFECTS:
            return kind, other_answer(kind, flight)
        if account is None or account.revoked:
            return "invalid_grant", answer(400, {"error": "invalid_grant"})
        if sent in account.used:
            self._judge_reuse(flight, account)
            account.revoked, account.access = True, "none"
            return "reuse", answer(400, {"error": "invalid_grant"})
        account.used.add(sent)
        account.access, account.refresh = self.secret("acc-"), self.secret("ref-")
        account.since_s = self.now_s()
        if self.rotated is not None:
            self.rotated()
        account.held_by = flight.process if kind == "ok" else "nobody"
        body = {"access_token": account.access, "refresh_token": account.refresh, "expires_in": 3600}
        return kind, answer(200, body)

    def _judge_reuse(self, flight: Flight, account: Account) -> None:
        """A second use is excused only where the new pair never came to be saved."""
        if account.held_by is None:
            self.wrong(f"a refresh token was used again although the new pair was saved: {flight.service}")
        elif account.held_by in self.alive:
            self.wrong(f"a refresh token was used twice while {account.held_by} held the new pair: {flight.service}")
        elif account.held_by != "nobody" and account.known:
            self.wrong(f"a refresh token was used twice although {account.held_by} died in the first: {flight.service}")


class Wire(Caller):
    """The one way out of one process."""

    def __init__(self, world: World, process: Any) -> None:
        self._world, self._process = world, process

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = UNSET,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        deadline_s: float = 5.0,
    ) -> Reply:
        parts = urlsplit(url)
        sent = dict(headers or {})
        flight = Flight(
            process=self._process.name,
            service=str(parts.hostname).partition(".")[0],
            method=method,
            path=parts.path,
            key=sent.get("idempotency-key", ""),
            headers=sent,
            body=None if json is UNSET else json,
            form=form,
            deadline_s=deadline_s,
            reply=asyncio.get_running_loop().create_future(),
        )
        try:
            reply = await self._world.exchange(flight)
        finally:
            await self._process.live_on()
        return reply


class Chat:
    """A chat channel that is sometimes slow, sometimes deaf, and sometimes hears without saying so."""

    def __init__(self, name: str, world: World, process: Any) -> None:
        self.name = name
        self._world, self._process = world, process

    async def send(self, notification: Notification, *, caller: Caller) -> None:
        await self._process.io(PATIENCE)
        lot = self._world.rng.random() if self._world.stormy() else 1.0
        heard = lot >= 0.2
        self._world.trace.say(self._world.now_s(), "chat", self.name, notification.kind, notification.id, heard)
        self._world.marks["chat heard" if heard else "chat deaf"] += 1
        await self._process.io(PATIENCE)
        if lot < 0.25:
            raise Undelivered(f"{self.name}: the receiver answered 503", retry_after_s=5.0 if lot < 0.05 else None)


class WallClock(LoopClock):
    """A machine's clock: it runs with the loop, and somebody may set it."""

    def __init__(self, world: World) -> None:
        super().__init__(START + timedelta(seconds=world.epoch_s))
        self._world = world

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._world.jumped_s)
