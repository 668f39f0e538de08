"""Bodies are JSON objects: each name once, in UTF-8, not nested without end; everything else is said to be wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.web.api.paging import cursor_of
from prunella.web.auth import Role
from prunella.web.bodies import DEPTH_MAX, _depth
from web.conftest import INGEST, Web

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 200, ""),
        (b" \n", 200, ""),
        (b'{"reason": "x"}', 200, ""),
        (b'{"reason": "a", "reason": "b"}', 400, "stands twice"),
        (b'{"reason": {"a": 1, "a": 1}}', 400, "stands twice"),
        (b'{"reason": NaN}', 400, "NaN is no number"),
        (b'{"reason": -Infinity}', 400, "Infinity is no number"),
        (b'{"reason": ' + b"9" * 5000 + b"}", 400, "The body is no JSON"),
        (b'{"a":' * 129 + b"1" + b"}" * 129, 400, "at most 128 levels"),
        (b"[" * 60_000, 400, "at most 128 levels"),
        (b'{"reason": "\xff"}', 400, "not UTF-8"),
        (b'{"reason": "\\ud800"}', 422, "half a character"),
        (b'{"reason": "\\ud83d\\ude00"}', 200, ""),
        (b'{"reason": ', 400, "line 1"),
        (b"[]", 422, "must be a JSON object"),
    ],
)
async def test_body_is_read_or_refused(web: Web, body: bytes, status: int, words: str) -> None:
    """What can't be understood in one way only is refused, with where and why."""
    answer = await web.ask("POST", "/api/v1/pause", web.token(Role.ADMIN), content=body)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('Application/JSON; Charset="UTF-8"', 200),
        ("application/cloudevents+json", 200),
        ("application/json; charset=utf-16", 415),
        ("text/html", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/x-www-form-urlencoded", 415),
        ("json", 415),
    ],
)
async def test_content_type_is_believed(web: Web, kind: str, status: int) -> None:
    """What says that it is no JSON, or not UTF-8, is not read as such; an empty body needs no type."""
    token = web.token(Role.ADMIN)
    answer = await web.ask("POST", "/api/v1/pause", token, content=b"{}", headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    empty = await web.ask("POST", "/api/v1/pause", token, headers={"content-type": kind})
    assert empty.status_code == 200


@pytest.mark.parametrize(("packed", "status"), [("gzip", 415), ("br, gzip", 415), ("identity", 200), ("", 200)])
async def test_packed_body_is_refused_by_its_name(web: Web, packed: str, status: int) -> None:
    """Nothing is unpacked that a stranger packed; that nothing was packed may be said."""
    headers = {"content-encoding": packed}
    answer = await web.ask("POST", "/api/v1/pause", web.token(Role.ADMIN), content=b"{}", headers=headers)
    assert answer.status_code == status, answer.text


async def test_null_characters_are_no_fault_of_ours(large: Web) -> None:
    """In any text of any body, in addresses, filters and cursors: taken or refused, on PostgreSQL, too."""
    null = "a\0b"
    admin = large.token(Role.ADMIN)
    texts = (
        "event_id",
        "service_name",
        "error_code",
        "error_message",
        "endpoint",
        "user_id",
        "account",
        "ordering_key",
    )
    event = {"event_id": "e", "service_name": "crm", "http_status": 503}
    bodies = [{**event, "event_id": f"e-{name}", name: null} for name in texts]
    bodies += [{**event, "event_id": "p", "endpoint": "/x", "payload": {null: null}}, {**event, "headers": {"a": null}}]
    for body in bodies:
        answer = await large.ask(
            "POST", "/integration-self-heal", INGEST, json=body, headers={"prefer": "respond-async"}
        )
        assert answer.status_code in (202, 422), (body, answer.text)
    asked: list[tuple[str, str, dict[str, object]]] = [
        ("POST", "pause", {"reason": null}),
        ("POST", "keys", {"name": null, "role": "VIEWER"}),
        ("PUT", "secrets/a", {"value": null}),
        ("PUT", "services/crm/credentials", {"access_token": null, "account": null}),
        ("PUT", "services/crm/credentials", {"access_token": null, "refresh_token": null}),
        ("POST", "operations/cancel", {"all": True, "estimate": True, "digest": null}),
        ("POST", "approvals/x/approve", {"digest": null}),
        ("GET", "incidents/%00", {}),
        ("GET", "runs?procedure=%00", {}),
        ("GET", f"incidents?cursor={cursor_of(large.clock.now(), null)}", {}),
        ("PUT", "secrets/%00", {"value": "a"}),
        ("POST", "links", {"name": null}),
    ]
    for method, path, wish in asked:
        answer = await large.ask(method, f"/api/v1/{path}", admin, json=wish)
        assert answer.status_code in (200, 201, 404, 422), (path, answer.text)


async def test_null_characters_in_pages_are_no_fault_of_ours(large: Web) -> None:
    """A page that is asked with one says so; a form that carries one is read with another sign in its place."""
    admin = large.token(Role.ADMIN)
    for path in ("incidents?service=%00", "audit?target=a%00", "operations?account=%00", "live?after=%00", "runs/%00"):
        answer = await large.ask("GET", f"/{path}", admin)
        assert answer.status_code in (404, 422), (path, answer.text)
    forms = {
        "services/crm/pause": {"reason": "a\0b"},
        "settings/keys": {"name": "a\0b", "role": "VIEWER"},
        "operations/estimate": {"account": "a\0b", "act": "cancel"},
        "incidents/many": {"service": "a\0b", "act": "ack", "made_at": "2026-01-01T00:00:00"},
        "incidents/\0/ack": {},
    }
    for path, form in forms.items():
        answer = await large.ask("POST", f"/{path.replace(chr(0), '%00')}", admin, data=form)
        assert answer.status_code in (200, 303, 404, 409, 422), (path, answer.text)


def nested(value: object) -> int:
    """Return how deeply a value is nested, by walking through it."""
    if isinstance(value, dict | list):
        return 1 + max((nested(one) for one in (value.values() if isinstance(value, dict) else value)), default=0)
    return 0


@given(
    st.recursive(
        st.none() | st.text(alphabet='[]{}"\\a'),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\'), inner, max_size=2),
        max_leaves=12,
    ),
    st.integers(0, DEPTH_MAX + 30),
)
def test_depth_is_counted_without_parsing(value: object, more: int) -> None:
    """Brackets within strings are no depth: the count is that of the parsed value, up to the first that is too deep."""
    for _ in range(more):
        value = [value]
    value = [value, *([[]] * DEPTH_MAX)]  # so many brackets that they have to be counted
    assert _depth(json.dumps(value).encode()) == min(nested(value), DEPTH_MAX + 1)
