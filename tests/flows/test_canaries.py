"""Canaries in every field that takes words or secrets: after a storm of events none of them sings in any sink."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope
from psycopg import sql

from databases.shop import opened
from flows.running import INGEST, KEY, Up, configuration, event, eventually, running
from notify.test_email import Postbox
from prunella.testing import FaultyServer
from prunella.testing.leaks import find_secrets
from prunella.testing.words import json

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # aiosmtpd is of 2024

EVENTS = int(os.environ.get("PRUNELLA_CANARY_EVENTS", "40"))
"""How many; `make leaks` sends a thousand."""
HELD = {
    "client_secret": "hcs-clientsecret-4uCKxH0Zq7",
    "bearer": "hbr-bearer-bW8fYtQe2Rk",
    "header": "hhd-header-vN5pLs7XcDa",
    "hook": "hhk-hook-path-0gHjKl3MnB",
    "signing": "whsec_aGVsZC1zaWduaW5nLXNlY3JldC1aUTc5WG1K",
    "access": "hac-access-T1yUiOpAsDf",
    "refresh": "hrf-refresh-QwErTy6GhJk",
    "pager": "hpg-pager-path-MnBvCx8LkJ",
    "teams": "htm-teams-path-ZaQwSx4EdC",
    "mail": "hml-mail-password-RfVtGb5",
}
"""Secrets that were given to prunella: it knows their values, so none may stand anywhere in the open."""
TOLD = {
    name: f"{number:02}z{name}Zq7vLk2Xw93"
    for number, name in enumerate(
        ("message", "code", "query", "userinfo", "payload", "nested", "header", "cookie", "reason", "title", "advice",
         "parameter", "example", "name", "note", "row", "column")
    )
}  # fmt: skip
"""Secrets that people and senders say: known by the words around them, or sealed with a payload."""
BYSTANDER = "canary-of-the-event-id"
READ = (
    "/api/v1/incidents", "/api/v1/operations", "/api/v1/services", "/api/v1/secrets", "/api/v1/known-issues",
    "/api/v1/known-issues/candidates", "/api/v1/known-issues/export", "/api/v1/notifications", "/api/v1/audit",
    "/api/v1/approvals", "/api/v1/procedures", "/api/v1/statistics", "/api/v1/keys", "/metrics", "/readyz",
    "/api/v1/audit/verify", "/", "/incidents", "/operations", "/services", "/known-issues", "/known-issues/candidates",
    "/notifications", "/approvals", "/procedures", "/audit", "/statistics", "/settings",
)  # fmt: skip
PLUGIN = """
from prunella.plugin import remedy

@remedy("warm_up", idempotent=True)
async def warm_up(ctx, failure, *, node: str):
    raise RuntimeError(f"cannot warm {node}")
"""
CONFIG = """
notify:
  channels:
    ops: {slack: "secret://hook"}
    hook: {webhook: {url: "secret://hook", secret: "${SIGNING}"}}
    pager: {apprise: "${PAGER}"}
    teams: {teams: "${TEAMS}"}
    mail: {email: {to: [ops@shop.example], smtp: "${MAIL}"}}
  rules:
    - {severity: [LOW, MEDIUM, HIGH, CRITICAL], to: [ops, hook, pager, teams, mail], escalate: {after: 1s, to: [pager]}}
databases:
  shop: {url: "${SHOP}"}
procedures:
  hide:
    database: shop
    check: {rows: {table: goods, where: {stock: 0, visible: 1}}}
    remedy: {set: {visible: 0}}
    every: 24h
    first_run: wait
    level: L2
    limits: {share_max: 1.0}
"""
NOTES = "CREATE TABLE goods (id integer PRIMARY KEY, stock integer, visible integer, note text, api_key text)"


def config(shop: FaultyServer) -> str:
    """Return a configuration that holds a canary wherever it takes a secret."""
    ours = f"""
  bare: {{base_url: {shop.url}/bare, bearer: "${{BEARER}}"}}
  named: {{base_url: {shop.url}/named, headers: {{X-Api-Key: "secret://header"}}}}"""
    return (
        configuration(shop, CONFIG)
        .replace("services:", "services:" + ours, 1)
        .replace("service: {", "service: {plugins: [canary_plugin], ", 1)
        .replace("allow_hosts: [", 'allow_hosts: ["127.0.0.1", ', 1)
    )


def echoing(shop: FaultyServer) -> None:
    """Let services repeat what they were sent, in a refusal: that is how a secret comes back."""
    for place, secret in (("/bare", HELD["bearer"]), ("/named", HELD["header"]), ("/s1", HELD["access"])):
        shop.script(place, [json(400, {"error": f"{secret} is not welcome", "again": secret[::1]})])
    refusal = f"{HELD['refresh']} of {HELD['client_secret']} is spent"
    shop.script("/s1-oauth/token", [json(400, {"error": "invalid_request", "error_description": refusal})])


def report(number: int) -> dict[str, object]:
    """Return an event that holds a canary wherever senders put one."""
    service = ("bare", "named", "s1", "stranger")[number % 4]
    return event(
        service,
        number,
        event_id=f"{BYSTANDER}-{number}",
        http_status=(401, 503, 400, 500)[number // 4 % 4],
        error_code=f"token={TOLD['code']}",
        error_message=(
            f"https://svc:{TOLD['userinfo']}@crm.test refused Authorization: Bearer {TOLD['message']}; "
            f"Cookie: session={TOLD['cookie']}; it has {HELD['bearer']} and {HELD['header']}, kind {number % 7}"
        ),
        endpoint=f"/orders/7?access_token={TOLD['query']}",
        payload={"password": TOLD["payload"], "lines": [{"note": f"x-api-key: {TOLD['nested']}"}]},
    )


def people(up: Up) -> None:
    """Let people say secrets wherever they are asked for words."""
    reason = {"reason": f"password={TOLD['reason']}"}
    incidents = up.get("/api/v1/incidents")["items"]
    for act, incident in zip(("ack", "escalate", "suppress", "retry"), incidents, strict=False):
        up.act("POST", f"/api/v1/incidents/{incident['id']}/{act}", reason)
    for act in ("pause", "resume"):
        up.act("POST", f"/api/v1/{act}", reason)
        up.act("POST", f"/api/v1/services/s2/{act}", reason)
    issue = {
        "id": "bare.refused",
        "pattern": "refused .{1,80} kind 3",
        "title": f"token={TOLD['title']}",
        "advice": f"log in with password={TOLD['advice']}",
        "examples": [f"refused Authorization: Bearer {TOLD['example']} kind 3"],
    }
    made = up.act("POST", "/api/v1/known-issues", issue)
    spelled = {"id": "bare.spelled", "pattern": HELD["bearer"].replace("-", "\\-") + " is not welcome"}
    assert up.act("POST", "/api/v1/known-issues", spelled).status_code == 422
    bind, parameters = "/api/v1/known-issues/bare.refused/bind", {"node": f"token={TOLD['parameter']}"}
    refused = up.act("POST", bind, {"remedy": "warm_up", "parameters": parameters})
    bound = up.act("POST", bind, {"remedy": "warm_up", "parameters": {"node": "east-1"}, **reason})
    assert (made.status_code, refused.status_code, bound.status_code) == (201, 422, 200)
    assert TOLD["parameter"] not in refused.text
    up.post({**report(3), "event_id": f"{BYSTANDER}-known", "service_name": "bare"})
    up.post({"mode": f"password={TOLD['name']}", "event_id": f"token={TOLD['name']}", "http_status": TOLD["name"]})
    up.act("POST", "/api/v1/keys", {"name": f"token={TOLD['note']}", "role": "VIEWER"})


def planned(up: Up, postbox: Postbox) -> None:
    """Let a plan about rows that hold secrets wait for a person, and be told of by every kind of message."""
    assert up.act("POST", "/api/v1/procedures/hide/run").status_code == 200
    places = (HELD["hook"], HELD["pager"], HELD["teams"])
    eventually(lambda: all(any(one in said.path for said in up.shop.ledger.requests) for one in places))
    eventually(lambda: bool(postbox.envelopes))
    assert b"hide" in decoded(postbox.envelopes[0])


@contextmanager
def mail(postbox: Postbox) -> Iterator[str]:
    """Take mail of whoever knows the password; give the server's address."""
    loop = asyncio.new_event_loop()
    signs_in: dict[str, Any] = {"authenticator": lambda *_: AuthResult(success=True), "auth_require_tls": False}
    made = partial(SMTP, postbox, hostname="localhost", loop=loop, **signs_in)
    server = loop.run_until_complete(loop.create_server(made, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"smtp://robot:{HELD['mail']}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def decoded(envelope: Envelope) -> bytes:
    """Return what a mail says, headers and all, as a reader sees it."""
    assert isinstance(envelope.content, bytes)
    message = message_from_bytes(envelope.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    parts = [part.get_content() for part in message.walk() if not part.is_multipart()]
    return "\n".join([*map(str, message.values()), *parts]).encode()


def sung(up: Up, stored: bytes, postbox: Postbox) -> dict[str, set[str]]:
    """Return which canaries were found where."""
    sinks: dict[str, bytes] = {"database": stored, "log": (up.folder / "up.log").read_bytes()}
    sinks["stdout"] = "".join(up.lines).encode()
    for path in READ:
        sinks[path] = up.client.get(path, headers=up.as_role("ADMIN")).content
    for incident in up.get("/api/v1/incidents", limit=20)["items"]:
        for path in (f"/api/v1/incidents/{incident['id']}", f"/incidents/{incident['id']}"):
            sinks[path] = up.client.get(path, headers=up.as_role("ADMIN")).content
        sinks.setdefault("prunella explain", up.cli("explain", incident["id"], check=False).encode())
    sinks["/known-issues/bare.refused"] = up.client.get(
        "/known-issues/bare.refused", headers=up.as_role("ADMIN")
    ).content
    for plan in up.get("/api/v1/approvals", role="ADMIN")["items"]:
        for path in (f"/api/v1/approvals/{plan['id']}", f"/approvals/{plan['id']}"):
            sinks[path] = up.client.get(path, headers=up.as_role("ADMIN")).content
    for name in ("hook", "pager", "teams"):
        sinks[f"messages by {name}"] = b"\n".join(one.body for one in up.shop.ledger.requests if HELD[name] in one.path)
    sinks["mail"] = b"\n".join(decoded(one) for one in postbox.envelopes)
    assert all(sinks[name] for name in ("messages by hook", "messages by pager", "messages by teams", "mail"))
    assert any(path.startswith("/approvals/") for path in sinks)
    secrets = {**HELD, **{f"told {name}": value for name, value in TOLD.items()}, "key": KEY, "ingest": INGEST}
    found: dict[str, set[str]] = {}
    for where, content in sinks.items():
        for leak in find_secrets(content, secrets.values()):
            found.setdefault(f"{leak.secret} ({leak.spelling})", set()).add(where)
    assert len(sinks) > len(READ) + 5
    return found


def dump_of(url: str) -> bytes:
    """Return what lies in the database: SQLite's files with the log of writes, or every table and PostgreSQL's WAL."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        files = [one for one in sorted(path.parent.glob(f"{path.name}*")) if not one.name.endswith(".key")]
        return b"".join(one.read_bytes() for one in files)
    query = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    found = []
    with psycopg.connect(url, autocommit=True) as connection:
        for schema, table in connection.execute(query).fetchall():
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema, table))) as copied:
                found += [bytes(block) for block in copied]
        for (name,) in connection.execute("SELECT name FROM pg_ls_waldir()").fetchall():
            row = connection.execute("SELECT pg_read_binary_file('pg_wal/' || %s)", (name,)).fetchone()
            found += [bytes(row[0]).rstrip(b"\0")] if row else []
    return b"".join(found)


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.skipif(EVENTS < 1000, reason="make leaks"))]
)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]
) -> Iterator[str]:
    """Return an empty database; PostgreSQL in the long form only."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'p.db'}"
    else:
        with new_database() as url:
            yield url


def test_no_canary_sings_in_any_sink(place: str, tmp_path: Path) -> None:
    """Events, echoes of services and words of people: no secret in dump, WAL, log, answers, pages, messages, exports."""
    (tmp_path / "canary_plugin.py").write_text(PLUGIN)
    ways = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    given = {"BEARER": HELD["bearer"], "SIGNING": HELD["signing"], "APP_SECRET": HELD["client_secret"]}
    notes = f"INSERT INTO goods VALUES (1, 0, 1, 'password={TOLD['row']}', '{TOLD['column']}')"
    postbox, goods = Postbox(), f"sqlite:///{tmp_path / 'shop.db'}"
    with ExitStack() as opening:
        shop = opening.enter_context(FaultyServer())
        given |= {name.upper(): f"{shop.url}/{HELD[name]}" for name in ("pager", "teams")}
        given |= {"PAGER": given["PAGER"].replace("http", "json"), "MAIL": opening.enter_context(mail(postbox))}
        opening.enter_context(opened(goods)).run(NOTES, notes)
        up = opening.enter_context(running(tmp_path, shop, place, config(shop), PYTHONPATH=ways, SHOP=goods, **given))
        shop.chat(f"/{HELD['hook']}")
        shop.chat(f"/{HELD['teams']}")
        up.cli("secret", "set", "hook", given=f"{shop.url}/{HELD['hook']}")
        up.cli("secret", "set", "header", given=HELD["header"])
        up.cli("credentials", "set", "s1", given=f"{HELD['access']}\n{HELD['refresh']}\n")
        planned(up, postbox)
        echoing(shop)
        for number in range(EVENTS):
            assert up.post(report(number), prefer="respond-async").status_code in (200, 202)
        people(up)
        eventually(lambda: any(HELD["hook"] in one.path for one in shop.ledger.requests))
        eventually(lambda: len({one.path.split("/")[1] for one in shop.ledger.requests} & {"bare", "named"}) == 2)
        stored = dump_of(place)
        assert BYSTANDER.encode() in stored
        found = sung(up, stored, postbox)
        assert found == {}, "\n".join(f"{name}: {sorted(where)}" for name, where in found.items())
