"""Try a message on the patterns of known issues, and say which fits, where, how quickly, and which one counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import yaml

from prunella.core.clock import Clock
from prunella.core.errors import ConfigError, InvalidInput
from prunella.core.records import Failure, Severity
from prunella.diagnosis.known import Matcher
from prunella.diagnosis.patterns import Match, Pattern

_FIELDS: Final = {"pattern": "expression"} | {one.name: one.name for one in fields(Pattern) if one.name != "expression"}
_SWITCHES: Final = ("resolved", "ignore_case")


@dataclass
class Trial:
    """What came of a message: matches, the one that counts first; and what was said about the patterns."""

    patterns: int
    took_us: float
    text: str
    matches: list[Match]
    refused: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "patterns": self.patterns,
            "took_us": round(self.took_us, 1),
            "winner": self.matches[0].pattern.id if self.matches else None,
            "matches": [self._match(one) for one in self.matches],
            "refused": [{"id": name, "reason": reason} for name, reason in self.refused.items()],
            "warnings": self.warnings,
        }

    def _match(self, match: Match) -> dict[str, Any]:
        pattern = match.pattern
        return {
            "id": pattern.id,
            "severity": pattern.severity.value,
            "spans": [{"start": start, "end": end, "text": self.text[start:end]} for start, end in match.spans],
            "service": pattern.service,
            "kind": pattern.kind,
            "code": pattern.code,
            "cause": pattern.cause,
            "remedy": pattern.remedy,
            "auto_fix_available": match.can_be_repaired,
        }

    def __str__(self) -> str:
        lines = [f"{len(self.matches)} of {self.patterns:,} patterns match, found in {self.took_us:,.0f} µs"]
        for place, match in enumerate(self.matches):
            pattern = match.pattern
            lines.append(f"{'>' if place == 0 else ' '} {pattern.id}  {pattern.severity.value}")
            lines += [f"    {start}-{end}  {self.text[start:end]!r}" for start, end in match.spans]
            lines.append(f"    cause   {pattern.cause}" if pattern.cause else "    cause   not written down")
            lines.append(f"    remedy  {pattern.remedy or 'none: left to a person'}")
        if self.matches:
            lines.append(f"{self.matches[0].pattern.id} counts: loudest first, then the most specific, then by id")
        return "\n".join(lines)


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


def try_out(
    message: str, patterns: list[Pattern], clock: Clock, *, service: str | None, code: str | None, kind: str | None
) -> Trial:
    """Match a message as the engine would: scrubbed, and with what else is known about the failure."""
    matcher, refused, warnings = Matcher(), {}, []
    for pattern in patterns:
        try:
            warning = matcher.add(pattern)
        except InvalidInput as error:
            refused[pattern.id] = str(error)
        else:
            warnings += [warning] if warning else []
    failure = Failure(service=service or "", code=code, message=message)
    subject = failure if service else failure.message
    matcher.matches(subject, kind=kind)  # compiles what is needed, once
    begun = clock.monotonic()
    matches = matcher.matches(subject, kind=kind)
    took_us = (clock.monotonic() - begun) * 1e6
    return Trial(len(matcher), took_us, failure.message, matches, refused, warnings)
