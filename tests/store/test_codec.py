"""Values reach both databases unharmed, and what a database would refuse costs one character, not the record."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Text

from prunella.store.columns import Json, Moment
from prunella.store.sql import Dialect, PostgresDialect, SqliteDialect

SQLITE, POSTGRES = SqliteDialect(), PostgresDialect()
DIALECTS = pytest.mark.parametrize("dialect", [SQLITE, POSTGRES], ids=lambda dialect: dialect.name)


@DIALECTS
@given(st.text())
def test_text_is_changed_only_where_no_database_takes_it(dialect: Dialect, text: str) -> None:
    """Clean text passes as it is; any other becomes encodable, without NUL, as long as before, and stays so."""
    encode = dialect.encoder(Text())
    assert encode is not None
    stored = encode(text)
    clean = "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
    assert (stored == text) == clean
    assert len(stored) == len(text)
    assert "\0" not in stored.encode().decode()
    assert encode(stored) == stored


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def storable(value: Any) -> Any:
    """Say what a JSON value is after every text in it was stored by itself."""
    encode = SQLITE.encoder(Text())
    assert encode is not None
    if isinstance(value, str):
        return encode(value)
    if isinstance(value, list):
        return [storable(one) for one in value]
    return {encode(name): storable(one) for name, one in value.items()} if isinstance(value, dict) else value


@given(JSON_VALUES | st.text(alphabet='\\u0\0"a' + chr(0xD800)))
def test_json_is_changed_only_where_no_database_takes_it(value: Any) -> None:
    """JSON comes back equal; where it held NUL or half a character, those alone are replaced."""
    encode = SQLITE.encoder(Json())
    assert encode is not None
    text = encode(value)
    assert "\0" not in text.encode().decode()
    assert json.loads(text) == storable(value)


ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(3000, 1, 1), timezones=ZONES)  # noqa: DTZ001, zones are drawn


@given(MOMENTS, MOMENTS)
def test_times_sort_as_text(one: datetime, other: datetime) -> None:
    """On SQLite times are text: it sorts as the moments do, and comes back as the same moment in UTC."""
    encode, decode = SQLITE.encoder(Moment()), SQLITE.decoder(Moment())
    assert encode is not None
    assert decode is not None
    assert (encode(one) < encode(other)) == (one < other)
    assert decode(encode(one)) == one
    assert decode(encode(one)).tzinfo is UTC
