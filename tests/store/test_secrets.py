"""Secrets at rest open only in their row, only with their key, and never tell their value in an error."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import resource
import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from hypothesis import given
from hypothesis import strategies as st

from prunella.core import redact
from prunella.core.errors import SecretError
from prunella.core.redact import Secret
from prunella.core.services import SecretRef
from prunella.store.contract import Store
from prunella.store.secrets import Keys, Vault, generate_key
from store.making import NOW, credential

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
KEYS = Keys.parse(OLD)


# Sealing


@given(st.binary(max_size=500), st.text(st.characters(codec="utf-8"), max_size=50))
def test_seal_opens_again_in_its_row(value: bytes, row: str) -> None:
    """What was sealed for a row opens there, whatever it holds."""
    assert KEYS.open(KEYS.seal(value, row), row) == value


@given(st.binary(max_size=50), st.data())
def test_seal_refuses_every_alteration(value: bytes, data: st.DataObject) -> None:
    """One bit turned, anything cut off, anything added: SecretError, and nothing else."""
    sealed = KEYS.seal(value, "secrets:slack")
    place = data.draw(st.integers(0, len(sealed) - 1))
    turned = sealed[:place] + bytes([sealed[place] ^ 1 << data.draw(st.integers(0, 7))]) + sealed[place + 1 :]
    for altered in (turned, sealed[:place], sealed[place + 1 :], sealed + b"\0"):
        with pytest.raises(SecretError, match="secrets:slack"):
            KEYS.open(altered, "secrets:slack")


def test_seal_is_bound_to_its_row() -> None:
    """Ciphertext that was copied to another row does not open, and the message does not hold the value."""
    sealed = KEYS.seal(b"xoxb-1234", "secrets:slack")
    with pytest.raises(
        SecretError, match="secrets:teams: the ciphertext was altered or belongs to another row"
    ) as told:
        KEYS.open(sealed, "secrets:teams")
    assert "xoxb" not in str(told.value)


def test_seal_never_looks_the_same_twice() -> None:
    """Equal secrets have unequal ciphertexts, and none holds the plain text."""
    sealed = {KEYS.seal(b"xoxb-1234", "secrets:slack") for _ in range(100)}
    assert len(sealed) == 100
    assert not any(b"xoxb" in one for one in sealed)


def direct(key: str, value: bytes, row: str) -> bytes:
    """Seal as versions before data keys did."""
    whole = base64.b64decode(key)
    derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"prunella seal").derive(whole)
    key_id = hashlib.blake2b(whole, digest_size=4, person=b"prunella-key").digest()
    return b"\x01" + key_id + b"n" * 12 + AESGCM(derived).encrypt(b"n" * 12, value, row.encode())


def test_value_of_an_older_version_opens_in_its_row_alone() -> None:
    """What lies in the database from before opens; moved or altered it does not, and is taken for old."""
    sealed = direct(OLD, b"xoxb-1234", "secrets:slack")
    assert KEYS.open(sealed, "secrets:slack") == b"xoxb-1234"
    assert not KEYS.is_newest(sealed)
    for altered, row in (
        (sealed, "secrets:teams"),
        (sealed[:-1], "secrets:slack"),
        (b"\x02" + sealed[1:], "secrets:slack"),
    ):
        with pytest.raises(SecretError, match="was altered or belongs to another row"):
            KEYS.open(altered, row)
    anew = KEYS.rewrap(sealed, "secrets:slack")
    assert KEYS.is_newest(anew)
    assert KEYS.open(anew, "secrets:slack") == b"xoxb-1234"


def test_key_is_changed_without_a_new_ciphertext() -> None:
    """The data key is wrapped anew and nothing else changes; without the old key it opens, and from then on only so."""
    sealed, both = KEYS.seal(b"value", "row"), Keys.parse(f"{NEW},{OLD}")
    anew = both.rewrap(sealed, "row")
    assert (anew[45:], anew[:45] != sealed[:45]) == (sealed[45:], True)
    assert Keys.parse(NEW).open(anew, "row") == b"value"
    with pytest.raises(SecretError, match="belongs to another row"):
        both.rewrap(sealed, "other")
    with pytest.raises(SecretError, match="not among PRUNELLA_SECRET_KEY"):
        KEYS.open(anew, "row")


def test_every_value_has_a_data_key_of_its_own() -> None:
    """A hundred equal values: a hundred keys, so that no nonce can meet another under one of them."""
    keys = {aes_key_unwrap(KEYS._wraps[one[1:5]], one[5:45]) for one in (KEYS.seal(b"v", "row") for _ in range(100))}
    assert len(keys) == 100


def test_ciphertext_under_anothers_data_key_does_not_open() -> None:
    """Heads of two values of one row exchanged: neither opens."""
    one, other = KEYS.seal(b"one", "row"), KEYS.seal(b"two", "row")
    with pytest.raises(SecretError, match="was altered"):
        KEYS.open(one[:45] + other[45:], "row")


# Keys


def test_keys_rotate() -> None:
    """With the new key in front old ciphertexts still open; sealed anew, they need the old key no more."""
    sealed = KEYS.seal(b"value", "row")
    both = Keys.parse(f" {NEW} , {OLD} ")
    assert both.open(sealed, "row") == b"value"
    again = both.seal(b"value", "row")
    assert Keys.parse(NEW).open(again, "row") == b"value"
    with pytest.raises(SecretError, match="not among PRUNELLA_SECRET_KEY; add the old key behind the new one"):
        Keys.parse(NEW).open(sealed, "row")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ",
        "short",
        base64.b64encode(b"x" * 31).decode(),
        base64.b64encode(b"x" * 33).decode(),
        "ü" * 44,
        OLD[:-1],
    ],
)
def test_keys_of_the_wrong_size_are_refused(text: str) -> None:
    """A key that is no 32 bytes in base64 is refused, with the command that makes a good one, without its text."""
    with pytest.raises(SecretError, match=r"must be 32 bytes in base64, got .*openssl rand -base64 32") as told:
        Keys.parse(text)
    assert text.strip(" ,") == "" or text not in str(told.value)


def test_keys_are_made_fresh() -> None:
    """A generated key is one that `parse` takes, and another each time."""
    assert len({generate_key() for _ in range(10)}) == 10
    Keys.parse(generate_key())


def test_keys_for_other_purposes_are_told_apart() -> None:
    """What is derived for one purpose says nothing about another, stays the same, and is not the key itself."""
    derived = [KEYS.derive("redaction"), KEYS.derive("session"), Keys.parse(NEW).derive("redaction")]
    assert len({*derived, b"\1" * 32}) == 4
    assert {len(one) for one in derived} == {32}
    assert Keys.parse(f"{OLD},{NEW}").derive("redaction") == derived[0]


def test_key_file_is_made_once_beside_the_database(tmp_path: Path) -> None:
    """The first start makes a key file that only its owner reads, and tells its path; later starts read it."""
    database = tmp_path / "prunella.db"
    made, path = Keys.beside(database)
    assert path == tmp_path / "prunella.db.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read, second = Keys.beside(database)
    assert second is None
    assert read.open(made.seal(b"value", "row"), "row") == b"value"


def test_key_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """A disk without room at the first start leaves nothing behind, and the next start makes the key."""
    database = tmp_path / "prunella.db"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(
            SecretError, match=r"prunella\.db\.key: can't be read or made \(File too large\); make room"
        ):
            Keys.beside(database)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    assert Keys.beside(database)[1] == tmp_path / "prunella.db.key"
    assert [one.name for one in tmp_path.iterdir()] == ["prunella.db.key"]


def test_key_file_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On FAT and some shared folders there are none."""
    refused = PermissionError(errno.EPERM, "Operation not permitted")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(refused))
    assert Keys.beside(tmp_path / "prunella.db")[1] == tmp_path / "prunella.db.key"
    assert [one.name for one in tmp_path.iterdir()] == ["prunella.db.key"]


def test_two_first_starts_make_one_key(tmp_path: Path) -> None:
    """Whoever comes second takes the key that stands there, whole; it never replaces it."""
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(Keys.beside, [tmp_path / "prunella.db"] * 8))
    assert len({keys.id for keys, _ in found}) == 1
    assert len([path for _, path in found if path is not None]) == 1


def test_key_file_that_can_t_be_read_is_named(tmp_path: Path) -> None:
    """A folder in its place, for one: the message names the file, and what the system said."""
    (tmp_path / "prunella.db.key").mkdir()
    with pytest.raises(SecretError, match=r"prunella\.db\.key: can't be read or made \(Is a directory\)"):
        Keys.beside(tmp_path / "prunella.db")


def test_key_file_that_holds_no_key_is_named(tmp_path: Path) -> None:
    """Cut off or emptied, it is the file that is wrong, not a variable that nobody set."""
    (tmp_path / "prunella.db.key").write_text("")
    with pytest.raises(SecretError, match=r"prunella\.db\.key: each key must be 32 bytes in base64, got 0 bytes"):
        Keys.beside(tmp_path / "prunella.db")


def test_key_file_that_is_lost_is_not_made_anew(sqlite_path: Path) -> None:
    """Where something is sealed the start is refused and the way out named; an empty database gets its first key."""
    _, made = Keys.beside(sqlite_path)
    assert made is not None
    made.unlink()
    with closing(sqlite3.connect(sqlite_path)) as database, database:
        database.execute("INSERT INTO secrets VALUES ('slack', x'01', '2026-01-01 00:00:00.000000+00:00')")
    with pytest.raises(SecretError, match=r"is missing, and .* holds what was sealed with it; put it back"):
        Keys.beside(sqlite_path)
    assert not made.exists()
    made.write_text(generate_key())
    assert Keys.beside(sqlite_path)[1] is None


# The vault


@pytest.fixture
def vault(store: Store) -> Iterator[Vault]:
    """A vault on both databases; what it lets the redactor know is forgotten afterwards."""
    before = redact.known.known_values
    yield Vault(store, KEYS)
    for value in redact.known.known_values - before:
        redact.forget(value)


@pytest.mark.anyio
async def test_vault_reveals_what_is_referred_to(vault: Vault, store: Store) -> None:
    """A value in the configuration is itself; a reference is looked up and opened; a missing one says what to do."""
    assert await vault.reveal(Secret("plain")) == "plain"
    slack = SecretRef("slack")
    with pytest.raises(SecretError, match="the secret slack is not set; set it with: prunella secret set slack"):
        await vault.reveal(slack)
    async with store.transaction() as tx:
        await tx.credentials.put_secret("slack", vault.sealed(slack, "xoxb-größe"), NOW)
        await tx.credentials.put_secret("stolen", vault.sealed(slack, "xoxb-größe"), NOW)
    assert await vault.reveal(slack) == "xoxb-größe"
    with pytest.raises(SecretError, match="belongs to another row"):
        await vault.reveal(SecretRef("stolen"))


@pytest.mark.anyio
async def test_vault_opens_tokens_of_their_account_only(vault: Vault, store: Store) -> None:
    """Both tokens survive the database; swapped, or copied to another account, they do not open."""
    blank = credential("ada")
    tokens = credential(
        "ada",
        access_sealed=vault.seal_access(blank, "access-1234"),
        refresh_sealed=vault.seal_refresh(blank, "refresh-1234"),
    )
    async with store.transaction() as tx:
        await tx.credentials.put(tokens)
        found = await tx.credentials.read("hubspot", "ada")
    assert found is not None
    assert (vault.open_access(found), vault.open_refresh(found)) == ("access-1234", "refresh-1234")
    swapped = credential("ada", access_sealed=tokens.refresh_sealed, refresh_sealed=tokens.access_sealed)
    with pytest.raises(SecretError, match="credentials:hubspot:ada:access"):
        vault.open_access(swapped)
    with pytest.raises(SecretError, match="credentials:hubspot:ben:refresh"):
        vault.open_refresh(credential("ben", refresh_sealed=tokens.refresh_sealed))


@pytest.mark.anyio
async def test_vault_lets_the_redactor_know_tokens_in_use(vault: Vault) -> None:
    """A token that was sealed or opened is removed from every text; of very many the newest are remembered."""
    blank = credential()
    sealed = vault.seal_access(blank, "first-token-0")
    assert "first-token-0" not in redact.scrub("it was first-token-0 again")
    for number in range(300):
        vault.seal_access(blank, f"later-token-{number:03}")
    assert redact.scrub("later-token-299") != "later-token-299"
    assert redact.scrub("first-token-0") == "first-token-0"
    vault.open_access(credential(access_sealed=sealed))
    assert redact.scrub("first-token-0") != "first-token-0"


@pytest.mark.anyio
async def test_vault_lets_the_redactor_know_named_secrets(vault: Vault, store: Store) -> None:
    """Stored, revealed, or found at the start: a named secret is removed from every text; one that opens not stops nobody."""
    sealed = vault.sealed(SecretRef("slack"), "xoxb-stored-1")
    assert "xoxb-stored-1" not in redact.scrub("it said xoxb-stored-1")
    for known in ("reveal", "recognise"):
        redact.forget("xoxb-stored-1")
        fresh = Vault(store, KEYS)
        async with store.transaction() as tx:
            await tx.credentials.put_secret("slack", sealed, NOW)
            await tx.credentials.put_secret("lost", b"no key opens this", NOW)
        await (fresh.reveal(SecretRef("slack")) if known == "reveal" else fresh.recognise())
        assert "xoxb-stored-1" not in redact.scrub("it said xoxb-stored-1")
