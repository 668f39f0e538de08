"""Find secrets where they do not belong, in every spelling they travel in.

For a FaultyServer's ledger, and as well for log files and database dumps. Must never print a secret it found.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

SECRET_CHARS_MIN = 6  # shorter ones turn up in base64 by chance


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret (by its first characters) that was found: in which spelling, and where."""

    secret: str
    spelling: str
    where: str


def find_secrets(text: str | bytes, secrets: Iterable[str], *, where: str = "text") -> list[Leak]:
    """List every secret that stands in `text`: plain, percent-encoded, as base64 (also inside a longer blob) or hex."""
    raw = text.encode() if isinstance(text, str) else text
    unquoted = unquote_to_bytes(raw)
    decoded = (unquoted, unquoted.replace(b"+", b" "), unquote_to_bytes(unquoted))
    return [
        Leak(f"{secret[:3]}...", spelling, where)
        for secret in secrets
        for spelling in _spellings_in(raw, decoded, _checked(secret).encode())
    ]


def _checked(secret: str) -> str:
    if len(secret) < SECRET_CHARS_MIN:
        raise ValueError(
            f"a secret of {len(secret)} characters cannot be searched for; use at least {SECRET_CHARS_MIN}"
        )
    return secret


def _spellings_in(raw: bytes, decoded: tuple[bytes, ...], secret: bytes) -> Iterator[str]:
    texts = (raw, *decoded, raw.replace(b"\\/", b"/"))
    if secret in raw or json.dumps(secret.decode())[1:-1].encode() in raw:
        yield "plain"
    elif any(secret in text for text in decoded):
        yield "percent"
    if any(core in text for core in _base64_cores(secret) for text in texts):
        yield "base64"
    if secret.hex().encode() in raw.lower():
        yield "hex"


def _base64_cores(secret: bytes) -> Iterator[bytes]:
    # Base64 packs three bytes into four characters, so the same bytes have three spellings, by where they begin.
    # The characters at both ends also hold bits of the neighbours, whoever these are: only the core is certain.
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret)
        core = encoded[-(-offset * 8 // 6) : (offset + len(secret)) * 8 // 6]
        yield core
        yield core.translate(bytes.maketrans(b"+/", b"-_"))
