"""While a database is away every route says so: 503 with a reason and when to ask again, and no word of the address."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import httpx2
import psycopg
import pytest
from sqlalchemy import make_url

from prunella.app import wire
from prunella.core.clock import ManualClock
from prunella.core.redact import Secret
from prunella.egress import Egress
from prunella.guard.place import DatabasePlace
from prunella.runner.local import LocalRunner
from prunella.settings import Settings
from prunella.store import migrations
from prunella.store.postgres import PostgresStore
from prunella.store.sqlite import SqliteStore
from prunella.web.auth import Gatehouse, Role
from prunella.web.server import create
from web.conftest import CRM, INGEST, KEYS, Web
from web.test_auth import ANYBODY, EVENT, ROUTES, path_of

pytestmark = pytest.mark.anyio

ON_ITS_OWN = {
    *("/known-issues/try", "/theme", "/entities", "/settings"),
    *("/api/v1/entities", "/api/v1/procedures/{name}"),
}
"""What reads nothing of the store, or begins before it does; prunella.yaml needs no database."""
READS = [
    route
    for route, roles in ROUTES.items()
    if roles is not ANYBODY and route[0] == "GET" and route[1] not in ON_ITS_OWN
]
CHANGES = [
    route
    for route, roles in ROUTES.items()
    if roles is not ANYBODY and route[0] != "GET" and route[1] not in ON_ITS_OWN
]


@pytest.fixture
async def dark(anyio_backend: str, postgres_url: str, fresh_postgres_url: str) -> AsyncIterator[Web]:
    """A wired prunella whose database has just gone away."""
    migrations.upgrade(fresh_postgres_url)
    place = DatabasePlace(fresh_postgres_url)
    store = await PostgresStore.open(fresh_postgres_url)
    store._pool.timeout = store._pool.reconnect_timeout = 0.05  # only now: opening takes its time on a slow machine
    egress = Egress(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    settings = Settings(services={"crm": CRM}, ingest_tokens=(Secret(INGEST),))
    app = wire(settings, store, egress, KEYS, place=place, runs=LocalRunner)
    api = create(app)
    name = make_url(fresh_postgres_url).database
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    transport = httpx2.ASGITransport(app=api, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://prunella") as client:
        yield Web(app, api, ManualClock(), Gatehouse(KEYS, (), store.clock.now), client)
    place.close()
    await egress.close()
    await store.close()


def says_away(answer: httpx2.Response, database: str) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert database not in answer.text
    assert "127.0.0.1" not in answer.text


async def test_every_route_says_that_the_database_is_away(dark: Web, fresh_postgres_url: str) -> None:
    """Lists, single things and changes: never 500, never a half answer; what is refused before stays refused."""
    database = make_url(fresh_postgres_url).database or ""
    told = 0
    for method, path in (*READS, *CHANGES):
        role = next(iter(sorted(ROUTES[method, path] or ())))
        body = EVENT if path == "/integration-self-heal" else {}
        answer = await dark.ask(method, path_of(path), dark.token(role), json=body)
        assert answer.headers["content-type"] == "application/problem+json", (method, path, answer.text)
        unconfigured = {"entities", "stuck-orders"} & set(path.split("/")) or "{name}" in path
        allowed = (503,) if method == "GET" and not unconfigured else (503, 404, 409, 422)
        assert answer.status_code in allowed, (method, path, answer.text)
        if answer.status_code == 503:
            says_away(answer, database)
            told += 1
    assert told > len(READS) + 5


@pytest.mark.parametrize("path", ["/", "/approvals", "/operations", "/incidents/nobody"])
async def test_pages_say_it_to_a_person(dark: Web, path: str) -> None:
    """A browser gets a page that can be read, with the same status and the same wait."""
    answer = await dark.ask("GET", path, dark.token(Role.ADMIN), headers={"accept": "text/html,*/*;q=0.8"})
    says_away(answer, "prunella_test_")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "The database does not answer" in answer.text
    assert "work goes on by itself" in answer.text


async def test_page_of_a_problem_shows_text_as_text(web: Web) -> None:
    """What stands in an address is shown, and never becomes part of the page."""
    answer = await web.ask("GET", "/incidents/<script>", web.token(Role.ADMIN), headers={"accept": "text/html"})
    assert (answer.status_code, "<script>" in answer.text, "Unknown incident" in answer.text) == (404, False, True)


async def test_full_disk_refuses_events_and_keeps_what_was_accepted(web: Web) -> None:
    """On a full disk an event is refused whole, lists are read on, and with room again all is as before."""
    store = web.app.store
    assert isinstance(store, SqliteStore)
    first = await web.ask("POST", "/integration-self-heal", INGEST, json=EVENT, headers={"prefer": "respond-async"})
    assert first.status_code == 202
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    refused = accepted = 0
    for number in range(60):
        event = {**EVENT, "event_id": f"more-{number}", "payload": {"text": "x" * 3000}}
        answer = await web.ask(
            "POST", "/integration-self-heal", INGEST, json=event, headers={"prefer": "respond-async"}
        )
        refused += answer.status_code == 503
        accepted += answer.status_code == 202
        if answer.status_code == 503:
            says_away(answer, "prunella.db")
            assert "full" in answer.json()["detail"]
    assert (refused > 0, refused + accepted) == (True, 60)
    listed = await web.ask("GET", "/api/v1/incidents", web.token(Role.ADMIN))
    assert listed.status_code == 200
    assert store._database.execute("SELECT count(*) FROM signals").fetchone() == (accepted + 1,)
    store._database.execute("PRAGMA max_page_count = 1000000")
    event = {**EVENT, "event_id": "after"}
    answer = await web.ask("POST", "/integration-self-heal", INGEST, json=event, headers={"prefer": "respond-async"})
    assert answer.status_code == 202
