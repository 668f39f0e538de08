"""A notification as a signed JSON message to any address (Standard Webhooks 1.0).

The id is the notification's own, so a receiver recognises a repeated delivery; what is signed is what is sent.
"""

from __future__ import annotations

import binascii
import json
from typing import Any

from standardwebhooks.webhooks import Webhook

from prunella.core.clock import Clock
from prunella.core.errors import ConfigError
from prunella.core.records import Notification
from prunella.core.redact import Secret, scrub
from prunella.egress import Caller
from prunella.notify import contract

_KEY_BYTES_MIN = 24  # Standard Webhooks: 24 to 64 bytes
_GONE = frozenset({410})  # the one status by which a receiver says "never again"; all others are tried again


class WebhookChannel:
    """Send to one address, signed.

    Args:
        secret: the shared key as `whsec_` and base64, at least 24 bytes.
        clock: gives the timestamp that receivers check against replays, five minutes either way.
    """

    def __init__(self, name: str, url: Secret, secret: Secret, *, clock: Clock) -> None:
        self.name = name
        self._url = url
        self._signer = _signer(name, secret)
        self._clock = clock

    async def send(self, notification: Notification, *, caller: Caller) -> str | None:
        """Try once; any 2xx is a delivery."""
        body = json.dumps(render(notification), separators=(",", ":"))
        now = self._clock.now()
        headers = {
            "content-type": "application/json",
            "webhook-id": notification.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(notification.id, now, body),
        }
        reply = await contract.post(caller, self._url, channel=self.name, content=body.encode(), headers=headers)
        if not 200 <= reply.status < 300:
            raise contract.refusal(self.name, reply, gone=_GONE)
        return None


def render(notification: Notification) -> dict[str, Any]:
    """Return the message: type, moment, and the notification as data."""
    return {
        "type": f"notification.{notification.kind}",
        "timestamp": notification.created_at.isoformat(),
        "data": {
            "id": notification.id,
            "key": notification.key,
            "kind": notification.kind,
            "severity": notification.severity,
            "title": scrub(notification.title),
            "facts": [{"name": scrub(name), "value": scrub(value)} for name, value in notification.facts],
            "incident_id": notification.incident_id,
            "link": notification.link,
        },
    }


def _signer(name: str, secret: Secret) -> Webhook:
    text = secret.reveal().strip().removeprefix("whsec_")
    try:
        key = binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        raise ConfigError(
            [f"notify.channels.{name}: the secret is no base64; make one of at least 24 random bytes"]
        ) from None
    if len(key) < _KEY_BYTES_MIN:
        raise ConfigError(
            [f"notify.channels.{name}: the secret has {len(key)} bytes; Standard Webhooks wants {_KEY_BYTES_MIN} to 64"]
        )
    return Webhook(key)
