"""A proposal is answered once, carried out once, and found as long as it stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from prunella.core.errors import Conflict, IllegalTransition
from prunella.core.records import Approval
from prunella.core.states import ApprovalState
from prunella.store.contract import Store
from store.making import NOW, at, at_once

pytestmark = pytest.mark.anyio
_S = ApprovalState


def approval(number: object = 1, **changed: Any) -> Approval:
    fields: dict[str, Any] = {
        "id": f"approval-{number}",
        "incident_id": "incident-1",
        "procedure": "ward",
        "plan": {"words": "treat a", "targets": ["a"]},
        "digest": "d" * 32,
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=4),
    }
    return Approval(**{**fields, **changed})


async def add(store: Store, *proposed: Approval) -> None:
    async with store.transaction() as tx:
        await tx.approvals.add(proposed)


async def decide(store: Store, state: ApprovalState, by: str, was: ApprovalState = _S.WAITING) -> bool:
    decided = replace(approval(), state=state, decided_by=by, decided_at=at(5))
    try:
        async with store.transaction() as tx:
            await tx.approvals.move(decided, was)
    except Conflict:
        return False
    return True


async def use(store: Store) -> bool:
    try:
        async with store.transaction() as tx:
            await tx.approvals.use("approval-1", NOW)
    except Conflict:
        return False
    return True


async def test_proposal_comes_back_as_it_was(store: Store) -> None:
    """Plan, digest and times are kept; an unknown id is None."""
    await add(store, approval())
    async with store.transaction() as tx:
        assert await tx.approvals.get("approval-1") == approval()
        assert await tx.approvals.get("nobody") is None


async def test_of_twenty_answers_one_counts(store: Store) -> None:
    """Approved and rejected at the same moment by twenty people: one wins, and stays named."""
    await add(store, approval())
    states = [_S.APPROVED, _S.REJECTED] * 10
    answers = await at_once(decide(store, state, f"person-{number}") for number, state in enumerate(states))
    assert answers.count(True) == 1
    async with store.transaction() as tx:
        standing = await tx.approvals.get("approval-1")
    assert standing is not None
    assert standing.decided_by == f"person-{answers.index(True)}"


async def test_ended_proposal_never_stands_again(store: Store) -> None:
    """What was rejected, superseded, closed or has expired can't be approved."""
    await add(store, approval())
    for ended in (_S.REJECTED, _S.SUPERSEDED, _S.CLOSED, _S.EXPIRED):
        with pytest.raises(IllegalTransition):
            await decide(store, _S.APPROVED, "ada", was=ended)


async def test_approved_plan_is_carried_out_once(store: Store) -> None:
    """Of ten workers one may use it; one that waits can't be used at all."""
    await add(store, approval())
    assert not await use(store)
    await decide(store, _S.APPROVED, "ada")
    assert (await at_once(use(store) for _ in range(10))).count(True) == 1


async def test_standing_are_those_that_wait_or_were_not_carried_out(store: Store) -> None:
    """Oldest first, of one procedure; used, rejected and foreign ones are left out."""
    states = {1: _S.WAITING, 2: _S.APPROVED, 3: _S.REJECTED}
    await add(store, *(approval(n, state=state, created_at=at(-n)) for n, state in states.items()))
    await add(store, approval(4, state=_S.APPROVED, used_at=NOW), approval(5, procedure="other"))
    async with store.transaction() as tx:
        assert [one.id for one in await tx.approvals.standing_of("ward")] == ["approval-2", "approval-1"]
        assert {row["id"] for row in await tx.approvals.waiting()} == {"approval-1", "approval-5"}
        assert [one.id for one in await tx.approvals.list(most=9, state="rejected")] == ["approval-3"]
