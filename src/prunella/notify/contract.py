"""What every channel promises, and the few rules that all of them share: headings, cuts, links, verdicts on replies.

No message leaves unscrubbed, and no error names a channel's address: a webhook's URL is its password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from prunella.core.errors import EgressFailed, EgressRefused, PrunellaError
from prunella.core.records import Notification
from prunella.core.redact import Secret, scrub
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


class Undelivered(PrunellaError):
    """Say that a notification did not arrive.

    Args:
        reason: what happened, without the channel's address.
        retry_after_s: seconds the receiver asked for, None where it named none.
        permanent: another try would end the same; a person has to look at the channel.
    """

    code = "PR510"

    def __init__(self, reason: str, *, retry_after_s: float | None = None, permanent: bool = False) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.permanent = permanent
        super().__init__(reason)


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
    permanent = reply.status in gone
    return Undelivered(reason, retry_after_s=None if permanent else retry_after_s(reply.headers), permanent=permanent)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` asks for (RFC 9110 section 10.2.3), None where it is absent or junk.

    A date is measured against the reply's own `Date`, so the two machines' clocks need not agree.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,30}(\.\d{1,9})?", value, re.ASCII):
        return min(float(value), WAIT_MAX_S)
    try:
        wait_s = (parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(wait_s, 0.0), WAIT_MAX_S)
