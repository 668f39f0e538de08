"""Slack's buttons, pressed for real: a plan approved, rejected and acknowledged from the chat, and who is not heard."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from databases.shop import Shop
from notify.test_slack_answers import body, payload, signed
from prunella.core.events import Event
from prunella.core.records import Notification, Severity
from prunella.core.redact import Secret
from prunella.core.services import SecretRef
from prunella.egress import EgressPolicy
from prunella.engine.notices import Route, Routes
from prunella.notify.slack import ACKNOWLEDGE, APPROVE, REJECT
from prunella.settings import Buttons, ChannelSettings, Settings
from prunella.settings.telling import Person
from prunella.testing import FaultyServer, Receiver
from web.market import HIDE, Market, filled, market

pytestmark = pytest.mark.anyio
SIGNING = "signing-secret-1"
BUTTONS = Buttons(
    signing_secret=Secret(SIGNING),
    workspace="T1",
    room="C1",
    users={
        "U123": Person(name="ada@example.com", role="OPERATIONS"),
        "U777": Person(name="eve@example.com", role="VIEWER"),
    },
)


@dataclass
class Chat:
    """A shop whose plans are told to a Slack look-alike."""

    mart: Market
    slack: FaultyServer
    room: Receiver
    replies: Receiver

    async def told(self) -> tuple[Notification, dict[str, Any]]:
        """Propose the plan, deliver the message, and return it as stored and as Slack got it."""
        await self.mart.post(f"/api/v1/procedures/{HIDE}/run")
        await self.mart.app.delivery.deliver("ops")
        async with self.mart.app.store.transaction() as tx:
            (row,) = await tx.outbox.list(most=5, channel="ops", kind="APPROVAL_REQUIRED")
        return row, self.room.messages[-1]

    async def press(
        self, action: str, value: str, *, secret: str = SIGNING, late_s: float = 0, path: str = "ops", **changed: Any
    ) -> httpx2.Response:
        """Press a button as Slack would tell it."""
        button = {"action_id": action, "value": value, "type": "button"}
        sent = body(payload(actions=[button], response_url=f"{self.slack.url}/reply", **changed))
        headers = signed(secret, sent, self.mart.app.parts.clock.now() - timedelta(seconds=late_s))
        return await self.again(sent, headers, path)

    async def again(self, sent: bytes, headers: dict[str, str], path: str = "ops") -> httpx2.Response:
        """Send a request as it is."""
        return await self.mart.client.post(f"/api/v1/inbound-chat/slack/{path}", content=sent, headers=headers)

    async def state(self) -> str:
        """Return the plan's state."""
        (plan,) = (await self.mart.get("/api/v1/approvals"))["items"]
        return str(plan["state"])

    async def audited(self, action: str) -> list[dict[str, Any]]:
        """Return the audit's entries of one action."""
        entries = (await self.mart.get("/api/v1/audit?limit=200"))["items"]
        return [entry for entry in entries if entry["action"] == action]


@asynccontextmanager
async def opened(shop: Shop, path: Path, slack: FaultyServer, buttons: Buttons | None = BUTTONS) -> AsyncIterator[Chat]:
    room, replies = slack.chat("/room"), slack.chat("/reply")
    channel = ChannelSettings(kind="slack", url=Secret(f"{slack.url}/room"), buttons=buttons)
    settings = Settings(
        channels={"ops": channel},
        routes=Routes((Route(frozenset(Severity), ("ops",)),)),
        egress=EgressPolicy(allow_hosts=frozenset({"127.0.0.0/8"}), allow_http=True),
    )
    async with market(shop, path, settings) as mart:
        yield Chat(mart, slack, room, replies)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop on SQLite."""
    with filled(f"sqlite:///{tmp_path / 'shop.db'}") as stocked:
        yield stocked


@pytest.fixture
async def chat(anyio_backend: str, shop: Shop, sqlite_path: Path) -> AsyncIterator[Chat]:
    """A wired prunella with buttons."""
    with FaultyServer() as slack:
        async with opened(shop, sqlite_path, slack) as wired:
            yield wired


def buttons_of(message: dict[str, Any]) -> dict[str, str]:
    """Return the buttons of a message: id -> value."""
    rows = [block for block in message["blocks"] if block["type"] == "actions"]
    return {one["action_id"]: one["value"] for row in rows for one in row["elements"]}


async def test_plan_is_approved_from_the_chat_under_the_persons_name(chat: Chat) -> None:
    """The button carries the digest; the plan is approved by ada, audited, and the message loses its buttons."""
    row, message = await chat.told()
    found = buttons_of(message)
    assert set(found) == {APPROVE, REJECT, ACKNOWLEDGE}
    assert found[APPROVE] == f"{row.id} {dict(row.facts)['Digest']}"
    assert (await chat.press(APPROVE, found[APPROVE])).status_code == 200
    assert await chat.state() == "approved"
    (entry,) = await chat.audited("approval.approved")
    assert entry["actor"] == "ada@example.com"
    (reply,) = chat.replies.messages
    assert reply["replace_original"] is True
    assert buttons_of(reply) == {}
    assert "Approved by ada@example.com" in json.dumps(reply)


async def test_plan_is_rejected_from_the_chat(chat: Chat) -> None:
    """Rejected by name; a second press says that it was answered, to the one who pressed."""
    _, message = await chat.told()
    found = buttons_of(message)
    await chat.press(REJECT, found[REJECT])
    assert await chat.state() == "rejected"
    await chat.press(APPROVE, found[APPROVE])
    assert await chat.state() == "rejected"
    assert chat.replies.messages[1]["response_type"] == "ephemeral"
    assert "Nothing was done" in chat.replies.messages[1]["text"]


async def test_acknowledging_in_the_chat_is_acknowledging(chat: Chat) -> None:
    """The dashboard's entry is acknowledged by ada; a second time says who was first."""
    row, message = await chat.told()
    value = buttons_of(message)[ACKNOWLEDGE]
    await chat.press(ACKNOWLEDGE, value)
    async with chat.mart.app.store.transaction() as tx:
        (shown,) = await tx.outbox.list(most=2, key=row.key, channel="dashboard")
    assert shown.acknowledged_by == "ada@example.com"
    assert await chat.state() == "waiting"
    await chat.press(ACKNOWLEDGE, value, trigger_id="2")
    assert "acknowledged by ada@example.com" in chat.replies.messages[1]["text"]


async def test_another_plans_digest_approves_nothing(chat: Chat) -> None:
    """A button of a plan that is no longer this one, or without a digest, does nothing."""
    row, _ = await chat.told()
    for value in (f"{row.id} {'0' * 32}", row.id, "nobody abc"):
        assert (await chat.press(APPROVE, value)).status_code == 200
    assert await chat.state() == "waiting"
    assert all("Nothing was done" in one["text"] or "not known" in one["text"] for one in chat.replies.messages)


@pytest.mark.parametrize(
    "changed",
    [
        {"user": {"id": "U666"}},
        {"user": {"id": "U777"}},
        {"team": {"id": "T2"}},
        {"channel": {"id": "C2"}},
        {"channel": None},
    ],
    ids=["stranger", "viewer", "workspace", "channel", "no channel"],
)
async def test_only_who_is_named_is_heard(chat: Chat, changed: dict[str, Any]) -> None:
    """A stranger, a viewer, another workspace or channel: nothing is done, it is audited, and the stranger is told."""
    _, message = await chat.told()
    assert (await chat.press(APPROVE, buttons_of(message)[APPROVE], **changed)).status_code == 200
    assert await chat.state() == "waiting"
    assert len(await chat.audited("chat.refused")) == 1
    assert "you may not answer here" in chat.replies.messages[0]["text"]


async def test_forged_old_and_repeated_requests_are_refused(chat: Chat) -> None:
    """Another secret and an old moment: 401; the very same request again: 409, and nothing more is done."""
    _, message = await chat.told()
    value = buttons_of(message)[APPROVE]
    assert (await chat.press(APPROVE, value, secret="guessed")).status_code == 401
    assert (await chat.press(APPROVE, value, late_s=301)).status_code == 401
    assert await chat.state() == "waiting"
    sent = body(payload(actions=[{"action_id": ACKNOWLEDGE, "value": value, "type": "button"}], response_url=""))
    headers = signed(SIGNING, sent, chat.mart.app.parts.clock.now())
    assert [(await chat.again(sent, headers)).status_code for _ in range(3)] == [200, 409, 409]
    assert len(await chat.audited("notification.ack")) == 1


async def test_channel_without_buttons_hears_nothing(shop: Shop, sqlite_path: Path) -> None:
    """Without a signing secret there are links only, and no address that listens."""
    with FaultyServer() as slack:
        async with opened(shop, sqlite_path, slack, buttons=None) as chat:
            _, message = await chat.told()
            assert buttons_of(message) == {}
            assert "Open incident" in json.dumps(message)
            assert (await chat.press(APPROVE, "x y")).status_code == 404
            assert (await chat.press(APPROVE, "x y", path="nobody")).status_code == 404


async def test_answer_goes_to_no_other_host(chat: Chat) -> None:
    """An address of a reply that is not where messages go is not called; the plan is answered all the same."""
    _, message = await chat.told()
    with FaultyServer(host="127.0.0.2") as elsewhere:
        button = {"action_id": REJECT, "value": buttons_of(message)[REJECT], "type": "button"}
        sent = body(payload(actions=[button], response_url=f"{elsewhere.url}/x"))
        headers = signed(SIGNING, sent, chat.mart.app.parts.clock.now())
        assert (await chat.again(sent, headers)).status_code == 200
        assert elsewhere.ledger.requests == []
    assert await chat.state() == "rejected"


async def test_secret_that_can_not_be_read_is_told_in_the_log_alone(shop: Shop, sqlite_path: Path) -> None:
    """Who has shown nothing yet is not told what our secrets are called."""
    buttons = replace(BUTTONS, signing_secret=SecretRef("slack/signing"))
    with FaultyServer() as slack:
        async with opened(shop, sqlite_path, slack, buttons=buttons) as chat:
            seen: list[Event] = []
            chat.mart.app.parts.listeners.subscribe(seen.append)
            answer = await chat.press(APPROVE, "x y")
    assert (answer.status_code, "slack/signing" in answer.text) == (503, False)
    assert [event.name for event in seen if "slack/signing" in str(event.fields)] == ["inbound.refused"]
