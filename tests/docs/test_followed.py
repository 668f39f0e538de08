"""Pages that are followed word for word, on a real engine."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from docs.following import Reader
from docs.pages import Page, page
from flows.running import eventually
from pooler import free_port
from web.person import Person, page_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


def visible(shop: Path) -> int:
    """Tell whether the product that is sold out still stands on the shop's pages."""
    with closing(sqlite3.connect(shop)) as database:
        return int(database.execute("SELECT visible FROM products WHERE id = 10").fetchone()[0])


@pytest.mark.timeout(180)
async def test_quickstart_heals_and_asks(tmp_path: Path) -> None:
    """From an empty folder to a healed incident and an approved plan, in the browser, the chat and the terminal."""
    shown, port, world = page("docs/quickstart.md"), free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    with Reader(tmp_path, {"8123": str(port), "8200": str(world)}, {"PRUNELLA_LISTEN": f"127.0.0.1:{port}"}) as reader:

        def incident() -> str:
            return str(re.findall(r"^(\S+)  resolved", reader.said, re.MULTILINE)[-1])

        async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
            ada = Person(client, {})
            reader.write(shown)
            for command in reader.follow(shown, {"INCIDENT": incident}):
                if command.startswith("prunella up"):
                    (link,) = re.findall(r"this link does.*?(/login\S+)", reader.said)
                    await ada.fill(page_of(await ada.request("GET", link)), "/login")
                if command.startswith("prunella explain"):
                    assert "resolved" in (await ada.open(f"/incidents/{incident()}")).words
                if command.startswith("prunella approvals"):
                    assert "Approved" in (await ada.fill(await ada.open("/approvals"), "/approve")).words
                    eventually(lambda: visible(tmp_path / "shop.db") == 0)
    assert "Traceback" not in reader.said


@pytest.mark.parametrize("name", ["recover-failed-calls", "heal-a-shop-database", "stuck-orders", "known-errors"])
def test_way_of_a_guide_is_gone(name: str, tmp_path: Path) -> None:
    """Every command of the guide ends well and says what is shown."""
    shown, port, world = page(f"docs/how-to/{name}.md"), free_port(), free_port()
    with Reader(tmp_path, {"8123": str(port), "8200": str(world)}, {"PRUNELLA_LISTEN": f"127.0.0.1:{port}"}) as reader:
        reader.write(shown)
        assert len(list(reader.follow(shown))) > 3
    assert "Traceback" not in reader.said


@pytest.mark.parametrize("text", ["$ ls nowhere", "$ echo well\nbroken"])
def test_page_that_is_not_true_is_noticed(text: str, tmp_path: Path) -> None:
    """A command that ends badly ends the reading, and so does one that does not say what is shown."""
    with Reader(tmp_path, {}, {}) as reader, pytest.raises(AssertionError, match=r"ended with|in vain for broken"):
        reader.patience_s = 1
        list(reader.follow(Page("planted.md", f"```console\n{text}\n```\n")))
