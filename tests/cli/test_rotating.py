"""Changing the deployment's key by command line: three steps, and each says whether the next may follow."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from cli.conftest import KEY, Command
from prunella.store.secrets import generate_key


def test_rotation_takes_the_old_key_out_of_use(
    command: Command, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New key in front, rotate, old key away: what was stored before is still there, and tokens stay good."""
    with monkeypatch.context() as piped:
        piped.setattr("sys.stdin", StringIO("xoxb-one"))
        assert command("secret", "set", "slack").status == 0
    new = generate_key()
    monkeypatch.setenv("PRUNELLA_SECRET_KEY", new)
    said = command("rotate-keys")
    assert (said.status, said.out) == (1, said.out)
    assert "open with no key: secrets:slack" in said.err
    monkeypatch.setenv("PRUNELLA_SECRET_KEY", f"{new},{KEY}")
    assert "would seal 1 of 1 values anew" in command("rotate-keys", "--dry-run").out
    said = command("rotate-keys")
    assert (said.status, said.err) == (0, "")
    assert "sealed 1 of 1 values anew" in said.out
    assert "may be taken out of PRUNELLA_SECRET_KEY" in said.out
    monkeypatch.setenv("PRUNELLA_SECRET_KEY", new)
    said = command("rotate-keys")
    assert (said.status, "sealed 0 of 1 values" in said.out) == (0, True)
