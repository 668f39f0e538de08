"""Small stories in which every remedy acts once: what is sent, when it is over, and what must be true then.

A story is told by a careful outsider: it repeats itself until it is heard, whoever dies meanwhile.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from sqlalchemy import Engine, create_engine, inspect, make_url, text

from chaos.world import environment, ingest_headers
from prunella.core.clock import SystemClock
from prunella.databases import images
from prunella.store.secrets import Keys
from prunella.testing import FaultyServer
from prunella.testing.places import Receiver
from prunella.testing.words import Script, lost_reply, ok
from prunella.web.auth import Gatehouse, Role

_SECRET = "whsec_c2VjcmV0LW9mLXRoZS1jaGFvcy13ZWJob29r"
_TIMEOUT_S = 10.0
_CHANCE = random.SystemRandom()
_ORDERS = (
    "CREATE TABLE orders (id integer PRIMARY KEY, status text NOT NULL, vendor_id integer, updated_at MOMENT NOT NULL)"
)
_PRODUCTS = "CREATE TABLE products (id integer PRIMARY KEY, stock integer, visible integer)"
_TALKS = "CREATE TABLE talks (id integer PRIMARY KEY)"
_MESSAGES = "CREATE TABLE messages (id integer PRIMARY KEY, talk_id integer, created_at MOMENT NOT NULL)"


class Shop:
    """The user's database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._is_postgres = make_url(url).get_backend_name() == "postgresql"
        driver = make_url(url).set(drivername="postgresql+psycopg") if self._is_postgres else make_url(url)
        self._engine: Engine = create_engine(driver)

    def run(self, *statements: str) -> None:
        """Run statements, all or none."""
        moment = "timestamptz" if self._is_postgres else "text"
        with self._engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement.replace("MOMENT", moment)))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        with self._engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def archived(self) -> int:
        """Count the images in the archive."""
        table = images.POSTGRES if self._is_postgres else images.SQLITE
        if not inspect(self._engine).has_table(table.name, schema=table.schema):
            return 0
        with self._engine.begin() as connection:
            return len(connection.execute(table.select()).all())

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()


@dataclass
class Stage:
    """Where a story plays."""

    server: FaultyServer
    store: Shop
    shop: Shop
    messages: Receiver
    address: tuple[str, int]
    accepted: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    def post(self, event: dict[str, Any]) -> None:
        """Report an event until it is accepted."""
        if not self.accepted:
            self.accepted = self._ask("/integration-self-heal", event, ingest_headers()) in (200, 202)

    def run_procedure(self, name: str) -> None:
        """Have a procedure run now."""
        self._ask(f"/api/v1/procedures/{name}/run", {}, self._admin())

    def _admin(self) -> dict[str, str]:
        keys = Keys.parse(environment("", "")["PRUNELLA_SECRET_KEY"])
        token = Gatehouse(keys, (), SystemClock().now).mint(Role.ADMIN, timedelta(minutes=5))
        return {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def _ask(self, path: str, body: object, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection(*self.address, timeout=_TIMEOUT_S)
        try:
            connection.request("POST", path, json.dumps(body), headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


Act = Callable[[Stage], None]
Judge = Callable[[Stage, str], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One remedy at work.

    Args:
        config: what prunella.yaml says beside services and channels.
        service: what it says of the service.
        words: what the service answers.
        tables: what the user's database holds.
        judge: what is wrong at the end, given the boundary at which the process died.
    """

    name: str
    act: Act
    judge: Judge
    config: str = ""
    service: str = ""
    words: Script = (ok,)
    honours: bool = True
    tables: Sequence[str] = ()
    prepare: Act | None = None

    def configuration(self, stage: Stage) -> str:
        """Return the prunella.yaml of this story."""
        url = stage.server.url
        honours = str(self.honours).lower()
        return (
            'service: {listen: "${LISTEN}", environment: development, plugins: [chaos.steps]}\n'
            f'egress: {{allow_http: true, allow_hosts: ["{urlsplit(url).netloc}"]}}\n'
            f"services:\n  vendor:\n    base_url: {url}/vendor\n    timeout: 2s\n"
            f"    honours_idempotency_key: {honours}\n{self.service.replace('URL', url)}"
            f'notify:\n  channels: {{ops: {{webhook: {{url: "${{CHAOS_OPS}}", secret: "${{CHAOS_SECRET}}"}}}}}}\n'
            "  rules: [{severity: [LOW, MEDIUM, HIGH, CRITICAL], to: [ops]}]\n"
            f'databases: {{shop: {{url: "{stage.shop.url}"}}}}\n{self.config}'
        )

    def environ(self, stage: Stage, store_url: str) -> dict[str, str]:
        """Return what its processes find in their environment."""
        listen = f"{stage.address[0]}:{stage.address[1]}"
        return {
            **environment(store_url, listen),
            "CHAOS_SECRET": _SECRET,
            "CHAOS_OPS": f"{stage.server.url}/ops",
            "APP_SECRET": "app-secret",
        }


def _event(**fields: object) -> Act:
    event = {
        "event_id": "event-1",
        "service_name": "vendor",
        "http_status": 503,
        "error_message": "Service temporarily unavailable",
        "endpoint": "/orders",
        "payload": {"order": "order-1"},
        "retry_count": 0,
        **fields,
    }
    return lambda stage: stage.post({name: value for name, value in event.items() if value is not None})


def _states(stage: Stage, table: str) -> list[Any]:
    return [row[0] for row in stage.store.rows(f"SELECT state FROM {table} ORDER BY id")]


def _only(shop: Shop, query: str) -> tuple[Any, ...]:
    """Return the one row of a query, or nothing known."""
    return next(iter(shop.rows(query)), (None, None))


def _must(holds: bool, what: str) -> list[str]:
    return [] if holds else [what]


# What must be true at the end ------------------------------------------------------------------------------------


def _done_once(stage: Stage, died_at: str) -> list[str]:
    ledger = stage.server.ledger
    return [
        *_must(_states(stage, "operations") == ["done"], f"operations: {_states(stage, 'operations')}"),
        *_must(_states(stage, "incidents") == ["resolved"], f"incidents: {_states(stage, 'incidents')}"),
        *_must(ledger.effects_by_key["order-1"] == 1, f"effects: {ledger.effects_by_key}"),
    ]


def _done_once_or_unknown(stage: Stage, died_at: str) -> list[str]:
    """Without keys: once, or at most once and shown as unknown."""
    effects = stage.server.ledger.effects_by_key["order-1"]
    state, error = _only(stage.store, "SELECT state, last_error FROM operations")
    runs = _states(stage, "runs")
    if state == "done":
        return _must(effects == 1, f"called done with {effects} effects")
    shown = state == "dead" and str(error).startswith("outcome unknown") and "unknown" in runs
    return [*_must(shown, f"{state}: {error}; runs {runs}"), *_must(effects <= 1, f"{effects} effects")]


def _refreshed_once(stage: Stage, died_at: str) -> list[str]:
    """One refresh; a rotated token that died with its process, or with its reply, costs a person, who is told why."""
    provider = stage.notes["provider"]
    lost = "lost" in stage.notes
    if (died_at or lost) and provider.broken:
        incident, reason = _only(stage.store, "SELECT state, held_reason FROM incidents")
        asked = incident == "escalated" and "reconnect" in str(reason)
        shown = lost or "unknown" in _states(stage, "runs")
        return [*_must(asked, f"{incident}: {reason}"), *_must(shown, "no run is unknown")]
    once = provider.refreshes == 1 and not provider.reuses and not provider.broken
    counted = f"{provider.refreshes} refreshes, {provider.reuses} re-uses, {provider.broken} broken"
    return [*_must(once, counted), *_done_once(stage, died_at)]


def _probed(stage: Stage, died_at: str) -> list[str]:
    return _must(_states(stage, "incidents") == ["resolved"], f"incidents: {_states(stage, 'incidents')}")


def _hidden(stage: Stage, died_at: str) -> list[str]:
    left = stage.shop.rows("SELECT count(*) FROM products WHERE stock = 0 AND visible = 1")[0][0]
    return [*_must(left == 0, f"{left} rows are not changed"), *_archived(stage, 3)]


def _deleted(stage: Stage, died_at: str) -> list[str]:
    left = [row[0] for row in stage.shop.rows("SELECT id FROM messages ORDER BY id")]
    return [*_must(left == list(range(3, 21)), f"messages left: {left}"), *_archived(stage, 2)]


def _told_vendor(stage: Stage, died_at: str) -> list[str]:
    row = _only(stage.shop, "SELECT status, vendor_id FROM orders WHERE id = 1")
    effects = stage.server.ledger.effects_by_key["order-1"]
    return [
        *_must(row == ("CONFIRMED", 7), f"order: {row}"),
        *_must(effects == 1, f"{effects} effects"),
        *_archived(stage, 1),
    ]


def _told_vendor_or_unknown(stage: Stage, died_at: str) -> list[str]:
    """What may not be done twice is done once, as the next look shows, or a person is asked."""
    if _states(stage, "incidents") == ["resolved"] or "unknown" not in _states(stage, "runs"):
        return _told_vendor(stage, died_at)
    effects = stage.server.ledger.effects_by_key["order-1"]
    asked = _states(stage, "incidents") == ["escalated"]
    return [*_must(asked, f"incidents: {_states(stage, 'incidents')}"), *_must(effects <= 1, f"{effects} effects")]


def _archived(stage: Stage, changed: int) -> list[str]:
    archived = stage.shop.archived()
    return _must(archived == changed, f"{archived} images of {changed} changes")


def _connect(stage: Stage) -> None:
    """Give the service an account whose access token has expired."""
    provider = stage.server.oauth("/token", client_id="app", client_secret="app-secret")
    stage.server.protect("/vendor", provider)
    tokens = provider.grant()
    provider.expire()
    stage.notes |= {"provider": provider, "CHAOS_ACCESS": tokens.access_token, "CHAOS_REFRESH": tokens.refresh_token}


def _past(minutes: float) -> str:
    return f"{datetime.now(UTC) - timedelta(minutes=minutes):%Y-%m-%d %H:%M:%S+00:00}"


_PROCEDURE = "every: 1h, first_run: wait, level: L0, limits: {cool_down: 0s, share_max: 0.5}"
_ENTITY = """\
entities:
  order:
    {database: shop, table: orders, key: id, status: status, since: updated_at, every: 1h, first_run: wait,
     limits: {cool_down: 0s}, transitions: {PENDING: [CONFIRMED]}, stuck: {PENDING: {after: 30m, remedy: STEP}}}
"""

STORIES = {
    story.name: story
    for story in (
        Story(name="replay", act=_event(), judge=_done_once, words=(lost_reply, ok)),
        Story(name="replay without keys", act=_event(), judge=_done_once_or_unknown, honours=False),
        Story(
            name="refresh_token",
            act=_event(http_status=401, error_code="invalid_token", error_message="expired"),
            judge=_refreshed_once,
            prepare=_connect,
            service="""\
    oauth: {token_url: "URL/token", client_id: app, client_secret: "${APP_SECRET}",
            access_token: "${CHAOS_ACCESS}", refresh_token: "${CHAOS_REFRESH}"}
""",
        ),
        Story(
            name="probe",
            act=_event(payload=None, endpoint=None),
            judge=_probed,
            service="    health: {path: /health, every: 1h}\n",
        ),
        Story(
            name="change rows",
            act=lambda stage: stage.run_procedure("hide"),
            judge=_hidden,
            tables=(_PRODUCTS, *(f"INSERT INTO products VALUES ({n}, {0 if n < 4 else 9}, 1)" for n in range(1, 21))),
            config=f"""\
procedures:
  hide:
    {{database: shop, check: {{rows: {{table: products, where: {{stock: 0, visible: 1}}}}}},
     remedy: {{set: {{visible: 0, batch: 2}}}}, {_PROCEDURE}}}
""",
        ),
        Story(
            name="archive and delete",
            act=lambda stage: stage.run_procedure("orphans"),
            judge=_deleted,
            tables=(
                *(_TALKS, _MESSAGES, "INSERT INTO talks VALUES (1)"),
                *(f"INSERT INTO messages VALUES ({n}, {77 if n < 3 else 1}, '{_past(45)}')" for n in range(1, 21)),
            ),
            config=f"""\
procedures:
  orphans:
    {{database: shop, sightings: {{count: 2, apart: 0s}}, remedy: {{archive_and_delete: {{batch: 1}}}}, {_PROCEDURE},
     check: {{orphans: {{child: messages, column: talk_id, parent: talks, older_than: {{created_at: 10m}}}}}}}}
""",
        ),
        Story(
            name="heal an entity",
            act=lambda stage: stage.run_procedure("stuck-order"),
            judge=_told_vendor,
            tables=(_ORDERS, f"INSERT INTO orders VALUES (1, 'PENDING', 1, '{_past(45)}')"),
            config=_ENTITY.replace("STEP", "tell_vendor"),
        ),
        Story(
            name="heal an entity, not to be repeated",
            act=lambda stage: stage.run_procedure("stuck-order"),
            judge=_told_vendor_or_unknown,
            honours=False,
            tables=(_ORDERS, f"INSERT INTO orders VALUES (1, 'PENDING', 1, '{_past(45)}')"),
            config=_ENTITY.replace("STEP", "tell_vendor_once"),
        ),
    )
}


def free_address() -> tuple[str, int]:
    """Return an address of this machine that nobody listens on.

    Below the ports that calls go out from (32768 and more, ip(7)): one of those could have it while its owner is dead.
    """
    while True:
        address = "127.0.0.1", _CHANCE.randrange(16_384, 32_768)
        with socket.socket() as one, suppress(OSError):
            one.bind(address)
            return address


def with_schema(url: str) -> str:
    """Return the address at which prunella's own tables are found by their bare names."""
    return f"{url}&options={quote('-c search_path=prunella')}" if url.startswith("postgresql") else url
