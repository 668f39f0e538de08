"""How a process starts: its log holds no secret, it waits for a database that is away, and ends well when told to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from chaos.postgres import postgres
from sqlalchemy import make_url

from cli.conftest import KEY, Command
from pooler import free_port

PASSWORD = "hunter2hunter2"

_CANARY = "ghp_" + "a1B2c3D4e" * 4
_PROGRAM = f"""
import logging, structlog
from prunella.cli.up import configure_logs
configure_logs()
token = {_CANARY!r}
def fail(password):
    raise ValueError(f"refused: {{token}}")
try:
    try:
        fail(token)
    except ValueError as error:
        raise RuntimeError("while sending " + token) from error
except RuntimeError:
    structlog.get_logger().exception("own", header={{"authorization": "Bearer " + token}})
    logging.getLogger("library").exception("foreign %s", token, extra={{"detail": {{"api_key": token}}}})
logging.getLogger("library").warning("see https://user:%s@example.com/", token)
"""


def test_log_lines_hold_no_secret() -> None:
    """Messages, arguments, extra fields, tracebacks with their causes; and local variables are not written at all."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["error", "error", "warning"]
    assert _CANARY not in done.stderr
    assert done.stderr.count("[REDACTED:") >= 7
    assert [one["exc_type"] for one in lines[0]["exception"]] == ["RuntimeError", "ValueError"]
    assert "locals" not in done.stderr


def test_migrations_say_nothing_at_info() -> None:
    """Which implementation Alembic chose is no news; its warnings are."""
    program = (
        "import logging; from prunella.cli.up import configure_logs; configure_logs(); "
        "log = logging.getLogger('alembic.runtime.migration'); log.info('Context impl'); log.warning('look')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["look"]


@contextmanager
def process(folder: Path, url: str, *arguments: str, listen: str = "127.0.0.1:0") -> Iterator[subprocess.Popen[str]]:
    """Start `prunella` as a service does; what it prints and logs is one stream."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    own = {"PRUNELLA_DATABASE_URL": url, "PRUNELLA_SECRET_KEY": KEY, "PRUNELLA_LISTEN": listen}
    started = subprocess.Popen(
        [sys.executable, "-m", "prunella", *arguments],
        env={**kept, **own},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def line_with(words: str, started: subprocess.Popen[str]) -> str:
    """Return the first line that says something; a process that ends before has not said it."""
    assert started.stdout is not None
    seen = []
    for line in started.stdout:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError("".join(seen))


@pytest.mark.slow
def test_worker_waits_for_its_database_and_tells_how_it_is(tmp_path: Path) -> None:
    """Started in an outage it says so, goes on by itself once that is over, and can be asked where it was told to."""
    address = f"127.0.0.1:{free_port()}"
    with postgres() as server:
        server.stop()
        with process(tmp_path, server.uri(), "worker", "--listen", address) as worker:
            assert json.loads(line_with("store.awaited", worker))["reason"].startswith("PostgreSQL")
            server.start()
            assert f"is up: http://{address}" in line_with("is up", worker)
            with urlopen(f"http://{address}/readyz") as answer:
                assert (answer.status, json.load(answer)["status"]) == (200, "ok")
            with urlopen(f"http://{address}/metrics") as answer:
                assert b"prunella_own_failures_total" in answer.read()
            worker.terminate()
            assert worker.wait(10) == 0


@pytest.mark.slow
def test_stop_ends_in_time_where_the_database_is_silent(tmp_path: Path) -> None:
    """A server that neither answers nor goes away holds up no stop: the process ends without a goodbye, and says so."""
    (tmp_path / "prunella.yaml").write_text("service: {stop_within: 1s}\n")
    with postgres() as server, process(tmp_path, server.uri(), "worker") as worker:
        line_with("is up", worker)
        with server.frozen():
            worker.terminate()
            line_with("process.cut_off", worker)
            assert worker.wait(8) == 1


@pytest.mark.slow
def test_start_that_waits_ends_when_told_and_takes_no_calls(tmp_path: Path) -> None:
    """Who calls is refused and goes elsewhere; SIGTERM ends it at once with status 0; no line holds the password."""
    port = free_port()
    url = f"postgresql://prunella:{PASSWORD}@127.0.0.1:1/prunella"
    with process(tmp_path, url, "up", listen=f"127.0.0.1:{port}") as up:
        assert PASSWORD not in line_with("store.awaited", up)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
        up.terminate()
        assert up.wait(5) == 0


@pytest.mark.slow
def test_start_does_not_wait_for_what_a_person_has_to_change(tmp_path: Path, postgres_url: str) -> None:
    """A database that does not exist will not come back: status 1 and the reason."""
    url = make_url(postgres_url).set(database="nowhere").render_as_string(hide_password=False)
    with process(tmp_path, url, "up") as up:
        assert line_with("there is no such database", up).startswith("prunella: PostgreSQL can't be used")
        assert up.wait(20) == 1  # and not for ever; how long an interpreter takes to end is the machine's


def test_address_of_a_worker_is_checked(command: Command) -> None:
    """A word that is no address is a mistake of the command line."""
    said = command("worker", "--db", "postgresql://db/prunella", "--listen", "8124")
    assert (said.status, "--listen: '8124' is not host:port" in said.err) == (2, True)
