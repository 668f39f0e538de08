"""What Slack signed, lately and exactly, is heard; everything else is not."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.redact import Secret
from prunella.notify.slack import ACKNOWLEDGE, APPROVE
from prunella.notify.slack_answers import aside, is_from_slack, may_reply, pressed_in

# The example of Slack's own documentation of its signatures.
SECRET = Secret("8f742231b10e8888abcd99yyyzzz85a5")
BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
HEADERS = {
    "x-slack-request-timestamp": "1531420618",
    "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
}
NOW = datetime.fromtimestamp(1531420618, UTC)


def test_signature_of_slacks_own_example_is_good() -> None:
    """Their secret, their body, their signature."""
    assert is_from_slack(SECRET, HEADERS, BODY, NOW)


@pytest.mark.parametrize(("late_s", "good"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_signature_is_good_for_five_minutes(late_s: int, good: bool) -> None:
    """Either way, for clocks differ."""
    assert is_from_slack(SECRET, HEADERS, BODY, NOW + timedelta(seconds=late_s)) is good


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-slack-signature": HEADERS["x-slack-signature"]},
        HEADERS | {"x-slack-request-timestamp": "1531420619"},
        HEADERS | {"x-slack-request-timestamp": "-1531420618"},
        HEADERS | {"x-slack-request-timestamp": "１５３１４２０６１８"},
        HEADERS | {"x-slack-signature": HEADERS["x-slack-signature"].removeprefix("v0=")},
        HEADERS | {"x-slack-signature": "v0=\udcff"},
        HEADERS | {"x-slack-signature": HEADERS["x-slack-signature"].upper()},
    ],
)
def test_altered_headers_are_nobodys(headers: dict[str, str]) -> None:
    """Missing, moved, negative, in other digits, of another version."""
    assert not is_from_slack(SECRET, headers, BODY, NOW)


def test_altered_body_and_other_secret_are_nobodys() -> None:
    """One byte, or one secret, and it is not Slack's."""
    assert not is_from_slack(SECRET, HEADERS, BODY + b"&", NOW)
    assert not is_from_slack(Secret("another"), HEADERS, BODY, NOW)


def payload(**changed: Any) -> dict[str, Any]:
    """Return what Slack sends when a button is pressed."""
    return {
        "type": "block_actions",
        "user": {"id": "U123", "username": "ada"},
        "team": {"id": "T1"},
        "channel": {"id": "C1", "name": "ops"},
        "response_url": "https://hooks.slack.com/actions/T1/1/x",
        "actions": [{"action_id": APPROVE, "value": "n-1 abc", "type": "button"}],
        **changed,
    }


def body(given: Any) -> bytes:
    return urlencode({"payload": json.dumps(given)}).encode()


def signed(secret: str, sent: bytes, at: datetime) -> dict[str, str]:
    """Return the headers that Slack would send."""
    moment = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), f"v0:{moment}:".encode() + sent, hashlib.sha256).hexdigest()
    return {
        "x-slack-request-timestamp": moment,
        "x-slack-signature": f"v0={digest}",
        "content-type": "application/x-www-form-urlencoded",
    }


def test_pressed_button_says_who_what_and_where() -> None:
    """Action, message, digest, person, workspace and channel are read."""
    found = pressed_in(body(payload()))
    assert found is not None
    assert (found.action, found.notification_id, found.digest) == ("approve", "n-1", "abc")
    assert (found.user, found.workspace, found.room) == ("U123", "T1", "C1")
    seen = pressed_in(body(payload(actions=[{"action_id": ACKNOWLEDGE, "value": "n-1"}], channel=None)))
    assert seen is not None
    assert (seen.action, seen.digest, seen.room) == ("acknowledge", "", "")


@pytest.mark.parametrize(
    "given",
    [
        [], {}, 7, None, payload(type="view_submission"), payload(actions=[]), payload(user=None),
        payload(actions=[{"action_id": "other", "value": "x"}]), payload(team={"id": 7}), payload(response_url=None),
        payload(actions=[{"action_id": APPROVE, "value": "a"}] * 2),
    ],
)  # fmt: skip
def test_anything_else_is_no_button_of_ours(given: Any) -> None:
    """Other shapes are left alone, without a fault."""
    assert pressed_in(body(given)) is None


@given(st.binary(max_size=200))
def test_no_body_makes_a_fault(sent: bytes) -> None:
    """Whatever the bytes."""
    assert pressed_in(sent) is None
    assert pressed_in(b"payload=" + sent) is None


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://hooks.slack.com/actions/T1/1/x", True),
        ("http://hooks.slack.com/actions", False),
        ("https://hooks.slack.com.evil.test/", False),
        ("https://hooks.slack.com@evil.test/", False),
        ("https://hooks.slack.com:8443/", False),
        ("http://169.254.169.254/latest", False),
        ("", False),
        ("https://[", False),
    ],
)
def test_answers_go_where_messages_go(url: str, may: bool) -> None:
    """The address in a request, though signed, leads nowhere else."""
    assert may_reply(url, Secret("https://hooks.slack.com/services/T1/B1/x")) is may


def test_word_aside_is_seen_by_one_and_marks_nothing_up() -> None:
    """Plain text, and the message stays."""
    answer = aside("<!channel> *no*")
    assert (answer["response_type"], answer["replace_original"]) == ("ephemeral", False)
    assert answer["blocks"][0]["text"]["type"] == "plain_text"
