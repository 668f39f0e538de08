"""Read the patterns of known issues that somebody wants to try; what comes of a trial is `diagnosis.trial`'s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

import yaml

from prunella.core.errors import ConfigError
from prunella.core.records import Severity
from prunella.diagnosis.patterns import Pattern

_FIELDS: Final = {"pattern": "expression"} | {one.name: one.name for one in fields(Pattern) if one.name != "expression"}
_SWITCHES: Final = ("resolved", "ignore_case")


def read_patterns(path: Path) -> list[Pattern]:
    """Read a list of patterns from YAML; raise ConfigError with every mistake."""
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            [f"{path}: cannot be read ({error.strerror}); name a YAML file with a list of patterns"]
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: is not YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(listed, list):
        raise ConfigError([f"{path}: holds {_kind_of(listed)}; write a list of {{id, pattern, severity, ...}}"])
    problems = [f"{path}: entry {place}: {why}" for place, one in enumerate(listed, 1) for why in _wrong(one)]
    ids = [str(one["id"]) for one in listed if isinstance(one, dict) and "id" in one]
    problems += [f"{path}: id {name!r} stands there twice; each needs its own" for name in sorted(_twice(ids))]
    if problems:
        raise ConfigError(problems)
    return [Pattern(**{_FIELDS[name]: value for name, value in one.items() if value is not None}) for one in listed]


def _twice(ids: list[str]) -> set[str]:
    return {name for name, count in Counter(ids).items() if count > 1}


def _kind_of(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _wrong(entry: object) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"is {_kind_of(entry)}; write {{id, pattern, severity, ...}}"]
    problems = [f"{name}: is missing" for name in ("id", "pattern") if entry.get(name) is None]
    problems += [f"{name}: unknown name; known: {', '.join(sorted(_FIELDS))}" for name in entry if name not in _FIELDS]
    for name, value in entry.items():
        if name == "severity":
            if value not in list(Severity):
                problems.append(f"severity: {value!r}; one of {', '.join(Severity)}")
        elif name in _FIELDS and value is not None and not isinstance(value, bool if name in _SWITCHES else str):
            wanted = "true or false" if name in _SWITCHES else "a text, in quotes"
            problems.append(f"{name}: {value!r}; write {wanted}")
    return problems
