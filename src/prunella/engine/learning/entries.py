"""Known issues as the entries of a pack, and back: one set of rules for what is written or imported. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from prunella.core import redact
from prunella.core.errors import InvalidInput
from prunella.core.issues import KnownIssue
from prunella.diagnosis.packs import Known, builtin, plain_of
from prunella.diagnosis.packs.entries import LIST_MAX, TEXT_CHARS_MAX, TITLE_CHARS_MAX
from prunella.diagnosis.patterns import Pattern
from prunella.engine.learning.known import pattern_of

_ADDRESS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_UNESCAPED: Final = re.compile(r"\\([^\w\s])")
_TAKEN: Final = frozenset({"candidates", "export", "import", "make", "try"})
"""Names that addresses of pages and routes hold already."""
_OWN: Final = ("remedy", "resolved")
"""What an entry says of a pack; an issue has bindings and a state of its own."""


def known_of(issue: KnownIssue) -> Known:
    """Return an issue as an entry that can be read again: what was learned from outside is cut to what a pack holds."""
    pattern = pattern_of(issue)
    source = pattern.source if (pattern.source or "").startswith("https://") else None
    return Known(
        replace(
            pattern,
            title=_line(pattern.title, TITLE_CHARS_MAX),
            cause=_line(pattern.cause, TEXT_CHARS_MAX),
            advice=_line(pattern.advice, TEXT_CHARS_MAX),
            source=source,
            tags=tuple(line for tag in pattern.tags if (line := _line(tag, TITLE_CHARS_MAX)))[:LIST_MAX],
        )
    )


def plain(issue: KnownIssue) -> dict[str, Any]:
    """Return what a person may change about an issue, by the names of a pack."""
    return {name: value for name, value in plain_of(known_of(issue)).items() if name not in _OWN}


def fields_of(pattern: Pattern) -> dict[str, Any]:
    """Return the fields of an issue that a pattern gives; words for people hold no secret that somebody pasted."""
    return {
        "title": redact.scrub(pattern.title or pattern.id),
        "expression": pattern.expression,
        "ignore_case": pattern.ignore_case,
        "severity": pattern.severity,
        "service": pattern.service,
        "kind": pattern.kind,
        "code": pattern.code,
        "means": pattern.means,
        "cause": redact.scrub(pattern.cause),
        "advice": redact.scrub(pattern.advice),
        "source": redact.scrub(pattern.source or ""),
        "tags": tuple(map(redact.scrub, pattern.tags)),
    }


def same(one: Pattern, other: Pattern) -> bool:
    """Tell whether two entries say the same, their remedies and states left aside."""
    return fields_of(one) == fields_of(other)


def title_of(message: str) -> str:
    """Return what a message is called in a list."""
    return _line(message, TITLE_CHARS_MAX)


def name_for(entry: Mapping[str, Any]) -> str:
    """Return a name that a person can type, for an entry without one."""
    service = re.sub("[^a-z0-9]+", "-", str(entry.get("service") or "").lower()).strip("-")
    digest = hashlib.blake2b(f"{service} {entry.get('pattern')}".encode("utf-8", "replace"), digest_size=4).hexdigest()
    return f"{service or 'issue'}-{digest}"


def must_be_kept(pattern: Pattern) -> None:
    """Refuse what no address and no database can hold."""
    if _ADDRESS.fullmatch(pattern.id) is None or pattern.id in _TAKEN:
        raise InvalidInput(
            f"known issue {pattern.id[:60]!r}: its id stands in addresses; write letters, digits, '.', '_', ':' and "
            f"'-', and none of {', '.join(sorted(_TAKEN))}",
            pointer="/id",
        )
    if "\0" in pattern.expression or any("\ud800" <= letter <= "\udfff" for letter in pattern.expression):
        raise InvalidInput(
            f"known issue {pattern.id}: no text holds a null character or half of another; write \\x00 in its place",
            pointer="/pattern",
        )
    must_be_open(pattern)


def must_be_open(pattern: Pattern) -> None:
    """Refuse an expression that holds a secret: it is shown, and handed out in packs.

    One that comes with prunella is public: where a password is a word of it, showing it tells nothing.
    """
    if redact.holds_secret(_UNESCAPED.sub(r"\1", pattern.expression)) and not _is_public(pattern.expression):
        raise InvalidInput(
            f"known issue {pattern.id}: a secret stands in its pattern, which is shown and exported; "
            "write the shape of it in its place, as [0-9a-z]{10,40}",
            pointer="/pattern",
        )


def _is_public(expression: str) -> bool:
    return any(one.pattern.expression == expression for one in builtin())


def _line(text: str, chars_max: int) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split())[:chars_max].strip()
