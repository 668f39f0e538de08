"""An answer from a chat: the same acts as on the dashboard, by the same functions, under the person's own name."""

from __future__ import annotations

from dataclasses import dataclass

from prunella.core.errors import Conflict, IllegalTransition, InvalidInput
from prunella.core.records import Notification
from prunella.core.states import ApprovalState
from prunella.engine import inbox, people, proposals, trail
from prunella.engine.parts import Parts

_ASKS = "APPROVAL_REQUIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What came of an answer.

    Args:
        words: for the one who answered.
        told: the message, which now says what came of it; None: it stays as it is.
    """

    words: str
    told: Notification | None = None


async def hear(parts: Parts, channel: str, notification_id: str, action: str, *, by: str, digest: str = "") -> Heard:
    """Carry out `approve`, `reject` or `acknowledge`; what is refused is said, never raised.

    Args:
        channel: where it was answered: a message of another one can't be.
    """
    async with parts.store.transaction() as tx:
        told = await tx.outbox.get(notification_id)
    if told is None or told.channel != channel:
        return Heard(words="This message is not known here any more; look at the dashboard.")
    try:
        if action == "acknowledge":
            return await _acknowledge(parts, told, by)
        return await _decide(parts, told, action, by, digest)
    except (IllegalTransition, InvalidInput, Conflict) as error:
        return Heard(words=f"Nothing was done: {error}")


async def refuse(parts: Parts, channel: str, user: str, why: str) -> None:
    """Note that somebody answered who may not."""
    async with parts.store.transaction() as tx:
        await trail.note(parts, tx, "chat.refused", channel, reason=why, by=f"chat user {user[:40]}")


async def _decide(parts: Parts, told: Notification, action: str, by: str, digest: str) -> Heard:
    if told.kind != _ASKS or not digest:
        return Heard(words="Nothing was done: this message asks for no approval.")
    approval_id = inbox.first_key(told).removeprefix(f"{_ASKS}:")
    state = ApprovalState.APPROVED if action == "approve" else ApprovalState.REJECTED
    async with parts.store.transaction() as tx:
        standing = await tx.approvals.get(approval_id)
    if standing is not None and standing.digest != digest:
        return Heard(words="Nothing was done: the plan is another one by now; look at the dashboard.")
    reason = "" if action == "approve" else "rejected in the chat"
    answered = await proposals.answer(parts, approval_id, state, by=by, digest=digest, reason=reason)
    if answered is None:
        return Heard(words="Nothing was done: this plan is not known here any more.")
    words = f"{'Approved' if action == 'approve' else 'Rejected'} by {by}"
    return Heard(words=words, told=told)


async def _acknowledge(parts: Parts, told: Notification, by: str) -> Heard:
    shown = await inbox.shown_as(parts, told)
    if shown is not None:
        await inbox.acknowledge(parts, shown.id, by=by)
    elif told.incident_id is not None:
        await people.act_on_incident(parts, told.incident_id, "ack", by=by, reason="in the chat")
    else:
        return Heard(words="Nothing was done: nobody needs to acknowledge this message.")
    return Heard(words=f"Acknowledged by {by}", told=told)
