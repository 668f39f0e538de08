"""Doctor finds what is wrong and prints how to put it right; grants are printed and never run."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from checks.test_stuck import orders
from cli.conftest import KEY, Command
from databases.shop import opened
from pooler import pooling
from prunella.cli.doctor import channels, tables
from prunella.core.redact import Secret
from prunella.store import migrations
from prunella.store.secrets import generate_key

PROCEDURES = """
databases: {{shop: {{url: "sqlite:///{folder}/shop.db"}}}}
entities:
  order:
    database: shop
    table: orders
    key: id
    status: status
    since: {since}
    every: 5m
    transitions: {{PENDING: [CANCELLED]}}
    stuck: {{PENDING: {{after: 30m, remedy: {remedy}}}}}
procedures:
  hide:
    database: shop
    check: {{rows: {{table: products, where: {{stock: 0}}}}}}
    remedy: {{set: {{visible: 0}}}}
    every: 1h
"""


@pytest.fixture
def shop(configured: Path) -> Path:
    """Make a shop without indexes, and configure it."""
    with sqlite3.connect(configured.parent / "shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, updated_at TEXT)")
        database.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, stock INTEGER, visible INTEGER)")
    configured.write_text(configured.read_text() + written(configured.parent))
    return configured


def written(folder: Path, since: str = "updated_at", remedy: str = "retry_workflow") -> str:
    """Return the configuration of the shop."""
    return PROCEDURES.format(folder=folder, since=since, remedy=remedy)


def test_missing_indexes_are_printed_and_what_is_printed_helps(command: Command, shop: Path) -> None:
    """Status 1 with each CREATE INDEX; once they were run, all is well with status 0."""
    said = command("doctor")
    statements = [line.strip() for line in said.out.splitlines() if line.strip().startswith("CREATE INDEX")]
    assert (said.status, len(statements)) == (1, 2)
    assert "2 to put right" in said.out
    with sqlite3.connect(shop.parent / "shop.db") as database:
        for statement in statements:
            database.execute(statement)
    well = command("doctor")
    assert (well.status, well.out) == (0, "prunella.yaml: all is well\n")


def test_names_that_are_not_in_the_catalogue_are_told_at_their_place(command: Command, shop: Path) -> None:
    """File, line and column, and what was meant."""
    shop.write_text(shop.read_text().replace("since: updated_at", "since: updated"))
    said = command("doctor")
    assert said.status == 1
    assert "prunella.yaml:" in said.out
    assert "did you mean updated_at?" in said.out


def test_functions_that_nobody_registered_are_told(command: Command, shop: Path) -> None:
    """A remedy that no module brings along."""
    shop.write_text(shop.read_text().replace("remedy: retry_workflow", "remedy: pray"))
    said = command("doctor")
    assert (said.status, "'pray' is no remedy" in said.out) == (1, True)


def test_pack_that_is_not_there_is_told(command: Command, shop: Path) -> None:
    """A pack of known issues that can't be read is a finding, beside everything else."""
    shop.write_text(shop.read_text() + "known_issues: {packs: [./own.yaml]}\n")
    said = command("doctor")
    assert said.status == 1
    assert "own.yaml: cannot be read" in said.out
    assert "CREATE INDEX" in said.out


def test_configuration_that_cannot_be_read_is_told(command: Command, folder: Path) -> None:
    """Its mistakes are the findings, status 1."""
    (folder / "prunella.yaml").write_text("servces: {}\n")
    said = command("doctor")
    assert (said.status, "did you mean services?" in said.out) == (1, True)


def test_database_that_is_away_is_told(command: Command, shop: Path) -> None:
    """It is named; the others are looked at all the same."""
    (shop.parent / "shop.db").unlink()
    (shop.parent / "shop.db").mkdir()
    said = command("doctor")
    assert (said.status, "database shop" in said.out) == (1, True)


def test_pooler_is_told_and_is_nothing_to_put_right(
    command: Command, configured: Path, migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a transaction pooler prunella says how it works there; a way past it that is none is to be put right."""
    with pooling(migrated_postgres_url) as url:
        monkeypatch.setenv("PRUNELLA_DATABASE_URL", url)
        well = command("doctor")
        assert (well.status, "through a transaction pooler" in well.out) == (0, True)
        assert "asked for every 0.5 s" in well.out
        monkeypatch.setenv("PRUNELLA_DIRECT_URL", migrated_postgres_url)
        assert "by way of service.direct_url" in command("doctor").out
        monkeypatch.setenv("PRUNELLA_DIRECT_URL", url)
        ill = command("doctor")
        assert ill.status == 1
        assert "PRUNELLA_DIRECT_URL service.direct_url: goes through a transaction pooler, too" in ill.out


def test_file_that_is_no_database_is_told(command: Command, configured: Path) -> None:
    """Garbage in its place is an error with what to look at, and stays as it is."""
    (configured.parent / "prunella.db").write_bytes(b"no database" * 100)
    (told,) = found(command, "database")
    assert (told["grade"], "service.database_url" in told["fix"]) == ("error", True)
    assert (configured.parent / "prunella.db").read_bytes() == b"no database" * 100


def test_own_database_that_is_away_is_told(command: Command, configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PostgreSQL does not answer, its setting is named; neither the address nor the password is."""
    monkeypatch.setenv("PRUNELLA_DATABASE_URL", "postgresql://me:hunter2hunter2@127.0.0.1:1/none")
    said = command("doctor")
    assert (said.status, "service.database_url: PostgreSQL does not answer" in said.out) == (1, True)
    assert "hunter2" not in said.out + said.err


def test_grants_are_printed_for_what_is_named(command: Command, shop: Path) -> None:
    """Only with --print, only of databases that there are."""
    assert command("db", "grant").status == 2
    said = command("db", "grant", "--print", "--database", "attic")
    assert (said.status, "known: shop" in said.err) == (2, True)
    assert "SQLite, which knows no roles" in command("db", "grant", "--print").out


# What the settings tell -----------------------------------------------------------------------------------------------


def found(command: Command, about: str) -> list[dict[str, str]]:
    """Return the findings about one thing."""
    said = json.loads(command("doctor", "--json").out)
    return [one for one in said["findings"] if one["about"] == about]


@pytest.mark.parametrize(
    ("service", "grades"),
    [
        ("listen: '127.0.0.1:1'", []),
        ("listen: '[::1]:1'", []),
        ("listen: '0.0.0.0:1', public_url: 'https://prunella.example'", []),
        ("listen: '0.0.0.0:1', public_url: 'http://127.0.0.1:8123'", ["warning"]),
        ("listen: '0.0.0.0:1'", ["error"]),
        ("listen: '10.0.0.7:1', environment: development", ["error", "error"]),
        ("listen: '10.0.0.7:1', public_url: 'https://p.example', metrics_public: true", ["warning"]),
    ],
)
def test_open_door_is_told(command: Command, folder: Path, service: str, grades: list[str]) -> None:
    """Who listens for other machines without TLS, in development, or with open metrics, is told; loopback is fine."""
    (folder / "prunella.yaml").write_text(f"service: {{{service}}}\n")
    told = found(command, "exposed")
    assert [one["grade"] for one in told] == grades
    assert all(one["fix"] for one in told)


def test_weak_short_and_reused_secrets_are_told_and_never_shown(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typed key, a short token, one secret in two places; status 1, and none of them is printed."""
    typed = base64.b64encode(b"k" * 32).decode()
    monkeypatch.setenv("PRUNELLA_SECRET_KEY", typed)
    monkeypatch.setenv("PRUNELLA_INGEST_TOKEN", "hunter2hunter2")
    monkeypatch.setenv("CRM", "hunter2hunter2")
    (folder / "prunella.yaml").write_text('services: {crm: {base_url: "https://crm.invalid", bearer: "${CRM}"}}\n')
    said = command("doctor")
    assert said.status == 1
    assert "only 1 different bytes" in said.out
    assert "ingest token 1 of 1 has fewer than 20 characters" in said.out
    assert "the bearer of crm is the same as ingest token 1" in said.out
    assert "openssl rand" in said.out
    assert "hunter2" not in said.out + said.err
    assert typed not in said.out + said.err
    monkeypatch.setenv("PRUNELLA_SECRET_KEY", "short")
    assert "0 bytes long, not 32" in command("doctor").out


def test_key_file_that_others_can_read_is_told(
    command: Command, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mode is named with the command that helps, and what the command does helps; a missing file is not made."""
    monkeypatch.delenv("PRUNELLA_SECRET_KEY")
    file = configured.parent / "prunella.db.key"
    assert command("doctor").status == 0
    assert not file.exists()
    assert command("token").status == 0
    file.chmod(0o644)
    (told,) = found(command, "key file")
    assert "mode 0644" in told["text"]
    subprocess.run(shlex.split(told["fix"]), check=True)
    assert found(command, "key file") == []


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_key_that_opens_nothing_stored_is_told(
    command: Command, configured: Path, fresh_postgres_url: str, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """Another key than the one that sealed: an error here, a word at every start; behind a comma it is well again."""
    if database == "postgresql":
        monkeypatch.setenv("PRUNELLA_DATABASE_URL", fresh_postgres_url)
        assert command("db", "upgrade").status == 0
    with monkeypatch.context() as piped:
        piped.setattr("sys.stdin", StringIO("xoxb-one"))
        assert command("secret", "set", "slack").status == 0
    assert found(command, "key") == []
    other = generate_key()
    monkeypatch.setenv("PRUNELLA_SECRET_KEY", other)
    (told,) = found(command, "key")
    assert (told["grade"], "which is not at hand: 1 in secrets" in told["text"]) == ("error", True)
    started = command("secret", "list")
    assert (started.status, "which is not at hand: 1 in secrets; put that key behind" in started.err) == (0, True)
    monkeypatch.setenv("PRUNELLA_SECRET_KEY", f"{other},{KEY}")
    assert found(command, "key") == []
    assert command("secret", "list").err == ""


def test_warnings_alone_end_with_status_0(command: Command, configured: Path) -> None:
    """http in production is something to think about; in development it is not told."""
    configured.write_text(configured.read_text() + "egress: {allow_http: true}\n")
    said = command("doctor")
    assert (said.status, "1 to think about" in said.out) == (0, True)
    configured.write_text(configured.read_text().replace("service: {", "service: {environment: development, "))
    assert "all is well" in command("doctor").out


# Tables ---------------------------------------------------------------------------------------------------------------


def test_tables_that_are_behind_are_told(command: Command, configured: Path) -> None:
    """Where prunella makes them itself it is a note; where a person does, an error with the command."""
    (configured.parent / "prunella.db").unlink()
    assert [one["grade"] for one in found(command, "tables")] == ["note"]
    assert not (configured.parent / "prunella.db").exists()
    configured.write_text(configured.read_text().replace("service: {", "service: {migrate: manual, "))
    (told,) = found(command, "tables")
    assert (told["grade"], told["fix"]) == ("error", "prunella db upgrade")
    assert command("db", "upgrade").status == 0
    assert found(command, "tables") == []


def test_disk_without_room_is_told(command: Command, configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk still reads, so that all looks well; how much is left stands there, and where."""
    assert found(command, "disk") == []
    usage = shutil.disk_usage(configured.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * 2**20))
    (told,) = found(command, "disk")
    assert (told["grade"], "has 3 MiB left, 16 are needed" in told["text"]) == ("error", True)
    assert subprocess.run(shlex.split(told["fix"]), check=True, capture_output=True).stdout


def test_queue_and_workers_are_looked_at(
    command: Command, configured: Path, fresh_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing queue tables, nobody alive, and a worker of another version are told apart."""
    monkeypatch.setenv("PRUNELLA_DATABASE_URL", fresh_postgres_url)
    migrations.upgrade(fresh_postgres_url)
    assert [one["grade"] for one in found(command, "queue")] == ["note"]
    assert command("db", "upgrade").status == 0
    assert found(command, "queue") == []
    assert "no worker is alive" in found(command, "workers")[0]["text"]
    with psycopg.connect(fresh_postgres_url) as database:
        database.execute(
            "INSERT INTO prunella.workers (name, version, started_at, seen_at) VALUES ('w1', '0.0.1', now(), now())"
        )
    (told,) = found(command, "workers")
    assert (told["grade"], "w1 runs 0.0.1" in told["text"]) == ("warning", True)


def test_role_that_row_level_security_does_not_bind_is_told(
    command: Command, configured: Path, fresh_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A superuser, and a role with BYPASSRLS, are worth a warning; an ordinary role is well."""
    role = f"bound_{make_url(fresh_postgres_url).database}"
    url = make_url(fresh_postgres_url).set(username=role, password="none").render_as_string(hide_password=False)
    graded = {}
    with psycopg.connect(fresh_postgres_url, autocommit=True) as database:
        for name, statement in (
            ("ordinary", "CREATE ROLE {} LOGIN PASSWORD 'none'"),
            ("bypasses", "ALTER ROLE {} BYPASSRLS"),
        ):
            database.execute(statement.format(role).encode())
            monkeypatch.setenv("PRUNELLA_DATABASE_URL", url)
            graded[name] = [one["grade"] for one in found(command, "role")]
        database.execute(f"DROP ROLE {role}".encode())
    monkeypatch.setenv("PRUNELLA_DATABASE_URL", fresh_postgres_url)
    graded["superuser"] = [one["grade"] for one in found(command, "role")]
    assert graded == {"ordinary": [], "bypasses": ["warning"], "superuser": ["warning"]}


def test_role_that_may_not_write_is_told(
    command: Command, configured: Path, fresh_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that may only look, and one that may not even that: named with tables, and what is printed helps."""
    role = f"poor_{make_url(fresh_postgres_url).database}"
    monkeypatch.setenv("PRUNELLA_DATABASE_URL", fresh_postgres_url)
    assert command("db", "upgrade").status == 0
    assert found(command, "rights") == []
    poor = make_url(fresh_postgres_url).set(username=role, password="none").render_as_string(hide_password=False)
    monkeypatch.setenv("PRUNELLA_DATABASE_URL", poor)
    with psycopg.connect(fresh_postgres_url, autocommit=True) as database:
        database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'none'".encode())
        (shut,) = found(command, "rights")
        database.execute(f"GRANT USAGE ON SCHEMA prunella TO {role}".encode())
        database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA prunella TO {role}".encode())
        (looking,) = found(command, "rights")
        for told in (shut, looking):
            assert re.search(rf"the role {role} may not read and write advice, .* and \d+ more tables", told["text"])
        database.execute(looking["fix"].encode())
        assert found(command, "rights") == []
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


@pytest.mark.parametrize(("seconds", "grades"), [(0.5, []), (-5, ["warning"]), (40, ["error"]), (-40, ["error"])])
def test_clocks_that_are_apart_are_told(seconds: float, grades: list[str]) -> None:
    """Two seconds are worth a warning; more than half a token's life is an error, whichever clock is ahead."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    told = tables.skew(now + timedelta(seconds=seconds), now)
    assert [one.grade.value for one in told] == grades
    assert all(("behind" if seconds > 0 else "ahead") in one.text for one in told)


# The user's databases -------------------------------------------------------------------------------------------------


def test_hidden_rows_are_told_from_rows_that_are_not_there(
    command: Command, configured: Path, fresh_postgres_url: str
) -> None:
    """A table that row-level security hides is an error with the fix; an empty one, seen whole, is not."""
    with opened(fresh_postgres_url) as shop:
        orders(shop, (1, "PENDING", 9000))
        url = shop.role("healer", "GRANT SELECT ON orders TO {role}", "ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
        configured.write_text(
            configured.read_text() + f"databases: {{shop: {{url: {json.dumps(url)}}}}}\n"
            "procedures: {old: {database: shop, every: 1h, remedy: manual_intervention,"
            " check: {rows: {table: orders, where: {status: PENDING}}}}}\n"
        )
        (told,) = found(command, "row-level security")
        assert told["grade"] == "error"
        assert "not nothing to heal" in told["text"]
        assert "db grant --print" in told["fix"]
        shop.run("ALTER TABLE orders DISABLE ROW LEVEL SECURITY", "DELETE FROM orders")
        assert found(command, "row-level security") == []


# Channels -------------------------------------------------------------------------------------------------------------


def test_mail_servers_are_reached_by_their_own_ports_and_rules(
    command: Command, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in the house is reached where egress allows it; where it does not, the doctor says what to write."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("HOUSE", f"starttls://me:hunter2@127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("AWAY", "smtp://me:hunter2@127.0.0.2")
        mails = [f'{name}: {{email: {{to: [a@b.example], smtp: "${{{name.upper()}}}"}}}}' for name in ("house", "away")]
        configured.write_text(f"{configured.read_text()}notify: {{channels: {{{', '.join(mails)}}}}}\n")
        refused = command("doctor")
        configured.write_text(f"{configured.read_text()}egress: {{allow_hosts: ['127.0.0.0/8']}}\n")
        said = command("doctor")
    assert refused.out.count("add '127.0.0.1:") == 1
    (told,) = [line for line in said.out.splitlines() if "channels" in line and ": " in line][:1]
    assert said.out.count("can't be reached") == 1
    assert "away can't be reached" in told
    assert "hunter2" not in said.out
    assert channels._mail_server(Secret("smtp://h"))[1:] == (25, False)


def test_channels_are_reached_and_nothing_is_sent(
    command: Command, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection is opened and closed without a byte; where nobody listens it is a warning without the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        monkeypatch.setenv("CHAT", f"http://127.0.0.1:{port}/hunter2hunter2")
        configured.write_text(
            configured.read_text() + f"egress: {{allow_http: true, allow_hosts: ['127.0.0.1:{port}']}}\n"
            'notify: {channels: {chat: {slack: "${CHAT}"}, team: {teams: secret://team}}}\n'
        )
        told = found(command, "channels")
        assert [("team" in one["text"], one["fix"]) for one in told] == [(True, "prunella secret set team")]
        seen, _ = listening.accept()
        with seen:
            assert seen.recv(100) == b""
    said = command("doctor")
    assert "chat can't be reached" in said.out
    assert "hunter2" not in said.out
