"""What a check promises: it looks and tells, in one read-only transaction; it changes nothing and decides nothing."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from prunella.core.findings import Row, Sighting


class Check(Protocol):
    """Something to look for."""

    async def look(self, only: str | None = None) -> Sighting:
        """Return what is found now; with `only`, whether the resource of that key is among it.

        Raises:
            DatabaseUnavailable, DatabaseRefused: the database can't be asked.
        """
        ...


@runtime_checkable
class EntityCheck(Check, Protocol):
    """A check that looks at rows one by one, and knows them also while nothing is wrong with them."""

    async def row(self, key: str) -> Row | None:
        """Return the row of a key as it is now; None when there is none.

        Raises:
            DatabaseUnavailable, DatabaseRefused: the database can't be asked.
        """
        ...
