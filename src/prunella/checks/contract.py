"""What a check promises: it looks and tells, in one read-only transaction; it changes nothing and decides nothing."""

from __future__ import annotations

from typing import Protocol

from prunella.core.findings import Sighting


class Check(Protocol):
    """Something to look for."""

    async def look(self, only: str | None = None) -> Sighting:
        """Return what is found now; with `only`, whether the resource of that key is among it.

        Raises:
            DatabaseUnavailable, DatabaseRefused: the database can't be asked.
        """
        ...
