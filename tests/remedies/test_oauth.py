"""A refresh happens once per account, whoever asks, and its tokens are written before anybody uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from prunella.core.clock import ManualClock
from prunella.core.errors import SecretError
from prunella.core.records import Credential, Request
from prunella.core.redact import Secret
from prunella.core.services import OAuth, SecretRef, Service
from prunella.egress import Egress, Reply
from prunella.remedies import oauth as oauth_remedy
from prunella.remedies.contract import Outcome, Target
from prunella.remedies.http import Replay
from prunella.remedies.oauth import RefreshToken
from prunella.store.secrets import Keys, Vault
from prunella.store.sqlite import SqliteStore
from prunella.testing import FaultyServer, TokenEndpoint, delayed
from prunella.testing import words as w

pytestmark = pytest.mark.anyio


class Account:
    """One account at a provider, with everything that refreshes it."""

    def __init__(self, server: FaultyServer, store: SqliteStore, vault: Vault, caller: Egress) -> None:
        self.server, self.store, self.vault, self.caller = server, store, vault, caller
        self.provider: TokenEndpoint = server.oauth("/token", client_id="app", client_secret="app-secret")
        server.protect("/orders", self.provider)
        oauth = OAuth(token_url=f"{server.url}/token", client_id="app", client_secret=Secret("app-secret"))
        self.service = Service(name="crm", base_url=server.url, oauth=oauth)

    def worker(self, name: str = "worker-1") -> RefreshToken:
        """Return the remedy of one process."""
        return RefreshToken(self.caller, self.vault, self.store, name)

    def target(self, stale_version: int | None = 1) -> Target:
        """Return what to refresh."""
        return Target(
            service=self.service,
            account="",
            incident_id="incident-1",
            idempotency_key="key-1",
            stale_version=stale_version,
        )

    async def connect(self, access: str | None = None, refresh: str | None = None) -> None:
        """Store a pair of tokens, the provider's first where none is named."""
        pair = self.provider.grant()
        empty = Credential(service="crm", account="", access_sealed=b"")
        async with self.store.transaction() as tx:
            await tx.credentials.put(
                replace(
                    empty,
                    access_sealed=self.vault.seal_access(empty, access or pair.access_token),
                    refresh_sealed=self.vault.seal_refresh(empty, refresh or pair.refresh_token),
                )
            )

    async def held(self) -> Credential:
        """Return the account's row."""
        async with self.store.transaction() as tx:
            found = await tx.credentials.read("crm", "")
        assert found is not None
        return found

    async def refreshed(self, stale_version: int | None = 1) -> Outcome:
        """Refresh once."""
        return await self.worker().apply(self.target(stale_version))


@pytest.fixture
async def account(server: FaultyServer, store: SqliteStore, vault: Vault, caller: Egress) -> Account:
    """Return a connected account."""
    made = Account(server, store, vault, caller)
    await made.connect()
    return made


async def test_refreshed_pair_is_stored_and_works(account: Account) -> None:
    """New version, both tokens new, an end, the moment of the refresh, no claim left; the next replay gets through."""
    account.provider.expire()
    before = await account.held()
    outcome = await account.refreshed()
    after = await account.held()
    assert (outcome.ok, outcome.token_version, after.version) == (True, 2, 2)
    assert account.vault.open_access(after) != account.vault.open_access(before)
    assert account.vault.open_refresh(after) != account.vault.open_refresh(before)
    now = account.store.clock.now()
    assert (after.refreshed_at, after.expires_at) == (now, now + timedelta(seconds=3600))
    assert (after.refreshing_by, after.refreshing_until, after.needs_person) == (None, None, None)
    replayed = await Replay(account.caller, account.vault, account.store).apply(
        replace(account.target(), request=Request(method="POST", endpoint="/orders", payload={}))
    )
    assert (replayed.ok, replayed.token_version) == (True, 2)
    assert account.server.leaks() == []


async def test_many_who_ask_in_one_process_share_one_refresh(account: Account) -> None:
    """Twenty ask at the same moment: one exchange, one answer for all."""
    account.provider.delay_s = 0.05
    worker = account.worker()
    outcomes = await asyncio.gather(*(worker.apply(account.target()) for _ in range(20)))
    assert {(one.ok, one.token_version) for one in outcomes} == {(True, 2)}
    assert (account.provider.refreshes, account.provider.reuses) == (1, 0)


async def test_two_workers_over_one_store_refresh_once(account: Account) -> None:
    """One of them wins the claim; the other does nothing, says so, and finds the newer token afterwards."""
    account.provider.delay_s = 0.05
    first, second = account.worker("worker-1"), account.worker("worker-2")
    outcomes = await asyncio.gather(first.apply(account.target()), second.apply(account.target()))
    assert sorted((one.ok, one.busy) for one in outcomes) == [(False, True), (True, False)]
    again = await second.apply(account.target())
    assert (again.ok, again.detail) == (True, "the token is newer already")
    assert (account.provider.refreshes, account.provider.reuses, account.provider.broken) == (1, 0, 0)


async def test_token_that_is_newer_than_the_bad_one_is_not_refreshed(account: Account) -> None:
    """The failure was seen with version 1, version 2 is stored: nothing to do. Version 2 is bad: refresh it."""
    await account.refreshed(stale_version=1)
    assert (await account.refreshed(stale_version=1)).token_version == 2
    assert account.provider.refreshes == 1
    assert (await account.refreshed(stale_version=2)).token_version == 3
    assert (account.provider.refreshes, account.provider.reuses) == (2, 0)


async def test_rotated_token_is_the_next_one_used(account: Account) -> None:
    """Ten refreshes in a row never present a token twice, so the provider never sees a theft."""
    for version in range(1, 11):
        assert (await account.refreshed(stale_version=version)).ok
    assert (account.provider.refreshes, account.provider.reuses) == (10, 0)


async def test_new_pair_survives_a_database_that_is_away_for_a_moment(sqlite_path: Path, account: Account) -> None:
    """The old token is spent the moment the provider answers: writing the new pair is tried again until it stands."""
    await account.store.close()

    class Repaired(ManualClock):
        """A clock on which the database is back after two waits."""

        waits = 0

        async def sleep(self, seconds: float) -> None:
            self.waits += 1
            if self.waits == 2:
                store._database.execute("PRAGMA query_only = OFF")
            await super().sleep(seconds)

    class Breaking(Egress):
        """A way out; when the reply is here the database is gone."""

        async def request(self, method: str, url: str, **how: Any) -> Reply:
            reply = await account.caller.request(method, url, **how)
            store._database.execute("PRAGMA query_only = ON")
            return reply

    clock = Repaired()
    store = SqliteStore.open_file(sqlite_path, clock)
    try:
        vault = Vault(store, Keys([b"k" * 32]))
        outcome = await RefreshToken(Breaking(), vault, store, "worker-1").apply(account.target())
        async with store.transaction() as tx:
            held = await tx.credentials.read("crm", "")
        assert held is not None
        assert (outcome.ok, held.version, clock.waits) == (True, 2, 2)
        assert account.provider.accepts(vault.open_access(held))
    finally:
        await store.close()


@pytest.mark.parametrize("answered", [{}, {"refresh_token": None}, {"refresh_token": ""}, {"refresh_token": 7}])
async def test_provider_that_does_not_rotate_keeps_the_refresh_token(
    account: Account, answered: Mapping[str, Any]
) -> None:
    """No new refresh token in the answer, however that is said: the old one stays, it is the only one there is."""
    before = account.vault.open_refresh(await account.held())
    account.server.script("/token", [w.json(200, {"access_token": "at-next", "expires_in": 60, **answered})])
    assert (await account.refreshed()).ok
    after = await account.held()
    assert account.vault.open_refresh(after) == before
    assert account.vault.open_access(after) == "at-next"


@pytest.mark.parametrize("lifetime", [None, "3600", -1, 0, 1e300, 10**15, True, [1]])
async def test_strange_lifetime_never_costs_the_tokens(account: Account, lifetime: object) -> None:
    """Whatever `expires_in` says, the pair is stored: the old one is spent."""
    answer = {"access_token": "at-next", "refresh_token": "rt-next", "expires_in": lifetime}
    account.server.script("/token", [w.json(200, answer)])
    assert (await account.refreshed()).ok
    after = await account.held()
    assert account.vault.open_refresh(after) == "rt-next"
    assert after.expires_at is None or lifetime is True


@pytest.mark.parametrize("code", ["invalid_grant", "invalid_client", "unauthorized_client"])
async def test_dead_grant_is_a_persons_and_not_tried_again(account: Account, code: str) -> None:
    """The provider refuses for good: the account waits for a person, and the next ask sends nothing."""
    account.server.script("/token", [w.json(400, {"error": code})])
    outcome = await account.refreshed()
    assert outcome.needs_person == f"the provider refused the refresh token ({code}); reconnect crm"
    assert (await account.held()).needs_person == outcome.needs_person
    assert (await account.refreshed()).needs_person == outcome.needs_person
    assert len(account.server.ledger.requests) == 1


async def test_refused_grant_is_read_once_more_before_a_person_is_called(account: Account) -> None:
    """While we asked, a person stored new tokens: theirs are good, nobody is called and nothing is overwritten."""
    account.server.script("/token", [delayed(0.2, w.json(400, {"error": "invalid_grant"}))])
    asking = asyncio.create_task(account.refreshed())
    await asyncio.to_thread(account.server.wait_for, lambda: len(account.server.ledger.requests) == 1, 5)
    await account.connect("at-theirs", "rt-theirs")
    outcome = await asking
    held = await account.held()
    assert (outcome.ok, outcome.detail, outcome.token_version) == (True, "another refresh was quicker", held.version)
    assert (account.vault.open_access(held), held.needs_person) == ("at-theirs", None)


async def test_tokens_of_a_person_are_not_overwritten_by_a_late_answer(account: Account) -> None:
    """While the provider thought, a person stored other tokens: they stay."""
    account.server.script(
        "/token", [delayed(0.2, w.json(200, {"access_token": "at-late", "refresh_token": "rt-late"}))]
    )
    asking = asyncio.create_task(account.refreshed())
    await asyncio.to_thread(account.server.wait_for, lambda: len(account.server.ledger.requests) == 1, 5)
    await account.connect("at-theirs", "rt-theirs")
    outcome = await asking
    held = await account.held()
    assert account.vault.open_access(held) == "at-theirs"
    assert (outcome.ok, outcome.token_version) == (True, held.version)


@pytest.mark.parametrize(
    "word",
    [
        w.status(503),
        w.html(503, "Down for maintenance"),
        w.parse("reset"),
        w.parse("bad_json"),
        w.throttled(5),
        w.json(200, {}),
        w.json(200, {"access_token": ""}),
        w.json(400, {"error": "temporarily_unavailable"}),
        w.redirect("https://evil.test/"),
    ],
    ids=lambda one: one.name,
)
async def test_passing_fault_gives_the_claim_back(account: Account, word: w.Word) -> None:
    """Down, cut off, throttled, nonsense: no person is called, the old tokens stay, the next try may begin at once."""
    account.server.script("/token", [word])
    before = await account.held()
    outcome = await account.refreshed()
    assert (outcome.ok, outcome.busy, outcome.needs_person) == (False, False, None)
    assert outcome.failure is not None
    assert await account.held() == before
    account.server.script("/token", ["ok"])
    assert (await account.refreshed()).ok


async def left_behind(account: Account, *, spent: bool = False, buried: bool = True) -> str:
    """Leave a refresh as a worker does that dies in it; return what it presents. `spent`: the provider rotated."""
    now, held = account.store.clock.now(), await account.held()
    token = account.vault.open_refresh(held)
    async with account.store.transaction() as tx:
        assert await tx.credentials.claim_refresh(held, "dead", now, now + timedelta(seconds=30))
    if spent:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": token,
            "client_id": "app",
            "client_secret": "app-secret",
        }
        assert account.service.oauth is not None
        await account.caller.request("POST", account.service.oauth.token_url, form=form, deadline_s=5)
    if buried:
        async with account.store.transaction() as tx:
            await tx.credentials.release_of(["dead"])
    return token


def later(account: Account, seconds: float) -> None:
    assert isinstance(account.store.clock, ManualClock)
    account.store.clock.advance(seconds)


@pytest.mark.parametrize("buried", [True, False])
async def test_refresh_left_behind_at_a_provider_that_rotates_is_a_persons(account: Account, buried: bool) -> None:
    """Its holder buried, or its claim over: the spent token is never presented, a person hears why, once for all."""
    assert (await account.refreshed()).ok
    await left_behind(account, spent=True, buried=buried)
    if not buried:
        assert (await account.refreshed(stale_version=2)).busy
        later(account, 31)
    sent = len(account.server.ledger.requests)
    outcomes = [await account.worker(name).apply(account.target(2)) for name in ("next", "another")]
    reason = (
        "a worker ended while it refreshed crm; the refresh token may be spent, and a second use counts as theft; "
        "reconnect: prunella credentials set crm; or set services.crm.oauth.reuse_s if its provider allows it"
    )
    assert [one.needs_person for one in outcomes] == [reason, reason]
    assert (len(account.server.ledger.requests), account.provider.reuses) == (sent, 0)
    await account.connect()
    assert (await account.refreshed(stale_version=3)).ok


@pytest.mark.parametrize(("waited_s", "again"), [(0, True), (94, True), (96, False)])
async def test_refresh_left_behind_is_repeated_while_the_provider_forgives_it(
    account: Account, waited_s: float, again: bool
) -> None:
    """With `reuse_s` of 100 s and calls of at most 5 s, the token goes out until 95 s after the first beginning."""
    lenient = account.server.oauth("/token", client_id="app", client_secret="app-secret", reuse_s=100)
    account.provider = lenient
    assert account.service.oauth is not None
    account.service = replace(account.service, oauth=replace(account.service.oauth, reuse_s=100))
    await account.connect()
    assert (await account.refreshed(stale_version=None)).ok
    await left_behind(account, spent=True)
    later(account, waited_s / 2)
    account.server.script("/token", [w.status(503), "ok"])
    assert not (await account.refreshed(None)).ok  # a passing fault ends the claim, not the mark of who began first
    later(account, waited_s / 2)
    outcome = await account.refreshed(None)
    assert (outcome.ok, outcome.needs_person is None) == (again, again)
    assert (lenient.forgiven, lenient.reuses, lenient.broken) == (int(again), 0, 0)


@pytest.mark.parametrize(
    ("url", "reuse_s", "again"),
    [
        ("https://identity.xero.com/connect/token", None, True),
        ("https://auth.atlassian.com/oauth/token", None, True),
        ("https://identity.xero.com/connect/token", 0.0, False),
        ("https://id.example/token", None, False),
    ],
)
async def test_refresh_left_behind_knows_what_providers_document(
    account: Account, url: str, reuse_s: float | None, again: bool
) -> None:
    """Nine minutes after a death Xero and Atlassian still take the token, unless the settings say otherwise."""
    assert (await account.refreshed()).ok
    await left_behind(account)
    later(account, 540)
    assert account.service.oauth is not None
    oauth = replace(account.service.oauth, token_url=url, reuse_s=reuse_s)
    held, target = await account.held(), replace(account.target(None), service=replace(account.service, oauth=oauth))
    async with account.store.transaction() as tx:
        assert await oauth_remedy._may_repeat(tx, target.service, held, account.store.clock.now()) is again


@pytest.mark.parametrize("answered", [{}, {"refresh_token": "the same"}])
async def test_refresh_left_behind_is_repeated_where_nothing_rotates(
    account: Account, answered: Mapping[str, str]
) -> None:
    """The last refresh brought no new refresh token, so the old one is not spent by a second use."""
    before = account.vault.open_refresh(await account.held())
    same = dict.fromkeys(answered, before)
    account.server.script("/token", [w.json(200, {"access_token": "at-next", **same}), "ok"])
    assert (await account.refreshed()).ok
    await left_behind(account)
    assert (await account.refreshed(stale_version=2)).ok


@pytest.mark.parametrize("known", [False, True])
async def test_first_refresh_left_behind_goes_by_the_other_accounts(account: Account, known: bool) -> None:
    """Never refreshed: it is presented again, unless another account of the service was seen to rotate."""
    if known:
        async with account.store.transaction() as tx:
            await tx.credentials.put(Credential(service="crm", account="ada", access_sealed=b"a", rotates=True))
    await left_behind(account)
    assert (await account.refreshed(None)).ok is not known


async def test_holder_that_was_only_frozen_ends_what_a_person_was_asked_for(account: Account) -> None:
    """Taken for dead in mid-call, and given up: its pair is written all the same, and nobody has to reconnect."""
    assert (await account.refreshed()).ok
    account.server.script(
        "/token", [delayed(0.2, w.json(200, {"access_token": "at-late", "refresh_token": "rt-late"}))]
    )
    sent = len(account.server.ledger.requests)
    asking = asyncio.create_task(account.refreshed(None))
    await asyncio.to_thread(account.server.wait_for, lambda: len(account.server.ledger.requests) > sent, 5)
    async with account.store.transaction() as tx:
        await tx.credentials.release_of(["worker-1"])
    assert (await account.worker("worker-2").apply(account.target(None))).needs_person
    assert (await asking).ok
    held = await account.held()
    assert (account.vault.open_access(held), held.needs_person, held.refreshing_since) == ("at-late", None, None)


async def test_account_without_a_refresh_token_is_a_persons(account: Account) -> None:
    """Nothing stored, or an access token only: the answer says what to run."""
    async with account.store.transaction() as tx:
        await tx.credentials.put(Credential(service="crm", account="", access_sealed=b"a"))
    lonely = replace(account.target(), account="ada")
    for outcome in (await account.refreshed(), await account.worker().apply(lonely)):
        assert outcome.needs_person == "no refresh token is stored; run: prunella credentials set crm"
    assert account.server.ledger.requests == []


async def test_missing_client_secret_fails_everybody_and_blocks_nobody(account: Account) -> None:
    """Ten ask while the client's secret is not set: each hears why, none hangs, and afterwards it works."""
    assert account.service.oauth is not None
    oauth = replace(account.service.oauth, client_secret=SecretRef("crm/client"))
    aimed = replace(account.target(), service=replace(account.service, oauth=oauth))
    worker = account.worker()
    outcomes = await asyncio.gather(*(worker.apply(aimed) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(one, SecretError) for one in outcomes)
    async with account.store.transaction() as tx:
        sealed = account.vault.sealed(SecretRef("crm/client"), "app-secret")
        await tx.credentials.put_secret("crm/client", sealed, account.store.clock.now())
    assert (await worker.apply(aimed)).ok


async def test_form_is_what_the_standard_asks_for(account: Account) -> None:
    """RFC 6749 section 6: grant type, refresh token, client and scopes, form-encoded."""
    assert account.service.oauth is not None
    oauth = replace(account.service.oauth, scopes=("crm.read", "crm.write"))
    before = account.vault.open_refresh(await account.held())
    await account.worker().apply(replace(account.target(), service=replace(account.service, oauth=oauth)))
    (seen,) = account.server.ledger.requests
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert dict(pair.split("=") for pair in seen.body.decode().split("&")) == {
        "grant_type": "refresh_token",
        "refresh_token": before,
        "client_id": "app",
        "client_secret": "app-secret",
        "scope": "crm.read+crm.write",
    }


async def test_outcome_never_shows_a_token(account: Account) -> None:
    """Neither a success nor a refusal repeats what was sent or received."""
    good = await account.refreshed()
    account.server.script("/token", [w.json(400, {"error": "invalid_grant", "hint": "rt-0123456789abcdef"})])
    bad = await account.refreshed(stale_version=2)
    for issued in account.provider.issued:
        assert issued not in f"{good} {bad}"
