"""Take the pictures of the dashboard for the documents: every page, in light and in dark."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from playwright.sync_api import sync_playwright  # noqa: E402, from the tests' folder

from browser.conftest import _FLAGS, chromium, sign_in  # noqa: E402
from browser.pages import PAGES, address_of  # noqa: E402
from browser.world import world  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"


def main() -> None:
    """Write docs/pictures/<page>-<colours>.png."""
    PICTURES.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or list(PAGES)
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        for colours in ("light", "dark"):
            context = browser.new_context(color_scheme=colours, viewport={"width": 1360, "height": 850})
            page = context.new_page()
            sign_in(page, served)
            for name in wanted:
                page.set_viewport_size({"width": 1360, "height": 1270 if name == "overview" else 850})
                page.goto(served.url + address_of(served, name))
                page.wait_for_timeout(400)  # the chart has been drawn
                page.screenshot(path=PICTURES / f"{name}-{colours}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
