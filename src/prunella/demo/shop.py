"""A small shop with bad luck: third parties that fail on purpose, and the integrations that call them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from prunella.testing import FaultyServer, html, throttled, times, words

CLIENT_SECRET = "demo-client-secret"  # noqa: S105, of a provider that lives for a minute on loopback
INGEST_TOKEN = "demo-ingest-token"  # noqa: S105

_PRODUCTS = ("Assam", "Darjeeling", "Earl Grey", "Genmaicha", "Hojicha", "Jasmine", "Lapsang", "Matcha", "Oolong")

_direct = build_opener(ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a third party answered to an integration's own call."""

    status: int
    headers: Mapping[str, str]
    body: str


class Shop:
    """The world of the demo; every request and every effect stands in its ledger."""

    def __init__(self, folder: Path) -> None:
        self._database = folder / "shop.db"
        self._run("CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, stock INTEGER NOT NULL, on_sale BOOLEAN)")
        for name in _PRODUCTS:
            self._run("INSERT INTO products (name, stock, on_sale) VALUES (?, 7, true)", name)
        self.server = FaultyServer().start()
        self.oauth = self.server.oauth("/oauth/token", client_id="demo-shop", client_secret=CLIENT_SECRET)
        self.server.protect("/crm", self.oauth)
        self.tokens = self.oauth.grant()
        self.oauth.expire()
        self.chats = {"shop-chat": self.server.chat("/chat"), "shop-desk": self.server.chat("/desk")}
        self._read = dict.fromkeys(self.chats, 0)
        self.server.script("/shipping", [throttled(2), "ok"])
        self.server.script("/warehouse", [times(4, html(503, "Down for maintenance")), "ok"])
        self.server.script("/billing", [_invalid_vat(), "ok"])
        self.server.script("/labels", [418, "ok"])
        self.server.script("/prices/quotes", [*map(_stale_prices, range(3)), "ok", _stale_prices(3), "ok"])

    def stop(self) -> None:
        """Close the shop."""
        self.server.stop()

    def environment(self, database: str, listen: str) -> dict[str, str]:
        """Return what the demo's prunella.yaml refers to."""
        return {
            "DEMO_DATABASE_URL": database,
            "DEMO_LISTEN": listen,
            "DEMO_SHOP_DATABASE": f"sqlite:///{self._database}",
            "DEMO_SHOP": urlsplit(self.server.url).netloc,
            "DEMO_CHAT_URL": f"{self.server.url}/chat",
            "DEMO_DESK_URL": f"{self.server.url}/desk",
            "DEMO_CLIENT_SECRET": CLIENT_SECRET,
            "DEMO_INGEST_TOKEN": INGEST_TOKEN,
            "DEMO_ACCESS_TOKEN": self.tokens.access_token,
            "DEMO_REFRESH_TOKEN": self.tokens.refresh_token,
        }

    def sell_out(self, product: str) -> None:
        """Sell the last one; nobody takes it off the pages."""
        self._run("UPDATE products SET stock = 0 WHERE name = ?", product)

    def is_on_sale(self, product: str) -> bool:
        """Tell whether customers can still order it."""
        return self._run("SELECT on_sale FROM products WHERE name = ?", product) == [(1,)]

    def read_chat(self, channel: str) -> list[str]:
        """Return the headings of what arrived in a channel since the last look."""
        messages = self.chats[channel].messages
        fresh, self._read[channel] = messages[self._read[channel] :], len(messages)
        return [message["blocks"][0]["text"]["text"] for message in fresh]

    def _run(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._database, timeout=5)) as database, database:
            return database.execute(statement, values).fetchall()

    def cache_purges(self) -> int:
        """Count how often the price service was told to empty its cache."""
        return sum(one.path == "/prices/cache" for one in self.server.ledger.requests)

    async def call(self, path: str, payload: Mapping[str, Any]) -> Answer:
        """Call a third party as the shop's own code does, with the token it still believes in."""
        headers = {"authorization": f"Bearer {self.tokens.access_token}"}
        return await post(f"{self.server.url}{path}", payload, headers)


async def post(url: str, payload: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
    """Send JSON and return whatever came back."""
    return await asyncio.to_thread(_post, url, payload, headers)


async def get(url: str, token: str) -> dict[str, Any]:
    """Read JSON."""
    request = Request(url, headers={"authorization": f"Bearer {token}"})  # noqa: S310, loopback

    def read() -> dict[str, Any]:
        with _direct.open(request, timeout=15) as reply:
            found: dict[str, Any] = json.load(reply)
            return found

    return await asyncio.to_thread(read)


def _post(url: str, payload: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
    sent = {"content-type": "application/json", **headers}
    request = Request(url, data=json.dumps(payload).encode(), headers=sent, method="POST")  # noqa: S310, loopback
    try:
        with _direct.open(request, timeout=15) as reply:
            return Answer(
                reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.read().decode()
            )
    except HTTPError as error:
        lowered = {name.lower(): value for name, value in error.headers.items()}
        return Answer(error.code, lowered, error.read().decode(errors="replace"))


def _stale_prices(number: int) -> words.Word:
    message = f"price list {1704 + number} in the cache was replaced by {1705 + number}"
    return words.json(409, {"error": {"code": "stale_price_list", "message": message}})


def _invalid_vat() -> words.Word:
    body = {"error": {"code": "validation_error", "message": "vat_id: must have 9 digits"}}
    return words.json(422, body)
