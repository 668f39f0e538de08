"""Try a message on patterns of known issues, and say which fits, where, how quickly, and which one counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prunella.core.clock import Clock
from prunella.core.errors import InvalidInput
from prunella.core.records import Failure
from prunella.diagnosis.known import Matcher
from prunella.diagnosis.patterns import Match, Pattern


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
            "title": pattern.title,
            "severity": pattern.severity.value,
            "spans": [{"start": start, "end": end, "text": self.text[start:end]} for start, end in match.spans],
            "service": pattern.service,
            "kind": pattern.kind,
            "code": pattern.code,
            "means": pattern.means,
            "cause": pattern.cause,
            "advice": pattern.advice,
            "source": pattern.source,
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
            lines += [f"    advice  {pattern.advice}"] if pattern.advice else []
            lines.append(f"    remedy  {pattern.remedy or 'none: left to a person'}")
            lines += [f"    source  {pattern.source}"] if pattern.source else []
        if self.matches:
            lines.append(f"{self.matches[0].pattern.id} counts: loudest first, then the most specific, then by id")
        return "\n".join(lines)


def try_out(
    message: str, patterns: Sequence[Pattern], clock: Clock, *, service: str | None, code: str | None, kind: str | None
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
