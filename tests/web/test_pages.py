"""The frame around every page: who looks, what waits, colours, the switch that pauses everything."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.web.auth import Role
from prunella.web.pages.frame import ago, safe_path
from web.conftest import Web

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def enter(web: Web, role: Role = Role.ADMIN) -> str:
    """Sign in as a browser does; return the CSRF token of its forms."""
    await web.client.post("/login", data={"token": web.token(role)})
    page = (await web.ask("GET", "/")).text
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert found is not None
    return found[1]


async def test_frame_shows_where_somebody_is_and_who_they_are(web: Web) -> None:
    """The page that is open is marked, the environment and the person are named, scripts are files of ours."""
    await enter(web)
    page = (await web.ask("GET", "/operations")).text
    assert re.search(r'href="/operations" aria-current="page"', page)
    assert "production" in page
    assert "<b>cli</b> ADMIN" in page
    assert not re.search(r"<script(?![^>]* src=\"/static/)", page)
    assert "style=" not in page


async def test_pause_holds_everything_and_says_so_everywhere(web: Web) -> None:
    """Decision: one switch on every page; a VIEWER sees it and cannot throw it."""
    csrf = await enter(web)
    answer = await web.ask("POST", "/pause", data={"csrf": csrf, "reason": "moving <house>", "back": "/operations"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/operations")
    page = (await web.ask("GET", "/operations")).text
    assert "Everything is paused" in page
    assert "moving &lt;house&gt;" in page
    await web.ask("POST", "/resume", data={"csrf": csrf, "back": "//evil.example"})
    assert "Everything is paused" not in (await web.ask("GET", "/")).text
    await enter(web, Role.VIEWER)
    assert "Pause everything" not in (await web.ask("GET", "/")).text


async def test_colours_are_chosen_without_a_script(web: Web) -> None:
    """A cookie keeps light or dark, and everything else means as the system has it."""
    csrf = await enter(web)
    await web.ask("POST", "/theme", data={"csrf": csrf, "theme": "dark", "back": "/"})
    assert 'data-theme="dark"' in (await web.ask("GET", "/")).text
    await web.ask("POST", "/theme", data={"csrf": csrf, "theme": "system", "back": "/"})
    assert "data-theme=" not in (await web.ask("GET", "/")).text


async def test_colours_chosen_where_a_form_was_refused_lead_back_to_its_page(web: Web) -> None:
    """An address that only takes forms can't be gone back to: the page that the form stood on can."""
    csrf = await enter(web)
    sent = {"accept": "text/html", "referer": "http://prunella/services/crm?x=1"}
    page = await web.ask("POST", "/services/crm/resume", data={"csrf": csrf}, headers=sent)
    assert (page.status_code, 'name="back" value="/services/crm"' in page.text) == (409, True)
    sent["referer"] = "http://evil.example/services/crm"
    page = await web.ask("POST", "/services/crm/resume", data={"csrf": csrf}, headers=sent)
    assert 'name="back" value="/"' in page.text


async def test_address_puts_no_words_into_our_mouth(web: Web) -> None:
    """What was done is told in a sealed cookie; what an address says is not repeated as ours."""
    await enter(web)
    for path in ("/incidents", "/entities", "/settings", "/approvals"):
        page = (await web.ask("GET", f"{path}?done=Call+0900-evil&said=Call+0900-evil")).text
        assert "Call 0900-evil" not in page, path


@pytest.mark.parametrize(
    ("path", "safe"),
    [("/a?b=c", "/a?b=c"), ("//evil.example", "/"), ("/\\evil.example", "/"), ("https://e", "/"), ("/a\nb", "/")],
)
def test_form_sends_nobody_elsewhere(path: str, safe: str) -> None:
    """What a form names as the way back is a path of ours, or the overview."""
    assert safe_path(path) == safe


@given(st.text(alphabet="/\\.:@?#%a\t\n\r\u00a0 e2F5Chtps", max_size=20))
def test_way_back_never_leaves_this_host(path: str) -> None:
    """However it is written: joined as a browser joins (backslashes are slashes, tabs and breaks fall out)."""
    written = re.sub(r"[\t\n\r]", "", safe_path(path)).replace("\\", "/")
    assert urlsplit(urljoin("https://prunella.example/x", written)).netloc == "prunella.example"


@pytest.mark.parametrize(
    ("apart_s", "words"),
    [(1, "now"), (59, "59 s ago"), (61, "1 min ago"), (7300, "2 h ago"), (-95, "in 2 min"), (-14_396, "in 4 h")],
)
def test_moment_is_told_from_now_and_kept_in_the_title(apart_s: int, words: str) -> None:
    """Relative in the text, absolute in the title, so that nobody has to reckon."""
    told = ago(NOW - timedelta(seconds=apart_s), NOW)
    assert f">{words}</time>" in told
    assert 'title="2026-' in told
