"""Bodies are JSON objects: each name once, in UTF-8, not nested without end; everything else is said to be wrong."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.app import wire
from prunella.core.clock import ManualClock
from prunella.core.redact import Secret
from prunella.egress import Egress
from prunella.runner.local import LocalRunner
from prunella.settings import Settings
from prunella.store import migrations
from prunella.store.postgres import PostgresStore
from prunella.web.api.paging import cursor_of
from prunella.web.auth import Gatehouse, Role
from prunella.web.bodies import DEPTH_MAX, _depth
from prunella.web.server import create
from web.conftest import CRM, INGEST, KEYS, Web

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


@pytest.fixture
async def large(anyio_backend: str, fresh_postgres_url: str) -> AsyncIterator[Web]:
    """A wired prunella on PostgreSQL, which holds no null character."""
    migrations.upgrade(fresh_postgres_url)
    store = await PostgresStore.open(fresh_postgres_url)
    egress = Egress(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    settings = Settings(services={"crm": CRM}, ingest_tokens=(Secret(INGEST),))
    app = wire(settings, store, egress, KEYS, runs=LocalRunner)
    api = create(app)
    transport = httpx2.ASGITransport(app=api, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://prunella") as client:
        yield Web(app, api, ManualClock(), Gatehouse(KEYS, (), store.clock.now), client)
    await egress.close()
    await store.close()


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
    ]
    for method, path, wish in asked:
        answer = await large.ask(method, f"/api/v1/{path}", admin, json=wish)
        assert answer.status_code in (200, 201, 404, 422), (path, answer.text)


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
    st.integers(DEPTH_MAX + 1, DEPTH_MAX + 30),
)
def test_depth_is_counted_without_parsing(value: object, more: int) -> None:
    """Brackets within strings are no depth: the count is that of the parsed value."""
    for _ in range(more):
        value = [value]
    assert _depth(json.dumps(value).encode()) == nested(value)
