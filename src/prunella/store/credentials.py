"""Rows of credentials and named secrets: ciphertext only; sealing and opening is `secrets.py`'s.

A claim is also the mark that a refresh was begun: `refreshing_since` ends with the new pair or by its holder's word
that there is none. The death of the holder ends the claim, never the mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, or_, select, update

from prunella.core.records import Credential
from prunella.store import scope
from prunella.store.columns import Moment
from prunella.store.session import Session, record, records, row_of
from prunella.store.sql import Sql, member_of, param
from prunella.store.tables import credentials as t
from prunella.store.tables import secrets as named

_BY_ACCOUNT = (t.c.service == param("service_"), t.c.account == param("account_"))
_READ = Sql(select(t).where(*_BY_ACCOUNT))
_OF_SERVICE = Sql(select(t).where(t.c.service == param("service_")).order_by(t.c.account))
_FREE = (
    *_BY_ACCOUNT,
    t.c.version == param("was"),
    t.c.needs_person.is_(None),
    t.c.refreshing_since.is_not_distinct_from(param("since", Moment())),
    t.c.refreshing_until.is_not_distinct_from(param("held", Moment())),  # read as held, it may be freed by a burial
    or_(t.c.refreshing_until.is_(None), t.c.refreshing_until <= param("now", Moment())),
)
_CLAIM = Sql(
    update(t)
    .where(*_FREE)
    .values(
        refreshing_by=param("worker"),
        refreshing_until=param("until"),
        refreshing_since=func.coalesce(t.c.refreshing_since, param("now", Moment())),
    )
)
_GIVE_UP = Sql(update(t).where(*_FREE).values(needs_person=param("needs")))
_ROTATES = Sql(select(t.c.account).where(t.c.service == param("service_"), t.c.rotates.is_(True)).limit(1))
_ROTATE = Sql(
    update(t)
    .where(*_BY_ACCOUNT, t.c.version == param("was"))
    .values(
        access_sealed=param("access"),
        refresh_sealed=param("refresh"),
        version=t.c.version + 1,
        expires_at=param("expires"),
        refreshed_at=param("now"),
        needs_person=None,
        refreshing_by=None,
        refreshing_until=None,
        refreshing_since=None,
        rotates=param("rotates"),
    )
)
_RELEASE = Sql(
    update(t)
    .where(*_BY_ACCOUNT, t.c.version == param("was"), t.c.refreshing_by == param("worker"))
    .values(refreshing_by=None, refreshing_until=None, refreshing_since=param("since"), needs_person=param("needs"))
)
_HELD = t.c.refreshing_until.is_not(None)
_RELEASE_OF = Sql(update(t).where(member_of(t.c.refreshing_by, "workers"), _HELD).values(refreshing_until=None))
_RELEASE_ALL = Sql(update(t).where(_HELD).values(refreshing_until=None))
_SECRET = Sql(select(named.c.value_sealed).where(named.c.name == param("name_")))
_SECRET_NAMES = Sql(select(named.c.name).order_by(named.c.name))
_DROP_SECRET = Sql(delete(named).where(named.c.name == param("name_")))
_KEPT = frozenset({"service", "account", "version", "rotates"})  # whether a provider rotates outlasts a reconnection
_REPLACED = tuple(column.name for column in t.c if column.name not in _KEPT)


class CredentialRows:
    """Read and write sealed credentials."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def read(self, service: str, account: str) -> Credential | None:
        """Return one account's tokens."""
        await scope.account(self._session, service, account)
        return record(Credential, await self._session.one(_READ, service_=service, account_=account))

    async def of_service(self, service: str) -> list[Credential]:
        """Return every account of a service."""
        await scope.service(self._session, service)
        return records(Credential, await self._session.fetch(_OF_SERVICE, service_=service))

    async def put(self, credential: Credential) -> None:
        """Store tokens that a person handed over, in place of what was there, as a version that never was before."""
        await self._alone(credential)
        was = f"{self._session.dialect.table(t)}.version"
        replaced = ", ".join(f"{name} = excluded.{name}" for name in _REPLACED)
        await self._session.insert(
            t,
            [row_of(credential)],
            conflict=(
                f"ON CONFLICT (service, account) DO UPDATE SET {replaced}, "
                f"version = CASE WHEN excluded.version > {was} THEN excluded.version ELSE {was} + 1 END"
            ),
        )

    async def claim_refresh(self, credential: Credential, worker: str, now: datetime, until: datetime) -> bool:
        """Win the right to refresh this version of the tokens, until `until`; False for everybody else."""
        await self._alone(credential)
        touched = await self._session.change(
            _CLAIM,
            **_as_read(credential),
            held=credential.refreshing_until,
            worker=worker,
            now=now,
            until=until,
        )
        return touched == 1

    async def give_up(self, credential: Credential, now: datetime, needs_person: str) -> bool:
        """Leave a refresh that nobody ends any more to a person; False where somebody else has seen to it."""
        await self._alone(credential)
        touched = await self._session.change(
            _GIVE_UP,
            **_as_read(credential),
            held=credential.refreshing_until,
            now=now,
            needs=needs_person,
        )
        return touched == 1

    async def seen_to_rotate(self, service: str) -> bool:
        """Tell whether the last refresh of any of a service's accounts brought a new refresh token."""
        await scope.service(self._session, service)
        return await self._session.one(_ROTATES, service_=service) is not None

    async def rotate(
        self,
        credential: Credential,
        access: bytes,
        refresh: bytes | None,
        expires: datetime | None,
        now: datetime,
        *,
        rotates: bool = True,
    ) -> bool:
        """Write new tokens over the version they replace; False when that version is gone.

        Args:
            rotates: they came with a refresh token that is not the old one.
        """
        await self._alone(credential)
        touched = await self._session.change(
            _ROTATE,
            service_=credential.service,
            account_=credential.account,
            was=credential.version,
            access=access,
            refresh=refresh,
            expires=expires,
            now=now,
            rotates=rotates,
        )
        return touched == 1

    async def release(self, credential: Credential, worker: str, needs_person: str | None = None) -> None:
        """Give `worker`'s right to refresh back; with `needs_person` the account waits for a person.

        Args:
            credential: as it was before the claim: a mark that somebody else had left stays.
        """
        await self._alone(credential)
        await self._session.change(
            _RELEASE,
            **_as_read(credential),
            worker=worker,
            needs=needs_person,
        )

    async def release_all(self) -> int:
        """End every right to refresh: only for a store whose other processes are known to be dead."""
        await scope.everything(self._session, scope.ACCOUNT)
        return await self._session.change(_RELEASE_ALL)

    async def release_of(self, workers: Sequence[str]) -> int:
        """End every right to refresh that workers held who are dead; that they had begun stays written."""
        await scope.everything(self._session, scope.ACCOUNT)
        return await self._session.change(_RELEASE_OF, workers=list(workers))

    async def secret(self, name: str) -> bytes | None:
        """Return a named secret, sealed."""
        await scope.secret(self._session, name)
        row = await self._session.one(_SECRET, name_=name)
        return row["value_sealed"] if row else None

    async def put_secret(self, name: str, sealed: bytes, now: datetime) -> None:
        """Store a named secret in place of what was there."""
        await scope.secret(self._session, name)
        await self._session.insert(
            named,
            [{"name": name, "value_sealed": sealed, "changed_at": now}],
            conflict=(
                "ON CONFLICT (name) DO UPDATE SET "
                "value_sealed = excluded.value_sealed, changed_at = excluded.changed_at"
            ),
        )

    async def drop_secret(self, name: str) -> bool:
        """Forget a named secret; False when there was none."""
        await scope.secret(self._session, name)
        return await self._session.change(_DROP_SECRET, name_=name) == 1

    async def secret_names(self) -> list[str]:
        """Return the names of all secrets."""
        await scope.everything(self._session, scope.SECRET)
        return [row["name"] for row in await self._session.fetch(_SECRET_NAMES)]

    async def _alone(self, credential: Credential) -> None:
        await scope.account(self._session, credential.service, credential.account)


def _as_read(credential: Credential) -> dict[str, Any]:
    """Return what has to stand in the row still, for a change to be about what was read."""
    return {
        "service_": credential.service,
        "account_": credential.account,
        "was": credential.version,
        "since": credential.refreshing_since,
    }
