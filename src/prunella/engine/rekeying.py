"""Seal anew, under the newest key, what older keys sealed: page by page, while everything else goes on.

A value is replaced only where it still stands as it was read, so that a refresh that writes meanwhile wins. Versions
stay, so that nobody else has to begin again. It never shows a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prunella.core.errors import InvalidInput, SecretError
from prunella.engine import trail
from prunella.engine.parts import Parts
from prunella.store.sealed import TABLES, SealedValue
from prunella.store.secrets import Keys

PAGES_AT_ONCE: Final = 10
"""One request of at most 2,000 rows: an answer within seconds, also where every commit waits for a disk."""
_NAMED_MAX: Final = 20


@dataclass(slots=True)
class Rekeyed:
    """What one stretch of rows held.

    Args:
        looked: sealed values.
        older: of these, sealed with an older key.
        sealed: of those, sealed anew.
        unreadable: rows that no key opens, at most 20 by name.
        next: where to go on; empty: that was all.
    """

    looked: int = 0
    older: int = 0
    sealed: int = 0
    unreadable: tuple[str, ...] = ()
    next: tuple[str, ...] = ()


async def reseal(parts: Parts, keys: Keys, after: Sequence[str] = (), *, by: str, dry: bool = False) -> Rekeyed:
    """Seal the next stretch anew, or only count it.

    Args:
        after: `next` of the stretch before.

    Raises:
        InvalidInput: there is no such place.
    """
    found, at = Rekeyed(), _place(after)
    for _ in range(PAGES_AT_ONCE):
        at = await _page(parts, keys, found, at, dry=dry)
        if not at:
            break
        await parts.give_way()
    found.next = at
    if found.sealed:
        async with parts.store.transaction() as tx:
            reason = f"{found.sealed} values sealed anew with key {keys.id}"
            await trail.note(parts, tx, "keys.rotated", "keys", reason=reason, by=by)
    return found


async def _page(parts: Parts, keys: Keys, found: Rekeyed, at: tuple[str, ...], *, dry: bool) -> tuple[str, ...]:
    """Look at one page; return where the next one begins."""
    table, *after = at
    async with parts.store.transaction() as tx:
        values, last = await tx.sealed.page(table, after)
    for one in values:
        found.looked += 1
        if keys.is_newest(one.value):
            continue
        found.older += 1
        if not dry:
            await _anew(parts, keys, found, one)
    if last is not None:
        return (table, *last)
    return TABLES[TABLES.index(table) + 1 :][:1]


async def _anew(parts: Parts, keys: Keys, found: Rekeyed, one: SealedValue) -> None:
    """Seal one value anew; each in a transaction of its own, so that nobody waits for more than one row."""
    try:
        anew = keys.rewrap(one.value, one.row)
    except SecretError:
        found.unreadable = (*found.unreadable, one.row)[:_NAMED_MAX]
        return
    async with parts.store.transaction() as tx:
        found.sealed += await tx.sealed.swap(one, anew)


def _place(after: Sequence[str]) -> tuple[str, ...]:
    if not after:
        return TABLES[:1]
    if after[0] not in TABLES:
        raise InvalidInput("after: names no place; take what `next` of the answer before says")
    return tuple(after)
