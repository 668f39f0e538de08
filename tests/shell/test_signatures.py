"""What is signed is taken once, and exactly as it was signed, at every door that knows signatures."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook

from notify.test_slack_answers import body as pressed
from notify.test_slack_answers import payload, signed
from prunella.notify.slack import APPROVE
from shell.conftest import PARTNER, SIGNING, Shell

pytestmark = pytest.mark.slow
ABSENT = "(absent)"
_EVENT = {"type": "sync.failed", "data": {"service_name": "quiet", "http_status": 422, "error_message": "bad sku"}}


def delivered(
    shell: Shell, *, secret: str = PARTNER, late_s: float = 0, msg: str = "m1", to: str = "partner", **changed: Any
) -> httpx2.Response:
    """Deliver an event as a partner signs it, then changed on its way."""
    at = shell.clock.now() - timedelta(seconds=late_s)
    text = json.dumps(_EVENT)
    headers = {"webhook-id": msg, "webhook-timestamp": str(int(at.timestamp()))}
    headers["webhook-signature"] = Webhook(secret).sign(msg, at, text)
    headers |= changed.pop("headers", {})
    headers = {name: value for name, value in headers.items() if value != ABSENT}
    sent = changed.pop("body", text.encode())
    return shell.ask("POST", f"/api/v1/inbound/{to}", None, content=sent, headers=headers)


def taken(shell: Shell) -> int:
    """Return how many signals came from the partner."""
    ((count,),) = shell.up.rows("SELECT count(*) FROM signals WHERE source = 'inbound:partner'")
    return int(count)


def test_delivery_is_taken_once_and_only_as_it_was_signed(shell: Shell) -> None:
    """Every tampering: 401 and nothing taken; the good one is taken; sent again it is a duplicate, not a second event."""
    before = taken(shell)
    text = json.dumps(_EVENT).encode()
    good = Webhook(PARTNER).sign("m1", shell.clock.now(), text.decode())
    other = "whsec_" + "b" * 43 + "="
    tampered: list[dict[str, Any]] = [
        {"body": text + b" "},
        {"body": text.replace(b"422", b"503")},
        {"late_s": 600},
        {"late_s": -600},
        {"secret": other},
        {"to": "nobody"},
        {"headers": {"webhook-signature": ABSENT}},
        {"headers": {"webhook-signature": ""}},
        {"headers": {"webhook-signature": good[:12]}},
        {"headers": {"webhook-signature": good.removeprefix("v1,")}},
        {"headers": {"webhook-signature": "v1a," + good[3:]}},
        {"headers": {"webhook-id": "m2"}},
        {"headers": {"webhook-id": ABSENT}},
        {"headers": {"webhook-timestamp": "1e9"}},
        {"headers": {"webhook-timestamp": "9" * 400}},
    ]
    let_in = [one for one in tampered if delivered(shell, **one).status_code != 401]
    assert (let_in, taken(shell)) == ([], before)
    first, again = delivered(shell), delivered(shell)
    assert (first.status_code, again.status_code) == (202, 202), (first.text, again.text)
    assert [one["duplicate"] for one in (*first.json()["items"], *again.json()["items"])] == [False, True]
    assert taken(shell) == before + 1


def press(
    shell: Shell, *, secret: str = SIGNING, late_s: float = 0, spoil: bytes = b"", **changed: Any
) -> httpx2.Response:
    """Press a button as Slack would tell it."""
    button = {"action_id": APPROVE, "value": "n-1 abc", "type": "button"}
    sent = pressed(payload(actions=[button], response_url=f"{shell.canary.url}/reply", **changed))
    headers = signed(secret, sent, shell.clock.now() - timedelta(seconds=late_s))
    return shell.ask("POST", "/api/v1/inbound-chat/slack/chat", None, content=sent + spoil, headers=headers)


def test_button_counts_once_and_only_as_slack_signed_it(shell: Shell) -> None:
    """Another secret, another moment, another byte: 401; the same request twice: 409; its reply goes to no other host."""
    refused = [
        press(shell, secret="guessed"),
        press(shell, late_s=301),
        press(shell, late_s=-301),
        press(shell, spoil=b"&"),
    ]
    assert [one.status_code for one in refused] == [401] * 4
    sent = pressed(
        payload(
            actions=[{"action_id": APPROVE, "value": "n-1 abc", "type": "button"}],
            response_url=f"{shell.canary.url}/reply",
        )
    )
    headers = signed(SIGNING, sent, shell.clock.now())
    answers = [
        shell.ask("POST", "/api/v1/inbound-chat/slack/chat", None, content=sent, headers=headers) for _ in range(3)
    ]
    assert [one.status_code for one in answers] == [200, 409, 409]
    assert shell.canary.ledger.requests == []
