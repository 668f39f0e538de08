"""Expired tokens: 32 tasks in 8 processes want a new one at once, processes die, and each expiry costs one refresh.

Every task asks the engine's own remedy, with the real store between the processes. A process that dies in a refresh may
take the new pair along. A lenient provider takes the old token once more, so nobody notices. At a strict one that would
be theft: such an account asks a person, and no token is ever used twice. Any other broken account is our fault.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from chaos.book import Book
from chaos.crew import Crew, Zygote
from chaos.postgres import Postgres
from chaos.stories import free_address
from chaos.storm import places
from chaos.world import environment
from prunella.app import App, open_app, sealed_credential
from prunella.core.clock import SystemClock
from prunella.remedies.contract import Target
from prunella.settings import Settings
from prunella.store.postgres import PostgresStore
from prunella.store.secrets import Keys, Vault
from prunella.testing import FaultyServer
from prunella.testing.oauth import TokenEndpoint, TokenPair

PROCESSES, TASKS = 8, 4
KINDS = {"strict": 0.0, "lenient": 60.0}
"""Kind of provider: how long it takes a spent refresh token once more."""
_ACCOUNTS = 8
_THINKS_S = 0.03
_AGAIN_S = 0.2
_WITHIN_S = 60.0
_ASK_AGAIN_S = 2.0
_CREDENTIALS = "SELECT version, needs_person FROM prunella.credentials WHERE service = %s"
_KNOWN = "SELECT count(*) FROM prunella.credentials WHERE rotates"
_HOLDERS = "SELECT service, refreshing_by FROM prunella.credentials WHERE refreshing_until IS NOT NULL"


def chosen(options: argparse.Namespace) -> tuple[str, Book]:
    """Expire as often as the command line asks for."""
    book = Book()
    with places() as (folder, server, forks):
        for kind, reuse_s in KINDS.items():
            played = play(folder, server, forks, options.expiries, options.token_kills, options.seed, reuse_s=reuse_s)
            book.add(played, f"{kind}: ")
    return f"tokens: {PROCESSES} processes of {TASKS} tasks, seed {options.seed}", book


def refresh_when_told(settings: Settings, order: Mapping[str, Any]) -> None:
    """Be a worker that refreshes what a datagram names, with several tasks at once; the zygote runs it."""
    asyncio.run(_refresh_when_told(settings, order["port"]))


async def _refresh_when_told(settings: Settings, port: int) -> None:
    loop = asyncio.get_running_loop()
    told = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    told.bind(("127.0.0.1", port))
    told.setblocking(False)
    async with open_app(settings) as app, app.running():
        asking: set[asyncio.Task[None]] = set()
        while True:
            wanted = json.loads(await loop.sock_recv(told, 1000))
            for _ in range(TASKS):
                asking.add(task := loop.create_task(_until_fresh(app, wanted["service"], wanted["version"])))
                task.add_done_callback(asking.discard)


async def _until_fresh(app: App, service: str, version: int) -> None:
    target = Target(
        service=app.settings.services[service],
        account="",
        incident_id="chaos",
        idempotency_key="chaos",
        stale_version=version,
    )
    for _ in range(int(_WITHIN_S / _AGAIN_S)):
        outcome = await app.parts.act("refresh_token", target)
        if outcome.ok or outcome.needs_person:
            return
        await asyncio.sleep(_AGAIN_S * (0.5 + app.parts.rng.random()))


@dataclass
class Accounts:
    """The accounts, their provider, and what happened to them."""

    url: str
    server: FaultyServer
    ports: Sequence[int]
    within_s: float
    reuse_s: float
    providers: dict[str, TokenEndpoint] = field(default_factory=dict)
    expiries: int = 0
    lost: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    interrupted: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, number: int) -> None:
        """Make an account and connect it."""
        name = f"account{number}"
        provider = self.server.oauth(
            f"/{name}/token", client_id="app", client_secret="app-secret", delay_s=_THINKS_S, reuse_s=self.reuse_s
        )
        self.providers[name] = provider
        self.connect(name)

    def connect(self, name: str) -> None:
        """Store a fresh pair, as when a person consents (again)."""
        asyncio.run(_store(self.url, name, self.providers[name].grant()))

    def expire_all(self, name: str, times: int) -> None:
        """Let an account's tokens expire, and wait until they are refreshed, again and again."""
        for _ in range(times):
            version, _ = self.row(name)
            self.providers[name].expire()
            with self.lock:
                self.expiries += 1
            if not self._until_moved(name, version):
                self.slow.append(f"{name} version {version}: {self.row(name)}")
                return
            asked = self.row(name)[1] is not None
            with self.lock:
                if asked:
                    (self.lost if name in self.held else self.unexplained).append(name)
                self.held.discard(name)
            if asked:
                self.connect(name)

    def _until_moved(self, name: str, version: int) -> bool:
        end_s, ask_s = time.monotonic() + self.within_s, 0.0
        while time.monotonic() < end_s:
            if time.monotonic() >= ask_s:  # said again from time to time: who was told may have died
                self._tell(name, version)
                ask_s = time.monotonic() + _ASK_AGAIN_S
            now, needs_person = self.row(name)
            if now > version or needs_person is not None:
                return True
            time.sleep(0.02)
        return False

    def _tell(self, name: str, version: int) -> None:
        """Have every task of every process refresh it at once."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for port in self.ports:
                out.sendto(json.dumps({"service": name, "version": version}).encode(), ("127.0.0.1", port))

    def are_known(self) -> bool:
        """Tell whether each provider was seen to rotate: before that nobody can know that a second use is theft."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(_KNOWN).fetchone()
        return row == (len(self.providers),)

    def row(self, name: str) -> tuple[int, str | None]:
        """Return the version that is stored, and what a person is asked for."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(_CREDENTIALS, (name,)).fetchone()
        assert row is not None
        return row[0], row[1]


def play(
    folder: Path,
    server: Postgres,
    forks: Zygote,
    expiries: int,
    kills: int,
    seed: int,
    processes: int = PROCESSES,
    plant: Sequence[str] = (),
    within_s: float = _WITHIN_S,
    reuse_s: float = 0.0,
) -> Book:
    """Let tokens expire, on several accounts beside each other, and count what it cost.

    Args:
        within_s: an account whose tokens are not refreshed in this time is given up, and blamed.
        reuse_s: how long the providers take a spent refresh token once more.
    """
    here, began_s = Path(tempfile.mkdtemp(prefix="tokens-", dir=folder)), time.monotonic()
    database_url = server.migrated()
    with FaultyServer() as world:
        accounts = Accounts(database_url, world, [free_address()[1] for _ in range(processes)], within_s, reuse_s)
        for number in range(_ACCOUNTS):
            accounts.open(number)
        config = here / "prunella.yaml"
        config.write_text(_configuration(world, accounts))
        environ = {**environment(database_url, "127.0.0.1:0"), "APP_SECRET": "app-secret"}
        crew = Crew(forks, config, here / "workers.log", environ, plant)
        try:
            for number, port in enumerate(accounts.ports):
                crew.start(f"t{number}", "tokens", port=port)
            _play(crew, accounts, expiries, kills, seed)
        finally:
            crew.close()
        book = _book(accounts, expiries)
    book.count("kills of processes", len(crew.deaths) - processes, must_be=kills)
    book.count("seconds", time.monotonic() - began_s)
    return book


def _play(crew: Crew, accounts: Accounts, expiries: int, kills: int, seed: int) -> None:
    with ThreadPoolExecutor(_ACCOUNTS) as threads:
        each, rest = divmod(expiries, _ACCOUNTS)
        playing = [
            threads.submit(accounts.expire_all, name, each + (number < rest))
            for number, name in enumerate(accounts.providers)
        ]
        rng = random.Random(f"{seed}/tokens")
        while kills and not accounts.are_known() and not all(one.done() for one in playing):
            time.sleep(0.01)
        for number in range(kills):
            while accounts.expiries < number * expiries // kills and not all(one.done() for one in playing):
                time.sleep(0.01)
            _kill(crew, accounts, rng)
        for one in playing:
            one.result()


def _kill(crew: Crew, accounts: Accounts, rng: random.Random) -> None:
    """Kill somebody, half the time somebody who is refreshing; note whose refresh that interrupted."""
    time.sleep(rng.uniform(0.0, 0.05))
    seat = rng.choice(sorted(crew.alive))
    if rng.random() < 0.5:
        end_s = time.monotonic() + 1.0
        while time.monotonic() < end_s:
            holders = {int(by.split(":")[1]) for _, by in _holders(accounts)}
            busy = [one.seat for one in crew.living() if one.pid in holders]
            if busy:
                time.sleep(rng.uniform(0.0, 2 * _THINKS_S))
                seat = rng.choice(busy)
                break
    number = int(seat.removeprefix("t"))
    pid = crew.alive[seat].pid
    crew.end(seat)
    with accounts.lock:
        left = {service for service, by in _holders(accounts) if int(by.split(":")[1]) == pid}
        accounts.held |= left
        accounts.interrupted += len(left)
    crew.start(seat, "tokens", port=accounts.ports[number])


def _holders(accounts: Accounts) -> list[tuple[str, str]]:
    with psycopg.connect(accounts.url) as connection:
        return [(row[0], row[1]) for row in connection.execute(_HOLDERS).fetchall()]


def _book(accounts: Accounts, expiries: int) -> Book:
    book = Book()
    providers = accounts.providers.values()
    broken = [name for name in accounts.providers if accounts.row(name)[1] is not None]
    book.count("expiries", accounts.expiries, must_be=expiries)
    refreshes, forgiven = sum(one.refreshes for one in providers), sum(one.forgiven for one in providers)
    book.count("refreshes that a death interrupted", accounts.interrupted)
    book.count("refreshes", refreshes)
    book.count("second uses that the provider forgave", forgiven)
    book.count("persons asked after a death in a refresh", len(accounts.lost))
    if accounts.reuse_s:
        book.count(
            "refreshes beyond one per expiry and per second use", refreshes - accounts.expiries - forgiven, must_be=0
        )
        book.blame("a person was asked although the provider forgives", accounts.lost)
    else:
        rotated = refreshes + len(accounts.lost) - accounts.expiries  # of interrupted refreshes some had rotated
        book.count("pairs that died with their process", rotated)
        book.blame("more refreshes than expiries", [f"{rotated} pairs"] * (not 0 <= rotated <= len(accounts.lost)))
    book.count("re-uses that count as theft", sum(one.reuses for one in providers), must_be=0)
    book.count("consents that were lost", sum(one.broken for one in providers), must_be=0)
    book.count("persons asked without a death", len(accounts.unexplained) + len(broken), must_be=0)
    book.blame("broken without a death", accounts.unexplained + broken)
    book.blame(f"not refreshed within {accounts.within_s:g} s", accounts.slow)
    return book


def _configuration(world: FaultyServer, accounts: Accounts) -> str:
    window = f", reuse_s: {accounts.reuse_s:g}" if accounts.reuse_s else ""
    services = "".join(
        f"""
  {name}:
    base_url: {world.url}/{name}
    oauth: {{token_url: "{world.url}/{name}/token", client_id: app, client_secret: "${{APP_SECRET}}"{window}}}"""
        for name in accounts.providers
    )
    host = urlsplit(world.url).netloc
    lines = ['service: {listen: "${LISTEN}"}', f'egress: {{allow_http: true, allow_hosts: ["{host}"]}}']
    return "\n".join([*lines, f"services:{services}\n"])


async def _store(database_url: str, service: str, pair: TokenPair) -> None:
    store = await PostgresStore.open(database_url)
    try:
        vault = Vault(store, Keys.parse(environment("", "")["PRUNELLA_SECRET_KEY"]))
        sealed = sealed_credential(vault, service, "", pair.access_token, pair.refresh_token, SystemClock().now())
        async with store.transaction() as tx:
            await tx.credentials.put(sealed)
    finally:
        await store.close()
