"""A notification as a Slack message: Block Kit, sent to an incoming webhook.

What comes from outside is shown as it is: it can't mention anybody, can't link anywhere and can't end a block early.
"""

from __future__ import annotations

import re
from typing import Any

from prunella.core.records import Notification
from prunella.core.redact import Secret
from prunella.egress import Caller, Reply
from prunella.notify import contract

_HEADER_CHARS_MAX = 150
_FIELD_CHARS_MAX = 2000
_FIELDS_MAX = 10  # per section
_NAME_CHARS_MAX = 100
_TEXT_CHARS_MAX = 3000
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ERROR_WORD = re.compile(r"[a-z_]{3,40}")  # Slack's errors are single words: invalid_payload, no_service


APPROVE, REJECT, ACKNOWLEDGE = "prunella_approve", "prunella_reject", "prunella_acknowledge"
"""The ids of the buttons; what comes back from Slack carries them."""
_ASKS = "APPROVAL_REQUIRED"
_NEWS = frozenset({"attempt", "recovered", "healed", "digest", "test", "APPROVAL_EXPIRED"})
"""Kinds that nobody needs to answer."""


class SlackChannel:
    """Send to one Slack channel.

    Args:
        url: the incoming webhook's address.
        buttons: an app of ours hears what is pressed; otherwise there are links only.
    """

    def __init__(self, name: str, url: Secret, *, buttons: bool = False) -> None:
        self.name = name
        self._url = url
        self._buttons = buttons

    async def send(self, notification: Notification, *, caller: Caller) -> str | None:
        """Try once; Slack says `ok` when it took the message, anything else is a failure."""
        message = render(notification, buttons=self._buttons)
        reply = await contract.post(caller, self._url, channel=self.name, json=message)
        if reply.status != 200 or reply.text.strip() != "ok":
            raise contract.refusal(self.name, reply, gone=contract.GONE, said=_error_word(reply))
        return None


def render(notification: Notification, *, buttons: bool = False, answered: str = "") -> dict[str, Any]:
    """Return the message: heading, facts in two columns, footnote, link, and a plain text for notification banners.

    Args:
        answered: what came of it; it stands where the buttons were.
    """
    facts = contract.facts_of(notification)
    blocks = [_header(notification), *_sections(facts), _context(notification), *_link(notification)]
    if answered:
        blocks.append({"type": "context", "elements": [_mrkdwn(_told(answered, 300))]})
    elif buttons:
        blocks += _answers(notification)
    summary = " · ".join([contract.heading(notification), *(f"{name}: {value}" for name, value in facts)])
    return {"text": _told(summary, _TEXT_CHARS_MAX), "blocks": blocks}


def _header(notification: Notification) -> dict[str, Any]:
    text = _told(contract.heading(notification), _HEADER_CHARS_MAX)
    return {"type": "header", "text": {"type": "plain_text", "text": text, "emoji": True}}


def _sections(facts: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    fields = [_mrkdwn(_field(name, value)) for name, value in facts]
    starts = range(0, len(fields), _FIELDS_MAX)
    return [{"type": "section", "fields": fields[start : start + _FIELDS_MAX]} for start in starts]


def _field(name: str, value: str) -> str:
    label = f"*{_told(name, _NAME_CHARS_MAX)}*\n"
    return label + _told(value or "–", _FIELD_CHARS_MAX - len(label))


def _context(notification: Notification) -> dict[str, Any]:
    return {"type": "context", "elements": [_mrkdwn(_told(contract.footnote(notification), _FIELD_CHARS_MAX))]}


def _link(notification: Notification) -> list[dict[str, Any]]:
    link = contract.web_link(notification.link)
    if link is None:
        return []
    # a link and not a button: Slack marks buttons of apps that listen to no clicks with a warning sign
    return [{"type": "section", "text": _mrkdwn(f"<{link.replace('&', '&amp;')}|Open incident>")}]


def _answers(notification: Notification) -> list[dict[str, Any]]:
    if notification.kind in _NEWS:
        return []
    wanted = [_button("Acknowledge", ACKNOWLEDGE, notification.id)]
    digest = dict(notification.facts).get("Digest", "")
    if notification.kind == _ASKS and digest:
        value = f"{notification.id} {digest}"
        approve = _button("Approve", APPROVE, value) | {"style": "primary"}
        wanted = [approve, _button("Reject", REJECT, value) | {"style": "danger"}, *wanted]
    return [{"type": "actions", "elements": wanted}]


def _button(text: str, action: str, value: str) -> dict[str, Any]:
    return {
        "type": "button",
        "action_id": action,
        "text": {"type": "plain_text", "text": text},
        "value": value,
    }


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}  # verbatim: no links or mentions made out of plain words


def _told(text: str, chars_max: int) -> str:
    # on one line: a line of its own could look like a fact of ours
    return contract.cut(contract.one_line(text), chars_max, escape=_escape)


def _escape(character: str) -> str:
    return _ENTITIES.get(character, character)


def _error_word(reply: Reply) -> str:
    word = reply.text.strip()
    return word if _ERROR_WORD.fullmatch(word) else ""
