"""Channels of Apprise: one target, one call, and nothing of its address in any log."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from prunella.core.errors import Undelivered
from prunella.core.records import Notification
from prunella.core.redact import Secret
from prunella.egress import Egress, EgressPolicy
from prunella.notify.other import OtherChannel

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore")]  # Apprise's own


HERE = EgressPolicy(allow_hosts=frozenset({"127.0.0.1"}))


def pager(receiver: Any, policy: EgressPolicy = HERE, host: str = "127.0.0.1") -> OtherChannel:
    return OtherChannel("pager", Secret(f"json://user:Zx9secret@{host}:{receiver.port}/page"), policy)


async def test_message_arrives_whole_once(caller: Egress, receiver: Any, notification: Notification) -> None:
    """Title and text reach the service, with one request."""
    await pager(receiver).send(notification, caller=caller)
    (heard,) = receiver.requests
    body = heard.json()
    assert body["title"] == "🚨 Integration Failure Detected"
    assert "Service: stripe\nError: card <declined> & refused" in body["message"]
    assert body["message"].rstrip().endswith("https://prunella.example/incidents/incident-1?a=1&b=2")
    assert body["type"] == "failure"


async def test_hostile_text_mentions_nobody_and_links_nowhere(
    caller: Egress, receiver: Any, hostile: Notification
) -> None:
    """Whatever the service makes of mentions and links, none is in the text."""
    await pager(receiver).send(hostile, caller=caller)
    body = receiver.requests[0].json()
    text = body["title"] + body["message"]
    for live in ("@everyone", "<!channel>", "<@U123>", "](https", "https://evil.test"):
        assert live not in text
        assert live in text.replace("\u200b", "")
    assert "{{7*7}} {0.__class__}" in text


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Internal Server Error", "404 Not Found"])
async def test_refusal_is_one_try_and_a_failure_that_is_tried_again(
    status: str, caller: Egress, receiver: Any, notification: Notification, caplog: pytest.LogCaptureFixture
) -> None:
    """Apprise tries no second time by itself; its log, which would hold the address, stays silent."""
    receiver.answer(status, b"no")
    with caplog.at_level(logging.DEBUG), pytest.raises(Undelivered) as failed:
        await pager(receiver).send(notification, caller=caller)
    assert len(receiver.requests) == 1
    assert not failed.value.permanent
    assert "Zx9secret" not in failed.value.reason + caplog.text


async def test_address_that_apprise_does_not_know_is_final(caller: Egress, notification: Notification) -> None:
    """A misspelt service is said at once, without its address."""
    with pytest.raises(Undelivered, match="knows no such address") as failed:
        await OtherChannel("pager", Secret("nosuch://Zx9secret"), HERE).send(notification, caller=caller)
    assert failed.value.permanent
    assert "Zx9secret" not in failed.value.reason


async def test_missing_extra_says_what_to_install(
    caller: Egress, notification: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Apprise the message names the command."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(Undelivered, match=r'pip install "prunella\[apprise\]"'):
        await OtherChannel("pager", Secret("json://127.0.0.1"), HERE).send(notification, caller=caller)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_target_inside_is_not_spoken_to(
    host: str, caller: Egress, receiver: Any, notification: Notification
) -> None:
    """By address and by name: refused for good, with the address and what to write where that is meant."""
    with pytest.raises(Undelivered, match=r"is not public; add .* to egress\.allow_hosts") as failed:
        await pager(receiver, EgressPolicy(), host).send(notification, caller=caller)
    assert failed.value.permanent
    assert receiver.requests == []


@pytest.mark.parametrize("allowed", ["localhost", "localhost:{port}", "127.0.0.0/8"])
async def test_target_inside_is_allowed_by_name_or_range(
    allowed: str, caller: Egress, receiver: Any, notification: Notification
) -> None:
    """`egress.allow_hosts` says so: the message arrives."""
    policy = EgressPolicy(allow_hosts=frozenset({allowed.format(port=receiver.port)}))
    await pager(receiver, policy, "localhost").send(notification, caller=caller)
    assert len(receiver.requests) == 1
