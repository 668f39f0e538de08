"""Name whose credentials a transaction is about; PostgreSQL shows it no others, whatever a statement forgets to ask.

The name is set for the transaction alone (SET LOCAL), so that it goes with no connection to the next one, also behind
a transaction pooler. Row-level security binds neither superusers nor roles with BYPASSRLS: `prunella doctor` says so.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Text, cast, func, select

from prunella.store.session import Session
from prunella.store.sql import Sql, param

ACCOUNT: Final = "prunella.account"
SECRET: Final = "prunella.secret"  # noqa: S105, a name
ALL: Final = "all"
"""No name looks like this: names are quoted."""
CLOSED: Final = f"SELECT set_config('{ACCOUNT}', '', false), set_config('{SECRET}', '', false)"
"""What a new connection says, so that a transaction that names nobody sees nothing."""

_FIRST, _SECOND = (func.quote_literal(cast(param(name), Text)) for name in ("first", "second"))
_ONE = Sql(select(func.set_config(cast(param("setting"), Text), _FIRST, True)))
_TWO = Sql(select(func.set_config(cast(param("setting"), Text), _FIRST.op("||")(_SECOND), True)))
_EVERY = Sql(select(func.set_config(cast(param("setting"), Text), ALL, True)))


async def account(session: Session, service: str, name: str) -> None:
    """See one account's tokens from here on."""
    if session.dialect.name == "postgresql":
        await session.fetch(_TWO, setting=ACCOUNT, first=service, second=name)


async def service(session: Session, name: str) -> None:
    """See the tokens of every account of a service from here on."""
    if session.dialect.name == "postgresql":
        await session.fetch(_ONE, setting=ACCOUNT, first=name)


async def secret(session: Session, name: str) -> None:
    """See one named secret from here on."""
    if session.dialect.name == "postgresql":
        await session.fetch(_ONE, setting=SECRET, first=name)


async def everything(session: Session, setting: str) -> None:
    """See all rows from here on: for what is done to all of them, and for lists of names."""
    if session.dialect.name == "postgresql":
        await session.fetch(_EVERY, setting=setting)
