"""Every change can be tried dry: it says what would happen, refuses what would be refused, and changes nothing."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.conftest import Command
from cli.test_operations import lane
from prunella.cli import world
from prunella.cli.commands import cli

__all__ = ["lane"]

LISTS = {
    "incidents", "services", "services list", "operations", "procedures", "approvals", "entities", "notifications",
    "known-issues", "known-issues candidates", "secret", "secret list", "keys", "keys list", "statistics", "metrics", "status",
    "events tail", "config show",
    "db current", "doctor", "notify channels", "audit verify",
}  # fmt: skip
CHANGES = {
    "init", "scan", "retry", "suppress", "escalate", "resolve", "ack", "run", "approve", "reject", "undo", "pause", "resume",
    "reconcile", "services enable", "services disable", "services pause", "services resume", "services probe",
    "operations replay", "operations cancel", "operations quarantine", "secret set", "secret rm", "credentials set",
    "keys create", "keys revoke", "links create", "links revoke", "notify test", "db upgrade",
    "known-issues bind", "known-issues unbind", "known-issues resolve", "known-issues reopen", "known-issues merge",
    "known-issues split", "known-issues import", "rotate-keys",
}  # fmt: skip
NEITHER = {
    "up", "worker", "demo", "token", "explain", "incidents show", "operations show", "known-issues test", "known-issues show",
    "known-issues export", "export",
    "config check", "config schema", "db grant",
}  # fmt: skip


def every(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Return each command with its words; a group that does something by itself, too."""
    for name, command in group.commands.items():
        words = f"{before}{name}"
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield words, command
        if hasattr(command, "commands"):
            yield from every(command, f"{words} ")


def test_every_command_is_a_list_a_change_or_neither() -> None:
    """Whoever adds a command says which it is, and gets the options that go with it."""
    commands = dict(every(get_command(cli)))
    assert set(commands) == LISTS | CHANGES | NEITHER
    options = {words: {option for one in command.params for option in one.opts} for words, command in commands.items()}
    assert [words for words in LISTS if "--json" not in options[words]] == []
    assert [words for words in CHANGES if "--dry-run" not in options[words]] == []


def dump(folder: Path) -> list[str]:
    """Return every row that is stored; tables of the guards are made by whoever opens first."""
    with closing(sqlite3.connect(folder / "prunella.db")) as database:
        return [line for line in database.iterdump() if line.startswith("INSERT")]


DRY: list[tuple[list[str], str]] = [
    (["scan"], "look again at what is due of 1 open incidents"),
    (["retry", "i1"], "retry t (now open)"),
    (["suppress", "i1"], "suppress t (now open)"),
    (["escalate", "i1"], "escalate t (now open)"),
    (["ack", "i1"], "ack t (now open)"),
    (["pause"], "pause everything as cli:"),
    (["pause", "--service", "crm"], "pause crm: from closed to paused"),
    (["services", "disable", "crm"], "disable crm: from closed to disabled"),
    (["secret", "set", "crm/key"], "store secret://crm/key"),
    (["credentials", "set", "crm", "--user", "ada"], "store the tokens of crm for ada"),
    (["keys", "create", "ci", "--role", "VIEWER", "--ttl", "7d"], "make a key for ci (VIEWER), good for 7d"),
    (["links", "create", "--name", "ada"], "make a link for ada (VIEWER)"),
    (["links", "revoke", "ada"], "end every session of ada"),
    (["rotate-keys"], "values anew with key "),
    (["db", "upgrade", "--compat"], "leave the tables at revision"),
]


@pytest.mark.parametrize(
    ("arguments", "words"), DRY, ids=lambda value: "-".join(value) if isinstance(value, list) else ""
)
def test_dry_run_says_what_would_happen_and_changes_nothing(
    command: Command, lane: list[str], folder: Path, arguments: list[str], words: str
) -> None:
    """Not one row is written, no secret is asked for, and the words name what would be done to what."""
    before = dump(folder)
    said = command(*arguments, "--dry-run")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("would ")
    assert words in said.out
    assert said.out.endswith("nothing was changed\n")
    assert dump(folder) == before


def test_test_message_is_not_sent_dry(
    command: Command, configured: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The channel and its kind are named; nobody is called, nothing is noted, and the sign of life is no channel."""
    monkeypatch.setenv("CHAT", "https://chat.invalid/hook")
    more = 'notify: {channels: {ops: {slack: "${CHAT}"}}, heartbeat: {url: "${CHAT}", every: 1m}}\n'
    configured.write_text(configured.read_text() + more)
    before = dump(folder)
    said = command("notify", "test", "ops", "--dry-run")
    assert (said.status, said.out) == (0, "would send a test message to ops (slack); nothing was changed\n")
    assert dump(folder) == before
    assert "channels: ops\n" in command("notify", "test", "heartbeat", "--dry-run").err
    assert command("notify", "test", "ops").status == 1
    assert dump(folder) != before


def test_dump_sees_a_change(command: Command, lane: list[str], folder: Path) -> None:
    """The look that finds nothing changed can find something: the same act without --dry-run."""
    before = dump(folder)
    assert command("suppress", "i1", "--reason", "known").status == 0
    assert dump(folder) != before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume"], "nothing as a whole is not paused"),
        (["resume", "--service", "crm"], "service crm is closed; resume needs paused"),
        (["pause", "--service", "nobody"], "there is no service 'nobody'; known: crm"),
        (["pause", "--procedure", "nobody"], "there is no procedure 'nobody'"),
        (["services", "enable", "crm"], "enable needs disabled"),
        (["services", "probe", "crm"], "has no health address"),
        (["retry", "nobody"], "there is no incident 'nobody'"),
        (["resolve", "i1"], "incident i1 has requests that are waiting; replay or cancel first what is listed by: "),
        (["ack", "nobody"], "no incident and no notification"),
        (["secret", "rm", "nobody"], "there is no secret 'nobody'"),
        (["keys", "revoke", "nobody"], "there is no key 'nobody'"),
        (["approve", "nobody"], "there is no approval 'nobody'"),
        (["reject", "nobody", "--reason", "no"], "there is no approval 'nobody'"),
        (["undo", "nobody"], "there is no run 'nobody'"),
        (["credentials", "set", "nobody"], "there is no service 'nobody'"),
        (["notify", "test", "nobody"], "there is no channel 'nobody'; channels: none"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_dry_run_refuses_what_would_be_refused(
    command: Command, lane: list[str], arguments: list[str], words: str
) -> None:
    """Status 1 and one line, as without --dry-run."""
    said = command(*arguments, "--dry-run")
    assert (said.status, said.out, len(said.err.splitlines())) == (1, "", 1)
    assert words in said.err


def test_dry_run_as_json_is_json(command: Command, lane: list[str]) -> None:
    """What would happen can be read by a program."""
    said = json.loads(command("suppress", "i1", "--dry-run", "--json").out)
    assert (said["dry_run"], said["would"].startswith("suppress t")) == (True, True)


# People ---------------------------------------------------------------------------------------------------------------


def test_incidents_are_a_persons_to_act_on(command: Command, lane: list[str]) -> None:
    """Acknowledge, escalate, suppress: the incident says so, and the audit names who typed."""
    assert command("ack", "i1").out == f"t: acknowledged by {world.person()}\n"
    assert "handed" not in command("escalate", "i1", "--reason", "finance decides").err
    assert json.loads(command("suppress", "i1", "--json").out)["state"] == "suppressed"
    told = [json.loads(line) for line in command("events", "tail", "--no-follow", "--json").out.splitlines()]
    assert [one["action"] for one in told] == ["incident.ack", "incident.escalate", "incident.suppress"]
    assert {one["actor"] for one in told} == {world.person()}
    assert world.person().startswith("cli:")


def test_link_lets_a_person_in_once(command: Command, configured: Path) -> None:
    """The address is all that is printed; the audit names the person and who let them in, and never the link."""
    said = command("links", "create", "--name", "ada", "--role", "OPERATIONS")
    assert (said.status, said.err, said.out.count("\n")) == (0, "", 1)
    address, _, shown = said.out.strip().partition("?token=")
    assert address.endswith("/login")
    assert shown.startswith("prunella_link_")
    assert shown not in "".join(dump(configured.parent))
    entry = json.loads(command("events", "tail", "--no-follow", "--json").out)
    assert (entry["action"], entry["target"], entry["actor"]) == ("link.created", "ada", world.person())
    assert "is needed" not in command("links", "create", "--name", " ").err
    assert command("links", "create", "--name", " ").status == 1
    assert command("links", "create", "--name", "ada", "--ttl", "soon").status == 2
    assert command("links", "create").status == 2
    assert command("links", "revoke", "ada").out == "ada: 0 sessions and 1 links ended\n"
    assert command("links", "revoke", "ada").status == 1


def test_person_behind_sudo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked for root's rights stands in the audit, not root; nobody else can name another that way."""
    monkeypatch.setattr("os.getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "ada")
    assert world.person() == "cli:ada"
    monkeypatch.setattr("os.getuid", lambda: 4_000_111)
    assert world.person() == "cli:uid-4000111"


# At 80 columns --------------------------------------------------------------------------------------------------------


def test_lists_fit_the_terminal(command: Command, lane: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal, whatever an error said; a program gets whole lines."""
    with closing(sqlite3.connect("prunella.db")) as database:
        database.execute("UPDATE incidents SET title = ?, held_reason = ?", ("title " * 40, "because " * 40))
        database.execute("UPDATE operations SET last_error = ?", ("error " * 60,))
        database.commit()
    assert any(len(line) > 120 for line in command("incidents").out.splitlines())
    command("pause", "--reason", "pausing " * 30)
    monkeypatch.setenv("COLUMNS", str(columns := 80))
    for words in (["incidents"], ["operations"], ["services"], ["status"], ["config", "show", "--origin"], ["doctor"],
                  ["events", "tail", "--no-follow"], ["notifications"], ["procedures"], ["operations", "show", "o0"],
                  ["incidents", "show", "i1"], ["--help"], ["operations", "replay", "--help"]):  # fmt: skip
        said = command(*words)
        assert (said.out != "", said.err) == (True, ""), words
        wide = [line for line in said.out.splitlines() if len(line) > columns and " " in line.strip()]
        assert wide == [], words


def test_colour_is_for_terminals_that_want_it(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal an error is red; with NO_COLOR, or in a pipe, there is no escape code."""
    (folder / "prunella.yaml").write_text("servces: {}\n")
    assert "\x1b" not in command("doctor").out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\x1b[31m" in command("doctor").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in command("doctor").out
