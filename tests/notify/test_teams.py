"""What Teams receives, and how its answers are read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from prunella.core.errors import Undelivered
from prunella.core.records import Notification
from prunella.egress import Egress
from prunella.notify.teams import TeamsChannel, render

pytestmark = pytest.mark.anyio

THROTTLED_INSIDE = (
    b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x"
)


async def test_teams_sends_the_whole_card(caller: Egress, receiver: Any, notification: Notification) -> None:
    """Heading, facts, footnote and link arrive as one Adaptive Card 1.4."""
    receiver.answer("202 Accepted")
    await TeamsChannel("ops", receiver.url).send(notification, caller=caller)
    (heard,) = receiver.requests
    assert heard.path == "/services/T0/B0/Zx9secret?sig=Zx9secret"
    assert heard.json() == {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "msteams": {"width": "Full"},
                    "body": [
                        {
                            "type": "TextBlock",
                            "text": "🚨 Integration Failure Detected",
                            "wrap": True,
                            "size": "Large",
                            "weight": "Bolder",
                        },
                        {
                            "type": "FactSet",
                            "facts": [
                                {"title": "Service", "value": "stripe"},
                                {"title": "Error", "value": "card <declined> & refused"},
                            ],
                        },
                        {
                            "type": "TextBlock",
                            "text": "HIGH · incident incident-1 · 2026-03-01 12:30:05 UTC",
                            "wrap": True,
                            "size": "Small",
                            "isSubtle": True,
                        },
                    ],
                    "actions": [
                        {
                            "type": "Action.OpenUrl",
                            "title": "Open incident",
                            "url": "https://prunella.example/incidents/incident-1?a=1&b=2",
                        }
                    ],
                },
            }
        ],
    }


@pytest.mark.parametrize("letter", ["a", "é", "語", "🧨", "\\", '"'])
def test_teams_takes_messages_in_every_script(notification: Notification, letter: str) -> None:
    """However many bytes a letter needs on its way, the whole stays below what Teams accepts."""
    facts = tuple((f"{number}{letter * 300}", letter * 3000) for number in range(50))
    link = "https://prunella.example/" + "a" * 1900
    message = render(replace(notification, title=letter * 900, facts=facts, link=link))
    assert len(json.dumps(message, separators=(",", ":"))) < 28_000
    shown = message["attachments"][0]["content"]["body"][1]["facts"]
    assert len(shown) == 20
    assert all(one["value"] for one in shown)


def test_teams_makes_no_links_or_mentions_out_of_text(hostile: Notification) -> None:
    """Markdown links in a text are broken and mentions stay words, for the card lists no entities."""
    message = json.dumps(render(hostile), ensure_ascii=False)
    assert "](" not in message
    assert "[click]\u200b(https:\u200b//evil.test)" in message
    assert "@everyone" not in message
    assert "<!channel>" not in message
    assert "<!channel> <@U123> @everyone" in message.replace("\u200b", "")
    assert "entities" not in message


def test_teams_stays_below_its_size_limit(hostile: Notification) -> None:
    """The largest card stays below 28 kB, and says how many facts it leaves out."""
    many = replace(hostile, facts=(("Fact " * 50, "x" * 10_000),) * 100)
    card = render(many)["attachments"][0]["content"]
    assert len(json.dumps(render(many), ensure_ascii=False).encode()) < 28_000
    assert len(card["body"][1]["facts"]) == 20
    assert card["body"][1]["facts"][-1] == {"title": "More", "value": "81 facts not shown"}


def test_teams_leaves_out_a_link_that_is_none(notification: Notification) -> None:
    """Without a web address there is no button."""
    assert render(replace(notification, link="javascript:alert(1)"))["attachments"][0]["content"]["actions"] == []


@pytest.mark.parametrize(("status", "body"), [("200 OK", b"1"), ("200 OK", b""), ("202 Accepted", b"")])
async def test_teams_takes_an_acceptance(
    caller: Egress, receiver: Any, notification: Notification, status: str, body: bytes
) -> None:
    """200 and 202 are acceptances."""
    receiver.answer(status, body)
    await TeamsChannel("ops", receiver.url).send(notification, caller=caller)


@pytest.mark.parametrize(
    ("status", "body", "headers", "permanent", "wait_s", "reason"),
    [
        ("200 OK", THROTTLED_INSIDE, [], False, None, "the receiver answered 429 (inside a 200)"),
        ("200 OK", THROTTLED_INSIDE, ["Retry-After: 9"], False, 9.0, "the receiver answered 429 (inside a 200)"),
        ("200 OK", b"Delivery failed: internal error", [], False, None, "the receiver answered 200 (inside a 200)"),
        ("200 OK", b"failed with error: HTTP 404", [], True, None, "the receiver answered 404 (inside a 200)"),
        ("200 OK", b"<html>sign in</html>", [], False, None, "the receiver answered 200 (inside a 200)"),
        ("429 Too Many Requests", b"", ["Retry-After: 4"], False, 4.0, "the receiver answered 429"),
        ("502 Bad Gateway", b"", [], False, None, "the receiver answered 502"),
        ("401 Unauthorized", b"", [], True, None, "the receiver answered 401"),
        ("404 Not Found", b"", [], True, None, "the receiver answered 404"),
    ],
)
async def test_teams_reads_a_failure_even_inside_a_200(
    caller: Egress,
    receiver: Any,
    notification: Notification,
    status: str,
    body: bytes,
    headers: list[str],
    permanent: bool,
    wait_s: float | None,
    reason: str,
) -> None:
    """A failed delivery counts as failed wherever it is told: by the status, or in the text of a 200."""
    receiver.answer(status, body, *headers)
    with pytest.raises(Undelivered) as undelivered:
        await TeamsChannel("ops", receiver.url).send(notification, caller=caller)
    assert undelivered.value.reason == f"ops: {reason}"
    assert undelivered.value.permanent is permanent
    assert undelivered.value.retry_after_s == wait_s


async def test_teams_never_names_its_webhook(caller: Egress, receiver: Any, notification: Notification) -> None:
    """An answer that echoes the webhook's address does not carry it into the error."""
    receiver.answer("200 OK", b"failed with error at " + receiver.url.reveal().encode())
    with pytest.raises(Undelivered) as undelivered:
        await TeamsChannel("ops", receiver.url).send(notification, caller=caller)
    assert "Zx9secret" not in repr(undelivered.value)
