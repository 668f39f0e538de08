"""Read the entries of a pack from plain data, name every mistake, and write them as plain data again.

An entry that passes here is one that the matcher keeps: its expression is safe, it fits its own examples, and it does
not fit what it must not be taken for. No I/O; the text of a file is read by `prunella.packs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from prunella.core.errors import InvalidInput
from prunella.core.records import KINDS, Failure, Severity
from prunella.diagnosis import safety
from prunella.diagnosis.patterns import Pattern
from prunella.diagnosis.verifier import Verifier

Loc: TypeAlias = tuple[str | int, ...]

TITLE_CHARS_MAX: Final = 120
TEXT_CHARS_MAX: Final = 1000
EXAMPLE_CHARS_MAX: Final = 2000
LIST_MAX: Final = 20
"""Examples, near misses or tags of one entry."""
_SHOWN_CHARS: Final = 60


@dataclass(frozen=True, slots=True)
class Known:
    """A known issue as a pack tells it.

    Args:
        pattern: how it is recognised, what it is and what helps.
        examples: messages as the service writes them; the pattern fits each.
        others: messages that look like it and are something else; the pattern fits none.
    """

    pattern: Pattern
    examples: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class Mistake(NamedTuple):
    """What is wrong with a pack: the way to the value in its document, and the words for a person."""

    loc: Loc
    text: str


def read_entries(document: object, *, judged: bool = True) -> tuple[tuple[Known, ...], list[Mistake]]:
    """Return what a list of entries says, and every mistake in it; what is wrong is left out.

    Args:
        document: plain data: a list of mappings.
        judged: refuse expressions that are unsafe, or do not agree with their own examples; off for who judges
            patterns one by one, as a trial does.
    """
    if not isinstance(document, list):
        return (), [Mistake((), f"holds {_what(document)}; write a list of {{id, pattern, severity, ...}}")]
    known: list[Known] = []
    mistakes: list[Mistake] = []
    first: dict[str, int] = {}
    for place, entry in enumerate(document):
        one, found = _read(entry, first, place, judged=judged)
        known += [one] if one is not None else []
        mistakes += [Mistake((place, *name), _of_entry(entry, place, name, text)) for name, text in found]
    return tuple(known), mistakes


def read_entry(entry: object) -> Known:
    """Return what one entry says, of somebody who writes no pack.

    Raises:
        InvalidInput: with every mistake in it; the pointer leads to the first.
    """
    one, found = _read(entry, {}, 0, judged=True)
    if one is None:
        words = [f"{_path(way)}: {text}" if way else text for way, text in found]
        raise InvalidInput("; ".join(words), pointer="".join(f"/{part}" for part in found[0][0]))
    return one


def plain_of(known: Known) -> dict[str, Any]:
    """Return an entry as plain data, without what it does not say: `read_entries` makes the same of it again."""
    given = {one.name: value for one in fields(Pattern) if (value := getattr(known.pattern, one.name)) != one.default}
    given["pattern"] = given.pop("expression")
    given |= {name: value for name in ("examples", "others") if (value := getattr(known, name))}
    return {name: _plain(given[name]) for name in _CHECKS if name in given}


def _plain(value: Any) -> Any:
    if isinstance(value, Severity):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _known(entry: Mapping[str, Any]) -> Known:
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in entry.items() if value is not None
    }
    examples, others = given.pop("examples", ()), given.pop("others", ())
    return Known(Pattern(expression=given.pop("pattern"), **given), examples, others)


_Found: TypeAlias = Iterator[tuple[Loc, str]]


def _read(
    entry: object, first: dict[str, int], place: int, *, judged: bool
) -> tuple[Known | None, list[tuple[Loc, str]]]:
    """Return what an entry says, or what is wrong with it."""
    found = list(_mistakes(entry, first, place))
    if found or not isinstance(entry, Mapping):
        return None, found
    one = _known(entry)
    found = list(_misjudged(one)) if judged else []
    return (None, found) if found else (one, [])


def _mistakes(entry: object, first: dict[str, int], place: int) -> _Found:
    """Yield what is wrong with the form of an entry; `first` remembers which entry had an id before."""
    if not isinstance(entry, Mapping):
        yield (), f"is {_what(entry)}; write {{id, pattern, severity, ...}}"
        return
    for name in ("id", "pattern"):
        if entry.get(name) is None:
            yield (name,), f"is missing; write {name}: ..."
    for name, value in entry.items():
        check = _CHECKS.get(name)
        if check is None:
            near = _nearest(str(name), _CHECKS) or f"; known: {', '.join(sorted(_CHECKS))}"
            yield (name,), f"unknown name{near}"
        elif value is not None and (wrong := check(value)):
            yield (name,), wrong
    identity = entry.get("id")
    if isinstance(identity, str) and first.setdefault(identity, place) != place:
        yield ("id",), f"stands in entry {first[identity] + 1} already; each needs its own"


def _misjudged(known: Known) -> _Found:
    """Yield why the pattern of an entry cannot be kept, or where its examples say otherwise."""
    pattern = known.pattern
    reason = safety.refusal(pattern.expression, ignore_case=pattern.ignore_case)
    if reason is not None:
        yield ("pattern",), reason
        return
    verifier = Verifier(pattern.expression, ignore_case=pattern.ignore_case)
    for name, wanted in (("examples", True), ("others", False)):
        for place, text in enumerate(getattr(known, name)):
            if bool(verifier.spans(Failure(service="", message=text).message)) is not wanted:
                fits = "the pattern does not fit it" if wanted else "the pattern fits it, and must not"
                yield (name, place), f"{_shown(text)}: {fits}; correct one of the two"


def _of_entry(entry: object, place: int, way: Loc, text: str) -> str:
    """Write a message that names entry and field."""
    name = entry.get("id") if isinstance(entry, Mapping) else None
    which = f"entry {place + 1}" + (f" ({name[:_SHOWN_CHARS]})" if isinstance(name, str) and name.isprintable() else "")
    return f"{which}: {_path(way)}: {text}" if way else f"{which}: {text}"


def _path(way: Loc) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f"{str(part)[:_SHOWN_CHARS]}" for part in way)


# Values ---------------------------------------------------------------------------------------------------------------


def _text(chars_max: int, value: object, *, one_line: bool = True) -> str:
    if not isinstance(value, str):
        return f"{_shown(value)}; write a text, in quotes"
    if not value.strip():
        return "is empty; write something, or leave it out"
    if len(value) > chars_max:
        return f"has {len(value):,} characters; at most {chars_max:,}"
    if one_line and not value.isprintable():
        return f"{_shown(value)}; write it in one line, without control characters"
    return ""


def _one_of(allowed: tuple[str, ...], value: object) -> str:
    if value in allowed:
        return ""
    word = str(value)
    near = _nearest(word, allowed) or _nearest(word.upper(), allowed) or f"; one of {', '.join(allowed)}"
    return f"{_shown(value)}{near}"


def _switch(value: object) -> str:
    return "" if isinstance(value, bool) else f"{_shown(value)}; write true or false"


def _address(value: object) -> str:
    wrong = _text(TEXT_CHARS_MAX, value)
    return wrong or ("" if str(value).startswith("https://") else f"{_shown(value)}; write an address with https://")


def _list(chars_max: int, value: object, *, one_line: bool = True) -> str:
    if not isinstance(value, list):
        return f"{_shown(value)}; write a list of texts"
    if len(value) > LIST_MAX:
        return f"has {len(value)} values; at most {LIST_MAX}"
    return next((wrong for one in value if (wrong := _text(chars_max, one, one_line=one_line))), "")


_Check: TypeAlias = Callable[[object], str]
_SENTENCE: Final[_Check] = partial(_text, TEXT_CHARS_MAX)
_NAME: Final[_Check] = partial(_text, TITLE_CHARS_MAX)
_KIND: Final[_Check] = partial(_one_of, tuple(KINDS))
_CHECKS: Final[Mapping[str, _Check]] = {
    "id": _NAME,
    "title": _NAME,
    "service": _NAME,
    "kind": _KIND,
    "code": _NAME,
    "pattern": partial(_text, safety.EXPRESSION_MAX, one_line=False),
    "ignore_case": _switch,
    "severity": partial(_one_of, tuple(Severity)),
    "means": _KIND,
    "cause": _SENTENCE,
    "advice": _SENTENCE,
    "remedy": _NAME,
    "source": _address,
    "tags": partial(_list, TITLE_CHARS_MAX),
    "resolved": _switch,
    "examples": partial(_list, EXAMPLE_CHARS_MAX, one_line=False),
    "others": partial(_list, EXAMPLE_CHARS_MAX, one_line=False),
}
"""What an entry may hold, in the order in which it is written."""


def _what(value: object) -> str:
    name = type(value).__name__
    return "nothing" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _nearest(word: str, known: Any) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
