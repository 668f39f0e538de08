"""prunella.yaml as plain data, with the line and column of every value.

Scalars are read by the core schema of YAML 1.2 (section 10.3.2): `yes`, `on`, dates and `1:30` are text. The file is
never trusted: no tags, no merge keys, no duplicate keys, and limits on size, depth and what aliases expand to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from prunella.core.errors import ConfigError
from prunella.core.redact import scrub

Loc = tuple[str | int, ...]
"""The way to a value: names of mappings and positions in lists."""

BYTES_MAX: Final = 2**20
DEPTH_MAX: Final = 40
NODES_MAX: Final = 20_000
_NAME_CHARS_MAX: Final = 60
_PLAIN, _TEXT = "plain", "text"
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,3})?")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z0-9_]{1,100})\}")
_WRITTEN: Final = re.compile(r"(?<=alias |nchor |andle )['\"].*", re.DOTALL)


class Problem(NamedTuple):
    """One mistake or warning; sorts by its place in the file."""

    line: int
    column: int
    text: str


class Place(NamedTuple):
    """Where a value was written: a file's line and column, or an environment variable (line 0)."""

    origin: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.origin}:{self.line}:{self.column}" if self.line else self.origin

    def problem(self, loc: Loc, text: str) -> Problem:
        """Write a message: this place, the path of `loc`, the text."""
        return Problem(self.line, self.column, f"{f'{self} {path_of(loc)}'.strip()}: {text}")


@dataclass(slots=True)
class Source:
    """What stands in the file, and where.

    Args:
        values, keys: place of each value and of the name before it.
        problems: mistakes that do not hinder reading on.
        variables: names of the environment that the text refers to.
    """

    name: str
    data: Any = field(default_factory=dict)
    values: dict[Loc, Place] = field(default_factory=dict)
    keys: dict[Loc, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)

    def place(self, loc: Loc, *, at_key: bool = False) -> Place:
        """Return where `loc` stands; what is missing is looked for at what should hold it."""
        places = self.keys if at_key else self.values
        return next((places[known] for known in _upwards(loc) if known in places), Place(self.name))

    def problem(self, loc: Loc, text: str) -> Problem:
        """Write a message about the value at `loc`."""
        return self.place(loc).problem(loc, text)

    def value(self, loc: Loc) -> Any:
        """Return what stands at `loc`, None where nothing does."""
        found = self.data
        for part in loc:
            try:
                found = found[part]
            except (KeyError, IndexError, TypeError):
                return None
        return found


def path_of(loc: Loc) -> str:
    """Write a way as people do: notify.rules[0].to; names are cut and scrubbed."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{shown_name(part)}" for part in loc)
    return path.removeprefix(".")


def shown_name(name: str) -> str:
    """Return a name fit for a message: one line, at most 60 characters, no secret."""
    return scrub("".join(letter if letter.isprintable() else "?" for letter in name))[:_NAME_CHARS_MAX]


def scalar(text: str) -> Any:
    """Return what a plain scalar means: null, true, false, a number, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def read(path: Path) -> Source:
    """Read a file; raise ConfigError where it can't be read at all."""
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigError([f"{name}: no such file; create it, or name another one with --config"]) from None
    except OSError as error:
        raise ConfigError([f"{name}: can't be read ({error.strerror}); check the path and its permissions"]) from None
    if len(raw) > BYTES_MAX:
        raise ConfigError([f"{name}: longer than {BYTES_MAX} bytes; at most 1 MiB is read, remove what is not needed"])
    try:
        return parse(name, raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise ConfigError([f"{name}:{line}:{column}: is not UTF-8; save the file as UTF-8"]) from None


def parse(name: str, text: str) -> Source:
    """Read the text of a file called `name`; raise ConfigError where it is no YAML."""
    source = Source(name, variables=set(_VARIABLE.findall(text)))
    node = _compose(name, text)
    if node is not None:
        source.data = _Walk(source).value(node, ())
    return source


def _compose(name: str, text: str) -> yaml.Node | None:
    try:
        composer = _Composer(text)
        return composer.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
        fact = _WRITTEN.sub("…", error.problem or "")  # what PyYAML quotes there may be the start of a secret
        raise ConfigError([f"{place}: is no YAML: {fact}; correct this line or the one above"]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise ConfigError([f"{name}:{line}:{column}: holds a control character; remove it"]) from None
    except (ValueError, OverflowError):  # PyYAML lets these through for "\UFFFFFFFF" and for huge version numbers
        raise ConfigError([f"{name}: is no YAML: a number or an escape in it is out of range; correct it"]) from None


class _Composer(yaml.SafeLoader):
    """Compose nodes with a limit on depth and number; nothing is constructed from them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        """Tell plain from quoted; a node with a tag of its own never comes by here, and so keeps it."""
        return _PLAIN if kind is yaml.ScalarNode and implicit[0] else _TEXT

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        self._nodes += 1
        if self._depth > DEPTH_MAX or self._nodes > NODES_MAX:
            raise yaml.MarkedYAMLError(problem=_too_much(), problem_mark=parent.start_mark if parent else None)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _too_much() -> str:
    return f"deeper than {DEPTH_MAX} levels or more than {NODES_MAX} values, aliases counted as often as they are used"


class _Walk:
    """Turn nodes into plain data and write down where each value stands."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = NODES_MAX

    def value(self, node: yaml.Node, loc: Loc) -> Any:
        place = self._place(node)
        self._left -= 1
        if self._left < 0 or len(loc) > DEPTH_MAX:
            raise ConfigError([f"{place}: {_too_much()}; write fewer aliases"])
        self._source.values[loc] = place
        if node.tag not in (_PLAIN, _TEXT):
            self._mistake(place, loc, "a tag (!…) stands here; tags are not understood, remove it")
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, loc))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*loc, at)) for at, item in enumerate(node.value)]
        return self._text(node, loc)

    def _entries(self, node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key, value in node.value:
            name, place = key.value, self._place(key)
            if not isinstance(key, yaml.ScalarNode) or not _is_text(name):
                self._mistake(place, loc, "a name here is no plain text; write name: value")
            elif name == "<<":
                self._mistake(place, loc, "merge keys (<<) are not understood; use an alias for a whole value")
            elif name in seen:
                self._mistake(place, (*loc, name), "stands here a second time; keep one of the two")
            else:
                seen.add(name)
                self._source.keys[(*loc, name)] = place
                yield name, self.value(value, (*loc, name))

    def _text(self, node: yaml.Node, loc: Loc) -> Any:
        if not _is_text(node.value):
            self._mistake(
                self._place(node), loc, "holds half a character (a lone surrogate); write the whole character"
            )
            return None
        return scalar(node.value) if node.tag == _PLAIN else node.value

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._source.name, node.start_mark.line + 1, node.start_mark.column + 1)

    def _mistake(self, place: Place, loc: Loc, text: str) -> None:
        self._source.problems.append(place.problem(loc, text))


def _is_text(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _upwards(loc: Loc) -> Iterator[Loc]:
    return (loc[:length] for length in range(len(loc), -1, -1))
