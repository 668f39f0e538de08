"""What a check saw: findings, each with a key that stays the same from look to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]
"""One row of a user's table, by column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Args:
        key: names the resource within its procedure ("123", "supplier_products"); the same at every look.
        issue: what is wrong, in capitals ("STUCK_PENDING", "STALE_SYNC").
        message: what is wrong in words, with its figures.
        kind: the diagnosis' kind.
        facts: evidence to show, as JSON values.
        row: the row it is about, as it was seen; changes are conditional on it.
        keys: keys of the rows that may be changed now, where it is about a set of them; never more than the cap.
        count: how many rows match, those beyond `keys` included.
        total: how many rows there are, counted at least as far as the share limit needs; None where no share applies.
        remedy: the name of the remedy that fits it, where the procedure has several.
        occurred_at: when its newest evidence arose, where evidence lies about for a while (a log of errors); what is
            older than the last attempt says nothing about that attempt. None: it is so now.
    """

    key: str
    issue: str
    message: str
    kind: str = "unclassified"
    facts: Mapping[str, Any] = field(default_factory=dict)
    row: Row | None = None
    keys: tuple[Any, ...] = ()
    count: int = 1
    total: int | None = None
    remedy: str | None = None
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One look of a check.

    Args:
        at: the moment by the database's own clock.
        count: how many there are where more were found than the cap lets through; None: as many as findings.
        active: how many things could have been found (entities that are under way), counted at least as far as the
            storm guard needs: up to twice `count`.
        blind: why the look shows nothing although there may be something (row-level security); None: it sees.
    """

    findings: tuple[Finding, ...] = ()
    at: datetime
    count: int | None = None
    active: int | None = None
    blind: str | None = None

    @property
    def found(self) -> int:
        """Return how many there are, those beyond the cap included."""
        return len(self.findings) if self.count is None else self.count

    @property
    def is_complete(self) -> bool:
        """Tell whether everything there is was found."""
        return self.found <= len(self.findings)
