"""The secrets that the system itself holds, found in every spelling in which a text may carry them, in one pass.

Each spelling has at least six characters, so one of its pieces of four stands at a place divisible by three: a text is
sampled there, and only spellings whose piece was seen are looked for. It must never print a value.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import secrets
from base64 import b64encode
from collections.abc import Iterator
from typing import Final, NoReturn
from urllib.parse import quote, quote_plus, unquote

from prunella.core.redact.marks import Span

_PIECE, _STEP = 4, 3
_ADDRESS: Final = re.compile(r"(?!sqlite|postgres)[a-z][a-z0-9+.-]*://(.+)", re.IGNORECASE | re.DOTALL)
"""Not of a database: names of databases, users and files are no secrets, and its password is registered by itself."""
_TOKEN: Final = re.compile(r"[\w~%+-]{12,}", re.ASCII)


class Secret:
    """Hold a secret that never prints itself."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; call it only where it is sent or sealed."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(****)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("Secret: a secret is not pickled; seal what reveal() returns where it has to travel")


class Redactor:
    """Know the secrets that the system itself holds, and what stands in place of a secret."""

    CHARS_MIN: Final = 6
    """Shorter values are not taken: removing them would tear ordinary words apart."""

    def __init__(self) -> None:
        # Replaced as a whole, never changed in place: other threads read them meanwhile.
        self._spellings: dict[str, tuple[str, ...]] = {}
        self._by_piece: dict[str, tuple[str, ...]] = {}
        self._hash_key = secrets.token_bytes(32)

    def set_hash_key(self, key: bytes) -> None:
        """Take an installation's own key (1 to 64 bytes), so that equal secrets look equal after a restart, too."""
        if not 1 <= len(key) <= 64:
            raise ValueError(f"redaction hash key: must hold 1 to 64 bytes, got {len(key)}; 32 random bytes are right")
        self._hash_key = key

    def mark(self, kind: str, value: str) -> str:
        """Return what stands in place of `value`: `[REDACTED:kind:hash4]`."""
        digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=2, key=self._hash_key)
        return f"[REDACTED:{kind}:{digest.hexdigest()}]"

    def register(self, value: str | Secret) -> None:
        """Remove `value` (at least 6 characters) from every text from now on."""
        plain = value.reveal() if isinstance(value, Secret) else value
        if len(plain) >= self.CHARS_MIN and plain not in self._spellings:
            spellings = tuple(dict.fromkeys(_spellings(plain)))
            self._by_piece = _indexed(self._by_piece, spellings)
            self._spellings = {**self._spellings, plain: spellings}

    def forget(self, value: str | Secret) -> None:
        """Stop removing `value`, for instance a token that was rotated long ago."""
        plain = value.reveal() if isinstance(value, Secret) else value
        left = {held: spellings for held, spellings in self._spellings.items() if held != plain}
        if len(left) != len(self._spellings):
            self._spellings = left
            self._by_piece = _indexed({}, [one for spellings in left.values() for one in spellings])

    @property
    def known_values(self) -> frozenset[Secret]:
        """Return what is registered."""
        return frozenset(map(Secret, self._spellings))

    def spans(self, text: str) -> Iterator[Span]:
        """Find every registered value in `text`."""
        by_piece = self._by_piece
        if not by_piece:
            return
        seen = {text[at : at + _PIECE] for at in range(0, len(text) - _PIECE + 1, _STEP)}
        for spelling in {spelling for piece in by_piece.keys() & seen for spelling in by_piece[piece]}:
            start = text.find(spelling)
            while start >= 0:
                yield start, start + len(spelling), "known"
                start = text.find(spelling, start + len(spelling))


known = Redactor()
"""The registry of this process; `scrub` asks it first."""
register, forget, set_hash_key = known.register, known.forget, known.set_hash_key


def _indexed(
    by_piece: dict[str, tuple[str, ...]], spellings: tuple[str, ...] | list[str]
) -> dict[str, tuple[str, ...]]:
    """Return the index with more spellings: whatever place they begin at, one of their pieces is sampled."""
    index = dict(by_piece)
    for spelling in spellings:
        for at in range(_STEP):
            piece = spelling[at : at + _PIECE]
            index[piece] = (*index.get(piece, ()), spelling)
    return index


def _spellings(value: str) -> Iterator[str]:
    for secret in (value, *_tokens_of(value)):
        yield from _spelled(secret)


def _tokens_of(address: str) -> Iterator[str]:
    """Find what makes an address a secret: whoever refuses it repeats its path more often than all of it."""
    match = _ADDRESS.match(address)
    for token in _TOKEN.findall(match[1]) if match else ():
        if re.search("[A-Z0-9]", token):  # without either it is a word, as in /webhooks/sync-suppliers
            yield from dict.fromkeys((token, unquote(token)))


def _spelled(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "surrogatepass")
    yield from (value, raw.hex(), raw.hex().upper(), repr(value)[1:-1], repr(raw)[2:-1])
    yield from _percent(raw)
    yield from _json(value)
    escaped = html.escape(value)
    yield from (escaped, html.escape(value, quote=False), escaped.replace("&#x27;", "&#39;").replace("&quot;", "&#34;"))
    yield escaped.replace("&#x27;", "&apos;")
    for offset in range(3):
        # Only the characters made of this value alone: those at the edges also hold bits of its neighbours.
        core = b64encode(b"\0" * offset + raw).decode()[(0, 2, 3)[offset] : (offset + len(raw)) * 8 // 6]
        yield from (core, core.replace("+", "-").replace("/", "_"), quote(core, safe=""), core.replace("/", "\\/"))


def _percent(raw: bytes) -> Iterator[str]:
    for encoded in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        for spelling in (encoded, re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)):
            yield from (spelling, spelling.replace("%", "%25"))


def _json(value: str) -> Iterator[str]:
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        # JavaScript, PHP and Java, Go: each escapes a little more than it must.
        for spelling in (escaped, escaped.replace("/", "\\/"), _escaped(escaped, "<>&"), _escaped(escaped, "<>&'=/")):
            yield from (spelling, re.sub(r"\\u[0-9a-f]{4}", _upper, spelling), json.dumps(spelling)[1:-1])


def _escaped(text: str, letters: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" if letter in letters else letter for letter in text)


def _upper(match: re.Match[str]) -> str:
    return "\\u" + match[0][2:].upper()
