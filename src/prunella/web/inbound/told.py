"""What a sender told: one happening each, in words of ours, whatever its own shape is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

EVENTS_MAX: Final = 500
"""So many happenings are taken from one request."""
_EVENT_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
_WORD_CHARS_MAX: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One thing that happened.

    Args:
        event_id: the same for each delivery of the same thing, and for nothing else of this sender.
        about: what a success is limited to, and a failure is named by: one alert, one workflow; "": the whole service.
        item: what it was read from; configured places lead from here.
        facts: fields of an event as they stand there; None means that nothing does.
    """

    event_id: str
    outcome: str = "failure"
    about: str = ""
    item: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Aside:
    """Something that was understood and means nothing to us, and why."""

    event_id: str
    why: str


Reading = Sequence[Told | Aside]


def event_id_of(*parts: object) -> str:
    """Return an event id made of parts; what an event id may not be becomes a digest."""
    text = ":".join(map(str, parts))
    if _EVENT_ID.fullmatch(text):
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def found_at(item: Any, place: str) -> Any:
    """Return what stands at `place` (`labels.service`, `errors.0.code`), None where nothing does."""
    for name in place.split("."):
        if isinstance(item, Mapping):
            item = item.get(name)
        elif isinstance(item, list) and name.isdigit() and int(name) < len(item):
            item = item[int(name)]
        else:
            return None
    return item


def text_at(item: Any, place: str) -> str:
    """Return the text that stands at `place`, "" where none does."""
    value = found_at(item, place)
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def lines(*texts: str) -> str:
    """Join what is not empty, each once."""
    return "\n".join(dict.fromkeys(filter(None, (text.strip() for text in texts))))


def word(text: str) -> str:
    """Return a name of somebody else's in one line, short enough to stand in a title."""
    return " ".join(text.split())[:_WORD_CHARS_MAX]


def objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects in a list; anything else in it, or in its place, counts as nothing."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
