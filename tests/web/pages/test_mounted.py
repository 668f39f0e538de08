"""prunella below a prefix of somebody else's app: every page, every form, every file, every redirect knows the prefix."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from prunella.web.auth import Gatehouse, Role
from prunella.web.server import create
from web.market import HIDE, Market
from web.person import Page, Person

pytestmark = pytest.mark.anyio
PREFIX = "/heal"
GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "inside-your-own-app.md"


def strays(page: Page) -> list[str]:
    """Return the addresses of a page that lead out of the prefix."""
    named = re.findall(r'(?:href|src|action|data-at|hx-[a-z]+|sse-connect)="(/[^"]*)"', page.html)
    return [one for one in named if one != PREFIX and not one.startswith(f"{PREFIX}/")]


async def test_every_page_and_form_works_below_a_prefix(mart: Market) -> None:
    """All that can be reached from the first page lies below the prefix; a plan is proposed, approved and carried out."""
    outer = FastAPI()
    outer.mount(PREFIX, create(mart.app))
    mart.order(1)
    transport = httpx2.ASGITransport(app=outer, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        ada = await Person.enter(client, mart.gatehouse, Role.ADMIN, prefix=PREFIX)
        await ada.fill(await ada.open(f"/procedures/{HIDE}"), f"/{HIDE}/run")
        seen, left = set[str](), [f"{PREFIX}/"]
        while left:
            address = left.pop()
            path = address.partition("#")[0]
            if not path or path in seen or len(seen) > 80 or "/export" in path:
                continue
            seen.add(path)
            answer = await ada.request("GET", path)
            if answer.status_code == 303:
                left.append(answer.headers["location"])
                continue
            assert answer.status_code == 200, (path, answer.text[:300])
            if "text/html" not in answer.headers["content-type"]:
                continue
            page = await ada.open(path.removeprefix(PREFIX))
            assert strays(page) == [], path
            files = re.findall(r'(?:src|href)="(/heal/static/[^"]+)"', page.html)
            left += [*page.links, *files]
        rooms = {path.removeprefix(PREFIX).split("/")[1].partition("?")[0] for path in seen}
        assert rooms >= {"approvals", "audit", "known-issues", "notifications", "operations", "procedures", "services"}
        done = await ada.fill(await ada.open("/approvals"), "/approve")
        assert "Approved. Procedure" in done.words
        assert strays(done) == []
        await ada.fill(await ada.open(f"/procedures/{HIDE}"), f"/{HIDE}/run")
        assert mart.shop.rows("SELECT count(*) FROM products WHERE visible = 0") == [(2,)]


def test_look_at_addresses_sees_one_that_forgot_the_prefix() -> None:
    """The look above fails on a link, a form or a file that does not know where it is mounted."""
    html = '<a href="/heal/audit">a</a><form action="/operations"></form><img src="/static/x.svg"><a href="#id">b</a>'
    assert strays(Page(200, html, "", [], [])) == ["/operations", "/static/x.svg"]


async def test_guide_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet of the guide, as it stands there, starts, signs somebody in, and ends."""
    (snippet,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (tmp_path / "prunella.yaml").write_text("service: {public_url: http://shop.example/heal}\n")
    monkeypatch.chdir(tmp_path)
    room: dict[str, FastAPI] = {}
    exec(compile(snippet, str(GUIDE), "exec"), room)  # our own document
    shop = room["shop"]
    async with asyncio.timeout(20), shop.router.lifespan_context(shop):
        transport = httpx2.ASGITransport(app=shop)
        async with httpx2.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            assert (await client.get("/")).json() == {"shop": "open"}
            gatehouse: Gatehouse = shop.routes[-1].app.state.gatehouse  # type: ignore[attr-defined]
            ada = await Person.enter(client, gatehouse, Role.ADMIN, prefix=PREFIX)
            assert (await ada.open("/services")).status == 200
