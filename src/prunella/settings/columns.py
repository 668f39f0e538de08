"""What is said about rows of the users' tables: names, filters, values, moments.

A name is only looked at for what no name may hold; whether it exists is for the live catalogue to say.
"""

from __future__ import annotations

import math
import re
import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from prunella.settings import values as of

_NAME_BYTES_MAX: Final = 63  # PostgreSQL cuts longer names in silence; MySQL refuses them from 65 on
_QUOTES: Final = frozenset("\"'`")
_LISTING: Final = ("in", "not_in")
_OPERATORS: Final = ("eq", "ne", "lt", "le", "gt", "ge", *_LISTING)
_CRON: Final = re.compile(r"[0-9A-Za-z*,/#-]{1,40}(?: +[0-9A-Za-z*,/#-]{1,40}){4}")
_SOME_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)
_SCALAR_SCHEMA: Final = WithJsonSchema({"type": ["string", "number", "boolean"]})


def _name(text: str) -> str:
    """Refuse what no table or column is called; quoting is done with the database's own means, never here."""
    if _QUOTES & set(text):
        raise of.hidden("holds a quote; write the name of a table or column as the database has it, without quotes")
    if not text.isprintable():
        raise of.hidden("holds a control character; write the name of a table or column as the database has it")
    size = len(text.encode())
    if not 0 < size <= _NAME_BYTES_MAX:
        raise of.hidden(f"is {size} bytes long; the name of a table or column has 1 to {_NAME_BYTES_MAX}")
    return text


def misnamed(text: str) -> PydanticCustomError | None:
    """Return what is wrong with the name of a table or column, None where nothing is."""
    try:
        _name(text)
    except PydanticCustomError as error:
        return error
    return None


def plain_value(value: Any, info: ValidationInfo) -> Any:
    """Return what is compared with or written into a column: a text, figure, truth or nothing."""
    if isinstance(value, list | dict):
        raise of.hidden(
            "holds a list or a mapping where one value belongs; write a text, a number, true, false or null"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise of.hidden("is too large for a number; write it in quotes, or a smaller one")
    return of.expanded(value, info)


def _condition(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, list):
        return _several(value, info)
    if not isinstance(value, dict):
        return plain_value(value, info)
    if not value:
        raise of.hidden("is empty and would fit every row; write a value, or e.g. {lt: 5}")
    return {name: _compared(name, operand, info) for name, operand in value.items()}


def _compared(name: str, operand: Any, info: ValidationInfo) -> Any:
    if name not in _OPERATORS:
        near = of.nearest(name, list(_OPERATORS))
        raise of.hidden(f"holds an unknown comparison{near}; allowed: {', '.join(_OPERATORS)}")
    if name in _LISTING:
        if not isinstance(operand, list):
            raise of.hidden(f"{name} compares with a list; write {{{name}: [a, b]}}")
        return _several(operand, info)
    if operand is None and name not in ("eq", "ne"):
        raise of.hidden(f"{name} compares with nothing, which fits no row; write a value, or {{ne: null}}")
    return plain_value(operand, info)


def _several(values: list[Any], info: ValidationInfo) -> list[Any]:
    if not values:
        raise of.hidden("holds an empty list, which fits no row; name at least one value")
    return [plain_value(value, info) for value in values]


def _filter(value: Any) -> Any:
    if value == "all":
        return {}
    if not isinstance(value, dict):
        raise of.wrong("is no filter; write column: value, or all for every row")
    if not value:
        raise of.hidden("is empty and would fit every row; name a column and its value, or write all")
    return value


def _some(value: Any) -> Any:
    if value == "all" or not isinstance(value, dict) or not value:
        raise of.hidden("names no rows; write column: value")
    return value


def _state(value: Any, info: ValidationInfo) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise of.wrong("is no state; write a text, in quotes where it looks like something else")
    return str(of.expanded(value, info))


def _zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = of.nearest(text, sorted(zoneinfo.available_timezones()))
        raise of.wrong(f"is no time zone{near or '; write e.g. Europe/Berlin or UTC'}") from None
    return text


def _cron(text: str) -> str:
    try:
        turns = CronSim(text, _SOME_DAY) if _CRON.fullmatch(text) else None
        comes = turns is not None and next(turns, None) is not None
    except CronSimError:
        comes = False
    if not comes:
        raise of.wrong("is no moment that comes; write minute hour day month weekday, e.g. '0 2 * * SUN'")
    return text


Column = Annotated[str, AfterValidator(_name)]
"""The name of a table or column."""
Value = Annotated[Any, PlainValidator(plain_value), _SCALAR_SCHEMA]
Condition = Annotated[Any, PlainValidator(_condition), WithJsonSchema({})]
Where = Annotated[dict[Column, Condition], BeforeValidator(_filter)]
"""Which rows; all of them where it is empty, which the file spells `all`."""
Some = Annotated[dict[Column, Condition], BeforeValidator(_some)]
"""Which rows, and never all."""
State = Annotated[str, PlainValidator(_state), WithJsonSchema({"type": ["string", "integer"]})]
Unit = Annotated[Literal["s", "ms"], of.EXPANDED]
Zone = Annotated[of.Text, AfterValidator(_zone)]
Cron = Annotated[of.Text, AfterValidator(_cron)]
Ages = Annotated[dict[Column, Annotated[float, of.Between("1s", "3650d")]], BeforeValidator(_some)]
"""Column -> how long ago its time must be."""


def is_all(where: Mapping[str, Any] | None) -> bool:
    """Tell whether a filter is spelled `all`."""
    return where is not None and not where
