"""Secrets at rest: AES-256-GCM, bound to their row, under keys that live outside the database.

A sealed value is `2 | key id | wrapped data key | ciphertext`. Each value has a data key of its own, made for it and
used once; the deployment's key only wraps those (RFC 3394, which needs no nonce, so it wraps without a limit), and
changing it wraps them anew. The row's name is associated data, so that what is copied to another row does not open.
The first key seals, all keys open. Values of older versions, `1 | key id | nonce | ciphertext`, open as before.
"""

from __future__ import annotations

import base64
import os
import secrets
import sqlite3
import tempfile
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import closing, suppress
from hashlib import blake2b
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from prunella.core import redact
from prunella.core.errors import SecretError
from prunella.core.records import Credential
from prunella.core.redact import Secret
from prunella.core.services import SecretRef, SecretSource
from prunella.store.contract import Store
from prunella.store.sealed import TABLES, SealedRows

KEY_BYTES = 32
_DIRECT, _WRAPPED = b"\x01", b"\x02"
_NONCE_BYTES = 12
_ONCE = bytes(_NONCE_BYTES)
"""A key that encrypts one value needs no nonce to tell values apart."""
_ID_BYTES = 4
_HEAD_BYTES = 1 + _ID_BYTES
_WRAPPED_BYTES = KEY_BYTES + 8  # RFC 3394 section 2.2.1
TO_OPEN_AGAIN = (
    "put that key behind the first one of PRUNELLA_SECRET_KEY, or of the key file, after a comma; "
    "where it is lost for good, store tokens and secrets anew"
)
_IN_USE_MAX = 256  # each costs the redactor a look per text


class Keys:
    """The deployment's keys; everything else that needs a key gets one derived from them.

    Args:
        values: 32 bytes each; the first seals, all open.
    """

    def __init__(self, values: list[bytes]) -> None:
        self._ciphers = {_key_id(value): AESGCM(_derive(value, "seal")) for value in values}
        self._wraps = {_key_id(value): _derive(value, "wrap") for value in values}
        self._first = values[0]

    @property
    def id(self) -> str:
        """Name the key that seals, without telling it."""
        return _key_id(self._first).hex()

    def is_newest(self, sealed: bytes) -> bool:
        """Tell whether this value is sealed as it would be now: in this way, and with the key that seals now."""
        return sealed[:_HEAD_BYTES] == _WRAPPED + _key_id(self._first)

    def opens(self, head: bytes) -> bool:
        """Tell by the first bytes of a sealed value whether it was sealed with one of these keys."""
        return head[1:] in self._wraps

    @classmethod
    def parse(cls, text: str, source: str = "PRUNELLA_SECRET_KEY") -> Keys:
        """Read one or more base64 keys, separated by commas; `source` is where they stand, for the error."""
        return cls([_decode(part.strip(), source) for part in text.split(",") if part.strip()] or [_decode("", source)])

    @classmethod
    def beside(cls, database: Path) -> tuple[Keys, Path | None]:
        """Read the key file beside a SQLite file; create it (mode 0600) when missing and return its path then.

        Raises:
            SecretError: it is missing where something was sealed with it, and a new one would open none of that; or it
                can't be read or made.
        """
        path = database.with_name(database.name + ".key")
        if not path.exists() and holds_sealed(database):
            raise SecretError(
                f"{path} is missing, and {database} holds what was sealed with it; put it back. Where it is lost for "
                f"good, make another (openssl rand -base64 32 > {path}) and store tokens and secrets anew"
            )
        try:
            made = None if path.exists() or not _put_down(generate_key(), path) else path
            text = path.read_text()
        except OSError as error:
            raise SecretError(
                f"{path}: can't be read or made ({error.strerror}); make room and give it to whom prunella runs as, or "
                "set PRUNELLA_SECRET_KEY (openssl rand -base64 32)"
            ) from None
        return cls.parse(text, str(path)), made

    def derive(self, purpose: str) -> bytes:
        """Return 32 bytes that belong to `purpose` alone."""
        return _derive(self._first, purpose)

    def seal(self, value: bytes, row: str) -> bytes:
        """Encrypt `value` for `row` ("operations:<id>")."""
        data_key = secrets.token_bytes(KEY_BYTES)
        return self._wrapped(data_key) + AESGCM(data_key).encrypt(_ONCE, value, row.encode())

    def open(self, sealed: bytes, row: str) -> bytes:
        """Decrypt what was sealed for `row`; `SecretError` when the key is missing or the row is another."""
        try:
            if sealed[:1] == _DIRECT and sealed[1:_HEAD_BYTES] in self._ciphers:
                nonce, text = sealed[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES], sealed[_HEAD_BYTES + _NONCE_BYTES :]
                return self._ciphers[sealed[1:_HEAD_BYTES]].decrypt(nonce, text, row.encode())
            text = sealed[_HEAD_BYTES + _WRAPPED_BYTES :]
            return AESGCM(self._data_key(sealed, row)).decrypt(_ONCE, text, row.encode())
        except (InvalidTag, InvalidUnwrap, ValueError):  # ValueError: cut off within the nonce
            raise SecretError(f"{row}: the ciphertext was altered or belongs to another row") from None

    def rewrap(self, sealed: bytes, row: str) -> bytes:
        """Return the value as the newest key seals it: its data key is wrapped anew, its ciphertext stays.

        Raises:
            SecretError: as `open` does; what does not open is not passed on as good.
        """
        value = self.open(sealed, row)
        if sealed[:1] != _WRAPPED:
            return self.seal(value, row)
        return self._wrapped(self._data_key(sealed, row)) + sealed[_HEAD_BYTES + _WRAPPED_BYTES :]

    def _wrapped(self, data_key: bytes) -> bytes:
        key_id = _key_id(self._first)
        return _WRAPPED + key_id + aes_key_wrap(self._wraps[key_id], data_key)

    def _data_key(self, sealed: bytes, row: str) -> bytes:
        key_id = sealed[1:_HEAD_BYTES]
        if sealed[:1] != _WRAPPED or key_id not in self._wraps:
            raise SecretError(
                f"{row}: sealed with key {key_id.hex()}, which is not among PRUNELLA_SECRET_KEY; "
                "add the old key behind the new one, separated by a comma"
            )
        return aes_key_unwrap(self._wraps[key_id], sealed[_HEAD_BYTES : _HEAD_BYTES + _WRAPPED_BYTES])


class Vault:
    """Open what the configuration only refers to, and keep named secrets."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self.keys = keys
        self._in_use: deque[str] = deque()

    async def reveal(self, source: SecretSource) -> str:
        """Return the value behind a reference; `SecretError` names what is missing and how to set it."""
        if isinstance(source, Secret):
            return source.reveal()
        async with self._store.transaction() as tx:
            sealed = await tx.credentials.secret(source.name)
        if sealed is None:
            raise SecretError(f"the secret {source.name} is not set; set it with: prunella secret set {source.name}")
        return self._known(self.keys.open(sealed, _row(source)).decode())

    def open_access(self, credential: Credential) -> str:
        """Return an account's access token."""
        return self._known(self.keys.open(credential.access_sealed, _token_row(credential, "access")).decode())

    def open_refresh(self, credential: Credential) -> str:
        """Return an account's refresh token."""
        assert credential.refresh_sealed is not None
        return self._known(self.keys.open(credential.refresh_sealed, _token_row(credential, "refresh")).decode())

    def seal_access(self, credential: Credential, token: str) -> bytes:
        """Seal an access token for its row."""
        return self.keys.seal(self._known(token).encode(), _token_row(credential, "access"))

    def seal_refresh(self, credential: Credential, token: str) -> bytes:
        """Seal a refresh token for its row."""
        return self.keys.seal(self._known(token).encode(), _token_row(credential, "refresh"))

    def _known(self, token: str) -> str:
        """Let the redactor remove a token that is in use, whatever text it turns up in."""
        if token not in self._in_use:
            redact.known.register(token)
            self._in_use.append(token)
        if len(self._in_use) > _IN_USE_MAX:
            redact.known.forget(self._in_use.popleft())
        return token

    def sealed(self, ref: SecretRef, value: str) -> bytes:
        """Seal a named secret for its row."""
        return self.keys.seal(self._known(value).encode(), _row(ref))

    async def recognise(self) -> None:
        """Let the redactor know every named secret; one that no key opens fails whoever needs it, not the start."""
        async with self._store.transaction() as tx:
            names = await tx.credentials.secret_names()
        for name in names[:_IN_USE_MAX]:
            with suppress(SecretError):
                await self.reveal(SecretRef(name))


async def unopened(rows: SealedRows, keys: Keys, tables: Sequence[str] = TABLES) -> str | None:
    """Say what none of these keys opens, without opening anything; None where there is no such value.

    Args:
        tables: where to look; each is read as a whole.
    """
    places, strange = Counter[str](), set[str]()
    for table in tables:
        for head, many in (await rows.heads(table, _HEAD_BYTES)).items():
            if not keys.opens(head):
                places[table] += many
                strange.add(head[1:].hex())
    if not places:
        return None
    told = ", ".join(f"{many} in {table}" for table, many in places.items())
    return f"values sealed with key {' and '.join(sorted(strange))}, which is not at hand: {told}"


def holds_sealed(database: Path) -> bool:
    """Tell whether a SQLite file holds anything that a key sealed; False where there is none, or no table of ours."""
    if not database.exists():
        return False
    anything = " UNION ALL ".join(f"SELECT 1 FROM {table}" for table in ("credentials", "secrets", "operations"))  # noqa: S608
    with closing(sqlite3.connect(database)) as opened:
        try:
            return bool(opened.execute(f"SELECT EXISTS ({anything})").fetchone()[0])
        except sqlite3.DatabaseError:  # no file of ours: whoever opens it says so
            return False


def _put_down(key: str, path: Path) -> bool:
    """Write a key file that is whole or not there, whenever the process or the disk gives up; False: one came first."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(key + "\n")
            file.flush()
            os.fsync(descriptor)  # the database is synced, too: what this key seals must not outlive it
        try:
            os.link(name, path)  # unlike a renaming it takes nobody's place
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            os.rename(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return True


def generate_key() -> str:
    """Return a fresh key as PRUNELLA_SECRET_KEY wants it."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _token_row(credential: Credential, which: str) -> str:
    return f"credentials:{credential.service}:{credential.account}:{which}"


def _row(ref: SecretRef) -> str:
    return f"secrets:{ref.name}"


def _decode(text: str, source: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        value = b""
    if len(value) != KEY_BYTES:
        raise SecretError(
            f"{source}: each key must be {KEY_BYTES} bytes in base64, got {len(value)} bytes; "
            "make one with: openssl rand -base64 32"
        )
    return value


def _derive(key: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=f"prunella {purpose}".encode()).derive(key)


def _key_id(key: bytes) -> bytes:
    return blake2b(key, digest_size=_ID_BYTES, person=b"prunella-key").digest()
