"""Every place where a sealed value stands, page by page, so that one can be sealed anew.

Knows the rows' names that values are bound to, and never opens a value. Who adds a sealed column adds it here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import LargeBinary, and_, func, select, tuple_, update

from prunella.store import scope
from prunella.store.session import Session
from prunella.store.sql import Row, Sql, param
from prunella.store.tables import metadata

PAGE: Final = 200
_BOUND_TO: Final = {
    ("credentials", "access_sealed"): "credentials:{service}:{account}:access",
    ("credentials", "refresh_sealed"): "credentials:{service}:{account}:refresh",
    ("secrets", "value_sealed"): "secrets:{name}",
    ("operations", "payload_sealed"): "operations:{id}",
    ("answers", "body"): "answers:{caller}:{key}",
}
"""Column -> the name of its row, as those who seal write it."""
TABLES: Final = tuple(dict.fromkeys(table for table, _ in _BOUND_TO))


@dataclass(frozen=True, slots=True)
class SealedValue:
    """A ciphertext and where it stands."""

    table: str
    column: str
    key: tuple[str, ...]
    row: str
    value: bytes


def _keys(table: str) -> list[str]:
    return [column.name for column in metadata.tables[table].primary_key]


def _columns(table: str) -> list[str]:
    return [column for of, column in _BOUND_TO if of == table]


def _page(table: str) -> Sql:
    t, keys = metadata.tables[table], _keys(table)
    wanted = [t.c[name] for name in (*keys, *_columns(table))]
    after = tuple_(*(t.c[name] for name in keys)) > tuple_(*(param(f"after_{name}") for name in keys))
    return Sql(select(*wanted).where(after).order_by(*(t.c[name] for name in keys)).limit(param("most")))


def _swap(table: str, column: str) -> Sql:
    t = metadata.tables[table]
    here = and_(*(t.c[name] == param(f"its_{name}") for name in _keys(table)))
    return Sql(update(t).where(here, t.c[column] == param("was")).values({column: param("anew")}))


def _heads(table: str, column: str) -> Sql:
    one = metadata.tables[table].c[column]
    head = func.substr(one, 1, param("length"), type_=LargeBinary).label("head")
    return Sql(select(head, func.count().label("many")).where(one.is_not(None)).group_by("head"))


_PAGES = {table: _page(table) for table in TABLES}
_HEADS = {place: _heads(*place) for place in _BOUND_TO}
_SWAPS = {place: _swap(*place) for place in _BOUND_TO}


class SealedRows:
    """Read ciphertexts, and put others in their place."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def page(self, table: str, after: Sequence[str]) -> tuple[list[SealedValue], tuple[str, ...] | None]:
        """Return what is sealed in the next rows, and the last of these rows; None where there is none behind."""
        keys = _keys(table)
        begin = after or [""] * len(keys)
        bound = {f"after_{name}": value for name, value in zip(keys, begin, strict=True)}
        await self._everything()
        rows = await self._session.fetch(_PAGES[table], most=PAGE, **bound)
        last = tuple(str(rows[-1][name]) for name in keys) if len(rows) == PAGE else None
        return [value for row in rows for value in _values(table, row)], last

    async def heads(self, table: str, length: int) -> Counter[bytes]:
        """Count a table's values by their first `length` bytes; every row of it is read."""
        await self._everything()
        counted: Counter[bytes] = Counter()
        for column in _columns(table):
            for row in await self._session.fetch(_HEADS[table, column], length=length):
                counted[bytes(row["head"])] += row["many"]
        return counted

    async def swap(self, was: SealedValue, anew: bytes) -> bool:
        """Put `anew` where `was` still stands; False where somebody else wrote meanwhile."""
        await self._everything()
        here = {f"its_{name}": value for name, value in zip(_keys(was.table), was.key, strict=True)}
        return await self._session.change(_SWAPS[was.table, was.column], was=was.value, anew=anew, **here) == 1

    async def _everything(self) -> None:
        for setting in (scope.ACCOUNT, scope.SECRET):
            await scope.everything(self._session, setting)


def _values(table: str, row: Row) -> list[SealedValue]:
    key = tuple(str(row[name]) for name in _keys(table))
    return [
        SealedValue(table, column, key, _BOUND_TO[table, column].format(**row), row[column])
        for column in _columns(table)
        if row[column] is not None
    ]
