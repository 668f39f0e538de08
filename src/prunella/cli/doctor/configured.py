"""What the settings themselves tell: an open door, a weak key, a file that others can read."""

from __future__ import annotations

import base64
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from prunella.app import sqlite_path
from prunella.cli.doctor.flaw import Flaw, error, warning
from prunella.core.redact import Secret
from prunella.core.services import SecretSource
from prunella.settings import Settings

_TOKEN_CHARS_MIN = 20
_DIFFERENT_BYTES_MIN = 12
"""Of 32 random bytes fewer than 20 different ones turn up once in a million; a typed key has fewer than 12."""
_NEW_TOKEN = "openssl rand -hex 24"  # noqa: S105, a command
_NEW_KEY = "openssl rand -base64 32"


def examine(settings: Settings) -> list[Flaw]:
    """Return what is wrong without looking at anything but settings and files."""
    return [*_doors(settings), *_keys(settings), *_tokens(settings), *_reused(settings), *_egress(settings)]


def _doors(settings: Settings) -> Iterator[Flaw]:
    """Look who can reach us, and how."""
    host, port = settings.listen
    if _is_loopback(host):
        return
    shown = f"service.listen: {host}:{port} can be reached from other machines"
    public = urlsplit(settings.public_url)
    if public.scheme != "https":
        text = f"{shown}, and service.public_url is not https: tokens and sessions travel in the clear"
        fix = "put a proxy with TLS in front, and write public_url: https://… below service:"
        yield (warning if _is_loopback(public.hostname or "") else error)("exposed", text, fix)
    if settings.development:
        text = f"{shown}, and in development whoever may report events can force failures"
        yield error("exposed", text, "write environment: production below service:")
    if settings.metrics_public:
        text = f"{shown}, and service.metrics_public shows names of services to anybody"
        yield warning("exposed", text, "remove metrics_public, and let Prometheus show a token")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def keys_text(settings: Settings) -> tuple[str, str] | None:
    """Return where the deployment's keys stand, and what stands there; None where nothing does yet."""
    if settings.secret_key is not None:
        return "PRUNELLA_SECRET_KEY", settings.secret_key.reveal()
    path = sqlite_path(settings.database_url)
    file = None if path is None else path.with_name(path.name + ".key")
    return None if file is None or not file.exists() else (str(file), file.read_text().strip())


def _keys(settings: Settings) -> Iterator[Flaw]:
    """Look at the deployment's keys, and at the file where they stand."""
    found = keys_text(settings)
    if found is None:
        if sqlite_path(settings.database_url) is None:  # on SQLite it is made at the first start, and well
            why = "is not set, and PostgreSQL needs it (32 bytes, base64)"
            yield error("key", f"PRUNELLA_SECRET_KEY {why}", f"export PRUNELLA_SECRET_KEY=$({_NEW_KEY})")
        return
    shown, text = found
    if settings.secret_key is None:
        yield from _modes(Path(shown))
    for part in (part.strip() for part in text.split(",") if part.strip()):
        yield from _strength(shown, part)


def _strength(shown: str, key: str) -> Iterator[Flaw]:
    try:
        value = base64.b64decode(key, validate=True)
    except ValueError:
        value = b""
    if len(value) != 32:
        yield error("key", f"{shown}: a key is {len(value)} bytes long, not 32 in base64", f"make one with: {_NEW_KEY}")
    elif len(set(value)) < _DIFFERENT_BYTES_MIN:
        text = f"{shown}: a key has only {len(set(value))} different bytes; it was typed, not drawn"
        fix = f"{_NEW_KEY}\nput the new one first, a comma, then the old one: what is sealed stays readable"
        yield error("key", text, fix)


def _modes(file: Path) -> Iterator[Flaw]:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        text = f"{file} can be read by others (mode {mode:04o}); it opens every stored token"
        yield error("key file", text, f"chmod 600 {file}")


def _tokens(settings: Settings) -> Iterator[Flaw]:
    for number, token in enumerate(settings.ingest_tokens, 1):
        if len(token.reveal()) < _TOKEN_CHARS_MIN:
            text = (
                f"ingest token {number} of {len(settings.ingest_tokens)} has fewer than {_TOKEN_CHARS_MIN} characters"
            )
            yield error("ingest token", text, f"set PRUNELLA_INGEST_TOKEN to what this prints: {_NEW_TOKEN}")


def _reused(settings: Settings) -> Iterator[Flaw]:
    """Name secrets that serve two purposes: who learns one has the other."""
    held: list[tuple[str, SecretSource | None]] = [("PRUNELLA_SECRET_KEY", settings.secret_key)]
    held += [(f"ingest token {number}", token) for number, token in enumerate(settings.ingest_tokens, 1)]
    held += [(f"the signing secret of channel {name}", one.secret) for name, one in settings.channels.items()]
    held += [("the issuer's secret (auth)", settings.issuing.secret if settings.issuing is not None else None)]
    held += [(f"the bearer of {name}", service.bearer) for name, service in settings.services.items()]
    seen: dict[str, str] = {}
    for name, secret in held:
        if not isinstance(secret, Secret):
            continue
        value = secret.reveal()
        if value in seen:
            text = f"{name} is the same as {seen[value]}"
            yield error("reused secret", text, f"give each its own: {_NEW_TOKEN}")
        seen.setdefault(value, name)


def _egress(settings: Settings) -> Iterator[Flaw]:
    if settings.egress.allow_http and not settings.development:
        text = "egress.allow_http is true in production: tokens may leave without TLS"
        yield warning("egress", text, "remove allow_http, or write environment: development")
