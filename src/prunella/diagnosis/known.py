"""Recognise problems that have been seen before, among thousands, in microseconds.

A literal index picks the few patterns that can fit a message; only those are searched. What is found is what a loop
over all of them would find. No pattern gets in that some text could make slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from prunella.core.errors import InvalidInput
from prunella.core.records import Failure
from prunella.core.redact import CHARS_MAX
from prunella.diagnosis import safety
from prunella.diagnosis.knowledge import knowledge
from prunella.diagnosis.literals import Way, fold, required
from prunella.diagnosis.patterns import LOUDEST_FIRST, Match, Pattern, Span
from prunella.diagnosis.shortlist import Shortlist
from prunella.diagnosis.verifier import Unsafe, Verifier

ALWAYS_MAX: Final = 50
"""Patterns without a literal that are kept: each is searched in every message."""
_NO_LITERAL: Final = "has no row of 3 or more characters that every match contains, so it is searched in every message"


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    pattern: Pattern
    ways: tuple[Way, ...]
    rank: tuple[int, int, int, str]
    verifier: Verifier


class Matcher:
    """Patterns of known problems, ready to be matched. Not for several threads while it is changed.

    Args:
        patterns: as they were stored, checked when they were added; resolved ones are left out. Of two with one id
            the later counts. They are checked again, each before it is searched for the first time; one that does
            not pass is no error here, where an engine starts, but stands in `refused` and matches nothing.
    """

    def __init__(self, patterns: Iterable[Pattern] = ()) -> None:
        self._entries: dict[str, _Entry] = {}
        self._always: dict[str, _Entry] = {}
        self._refused: dict[str, str] = {}
        for pattern in {pattern.id: pattern for pattern in patterns}.values():
            self._admit(pattern)
        indexed = [(entry, entry.ways) for entry in self._entries.values() if entry.ways]
        self._shortlist: Shortlist[_Entry] = Shortlist(indexed)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, pattern_id: object) -> bool:
        return pattern_id in self._entries

    @property
    def refused(self) -> Mapping[str, str]:
        """Return why patterns were not kept, by id."""
        return MappingProxyType(self._refused)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what is unwise about patterns that are kept."""
        return tuple(_warning(pattern_id, len(self._always)) for pattern_id in self._always)

    def add(self, pattern: Pattern) -> str | None:
        """Keep a pattern, in place of any other with its id; return a warning in words, None where all is well.

        Raises:
            InvalidInput: it cannot be kept; the message says why and what to write instead. What was kept remains.
        """
        if pattern.resolved:
            self.remove(pattern.id)
            return None
        entry = _entry(pattern, check=True)
        if isinstance(entry, str):
            raise InvalidInput(f"pattern {pattern.id!r}: {entry}", pointer="/pattern")
        if not entry.ways and len(self._always.keys() - {pattern.id}) >= ALWAYS_MAX:
            raise InvalidInput(f"pattern {pattern.id!r}: {_TOO_MANY}", pointer="/pattern")
        self.remove(pattern.id)
        self._keep(entry)
        if entry.ways:
            self._shortlist.add(entry, entry.ways)
            return None
        return _warning(pattern.id, len(self._always))

    def remove(self, pattern_id: str) -> None:
        """Forget a pattern; one that is not there is forgotten already."""
        self._refused.pop(pattern_id, None)
        self._always.pop(pattern_id, None)
        entry = self._entries.pop(pattern_id, None)
        if entry is not None and entry.ways:
            self._shortlist.remove(entry, entry.ways)

    def match(self, subject: Failure | str, *, kind: str | None = None, names: tuple[str, ...] = ()) -> Match | None:
        """Return the match that counts: the loudest, of those the most specific, of those the first by id.

        Args:
            subject: a failure, or bare words: then a pattern's service and code are not asked for.
            kind: what the failure was diagnosed as; None where that is not known, and then not asked for either.
            names: more names of the service, such as its vendor's, as `classify` takes them.
        """
        return next(self._found(subject, kind, names), None)

    def matches(self, subject: Failure | str, *, kind: str | None = None, names: tuple[str, ...] = ()) -> list[Match]:
        """Return every match, the one that counts first."""
        return list(self._found(subject, kind, names))

    def _found(self, subject: Failure | str, kind: str | None, names: tuple[str, ...]) -> Iterator[Match]:
        text = (subject if isinstance(subject, str) else subject.message)[:CHARS_MAX]
        chosen = {entry.rank: entry for entry in self._shortlist.candidates(fold(text))}
        chosen |= {entry.rank: entry for entry in self._always.values()}
        for rank in sorted(chosen):
            entry = chosen[rank]
            if _is_meant(entry.pattern, subject, kind, names) and (spans := self._spans(entry, text)):
                yield Match(entry.pattern, spans)

    def _spans(self, entry: _Entry, text: str) -> tuple[Span, ...]:
        try:
            return entry.verifier.spans(text)
        except Unsafe as error:
            self.remove(entry.pattern.id)
            self._refused[entry.pattern.id] = str(error)
            return ()

    def _admit(self, pattern: Pattern) -> None:
        if pattern.resolved:
            return
        entry = _entry(pattern, check=False)
        if isinstance(entry, str):
            self._refused[pattern.id] = entry
        elif not entry.ways and len(self._always) >= ALWAYS_MAX:
            self._refused[pattern.id] = _TOO_MANY
        else:
            self._keep(entry)

    def _keep(self, entry: _Entry) -> None:
        self._entries[entry.pattern.id] = entry
        if not entry.ways:
            self._always[entry.pattern.id] = entry


def _entry(pattern: Pattern, *, check: bool) -> _Entry | str:
    """Read a pattern's expression once: for the check, and for its literals. Return why not, or what to keep."""
    tree: Any = safety.parsed(pattern.expression, ignore_case=pattern.ignore_case)
    if isinstance(tree, str):
        return tree
    ways = required(tree)
    if (check or not ways) and (reason := safety.refusal_of(tree)):
        return reason
    fixed = min((sum(map(len, way)) for way in ways), default=0)
    rank = (LOUDEST_FIRST[pattern.severity], -pattern.scopes, -fixed, pattern.id)
    return _Entry(pattern, ways, rank, Verifier(pattern.expression, ignore_case=pattern.ignore_case))


def _is_meant(pattern: Pattern, subject: Failure | str, kind: str | None, names: tuple[str, ...]) -> bool:
    if pattern.kind is not None and kind is not None and pattern.kind != kind:
        return False
    if isinstance(subject, str):
        return True
    return pattern.code in (None, subject.code) and is_of(pattern.service, (subject.service, *names))


def counts_before(one: Pattern, other: Pattern) -> bool:
    """Tell whether a pattern counts where both match; both are such that they are kept."""
    ranks = [entry.rank for pattern in (one, other) if isinstance(entry := _entry(pattern, check=False), _Entry)]
    return len(ranks) == 2 and ranks[0] < ranks[1]


def is_of(service: str | None, names: tuple[str, ...]) -> bool:
    """Tell whether a service is meant: by one of its names, or by the profile that they lead to (`stripe-eu`)."""
    if service is None or service in names:
        return True
    profile = knowledge().profile(names)
    return profile is not None and profile.name == service


_TOO_MANY: Final = (
    f"it {_NO_LITERAL}; at most {ALWAYS_MAX} such patterns are kept, and there are as many; "
    "add a word to it that is always there, or take another one away"
)


def _warning(pattern_id: str, count: int) -> str:
    return f"pattern {pattern_id!r} {_NO_LITERAL} ({count} of at most {ALWAYS_MAX}); add a word that is always there"
