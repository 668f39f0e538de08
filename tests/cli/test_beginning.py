"""`prunella init` writes what passes `config check`, asks four questions or none, and never overwrites."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cli.conftest import Command
from prunella.cli import beginning
from prunella.core.errors import ConfigError

FILES = ("prunella.yaml", ".env.example", "prunella.schema.json")
ANSWERS = "crm https://crm.example bearer, erp https://erp.example oauth\n{database}\n{place}\nprod\n"


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Pipe answers in."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_nothing_asked_begins_at_once(command: Command, folder: Path) -> None:
    """With --yes three files stand there, the configuration passes, doctor finds nothing, and the next step is said."""
    said = command("init", "--yes")
    assert said.status == 0
    assert said.out.endswith("next:\n  prunella doctor\n  prunella up\n")
    assert all((folder / name).exists() for name in FILES)
    assert (folder / "prunella.yaml").read_text().startswith("# yaml-language-server: $schema=./prunella.schema.json\n")
    assert json.loads((folder / "prunella.schema.json").read_text())["title"] == "prunella.yaml"
    checked = command("config", "check")
    assert (checked.status, "0 warnings" in checked.out) == (0, True)
    assert command("doctor").status == 0


@pytest.mark.parametrize("place", beginning.PLACES)
@pytest.mark.parametrize("database", ["", "postgresql://me:s%40cret@db.example:5432/shop"])
def test_answers_from_a_pipe_become_a_file_that_passes(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, database: str
) -> None:
    """Each kind of place and database; passwords and tokens stand there as references only."""
    answer(monkeypatch, ANSWERS.format(database=database, place=place))
    said = command("init")
    assert (said.status, said.err) == (0, "")
    assert said.out.count("> ") == 4
    text = (folder / "prunella.yaml").read_text()
    assert "s%40cret" not in text + said.out + (folder / ".env.example").read_text()
    written = yaml.safe_load(text)
    assert written["services"]["crm"]["bearer"] == "secret://crm/token"
    assert written["services"]["erp"]["oauth"]["client_secret"] == "secret://erp/client_secret"
    assert ("notify" in written) is (place != "none")
    assert "prunella secret set crm/token" in said.out
    if database:
        assert "PRUNELLA_DATABASE_PASSWORD is not set" in command("config", "check").err
        for line in (folder / ".env.example").read_text().splitlines():
            if line.endswith("="):
                monkeypatch.setenv(line[:-1], "x")
    assert command("config", "check").status == 0


@pytest.mark.parametrize("name", FILES)
def test_what_is_there_is_never_overwritten(command: Command, folder: Path, name: str) -> None:
    """The configuration stops everything; the files beside it stay as they are and are told."""
    (folder / name).write_text("mine\n")
    said = command("init", "--yes")
    assert (folder / name).read_text() == "mine\n"
    if name == "prunella.yaml":
        assert (said.status, "is there already; nothing was written" in said.err) == (2, True)
        assert not (folder / ".env.example").exists()
    else:
        assert (said.status, f"{name} is there already and stays as it is" in said.out) == (0, True)


def test_dry_run_prints_the_file_and_writes_none(command: Command, folder: Path) -> None:
    """What would be written stands on standard output alone, and can be read."""
    said = command("init", "--yes", "--dry-run")
    assert yaml.safe_load(said.out)["service"]["environment"] == "production"
    assert "nothing was changed" in said.err
    assert list(folder.iterdir()) == []


def test_chosen_path_is_written(command: Command, folder: Path) -> None:
    """--config names the file, its folder is made, and the next steps name it, too."""
    said = command("init", "--yes", "--config", "etc/p.yaml")
    assert (folder / "etc" / "p.yaml").exists()
    assert "prunella up --config etc/p.yaml" in said.out


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ("crm\n", "is not NAME URL AUTH"),
        ("crm http://crm.example\n", "no https:// address"),
        ("crm https://me:hunter2@crm.example\n", "no https:// address"),
        ("CRM! https://crm.example\n", "is no name"),
        ("crm https://crm.example magic\n", "one of none, bearer, oauth"),
        ("crm https://a.example, crm https://b.example\n", "stands there twice"),
        ("\nmysql://x\n", "no postgresql://"),
        ("\n\nfax\n", "none of none, slack"),
        ("\n\nslack https://hooks.example/hunter2\n", "addresses of chats are secrets"),
        ("\n\n\nstaging\n", "none of development, production"),
    ],
)
def test_wrong_answer_from_a_pipe_ends_without_a_file(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, answers: str, words: str
) -> None:
    """Status 2 and one line that says what is allowed; nothing is written."""
    answer(monkeypatch, answers)
    said = command("init")
    assert (said.status, len(said.err.splitlines())) == (2, 1)
    assert words in said.err
    assert list(folder.iterdir()) == []


def test_folder_that_cannot_be_made_is_said(command: Command, folder: Path) -> None:
    """A file stands where the folder would: one line, status 2."""
    (folder / "taken").write_text("")
    said = command("init", "--yes", "--config", "taken/p.yaml")
    assert (said.status, len(said.err.splitlines())) == (2, 1)
    assert "taken: no folder can be made there" in said.err


def test_terminal_is_asked_again(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who mistypes is told why and asked once more."""
    terminal = io.StringIO("crm\ncrm https://crm.example\n\n\ndev\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    said = command("init")
    assert (said.status, "is not NAME URL AUTH" in said.out) == (0, True)
    assert "environment: development" in (folder / "prunella.yaml").read_text()


def test_file_that_would_not_pass_is_not_written() -> None:
    """The trial that each file goes through can fail."""
    with pytest.raises(ConfigError, match="unknown name"):
        beginning.must_pass("servces: {}\n", Path("prunella.yaml"))


@pytest.mark.slow
def test_real_process_is_piped_answers(folder: Path) -> None:
    """As a shell would: answers on standard input, files in the folder."""
    done = subprocess.run(
        [sys.executable, "-m", "prunella", "init"], input="\n\nteams\n\n", capture_output=True, text=True, check=True
    )
    assert "prunella secret set teams/webhook" in done.stdout
    assert (folder / "prunella.yaml").exists()
