"""The only file that wires: settings in, a running prunella out."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from prunella import __version__, plugin
from prunella.advisor import ANSWER_BYTES_MAX, ModelAdvisor
from prunella.app import messages, packs
from prunella.app.life import Life
from prunella.app.procedures import Care, take_care
from prunella.app.tracing import Carrying, acting, traced
from prunella.app.tracing import listen as trace_event
from prunella.core import redact
from prunella.core.clock import Clock, Ids, Rng, SystemClock
from prunella.core.errors import ConfigError, SchemaBehind, SecretError
from prunella.core.events import Listeners
from prunella.core.records import Credential
from prunella.diagnosis.patterns import Pattern
from prunella.egress import Caller, Egress
from prunella.engine import guards, patrol, proposals, requests, retention, seals, workers
from prunella.engine.advise import Desk
from prunella.engine.heal import heal
from prunella.engine.intake import Intake
from prunella.engine.learning import occurrences
from prunella.engine.learning.known import KnownIssues
from prunella.engine.parts import ADVISE, LEARN, Parts
from prunella.engine.patrol import Round
from prunella.engine.pauses import Pauses
from prunella.engine.reconcile import reconcile
from prunella.guard import handover
from prunella.guard.place import DatabasePlace
from prunella.notify.heartbeat import HEARTBEAT
from prunella.notify.outbox import Delivery
from prunella.remedies.calling import Services
from prunella.remedies.contract import Acts
from prunella.remedies.http import Probe, Replay
from prunella.remedies.known import Bindable, FunctionForIssue, InvalidateCache, RefreshAuth
from prunella.remedies.oauth import RefreshToken
from prunella.remedies.services import ConfiguredServices
from prunella.runner.contract import Runner
from prunella.runner.local import LocalRunner
from prunella.runner.procrastinate import ProcrastinateRunner, install
from prunella.settings import AdvisorSettings, Settings
from prunella.store import migrations, pooling
from prunella.store.contract import Store
from prunella.store.postgres import PostgresStore, address
from prunella.store.secrets import TO_OPEN_AGAIN, Keys, Vault, unopened
from prunella.store.sqlite import SqliteStore

_FEW = ("credentials", "secrets")
"""Sealed values that a start looks at: nothing heals without them, and they are few; `doctor` looks at all."""
_ASK_OTHERS_AFTER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A wired prunella; `running` makes it work.

    Args:
        caller: the way out.
        delivery: brings messages to their channels.
        place: what the guards of applications hand over, share and notice, in the same database.
        care: the user's databases.
        alone: this process is the only one on its store, so whoever held a lease before is dead.
        life: whether it works, and whether it was told to stop; `life.stopping` tells it to.
    """

    settings: Settings
    store: Store
    runner: Runner
    parts: Parts
    intake: Intake
    vault: Vault
    caller: Caller
    rounds: Mapping[str, Round]
    place: DatabasePlace | None
    delivery: Delivery
    alone: bool
    care: Care = field(default_factory=Care)
    life: Life = field(default_factory=Life)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        """Heal until the block ends, or this process is told to stop; then finish what is under way."""
        if not self.alone:
            await workers.beat(self.parts, __version__)
        await reconcile(self.parts, self.rounds, alone=self.alone)
        if self.place is not None:
            await self.runner.submit(guards.HANDLER)
        if self.care.desks:
            await self.runner.submit(requests.HANDLER)
        if self.settings.heartbeat is not None:
            await self.runner.submit(HEARTBEAT)
        await self.runner.submit(seals.HANDLER)
        self.life.trouble = self.runner.trouble
        self.life.work = work = asyncio.create_task(self.runner.run(), name="runner")
        ending = asyncio.create_task(self._end_when_told(), name="ending")
        alive = None if self.alone else asyncio.create_task(workers.keep_alive(self.parts, __version__), name="alive")
        durable = handover.connect(self.settings.database_url) if handover.known() else None
        try:
            yield self
        finally:
            if durable is not None:
                await asyncio.to_thread(durable.close)
            self.life.stopping.set()
            await ending
            await work
            if alive is not None:
                alive.cancel()
                await asyncio.gather(alive, return_exceptions=True)
                await workers.leave(self.parts)

    async def _end_when_told(self) -> None:
        await self.life.stopping.wait()
        await self.runner.stop(self.settings.stop_within_s)
        self.parts.bulletin.close()


def load_plugins(settings: Settings) -> None:
    """Import the user's modules: what they register can be used from then on; `ConfigError` names those that fail."""
    problems = []
    for name in settings.plugins:
        try:
            importlib.import_module(name)
        except Exception as error:
            problems.append(
                f"service.plugins: {name} can't be imported ({type(error).__name__}: {redact.scrub(str(error))}); "
                "install it, or put its folder on PYTHONPATH"
            )
    if problems:
        raise ConfigError(problems)


@asynccontextmanager
async def open_app(settings: Settings, *, tell: Callable[[str], None] = lambda _: None) -> AsyncIterator[App]:
    """Open the store, wire everything, and close it again; healing begins with `running`.

    Args:
        tell: hears what a person should know at the start (a key file that was just made).
    """
    keys = open_keys(settings, tell)
    redact.known.set_hash_key(keys.derive("redaction"))
    for secret in settings.secrets:
        redact.known.register(secret)
    load_plugins(settings)
    known = packs.shipped(settings)
    async with AsyncExitStack() as closing:
        store = await open_store(settings, tell)
        closing.push_async_callback(store.close)
        caller = Egress(settings.egress)
        closing.push_async_callback(caller.close)
        advice_caller = Egress(replace(settings.egress, bytes_max=ANSWER_BYTES_MAX)) if settings.advisor else None
        if advice_caller is not None:
            closing.push_async_callback(advice_caller.close)
        place = await asyncio.to_thread(DatabasePlace, settings.database_url)
        closing.callback(place.close)
        pauses = Pauses(store, store.clock, settings.windows)
        care = await take_care(settings, Carrying(caller), Vault(store, keys), pauses)
        closing.push_async_callback(care.close)
        for unchecked in care.unchecked.values():
            tell(f"{unchecked}; its procedures wait until it answers")
        runs = _runs(settings, store)
        app = wire(
            settings, store, caller, keys, place=place, advice_caller=advice_caller, care=care, runs=runs, known=known
        )
        for words in packs.unbound(known, app.parts.bindable):
            tell(words)
        if isinstance(app.runner, ProcrastinateRunner):
            closing.push_async_callback(app.runner.close)
        await _seed(app)
        await app.vault.recognise()
        async with store.transaction() as tx:
            closed = await unopened(tx.sealed, keys, _FEW)
        if closed is not None:
            tell(f"{closed}; {TO_OPEN_AGAIN}")
        yield app


async def open_store(settings: Settings, tell: Callable[[str], None] = lambda _: None) -> Store:
    """Open the configured database; `SchemaBehind` when its tables lack what this version needs."""
    path = sqlite_path(settings.database_url)
    if path is None:
        return await _open_postgres(settings, tell)
    migrate = migrations.upgrade if settings.migrate == "auto" else migrations.check
    store = SqliteStore.open_file(path, SystemClock())  # the lock first: nobody migrates under a running process
    try:
        migrate(settings.database_url)
    except BaseException:
        await store.close()
        raise
    return store


async def _open_postgres(settings: Settings, tell: Callable[[str], None]) -> PostgresStore:
    """Bring the tables up to date past a pooler where a way is named, and look whether both ways lead to them."""
    if settings.migrate == "auto":
        await upgrade(settings)
    else:
        await asyncio.to_thread(migrations.check, settings.migrate_url)
    store = await PostgresStore.open(settings.database_url)
    if migrations.is_behind(await store.revision()):
        await store.close()
        raise SchemaBehind("service.direct_url and service.database_url lead to different databases; name the same")
    if store.pooled:
        tell(pooling.note(direct=settings.direct_url is not None))
    return store


async def upgrade(settings: Settings) -> None:
    """Bring the tables up to date: ours, and on PostgreSQL those of the queue."""
    await asyncio.to_thread(migrations.upgrade, settings.migrate_url)
    if sqlite_path(settings.database_url) is None:
        try:
            await install(address(settings.migrate_url))
        except psycopg.Error as error:
            raise migrations.meant_by(error) or error from error


def _runs(settings: Settings, store: Store) -> Callable[[Clock, Listeners], Runner]:
    """Return what makes the runner; it waits for work past a pooler where a way is named, since none wakes it here."""
    if not isinstance(store, PostgresStore):
        return LocalRunner
    pooled = store.pooled and settings.direct_url is None
    return partial(ProcrastinateRunner, address(settings.migrate_url), pooled=pooled)


def wire(
    settings: Settings,
    store: Store,
    caller: Caller,
    keys: Keys,
    rng: Rng | None = None,
    place: DatabasePlace | None = None,
    advice_caller: Caller | None = None,
    care: Care | None = None,
    runs: Callable[[Clock, Listeners], Runner] = LocalRunner,
    known: Sequence[Pattern] | None = None,
) -> App:
    """Put the rooms together; tests and simulations bring their own store, caller and chance, and may have no place.

    Args:
        advice_caller: the way out to the advisor, with a byte cap of its own; without one nobody is asked.
        runs: makes the runner; one process needs no more than `LocalRunner`.
        known: what is known beforehand; None: what the packs of the settings hold.
    """
    vault, care, worker = Vault(store, keys), care or Care(), _worker_name()
    remedies = _remedies(settings, store, caller, vault, worker)
    parts = _parts(
        settings,
        store,
        keys,
        remedies,
        rng=rng or Rng(),
        care=care,
        runs=runs,
        worker=worker,
        known=packs.shipped(settings) if known is None else known,
        advised=settings.advisor is not None and advice_caller is not None,
    )
    rounds = patrol.rounds(settings.services, parts.procedures)
    rounds[LEARN] = occurrences.ROUND
    rounds[retention.NAME] = retention.round_of(settings.retention)
    delivery = messages.handle(settings, parts, caller, vault)
    _handle_work(parts, rounds, care)
    if settings.advisor is not None and advice_caller is not None:
        _ask_for_advice(parts, settings.advisor, _advisor(settings.advisor, advice_caller, vault, list(remedies.acts)))
    intake = Intake(parts)
    _hear_guards(parts, intake, place)
    return App(
        settings=settings,
        store=store,
        runner=parts.runner,
        parts=parts,
        intake=intake,
        vault=vault,
        caller=caller,
        rounds=rounds,
        place=place,
        delivery=delivery,
        care=care,
        alone=isinstance(store, SqliteStore),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remedies:
    """What can be done at services, and which of it may be bound to known issues, by name."""

    acts: Mapping[str, Acts]
    bindable: Mapping[str, Bindable]


def _remedies(settings: Settings, store: Store, caller: Caller, vault: Vault, worker: str) -> _Remedies:
    out = Carrying(caller)
    replay = Replay(out, vault, store)
    bindable = _for_issues(replay, ConfiguredServices(settings.services, out, vault), store.clock)
    acts: list[Acts] = [replay, Probe(replay), RefreshToken(out, vault, store, worker)]
    acts += [one for one in bindable.values() if isinstance(one, Acts)]
    return _Remedies(acts={one.name: one for one in acts}, bindable=bindable)


def _parts(
    settings: Settings,
    store: Store,
    keys: Keys,
    remedies: _Remedies,
    *,
    rng: Rng,
    care: Care,
    runs: Callable[[Clock, Listeners], Runner],
    worker: str,
    known: Sequence[Pattern],
    advised: bool,
) -> Parts:
    """Return what the engine works with."""
    clock = store.clock
    listeners = Listeners()
    listeners.subscribe(trace_event)
    return Parts(
        store=store,
        runner=runs(clock, listeners),
        services=settings.services,
        routes=settings.routes,
        act=acting(lambda name, target: remedies.acts[name].apply(target)),
        seal=keys.seal,
        unseal=keys.open,
        clock=clock,
        ids=Ids(clock, rng),
        rng=rng,
        listeners=listeners,
        worker=worker,
        public_url=settings.public_url,
        development=settings.development,
        procedures=care.procedures,
        pauses=care.pauses or Pauses(store, clock, settings.windows),
        known=KnownIssues(clock, known),
        bindable=remedies.bindable,
        learning=settings.learning,
        advised=advised,
    )


def _hear_guards(parts: Parts, intake: Intake, place: DatabasePlace | None) -> None:
    if place is not None:
        parts.runner.handle(guards.HANDLER, partial(guards.take_notices, parts, intake, place))


def _handle_work(parts: Parts, rounds: Mapping[str, Round], care: Care) -> None:
    """Tell the runner what carries out the engine's work."""
    parts.runner.handle("heal", traced("prunella.recover", partial(heal, parts), "prunella.incident.id"))
    procedure = partial(_run_procedure, parts, rounds)
    parts.runner.handle("procedure", traced("prunella.procedure", procedure, "prunella.procedure"))
    parts.runner.handle("approval", partial(proposals.expire, parts))
    parts.runner.handle(seals.HANDLER, partial(seals.seal_in_turn, parts))
    parts.runner.handle(requests.HANDLER, partial(requests.take_wishes, parts, care.desks))


def _ask_for_advice(parts: Parts, configured: AdvisorSettings, advisor: ModelAdvisor) -> None:
    """Let the runner ask for advice, aside from the engine's own chance: with and without it, the same is done."""
    aside = replace(parts, ids=Ids(parts.clock, Rng()))
    parts.runner.handle(ADVISE, Desk(aside, advisor, configured.allowance).advise)


async def _run_procedure(parts: Parts, rounds: Mapping[str, Round], name: str) -> None:
    """Run a procedure; one that stands in no configuration any more is forgotten."""
    if name in rounds:
        await patrol.run_procedure(parts, rounds[name])
    elif await workers.has_company(parts):  # whose configuration may be newer, or older
        await parts.runner.submit("procedure", name, at=parts.clock.now() + _ASK_OTHERS_AFTER)


def _worker_name() -> str:
    """Return this process's name in claims: a container that starts anew has its old host name and process id."""
    return f"{socket.gethostname()}:{os.getpid()}:{Ids(SystemClock(), Rng()).new()[-6:]}"


def sealed_credential(
    vault: Vault, service: str, account: str, access: str, refresh: str | None, expires_at: datetime | None
) -> Credential:
    """Return an account's tokens as they may be stored."""
    empty = Credential(service=service, account=account, access_sealed=b"", expires_at=expires_at)
    return Credential(
        service=service,
        account=account,
        access_sealed=vault.seal_access(empty, access),
        refresh_sealed=vault.seal_refresh(empty, refresh) if refresh else None,
        expires_at=expires_at,
    )


def sqlite_path(database_url: str) -> Path | None:
    """Return the file behind a SQLite address, None for any other database."""
    url = make_url(database_url)
    return Path(url.database or "prunella.db") if url.get_backend_name() == "sqlite" else None


def open_keys(settings: Settings, tell: Callable[[str], None]) -> Keys:
    """Return the deployment's keys; on SQLite a key file is made once, on PostgreSQL there is no default."""
    if settings.secret_key is not None:
        return Keys.parse(settings.secret_key.reveal())
    path = sqlite_path(settings.database_url)
    if path is None:
        raise SecretError(
            "PRUNELLA_SECRET_KEY is not set; PostgreSQL needs it (32 bytes, base64). "
            "Make one with: openssl rand -base64 32"
        )
    keys, created = Keys.beside(path)
    if created is not None:
        tell(f"made the key file {created}; keep it: without it the stored tokens can't be opened")
    return keys


def _for_issues(replay: Replay, services: Services, clock: Clock) -> dict[str, Bindable]:
    """Return what may be bound to known issues; a function of the user takes the place of what comes along."""
    own = [FunctionForIssue(one, services, clock) for one in plugin.REMEDIES.values()]
    known: list[Bindable] = [RefreshAuth(), InvalidateCache(replay), *own]
    return {one.name: one for one in known}


def _advisor(configured: AdvisorSettings, caller: Caller, vault: Vault, remedies: list[str]) -> ModelAdvisor:
    """Return the advisor with its key as it is now at every call."""

    async def key() -> redact.Secret:
        secret = redact.Secret(await vault.reveal(configured.api_key))
        redact.known.register(secret)
        return secret

    return ModelAdvisor(caller, configured.base_url, configured.model, key, remedies, deadline_s=configured.deadline_s)


async def _seed(app: App) -> None:
    """Store the tokens that the file brings along, where the store holds none yet."""
    for name, seed in app.settings.seeds.items():
        async with app.store.transaction() as tx:
            if await tx.credentials.read(name, "") is None:
                access, refresh = seed
                refresh_token = refresh.reveal() if refresh else None
                await tx.credentials.put(sealed_credential(app.vault, name, "", access.reveal(), refresh_token, None))
