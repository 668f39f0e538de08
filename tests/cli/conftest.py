"""A command line in this process: its own folder, its own environment, a migrated store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from prunella.cli import commands, world

KEY = "q1GkYw3c0Ue7hXn5Tz9bLrVd2mPfSaJi8oEy4uCKxH0="


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in an empty folder with an environment that names nothing of prunella's but the key, and no terminal."""
    for name in [name for name in os.environ if name.startswith("PRUNELLA_")]:
        monkeypatch.delenv(name)
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PRUNELLA_SECRET_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    world._chosen.clear()


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command as the shell would."""

    def run(*arguments: str) -> Said:
        world._chosen.clear()
        capsys.readouterr()
        try:
            commands.run(arguments)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return run


@pytest.fixture
def configured(folder: Path, sqlite_path: Path) -> Path:
    """Write a configuration with one service, a migrated store and an address where nobody listens."""
    path = folder / "prunella.yaml"
    path.write_text(
        f"service: {{database_url: 'sqlite:///{sqlite_path}', listen: '127.0.0.1:1'}}\n"
        "services: {crm: {base_url: 'https://crm.invalid'}}\n"
    )
    return path
