"""Pages: no other site acts for who is signed in, and no text from outside becomes anything but text, on any page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest

from flows.running import eventually
from prunella.testing import words
from prunella.web.auth import COOKIE, CSRF_FIELD
from shell.conftest import Shell
from web.person import page_of

pytestmark = pytest.mark.slow
PAYLOADS = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror=window.pwned=1>',
    "'><svg onload=window.pwned=1>",
    "</textarea></title></option></select><script>window.pwned=1</script>",
    "<a href=javascript:window.pwned=1>pwned</a>",
    '" autofocus onfocus=window.pwned=1 x="',
    "{{pwned}}${pwned}<%=pwned%>#{pwned}",
    "<!--pwned--><base href=//evil.example/><iframe srcdoc=pwned>",
)
_STRANGE = frozenset({"iframe", "object", "embed", "base", "marquee", "video", "audio", "math", "style"})
_KIND_MOST = 4


class Planted(HTMLParser):
    """Read a page as a browser does, and name what our own pages never hold."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in _STRANGE or (tag in ("script", "img") and not given.get("src", "").startswith("/static/")):
            self.found.append(f"<{tag}>")
        for name, value in given.items():
            is_code = name.startswith("on") or re.match(r"\s*(javascript|data|vbscript):", value, re.IGNORECASE)
            if is_code or (name in ("href", "src", "action") and not re.match(r"[/?#]|https?://", value or "/")):
                self.found.append(f"{tag} {name}={value}")


def planted(html: str) -> list[str]:
    """Return what stands in a page and is not ours."""
    reader = Planted()
    reader.feed(html)
    return reader.found


@pytest.mark.parametrize("payload", [one for one in PAYLOADS if "<" in one and "<%" not in one])
def test_reader_of_pages_sees_what_is_planted(payload: str) -> None:
    """Put into a page as it is, each payload is seen."""
    assert planted(f"<p>{payload}</p><textarea>{payload}</textarea>")


def signed_in(shell: Shell) -> dict[str, str]:
    """Sign in as a person does; return the cookie."""
    token = shell.up.as_role("ADMIN")["authorization"].partition(" ")[2]
    answer = shell.ask("POST", "/login", None, data={"token": token})
    cookie = answer.cookies[COOKIE]
    shell.up.client.cookies.clear()
    return {"cookie": f"{COOKIE}={cookie}"}


def spoken(shell: Shell) -> None:
    """Let everybody outside say every payload, wherever words are taken."""
    for number, text in enumerate(PAYLOADS):
        facts: dict[str, Any] = {
            "error_message": f"{text} closed {number}",
            "error_code": text,
            "headers": {"server": text},
        }
        told = shell.reported(
            "open29", f"x{number}", http_status=503, endpoint=f"/{text}", user_id=text, payload={text: text}, **facts
        )
        shell.ask("POST", f"/api/v1/incidents/{told}/ack", json={"reason": text})
        known = {"id": f"xss.{number}", "pattern": re.escape(text) + f" closed {number}", "title": text, "cause": text}
        known |= {"advice": text, "code": text}
        refused = shell.ask("POST", "/api/v1/known-issues", json={**known, "source": text})
        assert refused.status_code == 422, refused.text
        made = shell.ask("POST", "/api/v1/known-issues", json=known)
        assert made.status_code == 201, made.text
        bound = {"remedy": "warm_up", "parameters": {"node": text}, "reason": text}
        shell.ask("POST", f"/api/v1/known-issues/xss.{number}/bind", json=bound)
        shell.ask("POST", "/api/v1/keys", json={"name": text, "role": "VIEWER"})
    eventually(lambda: bool(shell.up.rows("SELECT 1 FROM runs WHERE service = 'open29' AND ended_at IS NOT NULL")))
    for path in ("services/open29", "procedures/hide-goods"):
        shell.ask("POST", f"/api/v1/{path}/pause", json={"reason": PAYLOADS[1]})
        shell.ask("POST", f"/api/v1/{path}/resume", json={"reason": PAYLOADS[2]})


def walked(shell: Shell, cookie: dict[str, str]) -> dict[str, httpx2.Response]:
    """Open every page that links lead to: of each kind a few."""
    seen: dict[str, httpx2.Response] = {}
    kinds: dict[str, int] = {}
    waiting = ["/", "/known-issues?q=xss.", "/entities", "/settings", "/audit", "/notifications?all=yes"]
    while waiting:
        path = waiting.pop(0).partition("#")[0]
        kind = re.sub(r"(?<=.)/.*|[?].*", "*", path)
        if not path.startswith("/") or path in seen or kinds.get(kind, 0) >= _KIND_MOST:
            continue
        kinds[kind] = kinds.get(kind, 0) + 1
        seen[path] = shell.ask("GET", path, None, headers={**cookie, "accept": "text/html"})
        if seen[path].headers["content-type"].startswith("text/html"):
            waiting += page_of(seen[path]).links
    return seen


def test_text_from_outside_is_text_on_every_page(shell: Shell) -> None:
    """By events, replies of a service, known issues with their titles, patterns and parameters, reasons and names."""
    shell.world.script("/open29", [words.json(422, {"error": PAYLOADS[0], "message": PAYLOADS[1]})])
    spoken(shell)
    pages = walked(shell, signed_in(shell))
    html = {path: one for path, one in pages.items() if one.headers["content-type"].startswith("text/html")}
    assert len(html) >= 25
    assert {path: one.status_code for path, one in html.items() if one.status_code >= 500} == {}
    assert {path: found for path, one in html.items() if (found := planted(one.text))} == {}
    with_words = [path for path, one in html.items() if "pwned" in one.text]
    assert {path.split("/")[1].partition("?")[0] for path in with_words} >= {"incidents", "known-issues", "audit"}
    policies = {one.headers.get("content-security-policy", "") for one in pages.values()}
    (policy,) = policies
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy


def test_no_other_site_acts_for_who_is_signed_in(shell: Shell) -> None:
    """A browser's cookie alone changes nothing: not by a form, as plain text, as JSON, nor with another session's token."""
    told = shell.reported("quiet", "csrf", error_message="a case for a person")
    mine, others = signed_in(shell), signed_in(shell)
    form = page_of(shell.ask("GET", f"/incidents/{told}", None, headers={**others, "accept": "text/html"})).form("/ack")
    stolen = form.fields[CSRF_FIELD]
    own = (
        page_of(shell.ask("GET", f"/incidents/{told}", None, headers={**mine, "accept": "text/html"}))
        .form("/ack")
        .fields[CSRF_FIELD]
    )
    elsewhere: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"data": {}}, {}),
        ({"data": {CSRF_FIELD: stolen}}, {}),
        ({"data": {CSRF_FIELD: ""}}, {}),
        ({"data": {CSRF_FIELD: own}}, {"origin": "https://evil.example"}),
        ({"data": {CSRF_FIELD: own}}, {"origin": "null"}),
        ({"data": {CSRF_FIELD: own}}, {"origin": shell.up.url + ".evil.example"}),
        ({"content": f'{{"{CSRF_FIELD}": "{own}"}}'}, {"content-type": "text/plain"}),
    ]
    for path in (f"/incidents/{told}/ack", "/pause", "/settings/keys", "/known-issues/xss.0/resolve", "/logout"):
        for sent, headers in elsewhere:
            answer = shell.ask("POST", path, None, headers={**mine, **headers}, **sent)
            assert answer.status_code == 403, (path, sent, headers, answer.text)
    by_api = shell.ask(
        "POST", f"/api/v1/incidents/{told}/ack", None, headers={**mine, "content-type": "text/plain"}, content="{}"
    )
    assert by_api.status_code == 403
    assert shell.incident(told)["acknowledged_by"] is None
    good = shell.ask(
        "POST", f"/incidents/{told}/ack", None, headers={**mine, "origin": shell.up.url}, data={CSRF_FIELD: own}
    )
    assert good.status_code == 303
