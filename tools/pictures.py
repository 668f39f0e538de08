"""Take the pictures of the dashboard for the documents: each page in light, a few in dark; arguments name some."""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from playwright.sync_api import Page, sync_playwright  # noqa: E402, from the tests' folder

from browser.conftest import _FLAGS, chromium, show_session, signed_in  # noqa: E402
from browser.pages import PAGES, address_of  # noqa: E402
from browser.world import world  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
DARK = ("overview", "incident-needs-you", "approval")
_TWINS = ("operation", "service", "procedure", "incidents-many")  # details that look like the pages that are shown
_HEIGHTS = {
    "overview": 1290,
    "incident-needs-you": 1000,
    "approval": 1080,
    "notifications": 940,
    "known-issues": 1180,
    "known-issue": 1010,
}


def main() -> None:
    """Write docs/pictures/<page>-<colours>.webp, small enough to live in the repository."""
    PICTURES.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or [name for name in PAGES if name not in _TWINS]
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        session = signed_in(served)
        for colours, names in (("light", wanted), ("dark", [name for name in wanted if name in DARK])):
            context = browser.new_context(color_scheme=colours, reduced_motion="reduce")  # type: ignore[arg-type]
            page = context.new_page()
            show_session(page, served, session)
            for name in names:
                page.set_viewport_size({"width": 1280, "height": _HEIGHTS.get(name, 860)})
                page.goto(served.url + address_of(served, name), wait_until="load")
                if name == "overview":
                    page.wait_for_selector(".uplot canvas")
                (PICTURES / f"{name}-{colours}.webp").write_bytes(taken(page))
            context.close()
        browser.close()


def taken(page: Page) -> bytes:
    """Return a picture of what is in sight."""
    client = page.context.new_cdp_session(page)
    picture = client.send("Page.captureScreenshot", {"format": "webp", "quality": 82})
    return base64.b64decode(picture["data"])


if __name__ == "__main__":
    main()
