"""How a row is written down so that it can be put back byte for byte: an object of column -> text.

The database writes it: PostgreSQL each column as its own output function does (what pg_dump trusts), NULL as JSON
null. SQLite has no
types of columns but of values: each text begins with the letter of its storage class. Python floats, dates and
decimals never come in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    CHAR,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Float,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    case,
    cast,
    func,
    literal,
    null,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.types import NullType

SCHEMA = "prunella"
POSTGRES = Table(
    "archive",
    MetaData(),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("run_id", Text, nullable=False, index=True),
    Column("table_name", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text),
    Column("archived_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("undone_at", DateTime(timezone=True)),
    schema=SCHEMA,
)
SQLITE = Table(
    "prunella_archive",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("run_id", Text, nullable=False, index=True),
    Column("table_name", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text),
    Column("archived_at", Text, nullable=False, server_default=func.strftime("%Y-%m-%dT%H:%M:%fZ", "now")),
    Column("undone_at", Text),
    sqlite_autoincrement=True,
)

OUTPUT = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmloption": "content",
}
"""Settings under which what PostgreSQL writes is read back as the same value, whatever the role's own are."""

_SPELL = "prunella_image"
_COLUMNS_PER_CALL = 40
"""A function of SQLite takes 127 arguments (SQLITE_MAX_FUNCTION_ARG); each column needs three."""


def image(named: Iterable[tuple[str, ColumnElement[Any]]], kind: str) -> ColumnElement[str]:
    """Return the expression of a row's image: each expression under the name that is given."""
    pairs = list(named)
    if kind == "postgresql":
        names = literal([name for name, _ in pairs], ARRAY(Text))
        return cast(func.json_object(names, array([text_of(one) for _, one in pairs])), Text)
    calls: list[ColumnElement[Any]] = []
    for start in range(0, len(pairs), _COLUMNS_PER_CALL):
        some = pairs[start : start + _COLUMNS_PER_CALL]
        spread = [part for name, one in some for part in (literal(name), func.typeof(one), exact(one))]
        calls.append(getattr(func, _SPELL)(*spread, type_=Text))
    joined: ColumnElement[Any] = literal("{") + calls[0]
    for call in calls[1:]:
        joined = joined + literal(", ") + call
    return joined + literal("}")


def text_of(one: ColumnElement[Any]) -> ColumnElement[str]:
    """Return PostgreSQL's text of an expression: what its type writes, not what a cast makes of it."""
    if written_by_type(one):
        return case((one.is_distinct_from(null()), func.format("%s", one)))
    return cast(one, Text)


def written_by_type(one: ColumnElement[Any]) -> bool:
    """Tell whether a cast to text could be another text: that of a blank-padded one drops its blanks.

    Types that SQLAlchemy does not know may be such. IS DISTINCT FROM, because a composite value that holds a NULL is
    not `IS NOT NULL`.
    """
    return isinstance(one.type, (CHAR, NullType))


def key_of(columns: Sequence[ColumnElement[Any]], kind: str) -> ColumnElement[str]:
    """Return the expression of a row's key as text: the value itself, or a JSON list of a key of several columns."""
    texts = [cast(one, Text) for one in columns]
    if len(texts) == 1:
        return texts[0]
    return cast(func.json_build_array(*texts), Text) if kind == "postgresql" else func.json_array(*texts, type_=Text)


def key_text(key: Any) -> str:
    """Return a key as text, as messages name it."""
    return json.dumps([str(part) for part in key]) if isinstance(key, (tuple, list)) else str(key)


def teach(connection: Connection) -> None:
    """Teach a connection of SQLite to spell rows."""
    driver: Any = connection.connection.driver_connection
    driver.create_function(_SPELL, -1, _spelled, deterministic=True)


def exact(one: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a value of SQLite with all of its bytes: a text may hold NUL, and bytes that are no text at all."""
    return case((func.typeof(one) == "text", cast(one, LargeBinary)), else_=type_coerce(one, LargeBinary))


def bound(spelled: str | None) -> ColumnElement[Any]:
    """Return a spelled value of SQLite as an expression that is exactly this value."""
    if spelled is None:
        return null()
    letter, _, rest = spelled.partition(":")
    if letter == "i":
        return literal(int(rest), Integer)
    if letter == "r":
        return literal(float(rest), Float)
    if letter == "b":
        return literal(bytes.fromhex(rest), LargeBinary)
    return cast(literal(rest.encode() if letter == "t" else bytes.fromhex(rest), LargeBinary), Text)


def _spelled(*parts: Any) -> str:
    """Spell columns; called by SQLite with name, storage class and value of each."""
    names, kinds, values = parts[::3], parts[1::3], parts[2::3]
    return ", ".join(
        f"{json.dumps(name)}: {json.dumps(spell(kind, value))}"
        for name, kind, value in zip(names, kinds, values, strict=True)
    )


def spell(kind: str, value: Any) -> str | None:
    """Spell one value of SQLite by its storage class."""
    if kind == "null":
        return None
    if kind == "integer":
        return f"i:{value}"
    if kind == "real":
        return f"r:{value!r}"
    raw = bytes(value)
    if kind == "blob":
        return f"b:{raw.hex()}"
    try:
        return f"t:{raw.decode()}"
    except UnicodeDecodeError:
        return f"x:{raw.hex()}"
