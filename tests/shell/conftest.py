"""One real `prunella up` for everything that strangers try: every door is open that a deployment may open."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from databases.shop import Shop, opened
from flows.running import INGEST, Up, running
from prunella.core.clock import SystemClock
from prunella.testing import FaultyServer, words
from prunella.testing.places import Receiver

SIGNING = "chat-signing-secret-1"
PARTNER = "whsec_c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M="
ISSUER = "https://project.supabase.example/auth/v1"
EC = ECKey.generate_key("P-256", {"kid": "ec"})
FLOOD = "flood-token-0123456789"
HIDE = "hide-sold-out"

TEMPLATES = (
    "{{7*191}}",
    "${7*191}",
    "{0.__class__.__mro__}",
    "{title}",
    "%(secret)s %s %n",
    "<!channel> <!here> <@U123>",
    "@everyone @here",
    "[press](https://evil.example) <https://evil.example|press>",
    "x" * 100_000,
)
"""What a message would obey, if it did more than show what was said."""

_PLUGIN = """
import itertools
import socket

from prunella.plugin import Outcome, remedy

_LEADS = itertools.cycle((["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]))
_usual = socket.getaddrinfo


def turning(host, *arguments, **named):
    hosts = next(_LEADS) if host == "turning.test" else [host]
    return [found for one in hosts for found in _usual(one, *arguments, **named)]


socket.getaddrinfo = turning


@remedy("warm_up", idempotent=True)
async def warm_up(ctx, failed, *, node: str, times: int = 1):
    return Outcome.failed("no node of this name")


@remedy("hurts")
async def hurts(ctx, order):
    return Outcome.failed("never")
"""
_CONFIG = """\
service:
  listen: "${{LISTEN}}"
  environment: production
  plugins: [shell_healing]
  ingest_tokens: ["${{PRUNELLA_INGEST_TOKEN}}", "${{FLOOD_TOKEN}}"]
  requests_per_s: 10000
  events_per_s: 60
egress: {{allow_http: true, allow_hosts: ["{host}", "127.0.0.1/32"]}}
services:
  crm: {{base_url: "{world}/crm", timeout: 2s}}
  quiet: {{base_url: "{world}/quiet", timeout: 2s}}
  noisy: {{base_url: "{world}/noisy", timeout: 2s}}
  bomb: {{base_url: "{world}/bomb", timeout: 2s}}
  sly: {{base_url: "{world}/sly", hosts: ["{host}", "{canary}"], timeout: 2s}}
{open}
{traps}
databases:
  shop: {{url: "${{SHOP_DATABASE_URL}}"}}
procedures:
  {hide}:
    database: shop
    check: {{rows: {{table: products, where: {{stock: 0, visible: 1}}}}}}
    remedy: {{set: {{visible: 0}}}}
    every: 24h
    first_run: wait
    level: L2
    limits: {{share_max: 1.0, cool_down: 0s, attempts: 9}}
  hide-goods:
    database: shop
    check: {{rows: {{table: goods, where: {{stock: 0, visible: 1}}}}}}
    remedy: {{set: {{visible: 0}}}}
    every: 24h
    first_run: wait
    level: L2
    limits: {{share_max: 1.0, cool_down: 0s, attempts: 9}}
notify:
  channels:
    chat:
      slack: "${{CHAT_URL}}"
      buttons:
        signing_secret: "${{CHAT_SIGNING}}"
        workspace: T1
        users:
          U123: {{name: ada@example.com, role: OPERATIONS}}
          U777: {{name: eve@example.com, role: VIEWER}}
    mail: {{email: {{to: [ops@shop.example], smtp: "${{MAIL_URL}}"}}}}
    pager: {{apprise: "${{PAGER_URL}}"}}
    turning: {{webhook: {{url: "${{TURNING_URL}}", secret: "${{PARTNER_SECRET}}"}}}}
    turning_pager: {{apprise: "${{TURNING_PAGER_URL}}"}}
    hooked: {{webhook: {{url: "${{HOOK_URL}}", secret: "${{PARTNER_SECRET}}"}}}}
  rules:
    - {{severity: [LOW, MEDIUM, HIGH, CRITICAL], to: [chat, hooked]}}
auth:
  jwt: {{issuer: "{issuer}", audience: authenticated, jwks_url: "{world}/jwks"}}
inbound:
  partner: {{kind: standard_webhooks, secrets: ["${{PARTNER_SECRET}}"], services: [crm, quiet]}}
"""


def trap(name: str, address: str) -> str:
    """Return a service that would call `address` for everything that a service may be given an address for."""
    return (
        f'  {name}: {{base_url: "{address}", timeout: 1s, health: {{path: /health, every: 1h}}, '
        f'cache: {{path: "{address}/cache"}}, '
        f'oauth: {{token_url: "{address}/token", client_id: app, client_secret: "${{APP_SECRET}}"}}}}'
    )


@dataclass
class Shell:
    """The server, the world around it, and a place where nobody may ever call."""

    up: Up
    canary: FaultyServer
    database: Shop
    chat: Receiver
    hook: Receiver
    traps: dict[str, str]
    clock: SystemClock = field(default_factory=SystemClock)
    asked: int = 0

    @property
    def world(self) -> FaultyServer:
        """Return what plays everybody outside."""
        return self.up.shop

    def ask(self, method: str, path: str, role: str | None = "ADMIN", **how: Any) -> httpx2.Response:
        """Send one request as somebody with a role, or as nobody."""
        headers = {**(self.up.as_role(role) if role else {}), **how.pop("headers", {})}
        return self.up.client.request(method, path, headers=headers, **how)

    def reported(self, service: str, name: object, **facts: object) -> str:
        """Report a failure without waiting for what comes of it; return its incident."""
        event = {"event_id": f"{service}-{name}", "service_name": service, "http_status": 422, **facts}
        answer = self.up.post(event, prefer="respond-async")
        while answer.status_code == 429:  # another test's flood; whoever is told to wait does so
            time.sleep(float(answer.headers["retry-after"]))
            answer = self.up.post(event, prefer="respond-async")
        assert answer.status_code == 202, answer.text
        return str(answer.json()["recovery_id"])

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return an incident as the API tells it."""
        found: dict[str, Any] = self.up.get(f"/api/v1/incidents/{incident_id}")
        return found

    def log(self) -> str:
        """Return what the process has logged."""
        return (self.up.folder / "up.log").read_bytes().decode()

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token of the outside issuer; None leaves a claim out."""
        said = self.claims(**claims)
        return jwt.encode({"alg": "ES256", "kid": "ec", **(header or {})}, said, EC, algorithms=["ES256"])

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return what a good token says."""
        now = int(self.clock.now().timestamp())
        said = {"iss": ISSUER, "aud": "authenticated", "sub": "user-7", "iat": now, "exp": now + 600}
        said |= {"app_metadata": {"prunella_role": "OPERATIONS"}, **changed}
        return {name: value for name, value in said.items() if value is not None}

    def is_well(self) -> bool:
        """Tell whether it still answers."""
        return self.up.client.get("/livez").status_code == 200


@contextmanager
def opened_shell(folder: Path, own: str = "", **variables: str) -> Iterator[Shell]:
    """Start a prunella with every door open.

    Args:
        own: the database of its own; empty: a file.
        variables: join its environment.
    """
    (folder / "shell_healing.py").write_text(_PLUGIN)
    url = f"sqlite:///{folder / 'shop.db'}"
    with opened(url) as database, FaultyServer() as world, canary_of(world) as canary:
        columns = "(id integer PRIMARY KEY, stock integer, visible integer)"
        database.run(f"CREATE TABLE products {columns}", f"CREATE TABLE goods {columns}")
        world.script("/jwks", [words.json(200, {"keys": [EC.as_dict(private=False)]})])
        chat, hook = world.chat("/chat"), world.webhook("/hook")
        own, told = own or f"sqlite:///{folder / 'own.db'}", _secrets(world, canary, url) | variables
        with running(folder, world, own, _configured(world, canary), **told) as up:
            one = Shell(up, canary, database, chat, hook, traps_of(canary))
            one.reported("open39", "words", error_message=" ".join(TEMPLATES))  # the first message goes out alone
            yield one


@pytest.fixture(scope="session")
def own_url(request: pytest.FixtureRequest) -> str:
    """The database that it runs on; `make shell DATABASE=postgresql` for a server in place of a file."""
    if os.environ.get("PRUNELLA_SHELL_DATABASE", "sqlite") == "postgresql":
        return str(request.getfixturevalue("session_postgres_url"))
    return ""


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory, own_url: str) -> Iterator[Shell]:
    """A running prunella with every door open."""
    with opened_shell(tmp_path_factory.mktemp("shell"), own_url) as one:
        yield one


def canary_of(world: FaultyServer) -> FaultyServer:
    """Return a place that nobody may call, at the port of one that may be called: a name can turn from one to the other."""
    return FaultyServer(host="127.0.0.2", port=urlsplit(world.url).port or 0)


def traps_of(canary: FaultyServer) -> dict[str, str]:
    """Return services whose every address is a spelling of a place that may not be called."""
    port = urlsplit(canary.url).port
    spellings = ("127.0.0.2", "127.2", "0x7f.2", "2130706434", "017700000002", "[::ffff:127.0.0.2]", "[::ffff:7f00:2]")
    return {f"trap{number}": f"http://{host}:{port}" for number, host in enumerate(spellings)}


def _configured(world: FaultyServer, canary: FaultyServer) -> str:
    traps = "\n".join(trap(name, address) for name, address in traps_of(canary).items())
    openings = "\n".join(
        f'  open{number}: {{base_url: "{world.url}/open{number}", timeout: 2s}}' for number in range(40)
    )
    host, other = urlsplit(world.url).netloc, urlsplit(canary.url).netloc
    return _CONFIG.format(
        host=host, canary=other, world=world.url, traps=traps, open=openings, hide=HIDE, issuer=ISSUER
    )


def _secrets(world: FaultyServer, canary: FaultyServer, shop_url: str) -> dict[str, str]:
    elsewhere = urlsplit(canary.url).netloc
    return {
        "SHOP_DATABASE_URL": shop_url,
        "CHAT_URL": f"{world.url}/chat",
        "CHAT_SIGNING": SIGNING,
        "MAIL_URL": f"smtp://{elsewhere}",
        "PAGER_URL": f"json://{elsewhere}/page",
        "TURNING_URL": f"http://turning.test:{urlsplit(world.url).port}/turned",
        "TURNING_PAGER_URL": f"json://turning.test:{urlsplit(world.url).port}/turned",
        "HOOK_URL": f"{world.url}/hook",
        "PARTNER_SECRET": PARTNER,
        "FLOOD_TOKEN": FLOOD,
    }


def raw(shell: Shell, sent: bytes, *, within_s: float = 10.0) -> bytes:
    """Send bytes as they are and return what comes back, until the server hangs up or the time is over."""
    host, port = urlsplit(shell.up.url).netloc.split(":")
    told = b""
    with socket.create_connection((host, int(port)), timeout=within_s) as line:
        try:
            line.sendall(sent)
            while piece := line.recv(65_536):
                told += piece
        except (TimeoutError, ConnectionError):
            pass  # what was told before counts
    return told


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    """Return the head of a request that reports events."""
    named = (f"{method} {path} HTTP/1.1", "host: prunella", f"authorization: Bearer {INGEST}", "connection: close")
    return "\r\n".join([*named, "content-type: application/json", *lines, "", ""]).encode()


def body(value: object) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()
