"""Kinds of columns that both databases hold in their own way."""

from __future__ import annotations

from typing import Any

from sqlalchemy import DateTime, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import JSON, TypeDecorator


class Moment(TypeDecorator[Any]):
    """An aware UTC time: timestamptz, or ISO 8601 text on SQLite, which sorts as the times do."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))


class Json(TypeDecorator[Any]):
    """A JSON value: jsonb, or text on SQLite."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else JSONB())
