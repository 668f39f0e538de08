"""The deployment's key is changed while everything goes on: nothing is lost, overwritten or left under the old key."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from prunella.app import App, sealed_credential, wire
from prunella.core.errors import InvalidInput, SecretError
from prunella.core.records import Failure, Request, Signal
from prunella.core.redact import Secret
from prunella.core.services import OAuth, SecretRef, Service
from prunella.egress import Egress, EgressPolicy
from prunella.engine import rekeying
from prunella.engine.payloads import open_request
from prunella.engine.rekeying import Rekeyed, reseal
from prunella.remedies.contract import Target
from prunella.remedies.oauth import RefreshToken
from prunella.settings import Settings
from prunella.store import sealed as sealed_module
from prunella.store.contract import Store
from prunella.store.secrets import Keys, Vault, unopened
from prunella.store.tables import metadata
from prunella.testing import FaultyServer
from prunella.testing.words import json
from prunella.web.answers import Answers
from prunella.web.auth import Caller, Role
from store.making import NOW

pytestmark = pytest.mark.anyio

OLD, NEW = Keys([b"o" * 32]), Keys([b"n" * 32])
BEFORE, AFTER = Keys([b"o" * 32, b"n" * 32]), Keys([b"n" * 32, b"o" * 32])
"""What processes hold while the key is changed: first all open with both, then all seal with the new one."""
SLACK = SecretRef("slack")
CALLER = Caller("ada", Role.ADMIN)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    """Serve on loopback."""
    with FaultyServer() as started:
        yield started


@pytest.fixture
async def egress(anyio_backend: str) -> AsyncIterator[Egress]:
    """Call out for real, loopback allowed."""
    policy = EgressPolicy(allow_hosts=frozenset({"127.0.0.1"}), allow_http=True)
    out = Egress(policy, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    yield out
    await out.close()


def wired(store: Store, egress: Egress, keys: Keys) -> App:
    """Return a prunella with these keys."""
    settings = Settings(services={"crm": Service(name="crm", base_url="https://crm.invalid")})
    return wire(settings, store, egress, keys)


def report(number: int) -> Signal:
    """Return an event whose request is kept sealed."""
    return Signal(
        id=f"signal-{number}",
        source="webhook",
        event_id=f"event-{number}",
        service="crm",
        occurred_at=NOW,
        received_at=NOW,
        failure=Failure(service="crm", status=503, message="Service Unavailable", operation="POST /orders"),
        request=Request(method="POST", endpoint="/orders", payload={"order": number}),
    )


async def filled(app: App) -> None:
    """Seal something at every place where something is sealed, by those who seal there."""
    tokens = sealed_credential(app.vault, "crm", "ada", "access-one", "refresh-one", None)
    await app.intake.accept(report(1))
    answers = Answers(app.store, app.vault.keys, app.store.clock)
    turn = await answers.begin(CALLER, "key-1", "request-1")
    await answers.end(turn, 201, "", b"made")  # type: ignore[arg-type]
    async with app.store.transaction() as tx:
        await tx.credentials.put(tokens)
        await tx.credentials.put_secret("slack", app.vault.sealed(SLACK, "xoxb-one"), NOW)


async def opened(app: App) -> list[object]:
    """Open all of it again."""
    async with app.store.transaction() as tx:
        tokens = await tx.credentials.read("crm", "ada")
        operation = await tx.operations.of_signal("signal-1")
    assert tokens is not None
    assert operation is not None
    answer = await Answers(app.store, app.vault.keys, app.store.clock).begin(CALLER, "key-1", "request-1")
    return [
        app.vault.open_access(tokens),
        app.vault.open_refresh(tokens),
        await app.vault.reveal(SLACK),
        open_request(app.parts, operation).payload,
        answer.body,  # type: ignore[union-attr]
    ]


ALL = ["access-one", "refresh-one", "xoxb-one", {"order": 1}, b"made"]


async def test_what_no_key_opens_is_counted_by_its_place(store: Store, egress: Egress) -> None:
    """Whatever the keys at hand do not open is told with its key and its place, wherever something is sealed."""
    await filled(wired(store, egress, OLD))
    async with store.transaction() as tx:
        assert [await unopened(tx.sealed, keys) for keys in (OLD, BEFORE, AFTER)] == [None] * 3
        told = await unopened(tx.sealed, NEW)
        few = await unopened(tx.sealed, NEW, ["secrets"])
    places = "2 in credentials, 1 in secrets, 1 in operations, 1 in answers"
    assert told == f"values sealed with key {OLD.id}, which is not at hand: {places}"
    assert few == f"values sealed with key {OLD.id}, which is not at hand: 1 in secrets"


async def test_everything_sealed_opens_with_the_new_key_alone(store: Store, egress: Egress) -> None:
    """Whatever is sealed anywhere is sealed anew in its place; a dry run only counts; the audit says who did it."""
    await filled(wired(store, egress, OLD))
    app = wired(store, egress, AFTER)
    assert await reseal(app.parts, AFTER, by="ada", dry=True) == Rekeyed(looked=5, older=5)
    assert await reseal(app.parts, AFTER, by="ada") == Rekeyed(looked=5, older=5, sealed=5)
    assert await reseal(app.parts, AFTER, by="ada") == Rekeyed(looked=5)
    assert await opened(wired(store, egress, NEW)) == ALL
    async with store.transaction() as tx:
        noted = [one for one in await tx.audit.list(most=99) if one.action == "keys.rotated"]
    assert [(one.actor, one.reason) for one in noted] == [("ada", f"5 values sealed anew with key {AFTER.id}")]


def test_every_sealed_column_is_known() -> None:
    """Who adds a column for ciphertext adds it to those that are sealed anew."""
    binary = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if column.type.python_type is bytes
    }
    assert binary == set(sealed_module._BOUND_TO)


async def test_what_no_key_opens_is_named_and_left(store: Store, egress: Egress) -> None:
    """A row whose key is gone, and one that holds another row's ciphertext, are named; the others are sealed anew."""
    app = wired(store, egress, OLD)
    await filled(app)
    async with store.transaction() as tx:
        await tx.credentials.put_secret("lost", Keys([b"x" * 32]).seal(b"gone", "secrets:lost"), NOW)
        await tx.credentials.put_secret("swapped", app.vault.sealed(SLACK, "xoxb-one"), NOW)
    found = await reseal(app.parts, AFTER, by="ada")
    assert (found.older, found.sealed, found.unreadable) == (7, 5, ("secrets:lost", "secrets:swapped"))
    with pytest.raises(SecretError):
        await wired(store, egress, AFTER).vault.reveal(SecretRef("swapped"))


async def test_long_tables_are_walked_in_stretches(
    store: Store, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request does a bounded piece and says where to go on; every row is looked at once, whatever it is called."""
    monkeypatch.setattr(sealed_module, "PAGE", 3)
    monkeypatch.setattr(rekeying, "PAGES_AT_ONCE", 2)
    app = wired(store, egress, OLD)
    names = [f"{letter}{number}" for letter in ("A", "b", "ü", "'", "%") for number in range(4)]
    async with store.transaction() as tx:
        for name in names:
            await tx.credentials.put_secret(name, app.vault.sealed(SecretRef(name), "value"), NOW)
            await tx.credentials.put(sealed_credential(app.vault, "crm", name, "access", "refresh", None))
    looked: list[int] = []
    at: tuple[str, ...] = ()
    while not looked or at:
        found = await reseal(app.parts, AFTER, at, by="ada")
        looked.append(found.looked)
        at = found.next
    assert (sum(looked), max(looked) <= 12) == (60, True)
    assert {await wired(store, egress, NEW).vault.reveal(SecretRef(name)) for name in names} == {"value"}
    with pytest.raises(InvalidInput):
        await reseal(app.parts, AFTER, ("audit", "x"), by="ada")


async def test_pair_that_is_written_meanwhile_is_kept(store: Store, egress: Egress) -> None:
    """Between the look and the write a refresh stores a new pair: it stays, and its version with it."""
    app = wired(store, egress, OLD)
    await filled(app)
    async with store.transaction() as tx:
        (looked, *_), _ = await tx.sealed.page("credentials", ())
        was = await tx.credentials.read("crm", "ada")
        assert was is not None
        fresh = AFTER.seal(b"access-two", looked.row)
        assert await tx.credentials.rotate(was, fresh, was.refresh_sealed, None, NOW)
    async with store.transaction() as tx:
        assert not await tx.sealed.swap(looked, AFTER.seal(b"access-one", looked.row))
        kept = await tx.credentials.read("crm", "ada")
    assert kept is not None
    assert (kept.access_sealed, kept.version) == (fresh, was.version + 1)


async def test_refresh_seals_with_the_newest_key_what_it_keeps(
    store: Store, egress: Egress, server: FaultyServer
) -> None:
    """A provider that hands out no new refresh token leaves none behind under the old key, where rotation has been."""
    server.script("/token", [json(200, {"access_token": "access-two"})])
    oauth = OAuth(token_url=f"{server.url}/token", client_id="app", client_secret=Secret("app-secret"))
    service = Service(name="crm", base_url=server.url, oauth=oauth)
    async with store.transaction() as tx:
        await tx.credentials.put(sealed_credential(Vault(store, OLD), "crm", "ada", "access-one", "refresh-one", None))
    target = Target(service=service, account="ada", incident_id="i", idempotency_key="k", stale_version=1)
    assert (await RefreshToken(egress, Vault(store, AFTER), store, "w").apply(target)).ok
    async with store.transaction() as tx:
        held = await tx.credentials.read("crm", "ada")
    assert held is not None
    assert Vault(store, NEW).open_refresh(held) == "refresh-one"


ROUNDS = 12
TAKEN = "another worker is refreshing this account"


async def test_key_is_changed_under_load_without_a_failed_refresh(
    store: Store, egress: Egress, server: FaultyServer
) -> None:
    """Workers of both steps refresh all the while, the key changes under them, and no refresh fails or is repeated."""
    provider = server.oauth("/token", client_id="app", client_secret="app-secret")
    oauth = OAuth(token_url=f"{server.url}/token", client_id="app", client_secret=Secret("app-secret"))
    service = Service(name="crm", base_url=server.url, oauth=oauth)
    accounts = ("ada", "ben", "cyd")
    for account in accounts:
        pair = provider.grant()
        tokens = sealed_credential(Vault(store, OLD), "crm", account, pair.access_token, pair.refresh_token, None)
        async with store.transaction() as tx:
            await tx.credentials.put(tokens)
    app, done = wired(store, egress, AFTER), asyncio.Event()

    async def refresh(keys: Keys, worker: str, account: str) -> list[str]:
        remedy = RefreshToken(egress, Vault(store, keys), store, worker)
        target = Target(service=service, account=account, incident_id="i", idempotency_key="k", stale_version=None)
        failed = []
        for _ in range(ROUNDS):
            async with store.transaction() as tx:
                held = await tx.credentials.read("crm", account)
            assert held is not None
            outcome = await remedy.apply(replace(target, stale_version=held.version))
            failed += [] if outcome.ok or outcome.detail == TAKEN else [outcome.detail]
        return failed

    async def rotate() -> None:
        while not done.is_set():
            await reseal(app.parts, AFTER, by="ada")
            await asyncio.sleep(0)

    rotating = asyncio.create_task(rotate())
    each = [(keys, name, one) for one in accounts for keys, name in ((BEFORE, f"b-{one}"), (AFTER, f"a-{one}"))]
    failed = await asyncio.gather(*(refresh(*one) for one in each))
    done.set()
    await rotating
    assert [why for all_ in failed for why in all_] == []
    assert (provider.reuses, provider.refreshes >= ROUNDS) == (0, True)
    found = await reseal(app.parts, AFTER, by="ada")
    assert (found.unreadable, (await reseal(app.parts, AFTER, by="ada", dry=True)).older) == ((), 0)
    async with store.transaction() as tx:
        held = await tx.credentials.of_service("crm")
    assert {bool(Vault(store, NEW).open_refresh(one)) for one in held} == {True}
