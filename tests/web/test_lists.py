"""Lists come in pages that together hold everything once, and filters that do not exist are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.web.api.paging import before, cursor_of, from_list
from prunella.web.auth import Role
from prunella.web.openapi import operations
from prunella.web.problems import Problem
from web.conftest import INGEST, Web
from web.fuzzing import target
from web.market import Market

pytestmark = pytest.mark.anyio

LISTS = (
    "approvals",
    "audit",
    "channels",
    "entities",
    "incidents",
    "keys",
    "notifications",
    "operations",
    "procedures",
    "runs",
)
FIXED = ("services", "secrets", "entities/order/stuck")


@pytest.fixture
async def full(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Market]:
    """A prunella with something of everything, and more than one of most."""
    async with target(tmp_path) as wired:
        for name in ("a", "b b", "c"):
            await wired.ask("POST", "/api/v1/keys", Role.ADMIN, json={"name": name, "role": "VIEWER"})
            await wired.ask("PUT", f"/api/v1/secrets/{name}", Role.ADMIN, json={"value": "x"})
        yield wired


async def walked(full: Market, path: str, limit: int) -> tuple[list[Any], int]:
    """Return everything on all pages, and how many there were."""
    items: list[Any] = []
    pages, cursor = 0, ""
    while True:
        page = (await full.ask("GET", f"{path}?limit={limit}{cursor}", Role.ADMIN)).json()
        items += page["items"]
        pages += 1
        if page["next_cursor"] is None:
            return items, pages
        assert len(page["items"]) == limit
        cursor = f"&cursor={page['next_cursor']}"


async def test_pages_hold_everything_once(full: Market) -> None:
    """Every list, cut into pages of one and of two, holds the same as in one page, in the same order."""
    long = 0
    for name in (*LISTS, *FIXED):
        path = f"/api/v1/{name}"
        whole, pages = await walked(full, path, 500)
        assert pages == 1, name
        for limit in (1, 2):
            found, pages = await walked(full, path, limit)
            assert found == whole, name
            assert pages == max(1, -(-len(whole) // limit)), name
        long += len(whole) > 2
    assert long >= 6


async def test_every_list_has_pages(web: Web) -> None:
    """Each route that answers `items` takes `limit` and `cursor` and says where the next page begins."""
    found = web.api.openapi()
    lists = set()
    for method, path, said in operations(found):
        if method != "GET":
            continue
        schema = said["responses"]["200"]["content"].get("application/json", {}).get("schema", {})
        named = found["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
        if "items" in named.get("properties", {}):
            lists.add(path.removeprefix("/api/v1/"))
            assert {"limit", "cursor"} <= {one["name"] for one in said["parameters"]}, path
            assert "next_cursor" in named["properties"], path
    assert lists >= {*LISTS, "services", "secrets", "entities/{entity}/stuck"}


async def test_unknown_filter_is_refused(web: Web) -> None:
    """A filter with a typing error would show everything: 422, with the names that there are."""
    token = web.token(Role.ADMIN)
    answer = await web.ask("GET", "/api/v1/incidents?servcie=crm", token)
    assert answer.status_code == 422
    assert "service" in answer.json()["errors"][0]["detail"]
    assert answer.json()["errors"][0]["pointer"] == "/query/servcie"
    assert (await web.ask("GET", "/api/v1/pause?x=1", token)).status_code == 422
    assert (await web.ask("POST", "/api/v1/pause?x=1", token)).status_code == 422
    assert (await web.ask("GET", "/api/v1/incidents?servcie=crm", web.token(Role.INGEST))).status_code == 403
    assert (await web.ask("GET", "/api/v1/incidents?q=%00", token)).status_code == 422


async def test_filter_that_stands_twice_is_refused(web: Web) -> None:
    """One of both would not count, and nobody could tell which."""
    answer = await web.ask("GET", "/api/v1/incidents?service=a&service=crm&limit=1", web.token(Role.VIEWER))
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": "/query/service", "detail": "write it once"}]


async def report(web: Web, number: int, **more: Any) -> None:
    event = {"event_id": f"e-{number}", "service_name": "crm", "http_status": 503, "user_id": f"u-{number}", **more}
    await web.ask("POST", "/integration-self-heal", INGEST, json=event, headers={"prefer": "respond-async"})


async def test_incidents_are_found_by_what_they_are(web: Web) -> None:
    """By state, service, category, severity, title and time; each alone and together."""
    token = web.token(Role.VIEWER)
    await report(web, 1)
    later = web.clock.now() + timedelta(seconds=30)
    web.clock.advance(60)
    await report(web, 2, service_name="billing", http_status=400, error_message="invalid payload")

    async def names(query: str) -> list[str]:
        answer = await web.ask("GET", f"/api/v1/incidents?{query}", token)
        assert answer.status_code == 200, answer.text
        return [one["service"] for one in answer.json()["items"]]

    assert await names("") == ["billing", "crm"]
    assert await names("service=crm") == ["crm"]
    assert await names("category=network") == ["crm"]
    assert await names("state=open_any&service=billing") == ["billing"]
    assert await names("state=resolved") == []
    title = (await web.ask("GET", "/api/v1/incidents?service=crm", token)).json()["items"][0]["title"]
    severity = (await web.ask("GET", "/api/v1/incidents?service=billing", token)).json()["items"][0]["severity"]
    assert "crm" in await names(f"q={title[:5].upper()}")
    assert await names("q=%25") == []
    assert "billing" in await names(f"severity={severity}")
    assert await names(f"since={later:%Y-%m-%dT%H:%M:%SZ}") == ["billing"]
    for wrong in ("state=broken", "category=x", "severity=high", "since=yesterday", "limit=0", "cursor=x", "q="):
        assert (await web.ask("GET", f"/api/v1/incidents?{wrong}", token)).status_code == 422, wrong


@given(st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)), st.text(min_size=1, max_size=20))  # noqa: DTZ001
def test_cursor_can_be_read_back(moment: datetime, name: str) -> None:
    """Whatever the name holds; a null character is in none of ours."""
    assert before(cursor_of(moment.replace(tzinfo=UTC), name)) == (moment.replace(tzinfo=UTC), name.replace("\0", ""))


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: raw.hex()))
def test_no_cursor_makes_it_stumble(cursor: str) -> None:
    """What is no cursor of ours is refused as such, never a fault."""
    with suppress(Problem):
        before(cursor)


@given(st.lists(st.text(alphabet="ab c", min_size=1), unique=True, max_size=12), st.integers(1, 5))
def test_list_by_name_is_cut_without_loss(names: list[str], limit: int) -> None:
    """Page by page everything comes once, in order, and the last page says that it is the last."""
    found: list[str] = []
    cursor: str | None = None
    for _ in range(20):
        page, cursor = from_list(names, limit, cursor, str)
        found += page
        if cursor is None:
            break
    assert found == sorted(names)
