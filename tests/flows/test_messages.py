"""Messages: one per event of interest, to every kind of channel, through restarts and refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from flows.running import KEY, Up, configuration, event, eventually, running, start
from prunella.testing import FaultyServer, html, throttled

pytestmark = pytest.mark.slow


def notify(shop: FaultyServer) -> str:
    return (
        """
notify:
  channels:
    ops: {slack: "${SLACK}"}
    board: {teams: "${TEAMS}"}
    hook: {webhook: {url: "${HOOK}", secret: "${PRUNELLA_SECRET_KEY}"}}
""".replace("${SLACK}", "secret://slack")
        .replace("${TEAMS}", "secret://teams")
        .replace("${HOOK}", "secret://hook")
    )


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Up]:
    """A prunella with one channel of each kind."""
    with FaultyServer() as shop:
        config = configuration(shop, notify(shop))
        with running(tmp_path, shop, f"sqlite:///{tmp_path / 'p.db'}", config) as up:
            for kind, receiver in (("slack", shop.chat), ("teams", shop.teams), ("hook", shop.webhook)):
                receiver(f"/{kind}-channel")
                up.cli("secret", "set", kind, given=f"{shop.url}/{kind}-channel")
            yield up


def titles(up: Up, channel: str = "slack") -> list[str]:
    """Return the first lines that a channel received."""
    sent = [one for one in up.shop.ledger.requests if one.path == f"/{channel}-channel"]
    return [json.loads(one.body)["text"].split("\n")[0] for one in sent]


def test_story_is_told_once_on_every_channel(told: Up) -> None:
    """Given a failure that heals: detected, attempt, recovered, once each, with the time to recover."""
    service = told.place()
    told.heal(event(service))
    wanted = ["Integration Failure Detected", "Recovery Attempt", "Integration Recovered"]
    paths = [f"/{kind}-channel" for kind in ("slack", "teams", "hook")]

    def counts() -> list[int]:
        return [sum(one.path == path for one in told.shop.ledger.requests) for path in paths]

    told.shop.wait_for(lambda: counts() == [3, 3, 3], 15)
    texts = [one.body.decode() for one in told.shop.ledger.requests if one.path == "/slack-channel"]
    assert all(title in text for title, text in zip(wanted, texts, strict=True))
    assert "Time to Recover" in texts[2]
    signed = next(one for one in told.shop.ledger.requests if one.path == "/hook-channel")
    assert Webhook(KEY).verify(signed.body, {name.lower(): value for name, value in signed.headers.items()})
    cards = [one.json() for one in told.shop.ledger.requests if one.path == "/teams-channel"]
    assert cards[0]["attachments"][0]["contentType"] == "application/vnd.microsoft.card.adaptive"


def test_disabled_message_has_count_and_link(told: Up) -> None:
    """Given a disablement: one message with the count and a link to the dashboard."""
    service = told.place()
    for number in range(5):
        told.heal(event(service, number, http_status=422, error_message="bad", endpoint=None, payload=None))

    def texts() -> set[str]:
        arrived = [one.body.decode() for one in told.shop.ledger.requests if one.path == "/slack-channel"]
        return {text for text in arrived if "Integration Disabled" in text}

    told.shop.wait_for(lambda: bool(texts()), 15)
    (text,) = texts()
    assert "Failure Count" in text
    assert f"/services/{service}" in text


def test_channel_that_asks_for_silence_gets_it(told: Up) -> None:
    """Given a chat that answers 429 with Retry-After, the message comes after it, not before, and not twice."""
    told.shop.script("/slack-channel", [throttled(2), "ok"])
    told.heal(event("quiet", endpoint=None, payload=None), prefer="respond-async")
    told.shop.wait_for(lambda: sum(one.path == "/slack-channel" for one in told.shop.ledger.requests) == 2, 15)
    first, second = [one.at_s for one in told.shop.ledger.requests if one.path == "/slack-channel"]
    assert second - first >= 2.0


def test_messages_survive_a_kill(told: Up) -> None:
    """Given a chat that is down and a `kill -9`, the message arrives after the restart, once."""
    told.shop.script("/slack-channel", [html(503, "down")])
    told.heal(event("lost", endpoint=None, payload=None), prefer="respond-async")
    told.shop.wait_for(lambda: any(one.path == "/slack-channel" for one in told.shop.ledger.requests), 15)
    told.kill()
    told.shop.script("/slack-channel", ["ok"])
    again = start(told.folder, told.shop, told.database_url, (told.folder / "prunella.yaml").read_text())
    try:
        told.shop.wait_for(lambda: len(titles(told)) >= 2, 20)
        query = "SELECT state, count(*) FROM notifications WHERE channel = 'ops' GROUP BY state"
        eventually(lambda: again.rows(query) == [("sent", 1)])
    finally:
        again.end()


def test_person_sees_and_tries_channels_from_the_command_line(told: Up) -> None:
    """`notify test` brings a message at once, or says why not and fails; `notify channels` knows how each one does."""
    assert told.cli("notify", "test", "ops").strip() == "ops: the test message arrived"
    assert "Test message" in told.shop.ledger.requests[-1].body.decode()
    told.shop.script("/slack-channel", [html(500, "down")])
    assert "ops: the receiver answered 500" in told.cli("notify", "test", "ops", check=False)
    found = {one["name"]: one["state"] for one in json.loads(told.cli("notify", "channels", "--json"))["items"]}
    assert found == {"ops": "failing", "board": "unused", "hook": "unused"}
    shown = told.cli("notify", "channels")
    assert "failing since" in shown
    assert "slack-channel" not in shown


ESCALATING = """
notify:
  channels:
    ops: {slack: secret://slack, fallback: hook}
    board: {teams: secret://teams}
    hook: {webhook: {url: secret://hook, secret: "${PRUNELLA_SECRET_KEY}"}}
  rules:
    - {severity: [HIGH, CRITICAL], to: [ops], escalate: {after: 1s, to: [board]}}
  heartbeat: {url: secret://watcher, every: 10s}
"""


def test_message_finds_its_way_by_itself(tmp_path: Path) -> None:
    """A dead chat, nobody who answers: the stand-in gets it and says why, the next tier is told; the watcher sees life."""
    url = f"sqlite:///{tmp_path / 'p.db'}"
    with FaultyServer() as shop, running(tmp_path, shop, url, configuration(shop, ESCALATING)) as up:
        board, hook, watcher = shop.teams("/teams"), shop.webhook("/hook"), shop.webhook("/watcher")
        shop.script("/slack", [html(404, "gone")])
        for name in ("slack", "teams", "hook", "watcher"):
            up.cli("secret", "set", name, given=f"{shop.url}/{name}")
        service = up.place()
        up.heal(event(service, http_status=422, error_message="bad", endpoint=None, payload=None))
        shop.wait_for(lambda: bool(board.received and hook.received), 20)
        told = hook.messages[0]["data"]["facts"][-1]
        assert told["name"] == "Sent Through"
        assert told["value"] == "hook, because ops does not work (ops: the receiver answered 404)"
        assert "tier 1 of 1: nobody acknowledged for" in board.received[0].body.decode()
        shop.wait_for(lambda: bool(watcher.received), 15)
        assert up.rows("SELECT count(*) FROM notifications WHERE channel = 'board'") == [(len(board.received),)]
