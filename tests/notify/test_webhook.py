"""What a signed webhook's receiver gets, and how its answers are read."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from prunella.core.clock import Clock, ManualClock, SystemClock
from prunella.core.errors import ConfigError, Undelivered
from prunella.core.records import Notification
from prunella.core.redact import Secret
from prunella.egress import Egress
from prunella.notify.webhook import WebhookChannel

pytestmark = pytest.mark.anyio

KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def channel(receiver: Any, clock: Clock) -> WebhookChannel:
    return WebhookChannel("ops", receiver.url, Secret(KEY), clock=clock)


async def test_webhook_sends_the_whole_notification(caller: Egress, receiver: Any, notification: Notification) -> None:
    """Type, moment and data arrive as JSON under the notification's own id."""
    await channel(receiver, ManualClock(datetime(2026, 3, 1, 12, 31, tzinfo=UTC))).send(notification, caller=caller)
    (heard,) = receiver.requests
    assert heard.headers["webhook-id"] == "0197-n1"
    assert heard.headers["webhook-timestamp"] == "1772368260"
    assert heard.headers["content-type"] == "application/json"
    assert heard.json() == {
        "type": "notification.detected",
        "timestamp": "2026-03-01T12:30:05+00:00",
        "data": {
            "id": "0197-n1",
            "key": "incident-1/detected",
            "kind": "detected",
            "severity": "HIGH",
            "title": "Integration Failure Detected",
            "facts": [
                {"name": "Service", "value": "stripe"},
                {"name": "Error", "value": "card <declined> & refused"},
            ],
            "incident_id": "incident-1",
            "link": "https://prunella.example/incidents/incident-1?a=1&b=2",
        },
    }


async def test_webhook_signature_verifies_and_notices_tampering(
    caller: Egress, receiver: Any, hostile: Notification
) -> None:
    """A receiver with the key accepts what was sent, and nothing else: not another body, id, moment or key."""
    await channel(receiver, SystemClock()).send(hostile, caller=caller)
    (heard,) = receiver.requests
    assert Webhook(KEY).verify(heard.body, heard.headers) == heard.json()
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    moment = str(int(heard.headers["webhook-timestamp"]) + 1)
    for key, body, headers in (
        (KEY, heard.body.replace(b"HIGH", b"LOW"), heard.headers),
        (KEY, heard.body, {**heard.headers, "webhook-id": "another"}),
        (KEY, heard.body, {**heard.headers, "webhook-timestamp": moment}),
        (other, heard.body, heard.headers),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, headers)


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted", "204 No Content"])
async def test_webhook_takes_any_2xx_as_delivered(
    caller: Egress, receiver: Any, notification: Notification, status: str
) -> None:
    """Every 2xx is a delivery, whatever its body says."""
    receiver.answer(status)
    await channel(receiver, ManualClock()).send(notification, caller=caller)


@pytest.mark.parametrize(
    ("status", "headers", "permanent", "wait_s"),
    [
        ("410 Gone", ["Retry-After: 5"], True, None),
        ("404 Not Found", [], False, None),
        ("401 Unauthorized", [], False, None),
        ("302 Found", ["Location: /elsewhere"], False, None),
        ("429 Too Many Requests", ["Retry-After: 5"], False, 5.0),
        ("503 Service Unavailable", [], False, None),
    ],
)
async def test_webhook_tells_gone_from_not_now(
    caller: Egress,
    receiver: Any,
    notification: Notification,
    status: str,
    headers: list[str],
    permanent: bool,
    wait_s: float | None,
) -> None:
    """Only 410 ends it for good; a redirect is not followed, and every other answer may change."""
    receiver.answer(status, receiver.url.reveal().encode(), *headers)
    with pytest.raises(Undelivered) as undelivered:
        await channel(receiver, ManualClock()).send(notification, caller=caller)
    assert (undelivered.value.permanent, undelivered.value.retry_after_s) == (permanent, wait_s)
    assert undelivered.value.reason == f"ops: the receiver answered {status[:3]}"
    assert "Zx9secret" not in repr(undelivered.value)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("key", ["", "whsec_", "whsec_not base64!", "whsec_" + base64.b64encode(b"short").decode()])
def test_webhook_refuses_a_weak_key(key: str) -> None:
    """A key that is no base64, or too short to be safe, is a mistake in the configuration and is not printed."""
    with pytest.raises(ConfigError, match=r"notify\.channels\.ops: the secret") as refused:
        WebhookChannel("ops", Secret("https://a.test/"), Secret(key), clock=ManualClock())
    assert not key.removeprefix("whsec_") or key not in str(refused.value)
