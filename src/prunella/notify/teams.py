"""A notification as a Microsoft Teams message: an Adaptive Card, sent to a Workflows (Power Automate) webhook.

What comes from outside makes no links; mentions need a list of entities in the card, which is never sent.
"""

from __future__ import annotations

import json
import re
from typing import Any

from prunella.core.errors import Undelivered
from prunella.core.records import Notification
from prunella.core.redact import Secret
from prunella.egress import Caller, Reply
from prunella.notify import contract

_TITLE_CHARS_MAX = 200
_NAME_CHARS_MAX = 100
_VALUE_CHARS_MAX = (500, 200, 80, 40)
"""The longest that fits: a letter of many scripts takes six bytes on its way, and an emoji twelve."""
_FACTS_MAX = 20
_BYTES_MAX = 27_000  # Teams accepts 28 kB
_ACCEPTED = frozenset({200, 202})
_SAID_FAILED = re.compile(r"failed\b.{0,200}?\berror|\bHTTP error \d{3}", re.IGNORECASE | re.DOTALL)
_SAID_STATUS = re.compile(r"\bHTTP (?:error )?(\d{3})\b", re.IGNORECASE)


class TeamsChannel:
    """Send to one Teams channel; `url` is the workflow's address, whose query string holds its signature."""

    def __init__(self, name: str, url: Secret) -> None:
        self.name = name
        self._url = url

    async def send(self, notification: Notification, *, caller: Caller) -> str | None:
        """Try once; a 200 whose text reports a failed delivery, or that is a web page, is a failure."""
        reply = await contract.post(caller, self._url, channel=self.name, json=render(notification))
        if reply.status not in _ACCEPTED:
            raise contract.refusal(self.name, reply, gone=contract.GONE)
        if _SAID_FAILED.search(reply.text) or reply.text.lstrip().startswith("<"):
            raise _failed_inside(self.name, reply)
        return None


def render(notification: Notification) -> dict[str, Any]:
    """Return the message: one card with heading, facts, footnote and a link to the incident."""
    for chars_max in _VALUE_CHARS_MAX:
        message = _message(notification, chars_max)
        if len(json.dumps(message)) <= _BYTES_MAX:
            break
    return message


def _message(notification: Notification, chars_max: int) -> dict[str, Any]:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": [
            _text(contract.heading(notification), size="Large", weight="Bolder"),
            {"type": "FactSet", "facts": _facts(notification, chars_max)},
            _text(contract.footnote(notification), size="Small", isSubtle=True),
        ],
        "actions": _actions(notification),
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _text(text: str, **look: object) -> dict[str, Any]:
    return {"type": "TextBlock", "text": _plain(text, _TITLE_CHARS_MAX), "wrap": True, **look}


def _facts(notification: Notification, chars_max: int) -> list[dict[str, str]]:
    return [
        {
            "title": _plain(name, min(chars_max, _NAME_CHARS_MAX)),
            "value": contract.value_of(notification, value, chars_max),
        }
        for name, value in contract.facts_of(notification, _FACTS_MAX)
    ]


def _actions(notification: Notification) -> list[dict[str, str]]:
    link = contract.web_link(notification.link)
    return [{"type": "Action.OpenUrl", "title": "Open incident", "url": link}] if link else []


def _plain(text: str, chars_max: int) -> str:
    # cards read Markdown and clients differ on backslashes; a zero-width space breaks what would act on all of them
    return contract.inert(contract.cut(text, chars_max))


def _failed_inside(channel: str, reply: Reply) -> Undelivered:
    """Return what a failure told in the text of a 200 means: as if its status had been the reply's own."""
    said = _SAID_STATUS.search(reply.text)
    inner = Reply(int(said[1]) if said else reply.status, reply.headers, reply.body, reply.elapsed_s)
    return contract.refusal(channel, inner, gone=contract.GONE, said=f"inside a {reply.status}")
