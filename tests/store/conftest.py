"""A second look at the database, past the store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from store.making import Outside


@pytest.fixture
def outside(database_url: str) -> Outside:
    """Look at the database from outside the store; names without a schema mean prunella's own."""

    def run(text: str) -> list[tuple[Any, ...]]:
        if database_url.startswith("sqlite"):
            with closing(sqlite3.connect(make_url(database_url).database or "")) as file:
                return file.execute(text).fetchall()
        with psycopg.connect(database_url, autocommit=True, options="-csearch_path=prunella") as connection:
            return connection.execute(text.encode()).fetchall()

    return run
