"""Starting, stopping and refusing to start: what a person is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.running import KEY, configuration, event, eventually, running
from prunella.testing import FaultyServer, delayed

pytestmark = pytest.mark.slow


def command(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a prunella command."""
    return subprocess.run(
        [sys.executable, "-m", "prunella", *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_second_process_on_one_file_is_refused(tmp_path: Path) -> None:
    """Given a running prunella, another on the same SQLite file says which process has it and what to do."""
    with FaultyServer() as shop:
        url = f"sqlite:///{tmp_path / 'p.db'}"
        with running(tmp_path, shop, url, configuration(shop)) as up:
            done = command(
                tmp_path, "up", PRUNELLA_DATABASE_URL=url, PRUNELLA_SECRET_KEY=KEY, LISTEN="127.0.0.1:0", APP_SECRET="x"
            )
            assert done.returncode == 1
            assert f"in use by process {up.process.pid}" in done.stderr
            assert "PostgreSQL" in done.stderr
            assert "Traceback" not in done.stderr


def test_used_port_is_named(tmp_path: Path) -> None:
    """Given an address that somebody uses, the message names it and the setting."""
    with FaultyServer() as shop:
        (tmp_path / "prunella.yaml").write_text(f"service: {{listen: '127.0.0.1:{shop.url.rpartition(':')[2]}'}}\n")
        done = command(tmp_path, "up")
        assert done.returncode == 2
        assert "can't be bound" in done.stderr
        assert "service.listen" in done.stderr


def test_every_configuration_mistake_is_told_at_once(tmp_path: Path) -> None:
    """Given three mistakes, three lines with file, line and column."""
    (tmp_path / "prunella.yaml").write_text(
        "service: {listen: nowhere}\nservices:\n  crm: {gate: {open: 60}, hsots: []}\n"
    )
    done = command(tmp_path, "config", "check")
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("prunella.yaml:") for line in lines)


def test_postgresql_needs_a_key(tmp_path: Path) -> None:
    """Given PostgreSQL and no key, nothing starts and the message says how to make one."""
    done = command(tmp_path, "up", PRUNELLA_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert done.returncode == 1
    assert "PRUNELLA_SECRET_KEY" in done.stderr
    assert "openssl rand" in done.stderr


def test_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    """Given SQLite and no key, a key file of mode 0600 is made, said once, and used again."""
    (tmp_path / "prunella.yaml").touch()
    first = command(tmp_path, "token")
    assert "made the key file" in first.stderr
    (key,) = tmp_path.glob("*.key")
    assert key.stat().st_mode & 0o777 == 0o600
    assert "made the key file" not in command(tmp_path, "token").stderr


def test_sigterm_finishes_what_is_under_way(tmp_path: Path) -> None:
    """Given a replay under way, SIGTERM lets it end, records it, and the process ends well."""
    with FaultyServer() as shop:
        shop.script("/s1", [delayed(1.0, "ok")])
        with running(tmp_path, shop, f"sqlite:///{tmp_path / 'p.db'}", configuration(shop)) as up:
            up.heal(event("s1"), prefer="respond-async")
            shop.wait_for(lambda: any(one.path == "/s1/orders" for one in shop.ledger.requests), 10)
            up.stop()
            assert up.rows("SELECT state FROM operations") == [("done",)]


def test_commands_work_without_a_running_engine(tmp_path: Path) -> None:
    """Given no engine, lists and scans answer from the store."""
    (tmp_path / "prunella.yaml").touch()
    assert "no incidents" in command(tmp_path, "incidents").stdout
    assert "0 looked at" in command(tmp_path, "scan").stdout
    assert command(tmp_path, "db", "upgrade").returncode == 0


@pytest.mark.parametrize("place", ["before", "after"])
def test_config_option_stands_anywhere(tmp_path: Path, place: str) -> None:
    """Given --config before or after the command, it is taken."""
    (tmp_path / "other.yaml").write_text("services: {crm: {base_url: 'https://crm.example'}}\n")
    option = ["--config", "other.yaml"]
    arguments = [*option, "config", "check"] if place == "before" else ["config", "check", *option]
    assert "1 service," in command(tmp_path, *arguments).stdout


def test_failure_cannot_be_forced_in_production(tmp_path: Path) -> None:
    """Given production, X-Force-Failure does not exist."""
    with FaultyServer() as shop:
        config = configuration(shop).replace("development", "production")
        with running(tmp_path, shop, f"sqlite:///{tmp_path / 'p.db'}", config) as up:
            answer = up.heal(event("s1", http_status=422, error_message="bad"), x_force_failure="network")
            assert answer["category"] == "data"
            assert up.get(f"/api/v1/incidents/{answer['recovery_id']}")["forced"] is False


def test_demo_heals_every_story(tmp_path: Path) -> None:
    """Given no terminal, `prunella demo` prints plain lines and ends with status 0."""
    done = command(tmp_path, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.partition("Scoreboard")[2].count("  yes\n") == 7
    assert "Dashboard: http://127.0.0.1:" in done.stdout
    eventually(lambda: not list(tmp_path.glob("*.db")))


def test_demo_that_ends_otherwise_exits_with_one(tmp_path: Path) -> None:
    """Given a demo that can't end in time, the exit status is 1: the checker is seen to fail."""
    program = "import sys; from prunella.demo import show; sys.exit(show(seconds=0.5, port=0))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
