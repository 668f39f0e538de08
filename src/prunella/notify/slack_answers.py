"""What people press in Slack: whether Slack itself sent it, and what it says. Reading only; nothing is decided here.

Slack signs the raw body with the app's secret (its version 0); an old or an altered request is no answer.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prunella.core.redact import Secret
from prunella.notify.slack import ACKNOWLEDGE, APPROVE, REJECT

WINDOW_S = 300
"""How old a request may be, and how far ahead its clock (Slack's own advice)."""
_ACTIONS = {APPROVE: "approve", REJECT: "reject", ACKNOWLEDGE: "acknowledge"}
_FIELDS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressed:
    """One button that somebody pressed.

    Args:
        action: approve, reject or acknowledge.
        notification_id: the message that it stood under; `digest`: of the plan that was shown, empty for none.
        reply_to: where an answer may be posted.
    """

    action: str
    notification_id: str
    digest: str
    user: str
    workspace: str
    room: str
    reply_to: str


def is_from_slack(secret: Secret, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Tell whether Slack signed exactly this body within the last five minutes."""
    sent_at, shown = headers.get("x-slack-request-timestamp", ""), headers.get("x-slack-signature", "")
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= 12):
        return False
    if abs(now.timestamp() - int(sent_at)) > WINDOW_S:
        return False
    signed = hmac.new(secret.reveal().encode(), b"v0:" + sent_at.encode() + b":" + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v0={signed}".encode(), shown.encode("utf-8", "replace"))


def pressed_in(body: bytes) -> Pressed | None:
    """Return the button of ours that a request speaks of; None where it speaks of something else."""
    try:
        fields = parse_qs(body.decode(), strict_parsing=True, max_num_fields=_FIELDS_MAX)
        payload = json.loads(fields["payload"][0])
        if payload["type"] != "block_actions":
            return None
        (pressed,) = payload["actions"]
        notification_id, _, digest = str(pressed["value"]).partition(" ")
        return Pressed(
            action=_ACTIONS[pressed["action_id"]],
            notification_id=notification_id,
            digest=digest,
            user=_text(payload["user"], "id"),
            workspace=_text(payload["team"], "id"),
            room=_text(payload.get("channel") or {"id": ""}, "id"),
            reply_to=_text(payload, "response_url"),
        )
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def may_reply(reply_to: str, webhook: Secret) -> bool:
    """Tell whether an answer may go there: to the host alone that messages go to anyway."""
    try:
        there, usual = urlsplit(reply_to), urlsplit(webhook.reveal())
    except ValueError:
        return False
    return bool(there.hostname) and (there.scheme, there.netloc) == (usual.scheme, usual.netloc)


def aside(words: str) -> dict[str, Any]:
    """Return an answer that only the one who pressed can see."""
    block = {"type": "section", "text": {"type": "plain_text", "text": words[:2000]}}
    return {"response_type": "ephemeral", "replace_original": False, "text": words[:2000], "blocks": [block]}


def _text(holder: Mapping[str, Any], name: str) -> str:
    found = holder[name]
    if not isinstance(found, str):
        raise TypeError(name)
    return found
