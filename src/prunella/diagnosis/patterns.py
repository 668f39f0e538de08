"""What is known about a problem that has been seen before: an expression, how bad it is, and what helps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from prunella.core.records import Severity

Span: TypeAlias = tuple[int, int]
"""Where a match begins and ends, in characters of the message."""

LOUDEST_FIRST: Final = {severity: place for place, severity in enumerate(reversed(Severity))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The words by which a known problem is recognised.

    Args:
        id: unique among all patterns.
        expression: in the syntax of `re`, searched for anywhere in the message.
        severity: of several that match, the loudest wins.
        service: only failures of this service, by its name or that of its profile; None for any.
        kind: only failures of this kind (`network.dns`); None for any.
        code: only failures with this code of the service's own; None for any.
        title: what it is called in a list; empty where nobody named it.
        means: the kind that it is, whatever the failure was diagnosed as; told, and no condition.
        cause: what is wrong, in a sentence.
        advice: what a person does about it.
        remedy: name of the remedy that repairs it; None where a person has to.
        source: address of the page that says so.
        tags: words to find it by.
        resolved: the problem is over, and its pattern no longer looked for.
        ignore_case: on, because people and services write one message in several ways.
    """

    id: str
    expression: str
    severity: Severity = Severity.MEDIUM
    service: str | None = None
    kind: str | None = None
    code: str | None = None
    title: str = ""
    means: str | None = None
    cause: str = ""
    advice: str = ""
    remedy: str | None = None
    source: str | None = None
    tags: tuple[str, ...] = ()
    resolved: bool = False
    ignore_case: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "severity", Severity(self.severity))

    @property
    def scopes(self) -> int:
        """Return how many conditions it has beside its words."""
        return sum(one is not None for one in (self.service, self.kind, self.code))


@dataclass(frozen=True, slots=True)
class Match:
    """A pattern that fits a message, and where: at most ten places, none for a message it was not searched in."""

    pattern: Pattern
    spans: tuple[Span, ...]

    @property
    def can_be_repaired(self) -> bool:
        """Tell whether a remedy is known."""
        return self.pattern.remedy is not None
