"""What Slack receives, and how its answers are read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from prunella.core.errors import Undelivered
from prunella.core.records import Notification
from prunella.egress import Egress
from prunella.notify.slack import SlackChannel, render

pytestmark = pytest.mark.anyio


def mrkdwn(text: str) -> dict[str, object]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


async def test_slack_sends_the_whole_message(caller: Egress, receiver: Any, notification: Notification) -> None:
    """Heading, facts, footnote, link and plain text arrive as Block Kit at the webhook's address."""
    await SlackChannel("ops", receiver.url).send(notification, caller=caller)
    (heard,) = receiver.requests
    assert heard.path == "/services/T0/B0/Zx9secret?sig=Zx9secret"
    assert heard.headers["content-type"] == "application/json"
    assert heard.json() == {
        "text": "🚨 Integration Failure Detected · Service: stripe · Error: card &lt;declined&gt; &amp; refused",
        "blocks": [
            {
                "type": "header",
                "text": {"type": "plain_text", "text": "🚨 Integration Failure Detected", "emoji": True},
            },
            {
                "type": "section",
                "fields": [
                    mrkdwn("*Service*\nstripe"),
                    mrkdwn("*Error*\ncard &lt;declined&gt; &amp; refused"),
                ],
            },
            {"type": "context", "elements": [mrkdwn("HIGH · incident incident-1 · 2026-03-01 12:30:05 UTC")]},
            {
                "type": "section",
                "text": mrkdwn("<https://prunella.example/incidents/incident-1?a=1&amp;b=2|Open incident>"),
            },
        ],
    }


def test_slack_shows_injected_markup_literally(hostile: Notification) -> None:
    """No text from outside opens a mention or a link: the only angle bracket is that of our own link."""
    message = json.dumps(render(hostile), ensure_ascii=False)
    assert message.count("<") == 1
    assert message.count("<https://prunella.example/") == 1
    assert "&lt;!channel&gt; &lt;@U123&gt; @everyone &lt;https://evil.test|click&gt;" in message
    assert "{{7*7}} {0.__class__}" in message


def test_slack_stays_within_the_limits_of_its_blocks(hostile: Notification) -> None:
    """Header, fields and sections keep Slack's limits, however long and many the texts are."""
    message = render(replace(hostile, title="<" * 500, facts=hostile.facts * 40))
    header, *sections, more, context, link = message["blocks"]
    fields = [field["text"] for section in [*sections, more] for field in section["fields"]]
    assert len(header["text"]["text"]) <= 150
    assert all(len(section["fields"]) <= 10 for section in sections)
    assert len(fields) == 40
    assert fields[-1] == "*More*\n121 facts not shown"
    assert max(map(len, fields)) <= 2000
    assert len(message["text"]) <= 3000
    assert len(message["blocks"]) <= 50
    assert (context["type"], link["type"]) == ("context", "section")


def test_slack_lets_no_text_look_like_a_fact_of_ours(notification: Notification) -> None:
    """A line end in an error would begin another fact, and a sign that turns the reading would hide one."""
    facts = (("Error", "boom\n*Status*\nresolved \u202eabc"), ("a\nb", "c"))
    message = json.dumps(render(replace(notification, facts=facts, title="x\n*Status*")), ensure_ascii=False)
    assert "\u202e" not in message
    assert message.count("\\n") == 2  # each label is followed by our own one


def test_slack_leaves_out_what_is_not_there(notification: Notification) -> None:
    """Without facts there is no empty section, without a link no dead one, and an empty value is a dash."""
    bare = render(replace(notification, facts=(), link=None))
    assert [block["type"] for block in bare["blocks"]] == ["header", "context"]
    dashed = render(replace(notification, facts=(("Cause", ""),)))
    assert dashed["blocks"][1]["fields"] == [mrkdwn("*Cause*\n–")]


@pytest.mark.parametrize(
    ("status", "body", "headers", "permanent", "wait_s", "reason"),
    [
        ("429 Too Many Requests", b"", ["Retry-After: 12"], False, 12.0, "the receiver answered 429"),
        ("503 Service Unavailable", b"", [], False, None, "the receiver answered 503"),
        ("500 Oops", b"rollup_error", [], False, None, "the receiver answered 500 (rollup_error)"),
        ("302 Found", b"", ["Location: https://login.test/"], False, None, "the receiver answered 302"),
        ("200 OK", b"<html>sign in</html>", [], False, None, "the receiver answered 200"),
        ("200 OK", b"", [], False, None, "the receiver answered 200"),
        ("200 OK", b"invalid_token", [], False, None, "the receiver answered 200 (invalid_token)"),
        ("400 Bad Request", b"invalid_payload", [], True, None, "the receiver answered 400 (invalid_payload)"),
        ("403 Forbidden", b"action_prohibited", [], True, None, "the receiver answered 403 (action_prohibited)"),
        ("404 Not Found", b"no_service", [], True, None, "the receiver answered 404 (no_service)"),
        ("410 Gone", b"channel_is_archived", [], True, None, "the receiver answered 410 (channel_is_archived)"),
    ],
)
async def test_slack_reads_every_answer_but_ok_as_a_failure(
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
    """Only `ok` is a delivery; the rest is told apart into waits, bad moments and dead addresses."""
    receiver.answer(status, body, *headers)
    with pytest.raises(Undelivered) as undelivered:
        await SlackChannel("ops", receiver.url).send(notification, caller=caller)
    assert undelivered.value.reason == f"ops: {reason}"
    assert undelivered.value.permanent is permanent
    assert undelivered.value.retry_after_s == wait_s


async def test_slack_never_names_its_webhook(caller: Egress, receiver: Any, notification: Notification) -> None:
    """An answer that echoes the webhook's address does not carry it into the error."""
    receiver.answer("404 Not Found", receiver.url.reveal().encode())
    with pytest.raises(Undelivered) as undelivered:
        await SlackChannel("ops", receiver.url).send(notification, caller=caller)
    assert "Zx9secret" not in repr(undelivered.value)
