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
_FACTS_MAX = 40
_NAME_CHARS_MAX = 100
_TEXT_CHARS_MAX = 3000
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ERROR_WORD = re.compile(r"[a-z_]{3,40}")  # Slack's errors are single words: invalid_payload, no_service


class SlackChannel:
    """Send to one Slack channel; `url` is the incoming webhook's address."""

    def __init__(self, name: str, url: Secret) -> None:
        self.name = name
        self._url = url

    async def send(self, notification: Notification, *, caller: Caller) -> None:
        """Try once; Slack says `ok` when it took the message, anything else is a failure."""
        reply = await contract.post(caller, self._url, channel=self.name, json=render(notification))
        if reply.status != 200 or reply.text.strip() != "ok":
            raise contract.refusal(self.name, reply, gone=contract.GONE, said=_error_word(reply))


def render(notification: Notification) -> dict[str, Any]:
    """Return the message: heading, facts in two columns, footnote, link, and a plain text for notification banners."""
    facts = contract.facts_of(notification, _FACTS_MAX)
    blocks = [_header(notification), *_sections(facts), _context(notification), *_link(notification)]
    summary = " · ".join([contract.heading(notification), *(f"{name}: {value}" for name, value in facts)])
    return {"text": contract.cut(summary, _TEXT_CHARS_MAX, escape=_escape), "blocks": blocks}


def _header(notification: Notification) -> dict[str, Any]:
    text = contract.cut(contract.heading(notification), _HEADER_CHARS_MAX, escape=_escape)
    return {"type": "header", "text": {"type": "plain_text", "text": text, "emoji": True}}


def _sections(facts: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    fields = [_mrkdwn(_field(name, value)) for name, value in facts]
    starts = range(0, len(fields), _FIELDS_MAX)
    return [{"type": "section", "fields": fields[start : start + _FIELDS_MAX]} for start in starts]


def _field(name: str, value: str) -> str:
    label = f"*{contract.cut(name, _NAME_CHARS_MAX, escape=_escape)}*\n"
    return label + contract.cut(value or "–", _FIELD_CHARS_MAX - len(label), escape=_escape)


def _context(notification: Notification) -> dict[str, Any]:
    text = contract.cut(contract.footnote(notification), _FIELD_CHARS_MAX, escape=_escape)
    return {"type": "context", "elements": [_mrkdwn(text)]}


def _link(notification: Notification) -> list[dict[str, Any]]:
    link = contract.web_link(notification.link)
    if link is None:
        return []
    # a link and not a button: Slack marks buttons of apps that listen to no clicks with a warning sign
    return [{"type": "section", "text": _mrkdwn(f"<{link.replace('&', '&amp;')}|Open incident>")}]


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}  # verbatim: no links or mentions made out of plain words


def _escape(character: str) -> str:
    return _ENTITIES.get(character, character)


def _error_word(reply: Reply) -> str:
    word = reply.text.strip()
    return word if _ERROR_WORD.fullmatch(word) else ""
