"""Known issues in a real browser: what the machine made of strangers' words, what a pack brought, what people said of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from urllib.parse import quote

import pytest
import yaml
from playwright.sync_api import Browser, Dialog, Page

from browser.conftest import Open, Watch
from browser.test_pages import _PAYLOADS, _PLANTED
from browser.world import World
from prunella.core.issues import Candidate
from prunella.engine.learning import exchange, pairing, promotion
from prunella.packs import read_pack

pytestmark = pytest.mark.slow
_SHOWN = tuple(one for one in _PAYLOADS if one.isprintable())
_PROMOTED = 20
"""As many as one look promotes."""
_OPENED = 6


async def _learned(served: World) -> list[str]:
    """Let failures that say each payload come back until the machine makes them known; return the issues."""
    parts, now = served.app.parts, served.app.parts.clock.now()
    said = [
        Candidate(
            fingerprint=f"learned-{number}",
            service="crm",
            kind="data.validation",
            component=payload,
            action=f"POST /{payload}",
            environment="production",
            message=f"{payload} the order of this shelf was refused",
            confidence=0.9,
            occurrences=2,
            first_seen=now - timedelta(hours=2),
            last_seen=now,
        )
        for number, payload in enumerate(_SHOWN[:_PROMOTED])
    ]
    before = await _issues(served)
    async with parts.store.transaction() as tx:
        for one in (said, said):
            await tx.learning.seen_again(one)
    await promotion.promote(replace(parts, learning=replace(parts.learning, promote_after=2)))
    return sorted(await _issues(served) - before)


async def _issues(served: World) -> set[str]:
    async with served.app.parts.store.transaction() as tx:
        return {one.id for one in await tx.learning.issues()}


async def _imported(served: World) -> list[str]:
    """Take in a pack that says each payload wherever a pack has words, and bind remedies for such reasons."""
    entries = [
        {"id": f"pack.{number}", "pattern": f"shelf {number} is {'[<]script' if number % 2 else 'bare'}"}
        | dict.fromkeys(("title", "cause", "advice", "code"), payload)
        | {"tags": [payload], "examples": [f"shelf {number} is {'<script' if number % 2 else 'bare'}"]}
        for number, payload in enumerate(_SHOWN)
    ]
    parts, pack = served.app.parts, yaml.safe_dump(entries, allow_unicode=True)
    await exchange.take_in(parts, read_pack(pack), by=_SHOWN[0])
    for number, payload in list(enumerate(_SHOWN))[:_OPENED]:
        await pairing.bind(
            parts, f"pack.{number}", "warm_up", {"node": payload[:400]}, by=payload[:100], reason=payload[:400]
        )
    return [f"pack.{number}" for number in range(len(_SHOWN))]


def looked_at(page: Page, url: str) -> None:
    """Open a page: nothing of it runs, asks a question or is anything but text."""
    page.goto(url, wait_until="domcontentloaded")
    assert page.evaluate("window.pwned") is None, url
    assert page.evaluate(_PLANTED) == 0, url


def dialogs_of(page: Page) -> list[str]:
    """Note what a page asks whoever looks at it."""
    asked: list[str] = []

    def ask(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", ask)
    return asked


def test_words_of_known_issues_never_run(open_page: Open, served: World) -> None:
    """Promoted by the machine, imported, bound for a reason: on lists, pages, statistics and the audit all is text."""
    learned, imported = served.run(_learned(served)), served.run(_imported(served))
    assert len(learned) >= _PROMOTED // 2, "messages full of markup become known"
    page = open_page("/")
    asked = dialogs_of(page)
    lists = ("/known-issues", "/known-issues?q=pwned", "/known-issues/candidates", "/statistics", "/audit", "/")
    opened = [*learned[:_OPENED], *imported[:_OPENED]]
    for path in (*lists, *(f"/known-issues/{quote(one)}" for one in opened)):
        looked_at(page, served.url + path)
    page.goto(f"{served.url}/known-issues?q=pwned")
    assert page.locator("main").inner_text().count("pwned") > _OPENED
    assert asked == []


def test_look_sees_what_is_planted(browser: Browser, served: World) -> None:
    """A payload as it is in a page of ours: what stands there, the policy's report and a question are noticed."""
    context, watch = browser.new_context(), Watch()
    watch.over(context, served.url)
    page = context.new_page()
    asked = dialogs_of(page)
    page.goto(f"{served.url}/login")
    page.set_content(f"<body><main>{_PAYLOADS[0]}</main></body>")
    assert page.evaluate(_PLANTED) == 1
    page.evaluate("alert('asked')")
    context.close()
    assert any("Content Security Policy" in one for one in watch.troubles)
    assert asked == ["asked"]
