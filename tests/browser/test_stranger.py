"""Somebody who has only the README: `prunella demo`, its link, a healed incident, a plan approved, and the commands."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from browser.conftest import PATIENCE_MS, Watch
from flows.warm import Warm

pytestmark = pytest.mark.slow
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_AT_A_TERMINAL = "import pty, sys; pty.spawn(sys.argv[1:])"


class Terminal:
    """A terminal in which a command runs; what it shows can be waited for."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.text = ""
        self._shown = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _AT_A_TERMINAL, *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def shows(self, pattern: str, within_s: float = 20) -> re.Match[str]:
        """Wait until something stands there."""
        with self._shown:
            self._shown.wait_for(lambda: re.search(pattern, self.text), within_s)
        found = re.search(pattern, self.text)
        assert found is not None, f"{pattern!r} was never shown:\n{self.text}"
        return found

    def interrupt(self) -> None:
        """Press Ctrl-C and wait for the end."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\x03")
        self._process.wait(15)
        self._reader.join(5)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while piece := self._process.stdout.read(65_536):
            with self._shown:
                self.text += _COLOURS.sub("", piece.decode(errors="replace")).replace("\r\n", "\n")
                self._shown.notify_all()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """What the README's first command does, at a terminal."""
    one = Terminal(tmp_path, sys.executable, "-m", "prunella", "demo")
    yield one
    one.close()


def commands(terminal: Terminal, folder: Path) -> dict[str, str]:
    """Run the commands that the terminal shows, each as a process of its own; return what each printed."""
    shown = re.findall(r"^  \S*prunella (-c \S+ .+)$", terminal.text, re.MULTILINE)
    environ = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    processes = {line.partition("prunella.yaml ")[2]: _begun(line.split(), folder, environ) for line in shown}
    return {words: _ended(process) for words, process in processes.items()}


def _begun(arguments: list[str], folder: Path, environ: dict[str, str]) -> Warm:
    return Warm(arguments, folder, environ, folder / "errors")


def _ended(process: Warm) -> str:
    with process.stdout:
        told = process.stdout.read()
    assert process.wait(20) == 0, told
    return told


def read_healed(page: Page) -> str:
    """Find the incident of the expired token, as it was healed, and read its story; return its id."""
    page.click("nav >> text=Incidents")
    page.click("tr:has-text('resolved'):has-text('crm') a >> nth=0")
    story = page.locator(".timeline")
    for words in ("Received", "auth.expired", "refresh token: verified", "replay: verified", "Verified"):
        expect(story).to_contain_text(words)
    return page.url.rpartition("/")[2]


def approve(page: Page) -> str:
    """Look at what the plan would change, and say yes; return the plan's id once it is seen carried out."""
    page.click("nav >> text=Approvals")
    expect(page.locator("h1")).to_have_text("1 plan waits for an answer")
    plan = page.locator("article.plan")
    expect(plan.locator("tr:has-text('Matcha') del")).to_have_text("1")
    expect(plan.locator("tr:has-text('Matcha') ins")).to_have_text("0")
    expect(plan).to_contain_text("UPDATE products")
    plan.get_by_role("button", name="Approve").click()
    expect(page.locator("[role=status]").first).to_contain_text("Approved.")
    expect(page.locator("main")).to_contain_text("· carried out")  # nobody reloads: the page follows
    found = page.url.rpartition("/")[2]
    page.click("main a[href*='/incidents/'] >> nth=0")
    expect(page.locator(".summary")).to_contain_text("resolved")
    expect(page.locator(".timeline")).to_contain_text("Verified")
    return found


def test_stranger_with_the_readme_alone(browser: Browser, terminal: Terminal, tmp_path: Path) -> None:
    """From the first command to an approved plan whose effect is verified, told in the chat, and known to the commands."""
    link = terminal.shows(r"Dashboard: (http://\S+/login\?token=\S+)\s", within_s=90)[1]
    terminal.shows("Ctrl-C ends the demo")
    shop = Path(re.findall(r"-c (\S+)/prunella.yaml", terminal.text)[0]) / "shop.db"
    context, watch = browser.new_context(), Watch()
    context.set_default_timeout(PATIENCE_MS)
    watch.over(context, link.partition("/login")[0])
    page = context.new_page()
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    healed = read_healed(page)
    plan = approve(page)
    with closing(sqlite3.connect(shop)) as database:
        assert database.execute("SELECT on_sale FROM products WHERE name = 'Matcha'").fetchall() == [(0,)]
    yours = terminal.shows(r"(?s)Your turn.*no row matches any more")[0]
    assert re.search(r"shop-desk +told +\S+ HEAL_DATA_002 asks for approval", yours), (
        "the chat's receiver has the message"
    )
    told = commands(terminal, tmp_path)
    assert healed in told["incidents"]
    assert "no plan is waiting" in told["approvals"]
    assert re.search(r"approval\.approved +hide-sold-out by shopkeeper", told["events tail --no-follow"])
    assert re.search(r"replay +try 1 +verified", told[f"explain {healed}"])
    assert plan in told["notifications --all"]
    page.click("nav >> text=Notifications")
    expect(page.locator("tr:has-text('shop-chat')").first).to_contain_text("well")
    page.click("nav >> text=Overview")
    assert (watch.outside, watch.troubles) == ([], [])
    terminal.interrupt()  # while a page listens
    context.close()
    assert "Traceback" not in terminal.text
    assert not shop.exists(), "the demo leaves nothing behind"
