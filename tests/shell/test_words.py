"""Words from outside in the log and in messages: one record per line, and nothing in them is followed, filled in or called."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from flows.running import eventually
from prunella.testing.places import Receiver
from shell.conftest import Shell, raw

pytestmark = pytest.mark.slow
_BREAKING = 'gone\r\n{"event": "forged", "level": "info"}\n\x1b[2J\x1b[31m\u2028\u2029\x85\x00\x0b\u202eforged'


def test_log_has_one_record_per_line_whatever_is_said(shell: Shell) -> None:
    """CR, LF, ANSI, U+2028 and the like in everything that is logged: every line is one record, and none is forged."""
    broken = quote(_BREAKING)
    told = shell.reported(
        "quiet", "log", error_message=_BREAKING, endpoint=f"/x{_BREAKING}", user_id=_BREAKING, error_code=_BREAKING
    )
    shell.ask("POST", f"/api/v1/incidents/{told}/ack", json={"reason": _BREAKING.replace("\0", "")})
    shell.ask("POST", "/api/v1/services/quiet/pause", json={"reason": _BREAKING.replace("\0", "")})
    shell.ask("POST", "/api/v1/services/quiet/resume", json={"reason": "done"})
    shell.ask(
        "POST",
        "/api/v1/known-issues",
        json={"id": "log.issue", "pattern": "broken line", "title": _BREAKING.replace("\0", "")},
    )
    for path in (f"/api/v1/inbound/{broken}", f"/api/v1/inbound-chat/slack/{broken}", f"/api/v1/incidents/{broken}"):
        shell.ask("POST", path, None, content=b"{}", headers={"x-internal-token": "wrong"})
    raw(shell, b"GET /livez HTTP/1.1\r\nhost: a\r\nuser-agent: \x1b[2Jforged\r\nconnection: close\r\n\r\n")
    lines = shell.log().split("\n")
    records = [json.loads(line) for line in lines if line]
    assert records
    assert [one for one in records if one.get("event") == "forged" or "event" not in one] == []
    plain = shell.log()
    assert [
        sign for sign in ("\r", "\x1b", "\u2028", "\u2029", "\x85", "\x00", "\u202e", "\x0b") if sign in plain
    ] == []


def received(place: Receiver) -> list[dict[str, Any]]:
    """Return the messages of a receiver."""
    return [json.loads(one.body) for one in place.received]


def test_message_shows_what_was_said_and_does_nothing_with_it(shell: Shell) -> None:
    """Templates, mentions, links and 100,000 letters reach chat and webhook literally, cut, and without a mention."""
    chat, hook = shell.chat, shell.hook
    eventually(lambda: all("{{7*191}}" in json.dumps(received(place)) for place in (chat, hook)))
    said = [json.dumps(one, ensure_ascii=False) for place in (chat, hook) for one in received(place)]
    assert not [one for one in said if "1337" in one or "<class" in one]
    assert max(len(one) for one in said) < 20_000
    shown = "".join(json.dumps(one, ensure_ascii=False) for one in received(chat))
    assert "<!channel>" not in shown
    assert "<@U123>" not in shown
    assert "<https://evil.example|press>" not in shown
    assert "{{7*191}}" in shown
    assert "{title}" in shown
