"""A notification to any of the services that Apprise knows: SMS, pagers, and a hundred chats.

One target per call and no retry of its own: the outbox tries again. Apprise's log may hold addresses, so it is silent.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from prunella.core.errors import Undelivered
from prunella.core.records import Notification, Severity
from prunella.core.redact import Secret
from prunella.egress import Caller, EgressPolicy
from prunella.notify import contract
from prunella.notify.fence import Fence

MISSING = 'the extra apprise is not installed; run: pip install "prunella[apprise]"'
_TEXT_CHARS_MAX = 4000
_TIMEOUT_S = 30.0
_KINDS = {Severity.LOW: "info", Severity.MEDIUM: "warning", Severity.HIGH: "failure", Severity.CRITICAL: "failure"}

logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
logging.getLogger("urllib3").setLevel(
    logging.WARNING
)  # which Apprise calls with, and which logs paths that hold tokens


class OtherChannel:
    """Send to one target; `url` is what Apprise calls its address, which is a secret.

    Args:
        policy: where Apprise may connect to.
    """

    def __init__(self, name: str, url: Secret, policy: EgressPolicy) -> None:
        self.name = name
        self._url = url
        self._policy = policy

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
        fence = Fence(self._policy)
        tell = partial(
            sender.notify,
            title=contract.title_line(notification),
            body=contract.plain_text(notification, _TEXT_CHARS_MAX),
            notify_type=apprise.NotifyType(_KINDS[notification.severity]),
            body_format=apprise.NotifyFormat.TEXT,
            interpret_escapes=False,
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                arrived = await asyncio.to_thread(fence.run, tell)
        except TimeoutError:
            raise Undelivered(f"{self.name}: the service did not answer within {_TIMEOUT_S:g} s") from None
        except Exception as error:  # a plugin of Apprise may raise anything
            self._must_be_let_out(fence)
            raise Undelivered(f"{self.name}: Apprise failed ({type(error).__name__})") from None
        if not arrived:
            self._must_be_let_out(fence)
            raise Undelivered(f"{self.name}: the service refused it, or did not answer")
        return None

    def _must_be_let_out(self, fence: Fence) -> None:
        """Say which address was refused, which Apprise itself does not tell."""
        if fence.refusal is not None:
            raise Undelivered(f"{self.name}: {fence.refusal}", permanent=True) from None
