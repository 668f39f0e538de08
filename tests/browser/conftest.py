"""A real Chromium before a real server: nothing may leave the host, nothing may run that is not ours."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from browser.world import World, world
from prunella.web.auth import COOKIE, Role

PATIENCE_MS = 20_000
"""A busy machine takes its time; what is quick is measured elsewhere."""
expect.set_options(timeout=PATIENCE_MS)

_PLACES = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--font-render-hinting=none")
AXE = Path(__file__).parent / "vendor" / "axe.js"


def chromium() -> str:
    """Return where Chromium is."""
    found = next((place for place in _PLACES if Path(place).exists()), shutil.which("chromium"))
    if found is None:
        pytest.fail("no Chromium; install it with: tools/chromium")
    return found


@dataclass
class Watch:
    """What a page did that it must not do."""

    outside: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext, origin: str) -> None:
        """Look over everything that a browser asks for and says."""
        context.on("request", lambda request: self._ask(request.url, origin))
        context.on("console", lambda message: self._say(message.type, message.text))
        context.on("weberror", lambda error: self.troubles.append(str(error.error)))

    def _ask(self, url: str, origin: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(origin + "/"):
            self.outside.append(url)

    def _say(self, kind: str, text: str) -> None:
        if "Content Security Policy" in text or (kind == "error" and "status of 4" not in text):
            self.troubles.append(text)


Open = Callable[..., Page]


@pytest.fixture(scope="module")  # ends with its module: while it lives, its loop runs in this thread, and no other may
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A filled prunella."""
    with world(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.fixture
def open_page(browser: Browser, served: World) -> Iterator[Open]:
    """Return what opens a signed-in page; nothing outside may have been asked, and no rule broken, by its end."""
    contexts: list[BrowserContext] = []
    watch = Watch()

    def opened(
        path: str = "/", *, role: Role = Role.ADMIN, scripts: bool = True, colours: str = "light", still: bool = False
    ) -> Page:
        context = browser.new_context(
            color_scheme="dark" if colours == "dark" else "light",
            java_script_enabled=scripts,
            viewport={"width": 1360, "height": 900},
            reduced_motion="reduce" if still else "no-preference",
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        watch.over(context, served.url)
        if role not in served.sessions:
            served.sessions[role] = signed_in(served, role)
        page = context.new_page()
        show_session(page, served, served.sessions[role])
        page.goto(served.url + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert watch.outside == [], "a page asked another host"
    assert watch.troubles == [], "a page broke a rule of its own, or a script failed"


def show_session(page: Page, served: World, session: str) -> None:
    """Let a browser be who began a session."""
    page.context.add_cookies([{"name": COOKIE, "value": session, "url": served.url}])


def signed_in(served: World, role: Role = Role.ADMIN, name: str = "ada") -> str:
    """Sign somebody in without a browser; return the session. How a person does it is the stranger's story."""
    answer = httpx2.post(f"{served.url}/login", data={"token": served.token(role, name)}, trust_env=False)
    return str(answer.cookies[COOKIE])
