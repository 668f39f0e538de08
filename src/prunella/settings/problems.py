"""What pydantic found, said in prunella's way: place, path, what is wrong, what is allowed, what to do next.

A value is shown only where it is no secret: never for a mapping where a text was expected or the other way round,
never for an unknown name, never as the environment spells it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin

from pydantic import ValidationError

from prunella.core.redact import scrub
from prunella.settings.model import File
from prunella.settings.section import Section, names_of
from prunella.settings.source import Loc, Problem, Source
from prunella.settings.values import nearest

_VALUE_CHARS_MAX: Final = 60
_KEY: Final = "[key]"  # pydantic's mark of a mistake in a name instead of its value
_SAYINGS: Final[Mapping[str, str]] = {
    "wrong": "{shown} {text}",
    "hidden": "{text}",
    "missing": "is missing; add it",
    "string_type": "{shown} is no text; write a text, in quotes where it looks like something else",
    "string_too_short": "is empty; write a text or leave the line out",
    "int_type": "{shown} is no whole number; write e.g. 5",
    "float_type": "{shown} is no number; write e.g. 5",
    "bool_type": "{shown} is neither true nor false; write one of them",
    "greater_than": "{shown} is too small; it must be more than {gt:g}",
    "greater_than_equal": "{shown} is too small; at least {ge}",
    "less_than_equal": "{shown} is too large; at most {le:g}",
    "too_short": "is empty; name at least one",
    "list_type": "must be a list, not {sort}; write [..., ...]",
    "dict_type": "must be a mapping, not {sort}; write name: value",
}


def problems_of(error: ValidationError, source: Source) -> list[Problem]:
    """Say every mistake that was found, each at its place."""
    return [
        problem
        for detail in error.errors(include_url=False, include_input=False)
        for problem in _problems(detail["type"], detail["loc"], detail.get("ctx", {}), source)
    ]


def _problems(kind: str, loc: Loc, facts: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    if kind == "several":
        for way, inner in facts["found"]:
            yield from _problems(inner.type, (*loc, *way), inner.context or {}, source)
        return
    if kind == "extra_forbidden":
        yield source.place(loc, at_key=True).problem((*loc[:-1], _head(str(loc[-1]))), _unknown(loc))
    elif loc[-1:] == (_KEY,):
        yield source.place(loc[:-1], at_key=True).problem(loc[:-1], _saying(kind, loc[:-1], facts, source))
    else:
        yield source.problem(loc, _saying(kind, loc, facts, source))


def _saying(kind: str, loc: Loc, facts: Mapping[str, Any], source: Source) -> str:
    value = source.value(loc)
    match kind:
        case "plain_secret":
            return _plain_secret(loc, storable=facts["storable"])
        case "literal_error":
            return _not_one_of(value, re.findall(r"'([^']+)'", facts["expected"]))
        case "model_type":
            return f"must be a mapping, not {_sort(value)}; write {', '.join(names_of(_section_at(loc)))} below it"
    saying = _SAYINGS.get(kind, f"is not valid ({kind}); correct or remove it")
    return saying.format_map({**facts, "shown": _shown(value), "sort": _sort(value)})


def _plain_secret(loc: Loc, *, storable: bool) -> str:
    named_at = 2 if loc[0] == "notify" else min(1, len(loc) - 2)  # a section such as advisor is its own owner
    owner, leaf = str(loc[named_at]), [part for part in loc if isinstance(part, str)][-1]
    words = [re.sub(r"[^A-Za-z0-9_.-]", "-", word)[:40] for word in dict.fromkeys((owner, leaf))]
    variable = re.sub(r"[^A-Z0-9]", "_", "_".join(words).upper())
    stored = "/".join(words)
    or_stored = f", or run: prunella secret set {stored}, and write secret://{stored}" if storable else ""
    return f"a secret stands here in plain text; put it into the environment and write ${{{variable}}}{or_stored}"


def _not_one_of(value: Any, allowed: list[str]) -> str:
    near = (nearest(value, allowed) or nearest(value.upper(), allowed)) if isinstance(value, str) else ""
    return f"{_shown(value)} is not one of {', '.join(allowed)}{near}"


def _unknown(loc: Loc) -> str:
    known = names_of(_section_at(loc[:-1]))
    return f"unknown name{nearest(str(loc[-1]), known)}; allowed: {', '.join(known)}"


def _head(name: str) -> str:
    """Return as much of an unknown name as is certainly one: what follows may be a value that lacks its space."""
    head = re.match(r"[A-Za-z_][\w.-]{0,39}", name, re.ASCII)
    return name if head and head[0] == name else f"{head[0] if head else ''}…"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        text = repr(scrub(value))
        text = text if len(text) <= _VALUE_CHARS_MAX else f"{text[: _VALUE_CHARS_MAX - 2]}…'"
        return f"the value of {text}" if "${" in value else text
    return str(value).lower() if isinstance(value, int | float) else _sort(value)


def _sort(value: Any) -> str:
    sorts = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return sorts.get(type(value), "a number")


def _section_at(loc: Loc) -> type[Section]:
    """Return the section whose names stand at `loc`."""
    section: type[Section] = File
    parts = iter(loc)
    for part in parts:
        info = {info.alias or name: info for name, info in section.model_fields.items()}[str(part)]
        section, held_in = _inner(info.annotation)
        if held_in in (dict, list):
            next(parts, None)  # a name or a position that the user chose
    return section


def _inner(annotation: Any) -> tuple[type[Section], Any]:
    """Return the section within an annotation and the collection that holds it."""
    waiting, held_in = [annotation], None
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, Section):
            return one, held_in
        held_in = get_origin(one) if get_origin(one) in (dict, list) else held_in
        waiting += get_args(one)
    return File, held_in
