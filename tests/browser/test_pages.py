"""The pages in a real browser: accessible, quiet, alive, and not to be turned against whoever looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from playwright.sync_api import Route, expect

from browser.conftest import AXE, Open, show_session, signed_in
from browser.pages import PAGES, address_of
from browser.world import INGEST, World, _operation
from prunella.core.records import Notification, Severity
from prunella.engine import entrances, orders, people
from prunella.web.auth import Role
from web.market import ORDERS

pytestmark = pytest.mark.slow
_RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "dark": {"type": "rule", "values": ["color-contrast"]},  # what else there is does not depend on colours
}
_FOCUSED = """() => {
  const one = document.activeElement, main = [...document.querySelectorAll("main *")];
  return [`${one.tagName} ${main.indexOf(one)}`, getComputedStyle(one).outlineStyle !== "none" && main.includes(one)];
}"""
_PLANTED = "document.querySelectorAll('body :is(script, iframe, object, base, embed, meta, link, marquee, xss), main img').length"
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


def test_every_page_is_accessible(open_page: Open, served: World) -> None:
    """axe finds nothing, in light and in dark; nothing leaves the host, and no rule of the policy is broken."""
    page = open_page("/")
    axe = AXE.read_text()
    for name in PAGES:
        page.goto(served.url + address_of(served, name), wait_until="domcontentloaded")
        page.evaluate(axe)
        for colours, rules in _RULES.items():
            page.emulate_media(color_scheme="dark" if colours == "dark" else "light")
            found = page.evaluate("o => axe.run(o)", {"runOnly": rules, "resultTypes": ["violations"]})
            told = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found["violations"]]
            assert told == [], f"{name} in {colours}: {told}"


def test_change_is_seen_without_a_reload(open_page: Open, served: World) -> None:
    """What anybody does shows on an open page by itself; how soon is measured: python -m bench live."""
    page = open_page("/")
    incident = served.ids["open"]
    served.run(people.act_on_incident(served.app.parts, incident, "ack", by="grace", reason="seen it live"))
    expect(page.locator("#feed")).to_contain_text("seen it live")


def test_page_is_told_of_changes_however_late_its_parts_come(open_page: Open, served: World) -> None:
    """What listens is there before the page begins to listen, also where the network brings it last."""
    page, held = open_page("/settings"), list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/hx-sse.js*", hold)
    with page.expect_response("**/htmx.js*"), page.expect_request("**/hx-sse.js*"):
        page.goto(served.url + "/", wait_until="commit")
    page.evaluate("new Promise((done) => setTimeout(done, 300))")  # what begins too early has begun by then
    held[0].continue_()
    served.run(people.act_on_incident(served.app.parts, served.ids["open"], "ack", by="grace", reason="seen it late"))
    expect(page.locator("#feed")).to_contain_text("seen it late")


def test_story_follows_what_happens(open_page: Open, served: World) -> None:
    """An open incident shows what somebody else does to it."""
    page = open_page(f"/incidents/{served.ids['verifying']}")
    served.run(people.act_on_incident(served.app.parts, served.ids["verifying"], "ack", by="hedy", reason="mine"))
    expect(page.locator("#fresh")).to_contain_text("seen by hedy")


def test_page_stays_when_its_session_has_ended(open_page: Open, served: World) -> None:
    """What can't be fetched anew any more is not taken away, and no refusal is laid over it."""
    page, session = open_page("/"), signed_in(served, Role.VIEWER)
    show_session(page, served, session)
    page.reload()
    served.run(entrances.end_session(served.app.parts, session, by="ada"))
    with page.expect_response(lambda answer: answer.status == 401):
        served.run(people.act_on_incident(served.app.parts, served.ids["open"], "ack", by="eve", reason="while away"))
    expect(page.locator("#fresh h1")).to_be_visible()
    expect(page.locator("main")).not_to_contain_text("token is required")


def reported(served: World) -> dict[str, str]:
    """Let an integration report every payload, in every field that it may fill; return payload -> incident."""
    sent: dict[str, Any] = {"authorization": f"Bearer {INGEST}", "prefer": "respond-async"}
    found = {}
    with httpx2.Client(base_url=served.url, headers=sent, trust_env=False) as client:
        for number, payload in enumerate(_PAYLOADS):
            event = {"event_id": f"x{number}", "service_name": "crm", "http_status": 422, "error_message": payload}
            event |= {"endpoint": f"/words-{payload[:9]}{number}", "error_code": payload[:200], "payload": {payload: 1}}
            answer = client.post("/integration-self-heal", json={**event, "headers": {"server": payload}})
            assert answer.status_code in (200, 202), answer.text
            found[payload] = answer.json()["recovery_id"]
    return found


async def _said_by_people(served: World, incidents: Mapping[str, str]) -> None:
    """Let people and the engine say every payload: as reasons, names, requests and messages."""
    parts, now = served.app.parts, served.app.parts.clock.now()
    common: dict[str, Any] = {
        "kind": "SYSTEM_ALERT",
        "severity": Severity.HIGH,
        "link": None,
        "created_at": now,
        "next_at": None,
    }
    notices = []
    for number, payload in enumerate(_PAYLOADS):
        words = payload.replace("\0", "")
        await people.act_on_incident(parts, incidents[payload], "ack", by=words, reason=words)
        await entrances.new_key(parts, words.strip() or "x", "VIEWER", None, by=words)
        facts: dict[str, Any] = {
            "title": words,
            "facts": ((words, words),),
            "last_error": words,
            "tries": ({"error": words},),
        }
        for channel in ("dashboard", words):
            one = Notification(
                id=f"x{number}{channel}",
                key=f"x{number}",
                channel=channel,
                incident_id=None,
                state="dead",
                **facts,
                **common,
            )
            notices.append(one)
    operations = [_operation(served.app, incidents[one], 1) for one in _PAYLOADS]
    told = [
        replace(one, endpoint=words, account=words, last_error=words)
        for one, words in zip(operations, (one.replace("\0", "") for one in _PAYLOADS), strict=True)
    ]
    async with served.app.store.transaction() as tx:
        await tx.outbox.add(notices)
        await tx.operations.add(told)
    many = " ".join(_PAYLOADS[:10]).replace("\0", "")[:490]
    await people.act_on_service(parts, "shipping", "pause", by=many, reason=many)
    await orders.pause(parts, ORDERS, by=many, reason=many)


def test_strings_from_outside_never_run(open_page: Open, served: World) -> None:
    """Fifty ways to write a script, by intake and by everybody else who may write something: none runs, all are text."""
    assert len(set(_PAYLOADS)) == 50
    page = open_page("/")
    incidents = reported(served)
    assert len(set(incidents.values())) >= 45, "each has an incident of its own, but for what is scrubbed alike"
    expect(page.locator("#feed")).to_contain_text("opened crm")  # the live feed has its turn, too
    served.run(_said_by_people(served, incidents))
    stories = [f"/incidents/{one}" for one in list(incidents.values())[::6]]
    lists = (
        "/",
        "/incidents",
        "/incidents?state=open_any",
        "/audit",
        "/notifications?all=yes",
        "/operations",
        "/settings",
    )
    rooms = (
        "/services",
        "/services/shipping",
        "/services/crm",
        "/procedures",
        f"/procedures/{ORDERS}",
        "/incidents/many",
    )
    for path in (*lists, *rooms, *stories, "/operations?account=" + quote(_PAYLOADS[0])):
        page.goto(served.url + path, wait_until="domcontentloaded")
        assert page.evaluate("window.pwned") is None, path
        assert page.evaluate(_PLANTED) == 0, path
    page.goto(served.url + "/known-issues")
    page.fill("#text", "\n".join(_PAYLOADS))
    page.click("text=Try it")
    expect(page.locator("main")).to_contain_text("It is")
    assert (page.evaluate("window.pwned"), page.evaluate(_PLANTED)) == (None, 0)


def test_name_of_who_looks_never_runs(open_page: Open, served: World) -> None:
    """A token's issuer may call people what it likes: it is text, in the frame and in the audit."""
    page = open_page("/")
    show_session(page, served, signed_in(served, name=_PAYLOADS[4]))
    for path in ("/", "/settings", "/audit"):
        page.goto(served.url + path)
        expect(page.locator(".who b")).to_have_text(_PAYLOADS[4])
        assert (page.evaluate("window.pwned"), page.evaluate(_PLANTED)) == (None, 0)


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
    served.sessions.clear()  # the session that tests share has ended


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
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()


def test_every_action_is_reached_by_tab_and_seen(open_page: Open, served: World) -> None:
    """Tab alone comes by every link, field and button of a page that acts, and each shows that it has the focus."""
    page = open_page("/approvals", role=Role.OPERATIONS)
    wanted = page.evaluate(
        "document.querySelectorAll('main :is(a[href], button, summary, input:not([type=hidden]))').length"
    )
    page.locator("#main").evaluate("one => { one.tabIndex = -1; one.focus(); }")
    met = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        where, seen = page.evaluate(_FOCUSED)
        assert seen, where
        met.add(where)
    assert len(met) == wanted > 3


def test_nothing_moves_for_who_wants_it_still(open_page: Open, served: World) -> None:
    """prefers-reduced-motion: the wheel of what is being healed stands."""
    path = "/incidents?state=healing"
    open_page(path).wait_for_function("document.getAnimations().length > 0")  # from the first picture on
    assert open_page(path, still=True).evaluate("document.getAnimations().length") == 0


def test_viewer_sees_and_cannot_act(open_page: Open, served: World) -> None:
    """A VIEWER has no button that changes anything."""
    page = open_page(f"/incidents/{served.ids['escalated']}", role=Role.VIEWER)
    assert page.locator("main form").count() == 0
