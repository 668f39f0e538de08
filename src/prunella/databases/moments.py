"""How columns spell time, so that each is compared in its own spelling and an index on it can be used.

One `Moments` reads the database's clock once and serves one transaction; the host's clock and the session's zone have
no say. Where a clock was put back an hour is shown twice: a value within it counts as old only if the later reading
is old, and as future only if the earlier one is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Integer,
    and_,
    bindparam,
    func,
    or_,
    true,
    types,
)
from sqlalchemy.types import NullType

from prunella.core.errors import DatabaseRefused
from prunella.databases.columns import Sort, declared, name_of, sort_of
from prunella.databases.conditions import Told
from prunella.databases.handle import Database

TOLERANCE_S = 60.0
"""How far ahead a value may be before it is a finding: clocks of healthy hosts differ by less."""
UNITS: Mapping[str, int] = {"s": 1, "ms": 1000}
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?( ?(Z|[+-]\d\d(:?\d\d)?))?", re.ASCII)
_ISO_ENDS = "*[+-][0-9][0-9]:[0-9][0-9]"
_ISO_BEGINS = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][T ][0-9][0-9]:*"
_AHEAD, _BEHIND = timedelta(hours=14), timedelta(hours=12)  # of UTC; no zone is further
_DAY = timedelta(days=1)


class Spelling(Protocol):
    """How one column spells moments."""

    def before(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        """Ask for values that are certainly before `at`."""
        ...

    def since(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        """Ask for values that may be at or after `at`."""
        ...

    def after(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        """Ask for values that are certainly after `at`."""
        ...

    def until(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        """Ask for values that may be at or before `at`."""
        ...

    def spelled(self, at: datetime) -> Any:
        """Write `at` as the column does."""
        ...

    def read(self, value: Any, now: datetime) -> datetime | None:
        """Return the latest moment that `value` may mean and that is not after `now`; None where it means none."""
        ...


class Moments:
    """The columns of one transaction, against the database's clock.

    Args:
        unit: of columns that hold numbers, `s` or `ms` since 1970; None: the database's.
    """

    def __init__(self, database: Database, connection: Connection, *, unit: str | None = None) -> None:
        self.now = database.begun(connection)
        self._database = database
        self._connection = connection
        self._unit = unit
        self._spellings: dict[Column[Any], Spelling] = {}

    def older_than(self, column: Column[Any], seconds: float) -> ColumnElement[bool]:
        """Ask for values of strictly more than `seconds` ago; never one of which that is not certain."""
        return self._of(column).before(column, self.now - timedelta(seconds=seconds))

    def since(self, column: Column[Any], seconds: float) -> ColumnElement[bool]:
        """Ask for values of the last `seconds`, those in the future included."""
        return self.from_(column, self.now - timedelta(seconds=seconds))

    def from_(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        """Ask for values of `at` and later."""
        return self._of(column).since(column, at)

    def not_in_future(self, column: Column[Any]) -> ColumnElement[bool]:
        """Ask for values up to now."""
        return self._of(column).until(column, self.now)

    def in_future(self, column: Column[Any]) -> ColumnElement[bool]:
        """Ask for values that lie ahead by more than clocks may differ."""
        return self._of(column).after(column, self.now + timedelta(seconds=TOLERANCE_S))

    def latest(self, column: Column[Any]) -> ColumnElement[Any]:
        """Return the expression for the newest of several values."""
        spelling = self._of(column)
        return spelling.rank(column) if isinstance(spelling, _Text) else column

    def read_latest(self, column: Column[Any], value: Any) -> datetime | None:
        """Return the moment that a value of `latest` means."""
        if isinstance(self._of(column), _Text):
            return None if value is None else _EPOCH + timedelta(microseconds=value)
        return self.read(column, value)

    def value(self, column: Column[Any], at: datetime | None = None) -> Any:
        """Return `at`, or now, in the column's own spelling."""
        return self._of(column).spelled(at or self.now)

    def read(self, column: Column[Any], value: Any) -> datetime | None:
        """Return the moment that a value of the column means; None where it means none."""
        return None if value is None else self._of(column).read(value, self.now)

    def age_s(self, column: Column[Any], value: Any) -> float | None:
        """Return how many seconds ago a value of the column was; below 0 in the future."""
        at = self.read(column, value)
        return None if at is None else (self.now - at).total_seconds()

    def settle(self) -> None:
        """Refuse the look where a value was met that could mean several moments.

        Raises:
            DatabaseRefused: a text without a zone, and no `time_zone` is declared.
        """
        for column, spelling in self._spellings.items():
            if isinstance(spelling, _Text) and spelling.zoneless is not None:
                raise DatabaseRefused(
                    f"database {self._database.name}: {name_of(column)} holds "
                    f"{spelling.zoneless!r}, which names no zone; set time_zone of the database"
                )

    def _of(self, column: Column[Any]) -> Spelling:
        found = self._spellings.get(column)
        if found is None:
            problem = time_problem(self._database, column, self._unit)
            if problem is not None:
                raise DatabaseRefused(f"database {self._database.name}: {problem}")
            found = self._spellings[column] = self._spelling(column)
        return found

    def _spelling(self, column: Column[Any]) -> Spelling:
        source = self._database.source
        zone = ZoneInfo(source.time_zone) if source.time_zone else None
        unit = _unit_of(self._database, column, self._unit)
        match sort_of(column, self._database.kind):
            case Sort.AWARE:
                return _Zoned() if self._database.kind == "postgresql" else _Naive(UTC)
            case Sort.NAIVE:
                assert zone is not None
                return _Naive(zone)
            case Sort.NUMBER:
                assert unit is not None
                return _Number(UNITS[unit], whole=_is_whole(column))
        if unit is not None:
            return _Number(UNITS[unit], whole=False)
        return _Text(zone, self._connection, len(self._spellings))


def time_problem(database: Database, column: Column[Any], unit: str | None) -> str | None:
    """Say why a column tells no moments, and what to do; None where it does."""
    source, where = database.source, name_of(column)
    if source.time_zone is not None:
        try:
            ZoneInfo(source.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return f"time_zone {source.time_zone!r} is no IANA name; write e.g. Europe/Berlin or UTC"
    sort = sort_of(column, database.kind)
    if sort is not Sort.NUMBER and unit is not None and not _may_hold_numbers(database, column):
        return f"{where} is a {sort.value}; a unit is for numbers, leave it out"
    unit = _unit_of(database, column, unit)
    if sort is Sort.NUMBER or unit is not None:
        return None if unit in UNITS else f"{where} holds numbers; say their unit: s or ms since 1970"
    if sort is Sort.NAIVE and source.time_zone is None:
        return (
            f"{where} is a {sort.value}: the same value means another moment in another session; make it a "
            "timestamp with time zone, or declare time_zone of the database (e.g. UTC, Europe/Berlin)"
        )
    if sort in (Sort.AWARE, Sort.NAIVE) or database.kind == "sqlite":
        return None
    return f"{where} is {_said(sort, column)} and tells no moment; name a timestamp column, or a number with unit"


# Spellings --------------------------------------------------------------------------------------------------------


class _Zoned:
    """Timestamps that carry their zone: one value, one moment."""

    def before(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column < _bound(at, DateTime(timezone=True))

    def since(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column >= _bound(at, DateTime(timezone=True))

    def after(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column > _bound(at, DateTime(timezone=True))

    def until(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column <= _bound(at, DateTime(timezone=True))

    def spelled(self, at: datetime) -> Any:
        return at

    def read(self, value: Any, now: datetime) -> datetime | None:
        return value.astimezone(UTC) if isinstance(value, datetime) else None  # infinity comes as text


class _Naive:
    """Timestamps of one declared zone."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def before(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column < _bound(self._lowest(at), DateTime())

    def since(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column >= _bound(self._lowest(at), DateTime())

    def after(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column > _bound(self._highest(at), DateTime())

    def until(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column <= _bound(self._highest(at), DateTime())

    def spelled(self, at: datetime) -> Any:
        return at.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def read(self, value: Any, now: datetime) -> datetime | None:
        return _reading(value, self._zone, now) if isinstance(value, datetime) else None

    def _lowest(self, at: datetime) -> datetime:
        """Return the first value whose later reading is not before `at`."""
        local = at.astimezone(self._zone)
        if local.fold or not _shown_twice(local):
            return local.replace(tzinfo=None, fold=0)
        return _put_back(self._zone, at, at + _DAY).astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _highest(self, at: datetime) -> datetime:
        """Return the last value that a clock has shown up to `at`."""
        local = at.astimezone(self._zone)
        if not local.fold:
            return local.replace(tzinfo=None)
        before = _put_back(self._zone, at - _DAY, at) - _MICROSECOND
        return before.astimezone(self._zone).replace(tzinfo=None, fold=0)


class _Number:
    """Seconds or milliseconds since 1970."""

    def __init__(self, per_second: int, *, whole: bool) -> None:
        self._per_second = per_second
        self._whole = whole

    def before(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column < self._at_least(at)

    def since(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column >= self._at_least(at)

    def after(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        ahead = column > self._at_most(at)
        untyped = isinstance(column.type, NullType)  # SQLite, where each text is greater than each number
        return and_(ahead, func.typeof(column) != "text") if untyped else ahead

    def until(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return column <= self._at_most(at)

    def spelled(self, at: datetime) -> Any:
        exact = self._exact(at)
        return math.floor(exact) if self._whole or self._per_second > 1 else exact

    def read(self, value: Any, now: datetime) -> datetime | None:
        try:
            return _EPOCH + timedelta(seconds=float(value) / self._per_second)
        except (TypeError, ValueError, OverflowError):
            return None

    def _exact(self, at: datetime) -> float:
        return (at - _EPOCH) / timedelta(seconds=1) * self._per_second

    def _at_least(self, at: datetime) -> ColumnElement[Any]:
        return self._number(math.ceil(self._exact(at)) if self._whole else self._exact(at))

    def _at_most(self, at: datetime) -> ColumnElement[Any]:
        return self._number(math.floor(self._exact(at)) if self._whole else self._exact(at))

    def _number(self, value: float) -> ColumnElement[Any]:
        return _bound(value, NullType())  # as the driver spells it: a whole number keeps the index of whole numbers


class _Text:
    """ISO 8601 texts of SQLite, with blank or T, with or without a zone, mixed in one column.

    The text itself is compared by its day, which an index serves; only texts within a day and a half of the bound are
    read, by a function of ours on the connection.
    """

    def __init__(self, zone: tzinfo | None, connection: Connection, number: int) -> None:
        self._zone = zone
        self.zoneless: str | None = None
        self._late, self._early = f"prunella_late_{number}", f"prunella_early_{number}"
        driver: Any = connection.connection.driver_connection
        driver.create_function(self._late, 1, lambda text: self._microseconds(text, 1), deterministic=True)
        driver.create_function(self._early, 1, lambda text: self._microseconds(text, 0), deterministic=True)

    def before(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        day = func.substr(column, 1, 10, type_=NullType())
        exists = func.date(day, "+0 days", type_=NullType()) == day  # the 31st of February becomes another day
        surely = and_(column < _day(at - _BEHIND - _DAY), _like(column, _ISO_BEGINS), exists, self._zone_known(column))
        exact = and_(column < _day(at + _AHEAD + _DAY), or_(surely, self._is(self._late, column) < _micro(at)))
        return Told(exact, column < _bound(self.spelled(at), NullType()))

    def since(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        exact = and_(column >= _day(at - _BEHIND), self._is(self._late, column) >= _micro(at))
        return Told(exact, column >= _bound(self.spelled(at), NullType()))

    def after(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return and_(column >= _day(at - _BEHIND), self._is(self._early, column) > _micro(at))

    def until(self, column: Column[Any], at: datetime) -> ColumnElement[bool]:
        return and_(column < _day(at + _AHEAD + _DAY), self._is(self._early, column) <= _micro(at))

    def rank(self, column: Column[Any]) -> ColumnElement[Any]:
        """Return what orders the texts by the moment they mean."""
        return self._is(self._late, column)

    def spelled(self, at: datetime) -> Any:
        local = at.astimezone(self._zone or UTC)
        return local.replace(tzinfo=None).isoformat(" ") if self._zone else local.isoformat(" ")

    def read(self, value: Any, now: datetime) -> datetime | None:
        parsed = self._parsed(value)
        if parsed is None:
            return None
        return parsed.astimezone(UTC) if parsed.tzinfo else _reading(parsed, self._zone or UTC, now)

    def _microseconds(self, text: Any, fold: int) -> int | None:
        parsed = self._parsed(text)
        if parsed is None:
            return None
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=self._zone, fold=fold)
        return (aware - _EPOCH) // _MICROSECOND

    def _parsed(self, text: Any) -> datetime | None:
        if not isinstance(text, str) or not _ISO.fullmatch(text):
            return None
        try:
            parsed = datetime.fromisoformat(text.replace(" +", "+").replace(" -", "-").replace(" Z", "Z"))
        except ValueError:
            return None
        if parsed.tzinfo is None and self._zone is None:
            self.zoneless = text
            return None
        return parsed

    def _zone_known(self, column: Column[Any]) -> ColumnElement[bool]:
        """Let a text of long ago pass unread only where even one without a zone can be read."""
        return true() if self._zone is not None else or_(_like(column, "*Z"), _like(column, _ISO_ENDS))

    def _is(self, name: str, column: Column[Any]) -> ColumnElement[Any]:
        called: ColumnElement[Any] = getattr(func, name)(column, type_=Integer())
        return called


def _unit_of(database: Database, column: Column[Any], unit: str | None) -> str | None:
    """Return the unit that counts: the database's is for columns that are certainly numbers."""
    return unit or (database.source.unit if sort_of(column, database.kind) is Sort.NUMBER else None)


def _may_hold_numbers(database: Database, column: Column[Any]) -> bool:
    return database.kind == "sqlite" and not isinstance(declared(column), types.String)


# Small words ------------------------------------------------------------------------------------------------------


def _bound(value: Any, as_type: types.TypeEngine[Any]) -> ColumnElement[Any]:
    return bindparam(None, value, type_=as_type, unique=True)


def _like(column: Column[Any], pattern: str) -> ColumnElement[bool]:
    return column.op("GLOB", is_comparison=True)(_bound(pattern, NullType()))


def _micro(at: datetime) -> ColumnElement[Any]:
    return _bound((at - _EPOCH) // _MICROSECOND, NullType())


def _day(at: datetime) -> ColumnElement[Any]:
    return _bound(at.astimezone(UTC).date().isoformat(), NullType())


def _is_whole(column: Column[Any]) -> bool:
    return isinstance(column.type, types.Integer)


def _reading(value: datetime, zone: tzinfo, now: datetime) -> datetime:
    """Return the later reading of a value that is shown twice, unless only the earlier one is not ahead of now."""
    late, early = (value.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    return early if late > now >= early else late


def _shown_twice(local: datetime) -> bool:
    first, second = (local.replace(fold=fold).utcoffset() for fold in (0, 1))
    return first is not None and second is not None and first > second


def _put_back(zone: tzinfo, low: datetime, high: datetime) -> datetime:
    """Return the moment between two at which the clock was put back."""
    before = low.astimezone(zone).utcoffset()
    while high - low > _MICROSECOND:
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high


def _said(sort: Sort, column: Column[Any]) -> str:
    return {Sort.OTHER: f"a {column.type}", Sort.DATE: "a date without a time of day"}.get(sort, f"a {sort.value}")


__all__ = ["TOLERANCE_S", "UNITS", "Moments", "time_problem"]
