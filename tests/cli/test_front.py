"""The command line as a shell meets it: quick help, completion, examples that work, errors of one line."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest
from typer.main import get_command

from cli.conftest import Command
from cli.test_dry_runs import every
from prunella.cli import world
from prunella.cli.commands import cli

GROUP: Any = get_command(cli)
COMMANDS = list(every(GROUP))
HEAVY = {
    "alembic", "cryptography", "fastapi", "httpx2", "jinja2", "joserfc", "psycopg", "rich", "sqlalchemy",
    "structlog", "uvicorn", "yaml", "prometheus_client",
}  # fmt: skip


def loaded_by(*arguments: str) -> set[str]:
    """Return which of the heavy libraries a fresh process has loaded at the end of a command."""
    code = (
        "import sys, json\nfrom prunella.cli.commands import run\n"
        f"try:\n    run({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["services", "pause", "--help"], ["incidnets"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """Help, and the answer to a slip, cost Typer (and its pydantic) alone: what takes time to load is loaded where it is used."""
    assert loaded_by(*arguments) == set()


def test_version_is_said(command: Command) -> None:
    """What is installed, in a line, and nothing is loaded for it."""
    said = command("--version")
    assert (said.status, said.out, said.err) == (0, f"prunella {version('prunella')}\n", "")


def test_look_at_what_is_loaded_can_fail() -> None:
    """The same look at a command that reads a configuration finds what it needs."""
    assert "yaml" in loaded_by("config", "schema")


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_every_command_has_an_example_that_can_be_typed(words: str, command: Any) -> None:
    """Its help shows one, and the words of each are understood: commands, options and values there are."""
    examples = re.findall(r"\$ (.+)", command.epilog or "")
    assert any(f"prunella {words}" in one for one in examples), words
    for one in examples:
        typed = re.split(r" [<>] ", one.rpartition("| ")[2])[0]
        _, *arguments = world.take_config(shlex.split(typed))
        world._chosen.clear()
        group, before = GROUP, None
        while arguments and hasattr(group, "commands") and arguments[0] in group.commands:
            before = group.make_context(arguments[0], [], before, resilient_parsing=True)
            group = group.commands[arguments.pop(0)]
        group.make_context(words, arguments, before)


def test_example_with_a_slip_is_noticed() -> None:
    """The look above can fail: an option that does not exist is refused."""
    with pytest.raises(Exception, match="No such option"):
        GROUP.commands["scan"].make_context("scan", ["--widow-minutes", "5"])


COMPLETE = {
    "bash": {"COMP_WORDS": "prunella inc", "COMP_CWORD": "1"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "prunella inc"},
    "fish": {"_TYPER_COMPLETE_ARGS": "prunella inc", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


@pytest.mark.parametrize("shell", COMPLETE)
def test_completion_answers_each_shell(shell: str) -> None:
    """The script that a shell sources names the command, and asking it completes a word."""
    prunella = [sys.executable, "-m", "prunella"]

    def ask(action: str, **variables: str) -> str:
        variables["_PRUNELLA_COMPLETE"] = f"{action}_{shell}"
        return subprocess.run(
            prunella, env={**os.environ, **variables}, capture_output=True, text=True, check=False
        ).stdout

    assert "_PRUNELLA_COMPLETE=complete_" in ask("source")
    answer = ask("complete", **COMPLETE[shell])
    assert "incidents" in answer
    assert "services" not in answer


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("incidnets", "incidents"), ("doctr", "doctor"), ("services paus crm", "pause"), ("known-issue", "known-issues")],
)
def test_slip_is_answered_with_what_was_meant(command: Command, typed: str, meant: str) -> None:
    """One line, status 2, the nearest command, and where the help stands."""
    said = command(*typed.split())
    assert (said.status, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert f"Did you mean '{meant}'" in said.err
    assert "--help" in said.err


def test_statuses_stand_in_the_help(command: Command) -> None:
    """What a script may rely on is written where people look."""
    told = " ".join(command("--help").out.split())
    assert "0 all is well; 1 refused, failed" in told
    assert "2 wrong usage" in told
