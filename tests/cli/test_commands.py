"""What a person types and what they read: one clear line on an error, JSON where it is asked for."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import prunella
from cli.conftest import KEY, Command, Said
from prunella.cli.commands import cli
from prunella.core.clock import SystemClock
from prunella.store import migrations
from prunella.store.secrets import Keys
from prunella.web.auth import Gatehouse


def one_line(said: Said) -> str:
    """Return the one line that an error is."""
    (line,) = said.err.strip().splitlines()
    assert "Traceback" not in line
    return line


def test_every_command_explains_itself(command: Command) -> None:
    """Each command and each group has a sentence of help, and asking for it does nothing else."""
    group = get_command(cli)
    names = list(group.commands)  # type: ignore[attr-defined]
    for name in names:
        said = command(name, "--help")
        assert said.status == 0, name
        assert len(said.out.strip().splitlines()) > 3
    overview = command("--help").out
    assert all(name in overview for name in names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["healme"], "No such command 'healme'"),
        (["scan", "--limit", "0"], "--limit"),
        (["scan", "--limit", "many"], "--limit"),
        (["token", "--role", "ROOT"], "--role"),
        (["explain"], "SUBJECT"),
        (["scan", "--nothing"], "--nothing"),
    ],
)
def test_wrong_usage_is_said_with_status_2(command: Command, arguments: list[str], words: str) -> None:
    """An unknown command, a wrong value, a missing argument: named, with status 2."""
    said = command(*arguments)
    assert said.status == 2
    assert words in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("place", ["before", "after", "equals", "short"])
def test_configuration_may_stand_anywhere(command: Command, configured: Path, place: str) -> None:
    """`--config` before or after the command, in each spelling."""
    other = configured.rename(configured.with_name("other.yaml"))
    arguments = {
        "before": ["--config", str(other), "config", "check"],
        "after": ["config", "check", "--config", str(other)],
        "equals": ["config", f"--config={other}", "check"],
        "short": ["config", "check", "-c", str(other)],
    }[place]
    said = command(*arguments)
    assert (said.status, said.out) == (
        0,
        f"{other}: good (1 service, 0 databases, 0 procedures, 0 entities, 0 warnings)\n",
    )


def test_configuration_that_is_missing_is_said(command: Command) -> None:
    """A path without a file: status 2 and one line."""
    said = command("config", "check", "-c", "nowhere.yaml")
    assert said.status == 2
    assert "nowhere.yaml" in one_line(said)


def test_check_prints_every_mistake_at_once(command: Command, folder: Path) -> None:
    """Four mistakes, four lines with file, line and column, status 2; nothing on standard output."""
    (folder / "prunella.yaml").write_text(
        "service: {listen: nowhere}\nservices:\n  crm: {gate: {open: 60}, hsots: []}\n  erp: {base_url: ftp://x}\n"
    )
    said = command("config", "check")
    lines = said.err.strip().splitlines()
    assert (said.status, said.out, len(lines)) == (2, "", 4)
    assert [line.split(" ")[0] for line in lines] == [
        "prunella.yaml:1:19",
        "prunella.yaml:3:22",
        "prunella.yaml:3:27",
        "prunella.yaml:4:19",
    ]


def test_check_prints_warnings_beside_its_answer(command: Command, folder: Path) -> None:
    """What is unwise is a warning on standard error; the configuration is good all the same."""
    (folder / "prunella.yaml").write_text('databases: {shop: {url: "postgresql://shop:pass@db.internal/shop"}}\n')
    said = command("config", "check")
    assert (said.status, said.out) == (
        0,
        "prunella.yaml: good (0 services, 1 database, 0 procedures, 0 entities, 1 warning)\n",
    )
    assert said.err.startswith("warning: prunella.yaml:1:")


def test_check_reads_packs_of_known_issues(command: Command, folder: Path) -> None:
    """A mistake in a pack that the file names is one of the configuration's, with its own file and line."""
    (folder / "prunella.yaml").write_text("known_issues: {packs: [builtin, ./own.yaml]}\n")
    (folder / "own.yaml").write_text("- {id: shop.stale, pattern: stale rates, severity: LOUD}\n")
    said = command("config", "check")
    assert (said.status, said.out) == (2, "")
    assert one_line(said).startswith("own.yaml:1:52: entry 1 (shop.stale): severity: 'LOUD'; one of LOW, ")


def test_broken_configuration_stops_every_command(command: Command, folder: Path) -> None:
    """Not only `config check`: nothing runs on a configuration that cannot be used."""
    (folder / "prunella.yaml").write_text("servces: {}\n")
    for arguments in (["incidents"], ["scan"], ["token"], ["services", "list"], ["db", "upgrade"], ["up"]):
        said = command(*arguments)
        assert said.status == 2, arguments
        assert "servces: unknown name; did you mean services?" in one_line(said)


def test_schema_is_json(command: Command) -> None:
    """The schema can be read by an editor and names the sections."""
    schema = json.loads(command("config", "schema").out)
    assert schema["title"] == "prunella.yaml"
    assert {"service", "services", "notify"} <= set(schema["properties"])


def test_token_is_all_that_is_printed(command: Command) -> None:
    """Standard output holds the token and nothing else, so that a shell can use it; the role is the one asked for."""
    said = command("token", "--role", "ADMIN", "--ttl", "30m")
    assert (said.status, said.err, said.out.count("\n")) == (0, "", 1)
    caller = Gatehouse(Keys.parse(KEY), (), SystemClock().now).signed(said.out.strip())
    assert caller is not None
    assert caller.role == "ADMIN"
    link = command("token", "--link").out.strip()
    assert link.startswith("http://127.0.0.1:8123/login?token=")


def test_key_file_is_announced_beside_the_token(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key one is made beside the database, once, and told on standard error only."""
    monkeypatch.delenv("PRUNELLA_SECRET_KEY")
    (folder / "prunella.yaml").write_text("")
    said = command("token")
    assert said.out.count("\n") == 1
    assert "made the key file prunella.db.key" in one_line(said)
    assert command("token").err == ""


def test_wrong_key_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is none is said with what to run, and without showing it."""
    monkeypatch.setenv("PRUNELLA_SECRET_KEY", "hunter2")
    said = command("token")
    assert said.status == 1
    assert "openssl rand -base64 32" in one_line(said)
    assert "hunter2" not in said.err


# Without an engine ----------------------------------------------------------------------------------------------------


def test_lists_are_readable_or_json(command: Command, configured: Path) -> None:
    """For people a sentence, with `--json` the API's answer."""
    assert command("incidents").out == "no incidents\n"
    assert json.loads(command("incidents", "--json").out) == {"items": [], "next_cursor": None}
    assert command("services", "list").out == "crm                  closed\n"
    assert json.loads(command("services", "list", "--json").out)["items"][0]["name"] == "crm"


def test_services_are_paused_and_resumed(command: Command, configured: Path) -> None:
    """The state after each act is printed; a wrong one is one line with the engine's words."""
    assert command("services", "pause", "crm", "--reason", "release").out == "crm: paused\n"
    assert command("services", "list").out == "crm                  paused              release\n"
    said = command("services", "enable", "crm")
    assert said.status == 1
    assert one_line(said) == "prunella: Not in this state (409); service crm is paused; enable needs disabled"
    assert command("services", "resume", "crm").out == "crm: closed\n"
    assert "Unknown service (404)" in one_line(command("services", "pause", "nobody"))


def test_secrets_and_tokens_are_stored_without_an_engine(
    command: Command, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values come from standard input and are never printed; what is forgotten twice is said."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("s3cret-value\n"))
    assert command("secret", "set", "crm/key").out == "stored secret://crm/key\n"
    assert command("secret", "list").out == "crm/key\n"
    assert command("secret", "rm", "crm/key").out == "forgot secret://crm/key\n"
    assert "Unknown secret (404)" in one_line(command("secret", "rm", "crm/key"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("at-value\nrt-value\n"))
    stored = command("credentials", "set", "crm", "--user", "ada", "--expires-in", "60")
    assert stored.out == "stored the tokens of crm for ada\n"
    assert "value" not in stored.out + stored.err


def test_scan_without_an_engine_says_what_it_did(command: Command, configured: Path) -> None:
    """A fresh store has nothing to look at."""
    assert command("scan").out == "0 looked at: 0 resolved, 0 pending, 0 disabled\n"
    assert json.loads(command("scan", "--json").out)["processed_count"] == 0


def test_text_is_diagnosed_without_any_store(command: Command) -> None:
    """No configuration, no database: a pasted error is explained."""
    said = command("explain", "Too many requests", "--status", "429", "--json")
    assert (said.status, json.loads(said.out)["category"]) == (0, "rate_limit")
    assert "category      auth" in command("explain", "The access token expired", "--code", "invalid_token").out


def test_tables_are_brought_up_to_date(command: Command, configured: Path) -> None:
    """`db upgrade` says where the tables stand, and does nothing twice."""
    first, second = command("db", "upgrade").out, command("db", "upgrade").out
    assert first == second
    assert first.startswith(f"tables at revision {migrations.head()}")


def test_fault_of_our_own_is_one_line_too(command: Command, configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a route breaks: status 1, one line, no stack."""
    from prunella.store.gates import GateRows

    async def broken(_: GateRows) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(GateRows, "all", broken)
    said = command("services", "list")
    assert said.status == 1
    assert one_line(said) == "prunella: A fault of prunella's own (500); RuntimeError; the log says more"


# Without its libraries ------------------------------------------------------------------------------------------------


def test_base_install_says_what_to_install() -> None:
    """Without the engine's libraries the command ends with status 2 and the one line that helps."""
    source = Path(prunella.__file__).parent.parent
    code = f"import sys; sys.path.insert(0, {str(source)!r}); from prunella.cli import main; main()"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'prunella: the engine is not installed; run: pip install "prunella[server]"\n'
