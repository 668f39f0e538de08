"""Rows of seals, and which entries of the audit stand under them; the database refuses to change either."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, exists, func, or_, select, update

from prunella.core.records import AuditEntry, Seal
from prunella.store.columns import Moment
from prunella.store.session import Session, must_change, record, records, row_of
from prunella.store.sql import Sql, member_of, param
from prunella.store.tables import audit, incidents
from prunella.store.tables import seals as t

_TURN = 7_077_853  # any number of our own, beside that of the migrations
_TAKE_TURN = Sql(select(func.pg_advisory_xact_lock(_TURN)))
_LAST = Sql(select(t).order_by(t.c.number.desc()).limit(1))
_AFTER = Sql(select(t).where(t.c.number > param("after")).order_by(t.c.number).limit(param("most")))
_ONE = Sql(select(t).where(t.c.number == param("number_")))
_UNSEALED = Sql(
    select(audit)
    .where(audit.c.seal.is_(None), audit.c.at < param("before", Moment()))
    .order_by(audit.c.id)
    .limit(param("most"))
)
_PUT = Sql(update(audit).where(member_of(audit.c.id, "ids"), audit.c.seal.is_(None)).values(seal=param("number_")))
_UNDER = Sql(select(audit).where(audit.c.seal == param("number_")))
_COUNT_UNSEALED = Sql(select(func.count().label("count")).where(audit.c.seal.is_(None)))
_ASTRAY = Sql(select(func.min(audit.c.seal).label("number")).where(audit.c.seal.not_in(select(t.c.number))))
_old = param("before", Moment())
_BUSY = exists().where(
    audit.c.seal == t.c.number,
    or_(audit.c.at >= _old, exists().where(incidents.c.id == audit.c.incident_id)),
)
_OLD = Sql(
    select(t.c.number)
    .where(t.c.forgotten_at.is_(None), t.c.sealed_at < _old, ~_BUSY)
    .order_by(t.c.number)
    .limit(param("most"))
)
_MARK = Sql(
    update(t)
    .where(t.c.number == param("number_"), t.c.forgotten_at.is_(None))
    .values(forgotten_at=param("now", Moment()))
)
_FORGET = Sql(delete(audit).where(audit.c.seal == param("number_")))


class SealRows:
    """Read and write seals."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def take_turn(self) -> None:
        """Wait until nobody else seals; the turn ends with the transaction. On SQLite there is one writer anyway."""
        if self._session.dialect.name == "postgresql":
            await self._session.fetch(_TAKE_TURN)

    async def last(self) -> Seal | None:
        """Return the end of the chain, None where nothing is sealed yet."""
        return record(Seal, await self._session.one(_LAST))

    async def after(self, number: int, most: int) -> list[Seal]:
        """Return the next seals, in their order."""
        return records(Seal, await self._session.fetch(_AFTER, after=number, most=most))

    async def get(self, number: int) -> Seal | None:
        """Return one seal."""
        return record(Seal, await self._session.one(_ONE, number_=number))

    async def unsealed(self, before: datetime, most: int) -> list[AuditEntry]:
        """Return entries from before a moment that stand under no seal, in the order of their ids."""
        return records(AuditEntry, await self._session.fetch(_UNSEALED, before=before, most=most))

    async def count_unsealed(self) -> int:
        """Count entries that stand under no seal yet."""
        row = await self._session.one(_COUNT_UNSEALED)
        return int(row["count"]) if row else 0

    async def put(self, seal: Seal, ids: list[str]) -> None:
        """Put a seal on entries; `Conflict` where one of them was sealed meanwhile."""
        await self._session.insert(t, [row_of(seal)])
        touched = await self._session.change(_PUT, ids=ids, number_=seal.number)
        must_change(int(touched == len(ids)), f"what seal {seal.number} is for")

    async def under(self, number: int) -> list[AuditEntry]:
        """Return the entries under a seal, in no promised order."""
        return records(AuditEntry, await self._session.fetch(_UNDER, number_=number))

    async def astray(self) -> int | None:
        """Return the lowest number that entries name and no seal has; None where there is none."""
        row = await self._session.one(_ASTRAY)
        return row["number"] if row else None

    async def old(self, before: datetime, most: int) -> list[int]:
        """Return seals whose entries are all from before a moment, and about no incident that is still there."""
        return [row["number"] for row in await self._session.fetch(_OLD, before=before, most=most)]

    async def forget(self, number: int, now: datetime) -> int:
        """Mark a seal as forgotten and delete what stands under it; return how many entries went."""
        must_change(await self._session.change(_MARK, number_=number, now=now), f"seal {number}")
        return await self._session.change(_FORGET, number_=number)
