"""Rows of approvals: what was proposed, and what became of it; a decision has one winner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from prunella.core.records import Approval
from prunella.core.states import APPROVAL, ApprovalState
from prunella.store.session import Session, behind, must_change, record, records, row_of
from prunella.store.sql import Sql, param, prepare
from prunella.store.tables import approvals as t

_STANDING = [ApprovalState.WAITING.value, ApprovalState.APPROVED.value]

_BY_ID = Sql(select(t).where(t.c.id == param("id_")))
_STANDING_OF = Sql(
    select(t)
    .where(t.c.procedure == param("procedure_"), t.c.state.in_(_STANDING), t.c.used_at.is_(None))
    .order_by(t.c.created_at, t.c.id)
)
_MOVE = Sql(
    update(t)
    .where(t.c.id == param("id_"), t.c.state == param("was"))
    .values(
        state=param("state_"),
        decided_at=param("at"),
        decided_by=param("by"),
        reason=param("reason_"),
        superseded_by=param("next"),
    )
)
_USE = Sql(
    update(t)
    .where(t.c.id == param("id_"), t.c.state == ApprovalState.APPROVED.value, t.c.used_at.is_(None))
    .values(used_at=param("now"))
)
_OLDEST_WAITING = Sql(
    select(t).where(t.c.state == ApprovalState.WAITING.value).order_by(t.c.created_at, t.c.id).limit(param("most"))
)
_WAITING = Sql(select(t.c.id, t.c.expires_at).where(t.c.state == ApprovalState.WAITING.value))


class ApprovalRows:
    """Read and write approvals."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, approvals: Sequence[Approval]) -> None:
        """Record proposals."""
        await self._session.insert(t, [row_of(one) for one in approvals])

    async def get(self, approval_id: str) -> Approval | None:
        """Return one proposal."""
        return record(Approval, await self._session.one(_BY_ID, id_=approval_id))

    async def standing_of(self, procedure: str) -> list[Approval]:
        """Return a procedure's proposals that wait, or are approved and not carried out yet, oldest first."""
        return records(Approval, await self._session.fetch(_STANDING_OF, procedure_=procedure))

    async def move(self, approval: Approval, was: ApprovalState) -> None:
        """Write a decision; `IllegalTransition` where it may not follow, `Conflict` when another was quicker."""
        APPROVAL.check(was, approval.state)
        touched = await self._session.change(
            _MOVE,
            id_=approval.id,
            was=was.value,
            state_=approval.state.value,
            at=approval.decided_at,
            by=approval.decided_by,
            reason_=approval.reason,
            next=approval.superseded_by,
        )
        must_change(touched, f"approval {approval.id}")

    async def use(self, approval_id: str, now: datetime) -> None:
        """Note that the approved plan is carried out now; `Conflict` when it already was."""
        must_change(await self._session.change(_USE, id_=approval_id, now=now), f"approval {approval_id}")

    async def waiting(self) -> list[dict[str, Any]]:
        """Return id and end of every proposal that waits for a person."""
        return await self._session.fetch(_WAITING)

    async def oldest_waiting(self, *, most: int) -> list[Approval]:
        """Return proposals that wait for an answer, those that have waited longest first."""
        return records(Approval, await self._session.fetch(_OLDEST_WAITING, most=most))

    async def list(self, *, most: int, before: tuple[datetime, str] | None = None, **equal: Any) -> list[Approval]:
        """Return proposals, newest first, that equal the given columns; `before` continues a listing."""
        query = select(t).where(behind(t.c.created_at, t.c.id, before))
        query = query.order_by(t.c.created_at.desc(), t.c.id.desc()).limit(most)
        for name, value in equal.items():
            query = query.where(t.c[name] == value)
        return records(Approval, await self._session.fetch(prepare(query, self._session.dialect)))
