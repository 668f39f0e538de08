"""What holds of every template: addresses know where we are mounted, and lists take the filters of the API."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prunella.web.auth import Role
from prunella.web.pages import frame
from web.conftest import Web
from web.person import Person

TEMPLATES = sorted((Path(frame.__file__).parent / "templates").glob("*.html"))
_ADDRESSES = re.compile(
    r"""(?<![\w-])(?:href|src|srcset|action|formaction|poster|data-(?:at|chart)|hx-(?:get|post|put|patch|delete|sse:connect))\s*=\s*"""
    r"""(?:"([^"]*(?:"[^"]*"\)[^"]*)*)"|([^"\s>]+))"""
)


def strays(html: str) -> list[str]:
    """Return the addresses that are not made by at() or static(), and lead elsewhere than within the page."""
    found = [quoted or bare for quoted, bare in _ADDRESSES.findall(html)]
    return [one for one in found if not re.match(r"\{\{ (?:at|static)\(|#", one)]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_every_address_knows_where_we_are_mounted(template: Path) -> None:
    """Links, forms, files, and what is fetched later go through at() or static(); the look itself is seen to fail."""
    html = template.read_text()
    assert strays(html) == []
    for planted in (
        '<a href="/audit">',
        "<form action=/pause>",
        '<i hx-get="{{ path }}">',
        '<img src="//evil.example">',
    ):
        assert len(strays(html + planted)) == 1, planted
    assert re.findall(r'\son[a-z]+="|\sstyle="|<style|<script(?! src=)|\|\s*safe(?! }}</svg>)', html) == []


@pytest.mark.anyio
@pytest.mark.parametrize("room", ["incidents", "operations", "notifications", "audit"])
async def test_filters_of_a_page_are_those_of_the_api(web: Web, room: str) -> None:
    """Whoever knows one knows the other; a page takes its cursor under a name of its own at most."""
    ada = await Person.enter(web.client, web.gatehouse, Role.ADMIN)
    (form,) = [one for one in (await ada.open(f"/{room}")).forms if one.action == f"/{room}" and one.method == "get"]
    asked = web.api.openapi()["paths"][f"/api/v1/{room}"]["get"]["parameters"]
    assert set(form.fields) == {one["name"] for one in asked if one["in"] == "query"} - {"limit", "cursor"}
