"""What no answer may lack, whoever gives it: pages, problems, files, figures, redirects, streams."""

from __future__ import annotations

import pytest

from prunella.web.auth import Role
from prunella.web.pages.frame import version_of
from prunella.web.shield import HEADERS
from web.conftest import INGEST, Web

pytestmark = pytest.mark.anyio

ASKED = (
    ("GET", "/", 200),
    ("HEAD", "/incidents", 200),
    ("GET", "/incidents/none", 404),
    ("GET", "/incidents?state=broken", 422),
    ("GET", "/?span=100y", 422),
    ("GET", "/nowhere", 404),
    ("PATCH", "/incidents", 405),
    ("OPTIONS", "/incidents", 204),
    ("POST", "/pause", 403),
    ("GET", "/login", 200),
    ("GET", "/rates", 200),
    ("GET", "/entities", 200),
    ("GET", "/audit/export", 200),
    ("GET", "/static/nothing.css", 404),
    ("GET", "/api/v1/incidents", 200),
    ("GET", "/api/v1/nothing", 404),
    ("GET", "/api/v1/incidents?servcie=crm", 422),
    ("GET", "/openapi.json", 200),
    ("GET", "/livez", 200),
    ("GET", "/metrics", 200),
)


@pytest.mark.parametrize("accept", ["text/html, */*;q=0.5", "*/*"])
async def test_every_answer_is_shielded(web: Web, accept: str) -> None:
    """No site may frame it, no browser guess at its type, no cache keep it; what went wrong is no exception."""
    await web.client.post("/login", data={"token": web.token(Role.ADMIN)})
    for method, path, status in ASKED:
        answer = await web.ask(method, path, headers={"accept": accept})
        assert answer.status_code == status, (path, answer.text)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, name)
        if accept != "*/*" and not path.startswith(("/api", "/static")) and status >= 404:
            assert "<html" in answer.text, f"{path}: a person reads a page"
    assert "should be" in (await web.ask("GET", "/?span=100y", headers={"accept": accept})).text


async def test_files_are_shielded_and_may_be_kept(web: Web) -> None:
    """What is named by its content may be kept for ever, and by everybody."""
    answer = await web.ask("GET", f"/static/mark.svg?v={version_of('mark.svg')}")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-security-policy"] == HEADERS["content-security-policy"]


async def test_fault_of_our_own_is_shielded(web: Web) -> None:
    """An answer that nobody foresaw has the headers, too."""

    @web.api.get("/broken")
    async def broken() -> None:
        raise RuntimeError("planted")

    answer = await web.ask("GET", "/broken", INGEST)
    assert (answer.status_code, answer.headers.get("x-content-type-options")) == (500, "nosniff")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
