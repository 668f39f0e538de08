"""What every channel promises, and the few rules that all of them share: headings, cuts, links, verdicts on replies.

No message leaves unscrubbed, and no error names a channel's address: a webhook's URL is its password.
"""

from __future__ import annotations

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
}
"""The sign of each kind of notice; other kinds carry a bell."""

GONE = frozenset({400, 401, 403, 404, 405, 410})
"""Statuses by which a chat says that this address or this message will never do."""

WAIT_MAX_S = 31 * 86_400.0
"""Longest wait that a receiver can ask for."""


class Channel(Protocol):
    """Bring a notification to one place."""

    name: str

    async def send(self, notification: Notification, *, caller: Caller) -> None:
        """Try once; return when the receiver took it, raise Undelivered when it did not."""
        ...


def heading(notification: Notification) -> str:
    """Return the first line: the kind's sign and the title."""
    return f"{EMOJI.get(notification.kind, '🔔')} {notification.title}"


def footnote(notification: Notification) -> str:
    """Return the last line: how grave, which incident, when."""
    incident = [f"incident {notification.incident_id}"] if notification.incident_id else []
    return " · ".join([notification.severity, *incident, f"{notification.created_at:%Y-%m-%d %H:%M:%S} UTC"])


def facts_of(notification: Notification, facts_max: int) -> tuple[tuple[str, str], ...]:
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


def web_link(link: str | None) -> str | None:
    """Return `link` with everything quoted that could end it early, or None where it is no web address."""
    try:
        if link is None or urlsplit(link).scheme not in ("http", "https"):
            return None
        return quote(link, safe=":/?#[]@!$&'()*+,;=%~")
    except ValueError:
        return None


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
