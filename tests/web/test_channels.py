"""How channels do, a test message, and a message sent once more: over the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from databases.shop import Shop
from prunella.core.errors import IllegalTransition
from prunella.engine import inbox
from prunella.testing import FaultyServer
from prunella.testing import words as w
from web.test_chat import Chat, opened
from web.test_chat import shop as shop  # noqa: PLC0414, a fixture

pytestmark = pytest.mark.anyio


@pytest.fixture
async def chat(anyio_backend: str, shop: Shop, sqlite_path: Path) -> AsyncIterator[Chat]:
    """A wired prunella with one channel."""
    with FaultyServer() as slack:
        async with opened(shop, sqlite_path, slack, buttons=None) as wired:
            yield wired


async def health(chat: Chat) -> dict[str, object]:
    (found,) = (await chat.mart.get("/api/v1/channels"))["items"]
    return dict(found)


async def test_channel_is_unused_ok_and_failing(chat: Chat) -> None:
    """Its state follows what happened to it, with moments and the last error."""
    assert (await health(chat))["state"] == "unused"
    answer = await chat.mart.post("/api/v1/channels/ops/test", {})
    assert answer == {"channel": "ops", "delivered": True, "remark": None}
    assert chat.room.messages[0]["text"].startswith("🔔 Test message")
    assert (await health(chat))["state"] == "ok"
    chat.slack.script("/room", [w.html(500, "down")])
    refused = await chat.mart.post("/api/v1/channels/ops/test", {}, 502)
    assert refused["detail"] == "ops: the receiver answered 500"
    ill = await health(chat)
    assert (ill["state"], ill["failures"], ill["last_error"]) == ("failing", 1, "ops: the receiver answered 500")
    await chat.mart.post("/api/v1/channels/nobody/test", {}, 404)
    assert [one["reason"] for one in await chat.audited("channel.tested")][::-1][0] == "arrived"


async def test_messages_of_a_notice_are_listed_and_sent_again_over_the_api(chat: Chat) -> None:
    """One entry per channel with its tries; sent again it waits, and a second wish is refused."""
    row, _ = await chat.told()
    (notice,) = (await chat.mart.get("/api/v1/notifications"))["items"]
    path = f"/api/v1/notifications/{notice['notification_id']}"
    listed = {one["channel"]: one for one in (await chat.mart.get(f"{path}/messages"))["items"]}
    assert {name: one["state"] for name, one in listed.items()} == {"ops": "sent", "dashboard": "sent"}
    assert [one["outcome"] for one in listed["ops"]["tries"]] == ["sent"]
    first = await chat.mart.get(f"{path}/messages?limit=1")
    second = await chat.mart.get(f"{path}/messages?limit=1&cursor={first['next_cursor']}")
    assert [one["channel"] for one in first["items"] + second["items"]] == list(listed)
    assert second["next_cursor"] is None
    (again,) = (await chat.mart.post(f"{path}/resend"))["items"]
    assert (again["id"], again["state"]) == (row.id, "waiting")
    await chat.mart.post(f"{path}/resend", status=409)
    await chat.mart.post("/api/v1/notifications/nobody/resend", status=404)
    assert (await chat.mart.ask("GET", "/api/v1/notifications/nobody/messages")).status_code == 404


async def test_message_is_sent_once_more_by_a_person(chat: Chat) -> None:
    """By the dashboard's entry on every channel; what is on its way, or unknown, is not."""
    row, _ = await chat.told()
    (entry,) = await inbox.pending(chat.mart.app.parts, most=5)
    again = await inbox.resend(chat.mart.app.parts, entry.notification.id, by="ada")
    assert again is not None
    assert [one.id for one in again] == [row.id]
    with pytest.raises(IllegalTransition, match="on its way"):
        await inbox.resend(chat.mart.app.parts, row.id, by="ada")
    await chat.mart.app.delivery.deliver("ops")
    assert len(chat.room.messages) == 2
    (sent,) = [one for one in await inbox.rows_of(chat.mart.app.parts, row.id) if one.channel == "ops"]
    assert [one["outcome"] for one in sent.tries] == ["sent", "sent"]
    assert await inbox.resend(chat.mart.app.parts, "nobody", by="ada") is None
    assert await inbox.rows_of(chat.mart.app.parts, "nobody") == []
    (entry_of,) = await chat.audited("notification.resent")
    assert entry_of["actor"] == "ada"
