"""What an advisor is asked and what it may answer: an opinion beside a diagnosis, never a decision.

Nothing here can change an incident: an `Advice` has no way to name a target, and its level is always L2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from prunella.core.records import KINDS, Category, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is known about a failure, as far as a stranger may see it: masked words, no ids, no payload.

    Args:
        template: the error's text with placeholders for what varies, never the text itself.
        kind, confidence, because: what the rules decided; an opinion is asked for, not a correction.
    """

    service: str
    operation: str
    status: int | None
    code: str | None
    exc_type: str | None
    template: str
    kind: str
    confidence: float
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """An opinion: plain text for people, and at most the name of a registered remedy.

    Args:
        proposed_action: the remedy it would use; None where it proposes none.
        confidence: its own, from 0 to 1; it is shown and weighs nothing.
    """

    category: Category
    kind: str
    summary: str
    steps: tuple[str, ...]
    prevention: str
    proposed_action: str | None
    confidence: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "category", Category(self.category))
        object.__setattr__(self, "steps", tuple(self.steps))
        if KINDS.get(self.kind) is not self.category:
            raise ValueError(f"advice: {self.kind!r} is no kind of {self.category}; known: {', '.join(KINDS)}")

    @property
    def level(self) -> Level:
        """Return L2, whatever a policy allows: a proposal is for a person to answer."""
        return Level.L2


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question as it is sent; its words show in no log.

    Args:
        digest: stands for the words wherever they must not stand themselves.
        tokens_max: more than this it can't cost, question and answer together.
    """

    body: Mapping[str, Any] = field(repr=False)
    digest: str
    tokens_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of asking: advice, or the trouble that stood in its way.

    Args:
        tokens: what it cost, by the receiver's own count; the most it can have cost where that is not known.
    """

    advice: Advice | None = None
    trouble: str = ""
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Consultation:
    """What was asked about a fingerprint on one day; `ended_at` None: no answer yet."""

    asked_at: datetime
    ended_at: datetime | None
    advice: Advice | None
    trouble: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How much may be asked in one day (UTC); a hard stop, kept in the store for all processes together.

    Args:
        calls: document B names no limit; 200 a day is one every seven minutes.
        tokens: question and answer; a usual pair costs about 1,000.
        failures: so many answers without advice in a row, and it is left alone for `silent_s`.
    """

    calls: int = 200
    tokens: int = 200_000
    failures: int = 3
    silent_s: float = 600.0


class Advisor(Protocol):
    """Give opinions."""

    @property
    def deadline_s(self) -> float:
        """The longest that `ask` takes."""
        ...

    def prompt(self, question: Question) -> Prompt:
        """Put a question into words, scrubbed and cut; the same question gives the same words."""
        ...

    async def ask(self, prompt: Prompt) -> Answer:
        """Ask once; whatever the other side does, an answer comes back in time and nothing is raised."""
        ...
