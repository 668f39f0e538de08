"""A database of a user, once of each kind: statements to fill it, and a handle on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, create_engine, make_url

from prunella.core.procedures import DatabaseSource
from prunella.core.redact import Secret
from prunella.databases.handle import Database


@dataclass
class Shop:
    """One database.

    Args:
        ago: an expression for a moment so many seconds ago; {} is the number.
    """

    url: str
    kind: str
    engine: Engine
    ago: str
    moment: str
    handles: list[Database] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)

    def run(self, *statements: str) -> None:
        """Run statements as the owner, each in a transaction of its own."""
        for statement in statements:
            with self.engine.begin() as connection:
                connection.exec_driver_sql(statement.replace("MOMENT", self.moment))

    def past(self, seconds: float) -> str:
        """Return the expression for a moment of `seconds` ago; negative: ahead."""
        return self.ago.format(seconds)

    def rows(self, query: str) -> Sequence[Any]:
        """Return what a query finds."""
        with self.engine.begin() as connection:
            return connection.exec_driver_sql(query).all()

    def role(self, name: str, *grants: str) -> str:
        """Make a role that may log in, and return the address with it; {role} in `grants` is its name."""
        role = f"{name}_{make_url(self.url).database}"
        self.roles.append(role)
        self.run(f"DROP ROLE IF EXISTS {role}", f"CREATE ROLE {role} LOGIN PASSWORD 'none'")
        self.run(*(grant.format(role=role) for grant in grants))
        return make_url(self.url).set(username=role, password="none").render_as_string(hide_password=False)

    def handle(self, *, query: Mapping[str, str] | None = None, url: str | None = None, **source: Any) -> Database:
        """Return a handle; `query` adds options to the address."""
        address = make_url(url or self.url).update_query_dict(dict(query or {}))
        rendered = address.render_as_string(hide_password=False)
        self.handles.append(Database(DatabaseSource(name="shop", url=Secret(rendered), **source)))
        return self.handles[-1]


@contextmanager
def opened(url: str) -> Iterator[Shop]:
    """Open a database as its owner."""
    kind = make_url(url).get_backend_name()
    address = make_url(url)
    engine = create_engine(
        address.set(drivername="postgresql+psycopg") if kind == "postgresql" else address,
        pool_pre_ping=True,  # what is tested ends idle connections
    )
    ago, moment = (
        ("(now() - {} * interval '1 second')", "timestamptz")
        if kind == "postgresql"
        else ("strftime('%Y-%m-%dT%H:%M:%fZ', julianday('now') - {} / 86400.0)", "text")
    )
    shop = Shop(url=url, kind=kind, engine=engine, ago=ago, moment=moment)
    try:
        yield shop
    finally:
        for handle in shop.handles:
            handle._threads.shutdown()
            handle._engine.dispose()
        shop.run(*(f"DROP OWNED BY {role}; DROP ROLE {role}" for role in shop.roles))
        engine.dispose()
