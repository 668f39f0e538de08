"""The deployment files name what exists, hold nobody's secrets, and give a process the time to stop that it takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from sqlalchemy import make_url
from typer.main import get_command

from flows.test_outgrowing import fitting_pg_dump
from prunella.cli.commands import cli
from prunella.settings import Settings, environment, load
from prunella.store import migrations

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNITS = ("prunella.service", "prunella-worker@.service")
STOP_S = Settings().stop_within_s

SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "init", "ports",
    "read_only", "restart", "secrets", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "user", "volumes",
}  # fmt: skip
"""What the Compose Specification calls them."""


def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return read


def unit(name: str) -> dict[str, list[str]]:
    """Return a unit's settings; one that stands several times has several values."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def commands() -> set[str]:
    return set(get_command(cli).commands)  # type: ignore[attr-defined]


def seconds(text: str) -> float:
    figure, sign = re.fullmatch(r"(\d+)(s|m|)", text).groups()  # type: ignore[union-attr]
    return float(figure) * (60 if sign == "m" else 1)


def is_known(variable: str) -> bool:
    return variable.removesuffix("_FILE") in environment._KNOWN


# Compose


def test_compose_holds_only_known_keys() -> None:
    """A key that is misspelt would be ignored, or refuse to start."""
    read = compose()
    assert {key for key in read if not key.startswith("x-")} == {"services", "secrets", "volumes"}
    for name, service in read["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        health = service["healthcheck"]
        assert set(health) <= {"test", "interval", "timeout", "retries", "start_period", "disable"}
        assert set(service.get("secrets", [])) <= set(read["secrets"])
    used = {secret for service in read["services"].values() for secret in service.get("secrets", [])}
    assert used == set(read["secrets"])


def test_compose_names_public_images_and_what_exists() -> None:
    """No registry of somebody's own; commands and variables are ours; what is mounted is there, or made by its reader."""
    services = compose()["services"]
    for service in services.values():
        assert "." not in service["image"].partition("/")[0]
    assert (DEPLOY / ".." / services["api"]["build"]["dockerfile"]).exists()
    for name in ("api", "worker"):
        service = services[name]
        assert service["command"][0] in commands()
        assert all(is_known(variable) for variable in service["environment"])
        assert {Path(path).name for path in service["environment"].values() if path.startswith("/run/secrets/")} == set(
            service["secrets"]
        )
        for volume in service["volumes"]:
            assert (DEPLOY / volume.partition(":")[0]).exists()
    assert {"database", "api", "worker"} == set(services)


def test_compose_runs_without_rights_and_stops_in_time() -> None:
    """Not as root, on a file system that it can't write, with more time to stop than prunella takes."""
    for name in ("api", "worker"):
        service = compose()["services"][name]
        assert not service["user"].startswith(("0", "root"))
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert seconds(service["stop_grace_period"]) > STOP_S
    api = compose()["services"]["api"]
    assert "/readyz" in api["healthcheck"]["test"][-1]
    assert api["ports"] == ["127.0.0.1:8123:8123"]
    worker = compose()["services"]["worker"]
    for service in (api, worker):
        compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")
    port = worker["command"][-1].rpartition(":")[2]
    assert f"127.0.0.1:{port}/readyz" in worker["healthcheck"]["test"][-1]


def test_database_of_compose_is_owned_by_a_role_that_security_binds(postgres_url: str, tmp_path: Path) -> None:
    """The script that the image runs once, on a real server: whom the address of compose names is nobody special."""
    database = compose()["services"]["database"]
    (script,) = [one.split(":")[0] for one in database["volumes"] if "/docker-entrypoint-initdb.d/" in one]
    assert database["environment"].get("POSTGRES_USER") is None
    assert database["environment"]["PRUNELLA_PASSWORD_FILE"] != database["environment"]["POSTGRES_PASSWORD_FILE"]
    (tmp_path / "password").write_text("it's;a$secret\n")
    server = psycopg.conninfo.conninfo_to_dict(postgres_url)
    environ = {
        f"PG{name.upper()}": str(value) for name, value in server.items() if name in ("host", "port", "password")
    }
    environ |= {"PATH": f"{fitting_pg_dump()[0]}:{os.environ['PATH']}", "POSTGRES_USER": str(server["user"])}
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        try:
            environ["PRUNELLA_PASSWORD_FILE"] = str(tmp_path / "password")
            subprocess.run(["sh", str(DEPLOY / script)], env=environ, check=True)
            named = {**server, "user": "prunella", "password": "it's;a$secret", "dbname": "prunella"}
            url = make_url("postgresql://").set(
                username="prunella",
                password=str(named["password"]),
                database="prunella",
                query={"host": str(server["host"])},
            )
            migrations.upgrade(url.set(port=int(server.get("port") or 5432)).render_as_string(hide_password=False))
            with psycopg.connect(**named) as ours:  # type: ignore[arg-type]
                asked = "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
                assert ours.execute(asked).fetchone() == (False,) * 4
                ours.execute("SELECT set_config('prunella.secret', 'all', true)")
                ours.execute("INSERT INTO prunella.secrets VALUES ('slack', 'x', now())")
                ours.execute("SELECT set_config('prunella.secret', '', true)")
                assert ours.execute("SELECT * FROM prunella.secrets").fetchall() == []
        finally:
            owner.execute("DROP DATABASE IF EXISTS prunella WITH (FORCE)")
            owner.execute("DROP ROLE IF EXISTS prunella")


def test_configuration_of_the_deployment_loads(tmp_path: Path) -> None:
    """With the variables that compose sets, from files, it is whole and warns of nothing."""
    secrets = tmp_path / "secret"
    secrets.write_text("postgresql://prunella:pass-abcdef@database/prunella")
    api = compose()["services"]["api"]["environment"]
    environ = {name: str(secrets) if name.endswith("_FILE") else value for name, value in api.items()}
    read = load(DEPLOY / "prunella.yaml", environ)
    assert (read.listen, read.stop_within_s, read.warnings) == (("0.0.0.0", 8123), STOP_S, ())
    assert read.database_url.startswith("postgresql://")


def test_image_is_made_of_what_is_pinned() -> None:
    """Each package in the image has a hash, and the version that the tests run with; what is copied exists."""
    made = (DEPLOY / "Dockerfile").read_text()
    assert "--require-hashes" in made
    assert re.search(r"^USER 10001", made, re.MULTILINE)
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", made, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split()), sources
    pinned, tested = (
        set(re.findall(r"^([\w.-]+==[\w.]+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE))
        for name in ("server.txt", "dev.txt")
    )
    assert len(pinned) > 20
    assert pinned <= tested
    assert all(":" in image and "/" not in image for image in re.findall(r"^FROM (\S+)", made, re.MULTILINE))


# systemd


@pytest.mark.parametrize("name", UNITS)
def test_unit_runs_a_command_without_rights_and_stops_in_time(name: str) -> None:
    """Commands, variables and credentials fit together; the stop time is longer than prunella's own."""
    read = unit(name)
    (start,) = read["ExecStart"]
    assert start.split()[1] in commands()
    assert seconds(read["TimeoutStopSec"][0]) > STOP_S
    variables = dict(entry.split("=", 1) for entry in read["Environment"])
    assert all(is_known(variable) for variable in variables)
    credentials = {entry.partition(":")[0] for entry in read["LoadCredential"]}
    assert {value.removeprefix("%d/") for value in variables.values() if value.startswith("%d/")} == credentials
    assert read["NoNewPrivileges"] == read["DynamicUser"] == ["yes"]
    assert (read["ProtectSystem"], read["CapabilityBoundingSet"]) == (["strict"], [""])


if shutil.which("systemd-analyze"):

    @pytest.mark.slow
    def test_units_are_understood_by_systemd(tmp_path: Path) -> None:
        """What systemd itself says about them: nothing."""
        for name in UNITS:
            text = (DEPLOY / name).read_text().replace("/opt/prunella/bin/prunella", sys.executable)
            (tmp_path / name.replace("@", "@1")).write_text(text)
        for name in UNITS:
            path = tmp_path / name.replace("@", "@1")
            done = subprocess.run(
                ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=30, check=False
            )
            ours = [line for line in done.stderr.splitlines() if "prunella" in line]
            assert ours == []
