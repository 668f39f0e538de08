"""Payloads, settings and headers: what stands under the name of a secret goes whole, all other text is scrubbed.

However large or deep a payload is, at most 10,000 of its entries and 256 kB of its text are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from prunella.core.redact.known import known
from prunella.core.redact.marks import FOREIGN
from prunella.core.redact.names import hides
from prunella.core.redact.scrub import CHARS_MAX, scrub

_DEPTH_MAX, _WIDTH_MAX, _ENTRIES_MAX, _TEXT_MAX, _NAME_MAX, _HEADER_MAX = 12, 1000, 10_000, 262_144, 80, 512
_CARD_MIN: Final = 10**13


def scrub_tree(value: Any) -> Any:
    """Return a JSON-like tree without secrets: values under denied names replaced, all other text scrubbed.

    Below 12 levels, after 1,000 entries of one level, after 10,000 and 256 kB of text in all it is cut, with a mark.
    """
    return _Reading().scrubbed(value, 0)


def shape(value: Any) -> Any:
    """Return the structure of a JSON-like payload: names and types, never a value.

    A list shows each structure of its items once; below 12 levels only the type remains.
    """
    return _Reading().shape(value, 0)


class _Reading:
    """One look at one tree, which may read so many entries and no more."""

    def __init__(self) -> None:
        self._left = _ENTRIES_MAX
        self._text_left = _TEXT_MAX

    def _taken(self, entries: Iterable[Any]) -> Iterator[Any]:
        for entry in islice(entries, _WIDTH_MAX):
            if self._left == 0:
                return
            self._left -= 1
            yield entry

    def scrubbed(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return value if abs(value) < _CARD_MIN or scrub(str(value)) == str(value) else scrub(str(value))
        if not isinstance(value, Mapping | list | tuple):
            return self._text(str(value))
        if depth == _DEPTH_MAX:
            return f"[CUT:deeper than {_DEPTH_MAX} levels]"
        if isinstance(value, Mapping):
            taken = self._taken(value.items())
            kept = {scrub(str(name)): self._entry(_told(value, name), item, depth) for name, item in taken}
            return kept | dict.fromkeys(_rest(value, kept))
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], str):  # a header, mostly
            return [scrub(value[0]), self._entry(value[0], value[1], depth)]
        items = [self.scrubbed(item, depth + 1) for item in self._taken(value)]
        return items + _rest(value, items)

    def _text(self, text: str) -> str:
        self._text_left -= min(len(text), CHARS_MAX)
        return scrub(text) if self._text_left >= 0 else f"[CUT:{len(text)}]"

    def _entry(self, name: Any, value: Any, depth: int) -> Any:
        if value in (None, "", True, False) or not hides(str(name).lower().rstrip("0123456789"), str(value)):
            return self.scrubbed(value, depth + 1)
        return known.mark("named", str(value))

    def shape(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping) and depth < _DEPTH_MAX:
            taken = self._taken(value.items())
            return {scrub(str(name))[:_NAME_MAX]: self.shape(item, depth + 1) for name, item in taken}
        if isinstance(value, list | tuple) and depth < _DEPTH_MAX:
            shapes = [self.shape(item, depth + 1) for item in self._taken(value)]
            return list({repr(one): one for one in shapes}.values())
        return _TYPE_NAMES.get(type(value), "string")


def _told(value: Mapping[Any, Any], name: Any) -> Any:
    """Return what an entry is called: the value of `{"name": "TOKEN", "value": ...}` is called TOKEN."""
    return (value.get("name") or value.get("key") or name) if name == "value" else name


def _rest(value: Any, kept: Any) -> list[str]:
    return [f"[CUT:{len(value) - len(kept)}]"] if len(value) > len(kept) else []


_TYPE_NAMES: Final[Mapping[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
    tuple: "array",
}


def has_marks(value: Any) -> bool:
    """Tell whether somebody took something out of this JSON-like payload: then it cannot be sent again."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            waiting += item
        elif isinstance(item, str) and FOREIGN.search(item):
            return True
    return False


_EVIDENCE: Final = frozenset(
    {"retry-after", "retry-after-ms", "www-authenticate", "date", "content-type", "cf-ray", "x-request-id"}
)


def evidence_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Keep the headers that say something about a failure, with lower-case names and scrubbed values."""
    kept = {str(name).lower(): value for name, value in headers.items()}
    return {
        name: scrub(str(value)[:_HEADER_MAX])
        for name, value in kept.items()
        if name in _EVIDENCE or name.startswith(("x-ratelimit-", "ratelimit"))
    }
