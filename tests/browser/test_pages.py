"""The pages in a real browser: accessible, quiet, alive, and not to be turned against whoever looks."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from playwright.sync_api import expect

from browser.conftest import AXE, Open
from browser.pages import PAGES, address_of
from browser.world import INGEST, World
from prunella.engine import people
from prunella.web.auth import Role

pytestmark = pytest.mark.slow
_RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "dark": {"type": "rule", "values": ["color-contrast"]},  # what else there is does not depend on colours
}
_PAYLOADS = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "<svg onload=window.pwned=1>",
    "'><script>window.pwned=1</script>",
    '"><script>window.pwned=1</script>',
    "</title><script>window.pwned=1</script>",
    "</textarea><script>window.pwned=1</script>",
    "</style><script>window.pwned=1</script>",
    "</option></select><script>window.pwned=1</script>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<iframe src=javascript:parent.pwned=1>",
    "<a href=javascript:window.pwned=1 autofocus onfocus=window.pwned=1>x</a>",
    "<details open ontoggle=window.pwned=1>",
    "<body onload=window.pwned=1>",
    "<input autofocus onfocus=window.pwned=1>",
    "<select autofocus onfocus=window.pwned=1>",
    "<video><source onerror=window.pwned=1></video>",
    "<audio src=x onerror=window.pwned=1>",
    "<object data=javascript:window.pwned=1>",
    "<embed src=javascript:window.pwned=1>",
    "<math><mtext></mtext><script>window.pwned=1</script></math>",
    "<svg><script>window.pwned=1</script></svg>",
    "<svg><animate onbegin=window.pwned=1 attributeName=x dur=1s>",
    "<svg><a xlink:href='javascript:window.pwned=1'><text>x</text></a></svg>",
    "<meta http-equiv=refresh content='0;url=javascript:window.pwned=1'>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<form action=javascript:window.pwned=1><input type=submit></form>",
    "<marquee onstart=window.pwned=1>",
    "<div style=background:url(javascript:window.pwned=1)>",
    "<div hx-get=/logout hx-trigger=load>",
    "<div hx-on:load=window.pwned=1>",
    "<div data-hx-get=/x data-hx-trigger=load>",
    "<div hx-sse:connect=//evil.example/>",
    "<hx-partial hx-target=body><script>window.pwned=1</script></hx-partial>",
    "<template><script>window.pwned=1</script></template>",
    "{{ 7*7 }}{% raw %}<script>window.pwned=1</script>",
    "${window.pwned=1}",
    "javascript:window.pwned=1",
    "data:text/html,<script>window.pwned=1</script>",
    "\u2028<script>window.pwned=1</script>",
    "<scr\x00ipt>window.pwned=1</scr\x00ipt>",
    "<<script>script>window.pwned=1<</script>/script>",
    "%3Cscript%3Ewindow.pwned=1%3C/script%3E",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "<!--><script>window.pwned=1</script-->",
    "]]><script>window.pwned=1</script>",
    "\r\n\r\nevent: moved\r\ndata: <script>window.pwned=1</script>",
    "<noscript><p title='</noscript><img src=x onerror=window.pwned=1>'>",
    "<xss id=x tabindex=1 onfocus=window.pwned=1></xss>#x",
)


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_page_is_accessible(open_page: Open, served: World, colours: str) -> None:
    """axe finds nothing, in light and in dark; nothing leaves the host, and no rule of the policy is broken."""
    page = open_page("/", colours=colours)
    for name in PAGES:
        page.goto(served.url + address_of(served, name), wait_until="domcontentloaded")
        page.evaluate(AXE.read_text())
        found = page.evaluate("rules => axe.run({runOnly: rules})", _RULES[colours])
        told = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found["violations"]]
        assert told == [], f"{name} in {colours}: {told}"


def test_change_is_seen_within_a_second(open_page: Open, served: World) -> None:
    """What anybody does shows on an open page without a reload: in the feed, and in the figures."""
    page = open_page("/")
    page.wait_for_timeout(300)  # the stream is asked for once the page stands
    incident = served.ids["open"]
    served.run(people.act_on_incident(served.app.parts, incident, "ack", by="grace", reason="seen it live"))
    expect(page.locator("#feed")).to_contain_text("seen it live", timeout=1000)


def test_story_follows_what_happens(open_page: Open, served: World) -> None:
    """An open incident shows what somebody else does to it."""
    page = open_page(f"/incidents/{served.ids['verifying']}")
    page.wait_for_timeout(300)
    served.run(people.act_on_incident(served.app.parts, served.ids["verifying"], "ack", by="hedy", reason="mine"))
    expect(page.locator("#fresh")).to_contain_text("seen by hedy", timeout=2000)


def test_strings_from_outside_never_run(open_page: Open, served: World) -> None:
    """Fifty ways to write a script, through intake, on every page that shows them: none runs, all are text."""
    assert len(_PAYLOADS) == 50
    sent: dict[str, Any] = {"authorization": f"Bearer {INGEST}", "prefer": "respond-async"}
    with httpx2.Client(base_url=served.url, headers=sent, trust_env=False) as client:
        shown = {}
        for number, payload in enumerate(_PAYLOADS):
            event = {"event_id": f"x{number}", "service_name": "crm", "http_status": 422, "error_message": payload}
            answer = client.post("/integration-self-heal", json={**event, "endpoint": f"/words-{payload[:9]}{number}"})
            assert answer.status_code in (200, 202), answer.text
            shown[answer.json()["recovery_id"]] = payload
    page = open_page("/")
    page.wait_for_timeout(700)  # so that the live feed has its turn, too
    assert page.evaluate("window.pwned") is None
    for path in ("/incidents", "/incidents?state=open_any", "/audit", *(f"/incidents/{one}" for one in shown)):
        page.goto(served.url + path, wait_until="domcontentloaded")
        assert page.evaluate("window.pwned") is None
        planted = page.evaluate(
            "document.querySelectorAll('main :is(script, iframe, object, img, base, embed)').length"
        )
        assert planted == 0, path
    assert len(shown) >= 45, "each string has a page of its own, but for what is scrubbed alike"


def test_everything_works_without_a_script(open_page: Open, served: World) -> None:
    """A browser that runs nothing filters, reads, acts and signs out."""
    page = open_page("/incidents", scripts=False)
    page.select_option("select[name=state]", "escalated")
    page.click("form.filter button")
    expect(page.locator("tbody tr").first).to_contain_text("escalated")
    page.click("tbody tr a >> nth=0")
    page.click("summary:has-text('Acknowledge')")
    page.fill("details[open] input[name=reason]", "read it in lynx")
    page.click("details[open] button")
    expect(page.locator(".timeline")).to_contain_text("read it in lynx")
    page.click("text=Dark")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.click("text=Sign out")
    expect(page.locator("h1")).to_have_text("Sign in")


def test_keys_lead_about(open_page: Open, served: World) -> None:
    """`g i` opens the incidents, `/` goes to the filter, `j` to the first row, `?` tells all keys."""
    page = open_page("/")
    page.keyboard.press("g")
    page.keyboard.press("i")
    page.wait_for_url("**/incidents")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "state"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    assert page.locator("tr.at").count() == 1
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()


def test_viewer_sees_and_cannot_act(open_page: Open, served: World) -> None:
    """A VIEWER has no button that changes anything."""
    page = open_page(f"/incidents/{served.ids['escalated']}", role=Role.VIEWER)
    assert page.locator("main form").count() == 0
