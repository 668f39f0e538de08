"""Rows of gates: one per service, read for update, so that counting and opening have one owner at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import select, update

from prunella.core.records import Gate
from prunella.store.session import Session, must_change, record, records, row_of
from prunella.store.sql import Sql, param
from prunella.store.tables import gates as t

_READ = Sql(select(t).where(t.c.service == param("service_")))
_TAKE = Sql(select(t).where(t.c.service == param("service_")).with_for_update())
_ALL = Sql(select(t).order_by(t.c.service))
_SAVE = Sql(
    update(t)
    .where(t.c.service == param("service_"), t.c.version == param("was"))
    .values(
        version=t.c.version + 1,
        **{column.name: param(column.name) for column in t.c if column.name not in ("service", "version")},
    )
)

_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)  # a gate that nobody opened anew counts whatever arrived


class GateRows:
    """Read and write gates."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def read(self, service: str) -> Gate | None:
        """Return a service's gate without locking it."""
        return record(Gate, await self._session.one(_READ, service_=service))

    async def take(self, service: str, now: datetime) -> Gate:
        """Return a service's gate, locked until the transaction ends; a new one is closed."""
        found = record(Gate, await self._session.one(_TAKE, service_=service))
        if found is not None:
            return found
        fresh = Gate(service=service, since=now, counting_from=_ALWAYS)
        await self._session.insert(t, [row_of(fresh)], conflict="ON CONFLICT (service) DO NOTHING")
        taken = record(Gate, await self._session.one(_TAKE, service_=service))
        assert taken is not None  # inserted just now, by us or by who was quicker
        return taken

    async def save(self, gate: Gate) -> Gate:
        """Write a gate and return it as it stands now; `Conflict` when its version moved."""
        values = {name: value for name, value in row_of(gate).items() if name not in ("service", "version")}
        touched = await self._session.change(_SAVE, service_=gate.service, was=gate.version, **values)
        must_change(touched, f"gate {gate.service}")
        return replace(gate, version=gate.version + 1)

    async def all(self) -> list[Gate]:
        """Return every gate."""
        return records(Gate, await self._session.fetch(_ALL))
