"""A notification to any of the services that Apprise knows: SMS, pagers, and a hundred chats.

One target per call and no retry of its own: the outbox tries again. Apprise's log may hold addresses, so it is silent.
"""

from __future__ import annotations

import asyncio
import logging

from prunella.core.errors import Undelivered
from prunella.core.records import Notification, Severity
from prunella.core.redact import Secret
from prunella.egress import Caller
from prunella.notify import contract

MISSING = 'the extra apprise is not installed; run: pip install "prunella[apprise]"'
_TEXT_CHARS_MAX = 4000
_TIMEOUT_S = 30.0
_KINDS = {Severity.LOW: "info", Severity.MEDIUM: "warning", Severity.HIGH: "failure", Severity.CRITICAL: "failure"}

logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
logging.getLogger("urllib3").setLevel(
    logging.WARNING
)  # which Apprise calls with, and which logs paths that hold tokens


class OtherChannel:
    """Send to one target; `url` is what Apprise calls its address, which is a secret."""

    def __init__(self, name: str, url: Secret) -> None:
        self.name = name
        self._url = url

    async def send(self, notification: Notification, *, caller: Caller) -> str | None:
        """Try once; Apprise says no more than whether it arrived."""
        try:
            import apprise
        except ImportError:
            raise Undelivered(f"{self.name}: {MISSING}", permanent=True) from None
        asset = apprise.AppriseAsset(secure_logging=True, async_mode=False, app_id="prunella", app_url="")
        target = apprise.Apprise.instantiate(self._url.reveal(), asset=asset, suppress_exceptions=True)
        if target is None:
            raise Undelivered(f"{self.name}: Apprise knows no such address; see its list of services", permanent=True)
        sender = apprise.Apprise(asset=asset)
        sender.add(target)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                arrived = await sender.async_notify(
                    title=contract.title_line(notification),
                    body=contract.plain_text(notification, _TEXT_CHARS_MAX),
                    notify_type=apprise.NotifyType(_KINDS[notification.severity]),
                    body_format=apprise.NotifyFormat.TEXT,
                    interpret_escapes=False,
                )
        except TimeoutError:
            raise Undelivered(f"{self.name}: the service did not answer within {_TIMEOUT_S:g} s") from None
        except Exception as error:  # a plugin of Apprise may raise anything
            raise Undelivered(f"{self.name}: Apprise failed ({type(error).__name__})") from None
        if not arrived:
            raise Undelivered(f"{self.name}: the service refused it, or did not answer")
        return None
