"""What every channel promises, and the few rules that all of them share: headings, cuts, links, verdicts on replies.

No message leaves unscrubbed, and no error names a channel's address: a webhook's URL is its password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from prunella.core.errors import EgressFailed, EgressRefused, Undelivered
from prunella.core.records import Notification
from prunella.core.redact import Secret, scrub
from prunella.core.retry_after import retry_after_s
from prunella.egress import Caller, Reply

EMOJI: Mapping[str, str] = {
    "detected": "🚨",
    "attempt": "🔄",
    "recovered": "✅",
    "disabled": "⛔",
    "escalated": "⚠️",
    "digest": "🗂️",
    "healed": "✅",
    "test": "🔔",
    "APPROVAL_REQUIRED": "✋",
    "APPROVAL_EXPIRED": "⌛",
    "HEALING_FAILED": "❌",
    "MANUAL_INTERVENTION_REQUIRED": "🧑‍🔧",
    "SYSTEM_ALERT": "🔥",
}
"""The sign of each kind of notice; other kinds carry a bell."""

GONE = frozenset({400, 401, 403, 404, 405, 410})
"""Statuses by which a chat says that this address or this message will never do."""

_ACTIVE = re.compile(r"@(?=\w)|<(?=[!@#]|[a-z][a-z0-9+.-]{0,31}:)|\](?=[(\[:])|:(?=//)|\bwww(?=\.)", re.IGNORECASE)
_BEGINS_PARAGRAPH = frozenset({"Recovery Plan", "Event ID", "Previous Error", "Original Error", "Action Required"})
FACTS_MAX = 40
"""How many facts a message shows where its receiver has room."""
_TITLE_CHARS_MAX = 200
_NAME_CHARS_MAX = 100
_VALUE_CHARS_MAX = 1500
_LINK_CHARS_MAX = 2000
_JOINERS = "\u200c\u200d"  # not shown, but letters of some scripts and some emoji fall apart without them

WAIT_MAX_S = 31 * 86_400.0
"""Longest wait that a receiver can ask for."""


class Channel(Protocol):
    """Bring a notification to one place."""

    name: str

    async def send(self, notification: Notification, *, caller: Caller) -> str | None:
        """Try once; return when the receiver took it, with its remark if any; raise Undelivered when it did not."""
        ...


def heading(notification: Notification) -> str:
    """Return the first line: the kind's sign and the title."""
    return f"{EMOJI.get(notification.kind, '🔔')} {notification.title}"


def footnote(notification: Notification) -> str:
    """Return the last line: how grave, which incident, when."""
    incident = [f"incident {notification.incident_id}"] if notification.incident_id else []
    return " · ".join([notification.severity, *incident, f"{notification.created_at:%Y-%m-%d %H:%M:%S} UTC"])


def facts_of(notification: Notification, facts_max: int = FACTS_MAX) -> tuple[tuple[str, str], ...]:
    """Return at most `facts_max` facts; where some are left out, the last one says how many."""
    facts = notification.facts
    if len(facts) <= facts_max:
        return facts
    return (*facts[: facts_max - 1], ("More", f"{len(facts) - facts_max + 1} facts not shown"))


def cut(text: str, chars_max: int, *, escape: Callable[[str], str] = str) -> str:
    """Return `text` scrubbed, escaped character by character, and at most `chars_max` long with its ellipsis."""
    pieces = [escape(character) for character in scrub(text)]
    if sum(map(len, pieces)) <= chars_max:
        return "".join(pieces)
    kept, room = [], chars_max - 1
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept) + "…"


def inert(text: str) -> str:
    """Return `text` so that it looks the same and nothing in it acts: no mention, no link, no second line.

    A zero-width space stands where chats and mail programs look for the beginning of something.
    """
    return _ACTIVE.sub(lambda found: f"{found[0]}\u200b", one_line(text))


def value_of(notification: Notification, value: str, chars_max: int) -> str:
    """Return a fact's value so that nothing in it acts, but for our own link."""
    link = web_link(notification.link) if value and value == notification.link else None
    return link or inert(cut(value or "–", chars_max))


def one_line(text: str) -> str:
    """Return `text` without anything that ends a line, turns the direction of reading, or is not shown."""
    return "".join(one if one.isprintable() or one in _JOINERS else " " for one in text)


def paragraphs(notification: Notification) -> list[list[tuple[str, str]]]:
    """Return the facts in the paragraphs in which document B writes them."""
    grouped: list[list[tuple[str, str]]] = [[]]
    for name, value in facts_of(notification):
        if name in _BEGINS_PARAGRAPH and grouped[-1]:
            grouped.append([])
        grouped[-1].append((name, value))
    return [group for group in grouped if group]


def title_line(notification: Notification) -> str:
    """Return the heading so that nothing in it acts."""
    return inert(cut(heading(notification), _TITLE_CHARS_MAX))


def last_line(notification: Notification) -> str:
    """Return the footnote so that nothing in it acts."""
    return inert(cut(footnote(notification), _TITLE_CHARS_MAX))


def fact_of(notification: Notification, name: str, value: str) -> tuple[str, str]:
    """Return one fact's name and value so that nothing in them acts."""
    return inert(cut(name, _NAME_CHARS_MAX)), value_of(notification, value, _VALUE_CHARS_MAX)


def plain_text(notification: Notification, chars_max: int = 100_000) -> str:
    """Return the message as text: heading, facts line by line, footnote, link."""
    groups = [
        "\n".join(": ".join(fact_of(notification, name, value)) for name, value in group)
        for group in paragraphs(notification)
    ]
    text = "\n\n".join([title_line(notification), *groups, last_line(notification)])
    link = web_link(notification.link)
    room = chars_max - (len(link) + 2 if link else 0)
    shown = text if len(text) <= room else text[: room - 1] + "…"
    return f"{shown}\n\n{link}" if link else shown


def web_link(link: str | None) -> str | None:
    """Return `link` with everything quoted that could end it early, or None where it is no web address."""
    try:
        if link is None or urlsplit(link).scheme not in ("http", "https"):
            return None
        quoted = quote(link, safe=":/?#[]@!$&'()*+,;=%~")
    except ValueError:
        return None
    return quoted if len(quoted) <= _LINK_CHARS_MAX else None


async def post(caller: Caller, url: Secret, *, channel: str, **request: Any) -> Reply:
    """Send one POST and return the reply, whatever its status; raise Undelivered where none came."""
    try:
        return await caller.request("POST", url.reveal(), **request)
    except EgressRefused as exc:
        raise Undelivered(f"{channel}: {exc}", permanent=True) from None
    except EgressFailed as exc:
        raise Undelivered(f"{channel}: {exc}") from None


def refusal(channel: str, reply: Reply, *, gone: frozenset[int], said: str = "") -> Undelivered:
    """Return what a reply that is no acceptance means; `said` is the receiver's own, harmless word for it."""
    reason = f"{channel}: the receiver answered {reply.status}" + (f" ({said})" if said else "")
    if reply.status in gone:
        return Undelivered(reason, permanent=True)
    asked_s = retry_after_s(reply.headers, None)
    return Undelivered(reason, retry_after_s=None if asked_s is None else min(asked_s, WAIT_MAX_S))
