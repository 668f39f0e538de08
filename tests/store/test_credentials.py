"""Tokens change one version at a time, and one worker at a time may refresh them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from prunella.core.records import Credential
from prunella.store.contract import Store
from store.making import LEASE, NOW, SECOND, Outside, at, at_once, credential

pytestmark = pytest.mark.anyio


async def put(store: Store, tokens: Credential) -> Credential:
    async with store.transaction() as tx:
        await tx.credentials.put(tokens)
    return await read(store)


async def read(store: Store) -> Credential:
    async with store.transaction() as tx:
        found = await tx.credentials.read("hubspot", "")
    assert found is not None
    return found


async def claim(store: Store, tokens: Credential, worker: str, now: datetime = NOW) -> bool:
    async with store.transaction() as tx:
        return await tx.credentials.claim_refresh(tokens, worker, now, now + LEASE)


async def rotate(store: Store, tokens: Credential, access: bytes) -> bool:
    async with store.transaction() as tx:
        return await tx.credentials.rotate(tokens, access, b"r2", at(3600), NOW)


async def test_credentials_are_kept_per_account(store: Store) -> None:
    """Each account of each service has its own tokens."""
    async with store.transaction() as tx:
        for one in (credential("b"), credential("a"), credential("a", service="stripe")):
            await tx.credentials.put(one)
        assert await tx.credentials.of_service("hubspot") == [credential("a"), credential("b")]
        assert await tx.credentials.read("hubspot", "") is None


# Refresh


async def test_refresh_is_claimed_by_one(store: Store) -> None:
    """Of twenty workers that want to refresh the same tokens one may."""
    tokens = await put(store, credential())
    won = await at_once(claim(store, tokens, f"worker-{number}") for number in range(20))
    assert won.count(True) == 1


async def test_refresh_claim_ends_with_its_lease(store: Store) -> None:
    """The claim of a worker that died ends by itself, to the moment."""
    tokens = await put(store, credential())
    assert await claim(store, tokens, "dead")
    begun = await read(store)
    assert not await claim(store, begun, "next", NOW + LEASE - SECOND / 1_000_000)
    assert await claim(store, begun, "next", NOW + LEASE)


async def test_refresh_of_an_older_version_is_not_claimed(store: Store) -> None:
    """Who read the tokens before they changed does not refresh them again."""
    old = await put(store, credential())
    assert await rotate(store, old, b"a2")
    assert not await claim(store, old, "late")
    assert await claim(store, await read(store), "early")


async def test_refresh_waits_for_a_person_when_the_grant_is_dead(store: Store) -> None:
    """Released with a reason, nobody refreshes until a person brings new tokens."""
    tokens = await put(store, credential())
    assert await claim(store, tokens, "worker")
    async with store.transaction() as tx:
        await tx.credentials.release(tokens, "worker", needs_person="invalid_grant")
    assert await read(store) == replace(tokens, needs_person="invalid_grant")
    assert not await claim(store, tokens, "worker")
    fresh = await put(store, credential(access_sealed=b"a9"))
    assert fresh.needs_person is None
    assert await claim(store, fresh, "worker")


async def test_refresh_claim_can_be_given_back(store: Store) -> None:
    """Released by its holder, the next worker may try at once; so after a start that knows that others are dead."""
    tokens = await put(store, credential())
    assert await claim(store, tokens, "worker")
    async with store.transaction() as tx:
        await tx.credentials.release(tokens, "somebody else")
    assert not await claim(store, tokens, "next")
    async with store.transaction() as tx:
        await tx.credentials.release(tokens, "worker")
    assert await claim(store, tokens, "next")
    async with store.transaction() as tx:
        assert await tx.credentials.release_all() == 1
    assert await claim(store, await read(store), "third")


async def test_begun_refresh_stays_written_until_its_holder_or_a_new_pair_ends_it(store: Store) -> None:
    """Burial frees the claim and keeps the mark with its first moment; who read the row before that does not win."""
    tokens = await put(store, credential())
    assert await claim(store, tokens, "dead")
    held = await read(store)
    async with store.transaction() as tx:
        assert await tx.credentials.release_of(["dead"]) == 1
    begun = await read(store)
    assert not await claim(store, held, "one that waited for the burial", at(9))
    assert (begun.refreshing_until, begun.refreshing_since) == (None, NOW)
    assert not await claim(store, tokens, "slow reader", at(9))
    assert await claim(store, begun, "next", at(9))
    async with store.transaction() as tx:
        await tx.credentials.release(begun, "next")
    assert (await read(store)).refreshing_since == NOW
    assert await rotate(store, begun, b"a2")
    after = await read(store)
    assert (after.refreshing_since, after.rotates) == (None, True)


async def test_begun_refresh_is_left_to_a_person_once(store: Store) -> None:
    """Of twenty who find it one says so, nobody while it is under way; what its holder still brings ends the wait."""
    tokens = await put(store, credential())
    assert await claim(store, tokens, "frozen")
    begun = await read(store)

    async def give_up(now: datetime) -> bool:
        async with store.transaction() as tx:
            return await tx.credentials.give_up(begun, now, "reconnect")

    assert not await give_up(at(1))
    assert (await at_once(give_up(NOW + LEASE) for _ in range(20))).count(True) == 1
    assert (await read(store)).needs_person == "reconnect"
    assert await rotate(store, begun, b"a2")
    assert (await read(store)).needs_person is None


async def test_rotating_is_known_of_the_last_refresh_and_outlasts_a_reconnection(store: Store) -> None:
    """Per account, asked for a whole service; a person's new tokens say nothing about it."""
    tokens = await put(store, credential())
    async with store.transaction() as tx:
        assert not await tx.credentials.seen_to_rotate("hubspot")
    assert await rotate(store, tokens, b"a2")
    later = await put(store, credential())
    assert later.rotates is True
    async with store.transaction() as tx:
        assert await tx.credentials.seen_to_rotate("hubspot")
        assert not await tx.credentials.seen_to_rotate("stripe")
        assert await tx.credentials.rotate(later, b"a3", b"r1", None, NOW, rotates=False)
        assert not await tx.credentials.seen_to_rotate("hubspot")


# Versions


async def test_rotation_replaces_the_version_it_read_once(store: Store) -> None:
    """Of two rotations of the same version one is stored, whole, and it ends the claim."""
    tokens = await put(store, credential())
    assert await claim(store, tokens, "worker")
    won = await at_once(rotate(store, tokens, f"a{number}".encode()) for number in range(20))
    assert won.count(True) == 1
    assert await read(store) == replace(
        tokens,
        access_sealed=f"a{won.index(True)}".encode(),
        refresh_sealed=b"r2",
        version=2,
        expires_at=at(3600),
        refreshed_at=NOW,
        rotates=True,
    )


async def test_rotation_does_not_overwrite_what_a_person_handed_over(store: Store) -> None:
    """New tokens get a new version, so that a refresh of the old ones that is still under way comes too late."""
    old = await put(store, credential())
    assert await claim(store, old, "worker")
    await put(store, credential(access_sealed=b"from a person"))
    assert not await rotate(store, old, b"from the old grant")
    assert (await read(store)).access_sealed == b"from a person"


async def test_version_never_falls(store: Store) -> None:
    """Each change counts up, whatever version is handed in; a higher one is taken as it is."""
    assert (await put(store, credential())).version == 1
    assert (await put(store, credential())).version == 2
    assert (await put(store, credential(version=9))).version == 9
    assert (await put(store, credential(version=3))).version == 10


async def test_tokens_handed_over_at_once_are_stored_one_after_the_other(store: Store) -> None:
    """Twenty people who store tokens for the same account at the same moment all succeed; the last one counts."""
    await at_once(put(store, credential(access_sealed=f"a{number}".encode())) for number in range(20))
    assert (await read(store)).version == 20


# Named secrets


async def test_secrets_are_stored_by_name(store: Store) -> None:
    """Stored, replaced, listed by name, forgotten."""
    async with store.transaction() as tx:
        assert await tx.credentials.secret("slack") is None
        await tx.credentials.put_secret("slack", b"\x00one", NOW)
        await tx.credentials.put_secret("slack", b"\x00two", at(1))
        await tx.credentials.put_secret("hook", b"three", NOW)
        assert await tx.credentials.secret("slack") == b"\x00two"
        assert await tx.credentials.secret_names() == ["hook", "slack"]
        assert await tx.credentials.drop_secret("slack")
        assert not await tx.credentials.drop_secret("slack")
        assert await tx.credentials.secret("slack") is None


async def test_secrets_stored_at_once_are_one(store: Store, outside: Outside) -> None:
    """Twenty writers of the same name at the same moment all succeed."""

    async def write(number: int) -> None:
        async with store.transaction() as tx:
            await tx.credentials.put_secret("slack", f"{number}".encode(), NOW)

    await at_once(write(number) for number in range(20))
    assert outside("SELECT count(*) FROM secrets") == [(1,)]
