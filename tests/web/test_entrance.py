"""People come in by a link or a token and get a session; programs by a key; nobody by what another site sends."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import pytest

from prunella.core.errors import InvalidInput
from prunella.engine import entrances
from prunella.web.auth import COOKIE, SECURE_COOKIE, Gatehouse, Role
from web.conftest import KEYS, Web

pytestmark = pytest.mark.anyio

PAUSE = "/api/v1/services/crm/pause"


async def signed_in(web: Web, role: Role = Role.OPERATIONS) -> tuple[dict[str, str], str]:
    """Sign in; return the cookie as a header, and what forms carry."""
    answer = await web.ask("POST", "/login", data={"token": web.token(role)})
    assert answer.status_code == 303
    cookie = answer.cookies[COOKIE]
    web.client.cookies.clear()
    return {"cookie": f"{COOKIE}={cookie}"}, web.gatehouse.csrf(cookie)


async def test_token_becomes_a_session_that_reads(web: Web) -> None:
    """The cookie is no token: it holds nothing, scripts can't read it, and it opens pages and lists."""
    answer = await web.ask("POST", "/login", data={"token": web.token(Role.VIEWER)})
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "." not in answer.cookies[COOKIE]
    assert (await web.ask("GET", "/")).status_code == 200
    assert (await web.ask("GET", "/api/v1/incidents")).status_code == 200


async def test_session_acts_with_its_csrf_token_alone(web: Web) -> None:
    """A cookie comes along by itself, whoever sent the browser; what changes something needs the page's token, too."""
    cookie, csrf = await signed_in(web)
    another, _ = await signed_in(web)
    assert (await web.ask("POST", PAUSE, headers=cookie)).status_code == 403
    assert (await web.ask("POST", PAUSE, headers=cookie | {"x-csrf-token": csrf[:-1]})).status_code == 403
    assert (await web.ask("POST", PAUSE, headers=another | {"x-csrf-token": csrf})).status_code == 403
    assert (await web.ask("POST", "/logout", headers=cookie, data={"csrf": "no"})).status_code == 403
    assert (await web.ask("POST", PAUSE, headers=cookie | {"x-csrf-token": csrf})).status_code == 200
    assert (await web.ask("POST", "/logout", headers=cookie, data={"csrf": csrf})).status_code == 303


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.example", 403), ("null", 403), ("http://prunella", 200), ("http://127.0.0.1:8123", 200)],
)
async def test_form_of_another_site_is_refused(web: Web, origin: str, status: int) -> None:
    """A browser says where a form came from: only our own address and the public one will do."""
    cookie, csrf = await signed_in(web)
    headers = cookie | {"x-csrf-token": csrf, "origin": origin}
    assert (await web.ask("POST", PAUSE, headers=headers)).status_code == status


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://[", "//"])
async def test_no_other_site_signs_a_browser_in(web: Web, origin: str) -> None:
    """Who works in somebody else's session without noticing tells them everything; a link is not used up by it."""
    link = await entrances.first_link(web.app.parts)
    for token in (link, web.token(Role.ADMIN)):
        answer = await web.ask("POST", "/login", data={"token": token}, headers={"origin": origin})
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    answer = await web.ask("POST", "/login", data={"token": link}, headers={"origin": "http://prunella"})
    assert answer.status_code == 303


@pytest.mark.parametrize("origin", ["null", "http://[", "//"])
async def test_origin_that_is_none_is_not_ours(web: Web, origin: str) -> None:
    """Without a public address, too: a sandboxed frame says null, and no word of a browser makes us stumble."""
    web.api.state.gatehouse = Gatehouse(KEYS, (), web.clock.now, web.app.store)
    cookie, csrf = await signed_in(web)
    headers = cookie | {"x-csrf-token": csrf, "origin": origin}
    assert (await web.ask("POST", PAUSE, headers=headers)).status_code == 403


async def test_bad_token_is_not_saved_by_a_good_cookie(web: Web) -> None:
    """What a program sends in a header decides alone."""
    cookie, _ = await signed_in(web)
    assert (await web.ask("GET", "/api/v1/incidents", "forged", headers=cookie)).status_code == 401


async def test_sign_out_ends_the_session(web: Web) -> None:
    """After it the cookie opens nothing, even where somebody kept a copy."""
    cookie, csrf = await signed_in(web)
    answer = await web.ask("POST", "/logout", headers=cookie, data={"csrf": csrf})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert (await web.ask("GET", "/", headers=cookie)).status_code == 401


async def test_session_ends_with_its_token_and_after_twelve_hours(web: Web) -> None:
    """Nobody stays longer by trading a short token for a session."""
    short = await web.ask("POST", "/login", data={"token": web.token(Role.VIEWER, ttl_s=60)})
    web.client.cookies.clear()
    long, _ = await signed_in(web)
    web.clock.advance(61)
    assert (await web.ask("GET", "/", headers={"cookie": f"{COOKIE}={short.cookies[COOKIE]}"})).status_code == 401
    web.clock.advance(12 * 3600)
    assert (await web.ask("GET", "/", headers=long)).status_code == 401


async def test_first_link_lets_one_in_once(web: Web) -> None:
    """Looking at it uses nothing up, the button does; afterwards no further first link is made."""
    lost = await entrances.first_link(web.app.parts)
    link = await entrances.first_link(web.app.parts)
    assert lost is not None
    assert link is not None
    shown = await web.ask("GET", f"/login?token={link}")
    assert re.search(rf'type="hidden" name="token" value="{re.escape(link)}"', shown.text)
    assert (await web.ask("POST", "/login", data={"token": lost})).status_code == 401  # a newer one took its place
    answer = await web.ask("POST", "/login", data={"token": link})
    assert answer.status_code == 303
    assert (await web.ask("GET", "/api/v1/secrets")).status_code == 200  # it is an administrator's
    web.client.cookies.clear()
    assert (await web.ask("POST", "/login", data={"token": link})).status_code == 401
    assert await entrances.first_link(web.app.parts) is None


async def test_first_link_ends_after_a_day(web: Web) -> None:
    """What nobody used in time opens nothing."""
    link = await entrances.first_link(web.app.parts)
    web.clock.advance(86_401)
    assert (await web.ask("POST", "/login", data={"token": link})).status_code == 401


@pytest.mark.parametrize("role", [Role.INGEST, Role.APPLICATION])
async def test_roles_without_pages_get_no_session(web: Web, role: Role) -> None:
    """A program's token is no way into the dashboard."""
    answer = await web.ask("POST", "/login", data={"token": web.token(role)})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_https_makes_the_cookie_safe_from_neighbours(web: Web) -> None:
    """By https the cookie bears __Host- and Secure."""
    answer = await web.client.post("https://prunella/login", data={"token": web.token(Role.VIEWER)})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{SECURE_COOKIE}=")
    assert "Secure" in cookie
    web.client.cookies.clear()
    session = {"cookie": f"{COOKIE}={answer.cookies[SECURE_COOKIE]}"}  # as a neighbouring host could set it
    assert (await web.client.get("https://prunella/", headers=session)).status_code == 401


async def test_api_key_opens_until_it_is_revoked(web: Web) -> None:
    """A key has a role, a name for the audit, and a prefix that scanners know; what is kept of it opens nothing."""
    parts = web.app.parts
    key, shown = await entrances.new_key(parts, "deploy bot", "OPERATIONS", None, by="ada")
    assert shown.startswith("prunella_live_")
    assert (await web.ask("POST", PAUSE, shown)).status_code == 200
    assert (await web.ask("GET", "/api/v1/secrets", shown)).status_code == 403
    assert (await web.ask("POST", PAUSE, key.digest)).status_code == 401
    assert (await web.ask("POST", PAUSE, shown[:-1])).status_code == 401
    async with web.app.store.transaction() as tx:
        (kept,) = await tx.entrances.keys()
        told = await tx.audit.list(most=9, target="deploy bot")
    assert shown not in repr(kept)
    assert kept.used_at == web.clock.now()
    assert [(one.actor, one.action) for one in told] == [("ada", "key.created")]
    assert await entrances.revoke_key(parts, key.id, by="ada") is not None
    assert (await web.ask("POST", PAUSE, shown)).status_code == 401


async def test_session_ends_with_the_key_that_opened_it(web: Web) -> None:
    """Who signed in with a key is out when it is revoked, at once; other sessions go on."""
    key, shown = await entrances.new_key(web.app.parts, "ada", "OPERATIONS", None, by="admin")
    answer = await web.ask("POST", "/login", data={"token": shown})
    opened = {"cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}
    web.client.cookies.clear()
    other, _ = await signed_in(web)
    assert (await web.ask("GET", "/", headers=opened)).status_code == 200
    assert await entrances.revoke_key(web.app.parts, key.id, by="admin") is not None
    assert (await web.ask("GET", "/", headers=opened)).status_code == 401
    assert (await web.ask("GET", "/", headers=other)).status_code == 200


async def test_person_is_turned_out(web: Web) -> None:
    """Lost laptops and changed jobs: sessions and unopened links of a name end at once, and the audit says by whom."""
    admin, ends = web.token(Role.ADMIN), timedelta(hours=1)
    (opened, _), (waits, _) = [await entrances.new_link(web.app.parts, "bob/x", "ADMIN", ends, by="ada") for _ in "ab"]
    answer = await web.ask("POST", "/login", data={"token": opened})
    bob = {"cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}
    web.client.cookies.clear()
    other, _ = await signed_in(web)
    assert (await web.ask("GET", "/", headers=bob)).status_code == 200
    ended = await web.ask("DELETE", "/api/v1/links/bob%2Fx", admin)
    assert ended.json() == {"name": "bob/x", "sessions": 1, "links": 1}
    assert (await web.ask("GET", "/", headers=bob)).status_code == 401
    assert (await web.ask("POST", "/login", data={"token": waits})).status_code == 401
    assert (await web.ask("GET", "/", headers=other)).status_code == 200
    assert (await web.ask("DELETE", "/api/v1/links/bob%2Fx", admin)).status_code == 404
    async with web.app.store.transaction() as tx:
        (told, *_) = await tx.audit.list(most=9, target="bob/x")
    assert (told.actor, told.action, told.reason) == ("cli", "link.revoked", "sessions: 1, links: 1")


async def test_link_opens_for_one_of_many_at_once(web: Web) -> None:
    """Two clicks at the same moment: one session."""
    link, _ = await entrances.new_link(web.app.parts, "bob", "VIEWER", timedelta(hours=1), by="ada")
    came = await asyncio.gather(*(web.ask("POST", "/login", data={"token": link}) for _ in range(5)))
    assert sorted(answer.status_code for answer in came) == [303, 401, 401, 401, 401]


async def test_api_key_ends_when_it_was_to_end(web: Web) -> None:
    """An end in the past is refused, and after its end a key opens nothing."""
    parts, now = web.app.parts, web.clock.now()
    _, shown = await entrances.new_key(parts, "bot", "VIEWER", now + timedelta(hours=1), by="ada")
    assert (await web.ask("GET", "/api/v1/incidents", shown)).status_code == 200
    web.clock.advance(3601)
    assert (await web.ask("GET", "/api/v1/incidents", shown)).status_code == 401
    with pytest.raises(InvalidInput, match="future"):
        await entrances.new_key(parts, "bot", "VIEWER", now, by="ada")
    with pytest.raises(InvalidInput, match="name"):
        await entrances.new_key(parts, " ", "VIEWER", None, by="ada")


async def test_keys_are_made_listed_and_revoked_over_http(web: Web) -> None:
    """The answer to the making is the only place where a key stands; mistakes are named."""
    admin = web.token(Role.ADMIN)
    made = await web.ask("POST", "/api/v1/keys", admin, json={"name": "ci", "role": "VIEWER"})
    assert made.status_code == 201
    shown = made.json()["key"]
    assert (await web.ask("GET", "/api/v1/incidents", shown)).status_code == 200
    listed = await web.ask("GET", "/api/v1/keys", admin)
    assert shown not in listed.text
    assert [(one["name"], one["role"], one["revoked_at"]) for one in listed.json()["items"]] == [("ci", "VIEWER", None)]
    ended = await web.ask("DELETE", f"/api/v1/keys/{made.json()['id']}", admin)
    assert ended.json()["revoked_by"] == "cli"
    assert (await web.ask("GET", "/api/v1/incidents", shown)).status_code == 401
    assert (await web.ask("DELETE", "/api/v1/keys/nobody", admin)).status_code == 404
    for wrong in ({"name": "ci"}, {"name": "ci", "role": "ROOT"}, {"name": "", "role": "VIEWER"}):
        assert (await web.ask("POST", "/api/v1/keys", admin, json=wrong)).status_code == 422
