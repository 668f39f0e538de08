"""HEAD, OPTIONS, wrong methods and forms: every address says what it takes, as problems where it can't."""

from __future__ import annotations

import anyio
import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from prunella.web.auth import Role
from prunella.web.terms import takes_json
from web.conftest import Web

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/v1/keys", "GET, HEAD, OPTIONS, POST"),
        ("/api/v1/keys/7", "DELETE, OPTIONS"),
        ("/api/v1/secrets/a/b", "DELETE, OPTIONS, PUT"),
        ("/api/v1/pause", "GET, HEAD, OPTIONS, POST"),
        ("/integration-self-heal", "OPTIONS, POST"),
        ("/login", "GET, HEAD, OPTIONS, POST"),
    ],
)
async def test_wrong_method_names_the_right_ones(web: Web, path: str, allow: str) -> None:
    """405 is a problem with `Allow` (RFC 9110 section 15.5.6), of all routes of the address; OPTIONS says the same."""
    wrong = await web.ask("PATCH", path, web.token(Role.ADMIN))
    assert (wrong.status_code, wrong.headers["allow"]) == (405, allow)
    assert wrong.headers["content-type"] == "application/problem+json"
    asked = await web.ask("OPTIONS", path)
    assert (asked.status_code, asked.headers["allow"], asked.content) == (204, allow, b"")


async def test_options_of_nothing_is_404(web: Web) -> None:
    """An address that is none says so."""
    assert (await web.ask("OPTIONS", "/nowhere")).status_code == 404


@pytest.mark.parametrize("path", ["/api/v1/incidents", "/livez", "/login", "/api/v1/incidents/nobody"])
async def test_head_is_get_without_its_body(web: Web, path: str) -> None:
    """Same status, same length and type, no body."""
    token = web.token(Role.VIEWER)
    got, head = await web.ask("GET", path, token), await web.ask("HEAD", path, token)
    assert head.content == b""
    assert (head.status_code, head.headers["content-type"]) == (got.status_code, got.headers["content-type"])
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_head_of_a_stream_ends(web: Web) -> None:
    """The live stream has a head, too, and who asked for that alone is not told for ever."""
    with anyio.fail_after(5):
        answer = await web.ask("HEAD", "/live", web.token(Role.VIEWER))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


@pytest.mark.parametrize(
    "path", ["/api/v1/incidents/", "/livez/", "/login/", "//evil.example/api/v1/keys", "/api/v1//keys"]
)
async def test_address_with_a_slash_too_many_is_none(web: Web, path: str) -> None:
    """A redirect would be to http behind most proxies, and take the token along, in the clear."""
    for method in ("GET", "POST"):
        answer = await web.ask(method, f"http://prunella{path}", web.token(Role.ADMIN))
        assert (answer.status_code, "location" in answer.headers) == (404, False)


async def test_encoded_slash_and_long_address_are_no_way_around(web: Web) -> None:
    """What is encoded is read once; an address of any length is answered by its role first."""
    token = web.token(Role.VIEWER)
    for path in ("/api/v1/secrets/a%2Fb", "/api/v1/secrets%2Fa", "/api/v1/incidents/..%2Fkeys", "/%2e%2e/api/v1/keys"):
        assert (await web.ask("GET", path, token)).status_code in (401, 403, 404, 405), path
    assert (await web.ask("GET", f"/api/v1/incidents/{'x' * 60_000}", token)).status_code == 404
    assert (await web.ask("GET", f"/api/v1/incidents/{'x' * 60_000}")).status_code == 401


@pytest.mark.parametrize(
    "file", ["a%00.css", "x" * 5000, "%2e%2e/server.py", "..%2f..%2fserver.py", "vendor", "%ff.css", "/etc/passwd", ""]
)
async def test_name_of_a_file_leads_nowhere_else(web: Web, file: str) -> None:
    """Whatever is asked for, without a token, is one of our files or none; no name makes the disk complain."""
    assert (await web.ask("GET", f"/static/{file}")).status_code == 404
    assert (await web.ask("GET", "/static/vendor/htmx.js")).status_code == 200


async def test_api_is_as_strict_below_a_prefix(web: Web) -> None:
    """Inside somebody else's application it refuses what it refuses alone, as problems for whoever asks."""
    outer = FastAPI()
    outer.mount("/heal", web.api)
    headers = {"authorization": f"Bearer {web.token(Role.VIEWER)}", "accept": "text/html, */*"}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=outer), base_url="http://shop") as client:
        answer = await client.get("/heal/api/v1/incidents?servcie=crm", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


@pytest.mark.parametrize(
    ("accept", "takes"),
    [
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("application/*;q=0.5", True),
        ("text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("application/problem+json", True),
        ("APPLICATION/JSON", True),
        ("text/html", False),
        ("application/xml, text/csv", False),
        ("application/json;q=0", False),
        ("*/*;q=0.000", False),
        (";;,,", False),
    ],
)
async def test_who_takes_no_json_is_told(web: Web, accept: str, takes: bool) -> None:
    """406 on the API only where nothing that we send is taken; pages are for browsers and answer as they are."""
    answer = await web.ask("GET", "/api/v1/pause", web.token(Role.VIEWER), headers={"accept": accept})
    assert answer.status_code == (200 if takes else 406)
    assert takes_json(accept) is takes
    assert (await web.ask("GET", "/login", headers={"accept": "text/csv"})).status_code == 200


@given(st.text(max_size=40))
def test_no_header_makes_it_stumble(accept: str) -> None:
    """Whatever stands in `Accept`, the answer is yes or no."""
    assert takes_json(accept) in (True, False)
