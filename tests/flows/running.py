"""A real `prunella up` in its own process, with a faulty world around it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg

from flows.warm import Warm
from prunella.testing import FaultyServer

INGEST = "test-ingest-token-0123456789"
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
PLACES = 40


@dataclass
class Up:
    """One running prunella."""

    url: str
    shop: FaultyServer
    database_url: str
    folder: Path
    environ: dict[str, str]
    process: Warm
    reader: threading.Thread
    lines: list[str] = field(default_factory=list)
    used: int = 0

    def __post_init__(self) -> None:
        limits = httpx2.Limits(keepalive_expiry=2)  # the server hangs up after 5 s of silence: no race with that
        self.client = httpx2.Client(base_url=self.url, timeout=60, trust_env=False, limits=limits)
        self._tokens: dict[str, str] = {}

    def place(self) -> str:
        """Return a service that no other test uses."""
        self.used += 1
        assert self.used < PLACES, "add places to the flow configuration"
        return f"s{self.used}"

    def post(self, event: Mapping[str, Any], **headers: str) -> httpx2.Response:
        """Post an event as an integration does."""
        sent = {"authorization": f"Bearer {INGEST}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return self.client.post("/integration-self-heal", json=dict(event), headers=sent)

    def heal(self, event: Mapping[str, Any], **headers: str) -> dict[str, Any]:
        """Post an event and return the answer, which must be good."""
        reply = self.post(event, **headers)
        assert reply.status_code in (200, 202), reply.text
        body: dict[str, Any] = reply.json()
        return body

    def scan(self, **body: object) -> dict[str, Any]:
        """Ask for a scan."""
        return self.heal({"mode": "scan", "limit": 500, **body})

    def get(self, path: str, role: str = "VIEWER", **query: Any) -> Any:
        """Read a resource."""
        reply = self.client.get(path, params=query, headers=self.as_role(role))
        assert reply.status_code == 200, reply.text
        return reply.json()

    def act(self, method: str, path: str, body: object = None, role: str = "ADMIN") -> httpx2.Response:
        """Change a resource."""
        return self.client.request(method, path, json=body, headers=self.as_role(role))

    def as_role(self, role: str) -> dict[str, str]:
        """Return the header of somebody with `role`."""
        if role not in self._tokens:
            self._tokens[role] = self.cli("token", "--role", role).strip()
        return {"authorization": f"Bearer {self._tokens[role]}"}

    def cli(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        """Run the command line beside the running engine and return what it printed."""
        with tempfile.TemporaryDirectory() as folder:
            errors = Path(folder) / "errors"
            process = Warm(arguments, self.folder, self.environ, errors, given or "")
            with process.stdout:
                told = process.stdout.read()
            status, said = process.wait(60), errors.read_text()
        assert not check or status == 0, said
        return told if check else told + said

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read prunella's own tables."""
        if self.database_url.startswith("sqlite"):
            with sqlite3.connect(self.database_url.removeprefix("sqlite:///")) as database:
                return database.execute(query).fetchall()
        with psycopg.connect(self.database_url, options="-c search_path=prunella") as connection:
            return connection.execute(query.encode()).fetchall()

    def change(self, statement: str) -> None:
        """Change prunella's own tables behind its back."""
        if self.database_url.startswith("sqlite"):
            with closing(sqlite3.connect(self.database_url.removeprefix("sqlite:///"))) as database, database:
                database.execute(statement)
            return
        with psycopg.connect(self.database_url, options="-c search_path=prunella") as connection:
            connection.execute(statement.encode())

    def connect(self, service: str) -> Any:
        """Give a service an OAuth provider, an account and its tokens; return the provider."""
        provider = self.shop.oauth(f"/{service}-oauth/token", client_id="app", client_secret="app-secret")
        self.shop.protect(f"/{service}", provider)
        tokens = provider.grant()
        body = {"access_token": tokens.access_token, "refresh_token": tokens.refresh_token}
        assert self.act("PUT", f"/api/v1/services/{service}/credentials", body).status_code == 200
        return provider

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.kill()
        self.reader.join(5)
        self.process.stdout.close()
        self.client.close()

    def kill(self) -> None:
        """Kill the process as the kernel would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End the process in good order."""
        self.process.terminate()
        assert self.process.wait(20) == 0, "prunella up must end well on SIGTERM"


def event(service: str, number: object = 1, /, **fields: object) -> dict[str, Any]:
    """Return an event of a failed call."""
    return {
        "event_id": f"{service}-{number}",
        "service_name": service,
        "http_status": 503,
        "error_message": "Service temporarily unavailable",
        "endpoint": "/orders",
        "payload": {"order": number},
        "retry_count": 0,
        **fields,
    }


def configuration(shop: FaultyServer, extra: str = "") -> str:
    """Return a prunella.yaml with many services of one world."""
    address = urlsplit(shop.url).netloc
    services = "".join(
        f"""
  s{number}:
    base_url: {shop.url}/s{number}
    timeout: 2s
    health: {{path: /health, every: 24h}}
    oauth: {{token_url: "{shop.url}/s{number}-oauth/token", client_id: app, client_secret: "${{APP_SECRET}}"}}"""
        for number in range(PLACES)
    )
    return (
        textwrap.dedent(
            f"""\
        service: {{listen: "${{LISTEN}}", environment: development, requests_per_s: 10000, events_per_s: 10000}}
        egress: {{allow_http: true, allow_hosts: ["{address}"]}}
        """
        )
        + f"services:{services}\n{extra}"
    )


@contextmanager
def running(
    folder: Path, shop: FaultyServer, database_url: str, config: str, listen: str = "127.0.0.1:0", **variables: str
) -> Iterator[Up]:
    """Start `prunella up` and stop it again; `variables` join its environment."""
    up = start(folder, shop, database_url, config, listen, **variables)
    try:
        yield up
    finally:
        up.end()


def environment(database_url: str, **variables: str) -> dict[str, str]:
    """Return what the process finds in its environment; PYTHONPATH, where set, names the sources under test."""
    return {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        "PRUNELLA_DATABASE_URL": database_url,
        "PRUNELLA_SECRET_KEY": KEY,
        "PRUNELLA_INGEST_TOKEN": INGEST,
        "LISTEN": "127.0.0.1:0",
        "APP_SECRET": "app-secret",
        **variables,
    }


def start(
    folder: Path, shop: FaultyServer, database_url: str, config: str, listen: str = "127.0.0.1:0", **variables: str
) -> Up:
    """Start `prunella up` and wait until it says that it is up."""
    (folder / "prunella.yaml").write_text(config)
    environ = environment(database_url, LISTEN=listen, **variables)
    process = Warm(["up"], folder, environ, folder / "up.log")
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("prunella is up: "):
            break
    else:
        process.wait()
        process.stdout.close()
        raise AssertionError(f"prunella did not come up:\n{(folder / 'up.log').read_text()[-4000:]}")
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    url = lines[-1].split()[3]
    environ["LISTEN"] = urlsplit(url).netloc
    return Up(url, shop, database_url, folder, environ, process, reader, lines)


def eventually(holds: Callable[[], bool], within_s: float = 15.0) -> None:
    """Wait until another process has come so far; there is no event of its to wait on."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        threading.Event().wait(0.05)


def problem(reply: httpx2.Response) -> dict[str, Any]:
    """Return the problem details of a refused request."""
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    body: dict[str, Any] = json.loads(reply.content)
    assert body["status"] == reply.status_code
    return body
