"""What `where` of the configuration means: column -> value as a condition on a reflected table, and as words.

Names come from the live catalogue, values are always parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import (
    Boolean,
    ClauseElement,
    Column,
    ColumnElement,
    FromClause,
    TypeCoerce,
    and_,
    bindparam,
    false,
    or_,
    true,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql import visitors
from sqlalchemy.types import NullType

from prunella.core.errors import DatabaseRefused
from prunella.core.redact import scrub
from prunella.databases.columns import column_of, name_of

_UNITS_S = (("d", 86_400), ("h", 3600), ("min", 60))
_CHARS_SHOWN = 200
_LISTED_MAX = 5


class Told(TypeCoerce[bool]):
    """A condition as the database reads it, with the one that people are shown instead."""

    inherit_cache = True

    def __init__(self, exact: ColumnElement[bool], plain: ColumnElement[bool]) -> None:
        super().__init__(exact, Boolean())
        self.plain = plain


def matching(table: FromClause, where: Mapping[str, Any]) -> ColumnElement[bool]:
    """Return the condition that all of `where` holds; an empty one holds for every row.

    Raises:
        DatabaseRefused: a column or an operator that does not exist.
    """
    return and_(true(), *(_holds(column_of(table, name), wanted) for name, wanted in where.items()))


def operator_problem(wanted: Any) -> str | None:
    """Say what is wrong with a condition's operators; None where nothing is."""
    if not isinstance(wanted, Mapping):
        return "an empty list matches nothing; name at least one value" if wanted == [] else None
    if not wanted:
        return f"is empty; write a value, or one of {', '.join(_OPERATORS)}"
    for name, value in wanted.items():
        if name not in _OPERATORS:
            return f"{name!r} is no operator; write one of {', '.join(_OPERATORS)}"
        if name in ("in", "not_in"):
            if not isinstance(value, list | tuple) or not value:
                return f"{name} needs a list of values; write {name}: [...]"
        elif isinstance(value, list | tuple | Mapping):
            return f"{name} needs one value; write in or not_in for several"
        elif value is None and name not in ("eq", "ne"):
            return f"{name}: null holds for no row; write eq: null or ne: null"
    return None


def words(where: Mapping[str, Any], older_than: Mapping[str, float] | None = None) -> str:
    """Write a condition as people read it, without secrets."""
    ages = [f"{name} older than {_duration(seconds)}" for name, seconds in (older_than or {}).items()]
    return " and ".join([*_clauses(where), *ages]) or "all rows"


def as_value(value: Any) -> ColumnElement[Any]:
    """Return a parameter that takes its type from what it is compared with or written to, as a literal would."""
    return bindparam(None, value, type_=NullType(), unique=True)


def shown(statement: ClauseElement, kind: str) -> str:
    """Write a statement with its values, scrubbed: for people, never to be run."""
    dialect = _DIALECTS[kind](paramstyle="pyformat")
    told = cast(ClauseElement, visitors.replacement_traverse(statement, {}, _as_told))
    compiled = told.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    values = compiled.params
    text = re.sub(r"%\((\w+)\)s", lambda match: _literal(values.get(match[1])), str(compiled))
    return re.sub(r"\s*\n\s*", " ", text.replace("%%", "%"))


def _as_told(element: Any, **_: Any) -> Any:
    return element.plain if isinstance(element, Told) else None


def _holds(column: Column[Any], wanted: Any) -> ColumnElement[bool]:
    problem = operator_problem(wanted)
    if problem is not None and wanted != []:
        raise DatabaseRefused(f"condition on {name_of(column)}: {problem}")
    if isinstance(wanted, list | tuple):
        return _in(column, wanted)
    if not isinstance(wanted, Mapping):
        return _equal(column, wanted)
    return and_(true(), *(_OPERATORS[name](column, value) for name, value in wanted.items()))


def _equal(column: Column[Any], value: Any) -> ColumnElement[bool]:
    return column.is_(None) if value is None else column == as_value(value)


def _unequal(column: Column[Any], value: Any) -> ColumnElement[bool]:
    return column.is_not(None) if value is None else column != as_value(value)


def _in(column: Column[Any], values: Any) -> ColumnElement[bool]:
    known = [as_value(value) for value in values if value is not None]
    ways: list[ColumnElement[bool]] = [column.in_(known)] if known else []
    return or_(false(), *ways, *([column.is_(None)] if None in values else []))


def _not_in(column: Column[Any], values: Any) -> ColumnElement[bool]:
    """Leave out what is listed; a NULL is no value, and only `null` in the list says anything about it: not that."""
    known = [as_value(value) for value in values if value is not None]
    return and_(column.is_not(None), *([column.not_in(known)] if known else []))


_OPERATORS: Mapping[str, Callable[[Column[Any], Any], ColumnElement[bool]]] = {
    "eq": _equal,
    "ne": _unequal,
    "lt": lambda column, value: column < as_value(value),
    "le": lambda column, value: column <= as_value(value),
    "gt": lambda column, value: column > as_value(value),
    "ge": lambda column, value: column >= as_value(value),
    "in": _in,
    "not_in": _not_in,
}
_SIGNS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "in": "in", "not_in": "not in"}
_DIALECTS: Mapping[str, Callable[..., Any]] = {
    "postgresql": postgresql.base.PGDialect,
    "sqlite": sqlite.base.SQLiteDialect,
    "mysql": mysql.base.MySQLDialect,
}


def _clauses(where: Mapping[str, Any]) -> Iterator[str]:
    for name, wanted in where.items():
        if isinstance(wanted, Mapping):
            yield from (f"{name} {_sign(sign, value)} {_shown(value)}" for sign, value in wanted.items())
        elif isinstance(wanted, list | tuple):
            yield f"{name} in {_shown(wanted)}"
        else:
            yield f"{name} {'is' if wanted is None else '='} {_shown(wanted)}"


def _sign(sign: str, value: Any) -> str:
    return {"eq": "is", "ne": "is not"}[sign] if value is None else _SIGNS.get(sign, sign)


def _duration(seconds: float) -> str:
    """Write whole days, hours or minutes where it is such, else seconds."""
    unit, length_s = next(((unit, one) for unit, one in _UNITS_S if seconds and seconds % one == 0), ("s", 1))
    return f"{seconds / length_s:g} {unit}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        several = [_literal(one) for one in value[:_LISTED_MAX]]
        return f"({', '.join(several)}{', …' if len(value) > _LISTED_MAX else ''})"
    return _literal(value)


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | Decimal):
        return str(value)
    text = scrub(str(value))
    text = text if len(text) <= _CHARS_SHOWN else f"{text[: _CHARS_SHOWN - 1]}…"
    return "'" + text.replace("'", "''") + "'"
