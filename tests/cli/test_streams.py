"""A shell is not always kind: streams that are closed, full or of another alphabet, a Ctrl-C, a tab in bash."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from cli.conftest import Command
from prunella.cli import world
from prunella.cli.streams import Terminal, legible

PRUNELLA = f"{sys.executable} -m prunella"


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line as a shell does."""
    return subprocess.run(["sh", "-c", line], env={**os.environ, **variables}, capture_output=True, check=False)


def clean(done: subprocess.CompletedProcess[bytes], status: int, lines: int = 0) -> bool:
    """Tell whether a command ended so, with so many lines of error and no stack."""
    told = done.stderr.decode()
    return (done.returncode, len(told.splitlines()), "Traceback" in told) == (status, lines, False)


def test_text_of_another_alphabet_is_read_and_printed(folder: Path) -> None:
    """A paste that is no UTF-8, a terminal that knows ASCII alone: a diagnosis all the same; a secret is not guessed."""
    strict: Mapping[str, str] = {"PYTHONIOENCODING": "ascii:strict"}
    line = f"printf '429 too many requests f\\377\\303\\251' | {PRUNELLA} explain - --service é"
    done = shell(line, **strict)
    assert clean(done, 0), done.stderr
    assert b"rate_limit" in done.stdout
    done = shell(f"printf 'hunter\\377' | {PRUNELLA} secret set crm/key", **strict)
    assert clean(done, 2, 1), done.stderr
    assert b"no UTF-8" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_streams_that_take_nothing_are_no_stack(folder: Path) -> None:
    """A full disk is one line with status 1; closed streams, and a reader who has read enough, are none."""
    full = shell(f"{PRUNELLA} --help > /dev/full")
    assert clean(full, 1, 1), full.stderr
    assert b"No space left" in full.stderr
    closed = shell(f"{PRUNELLA} explain - <&- >&-")
    assert clean(closed, 0), closed.stderr
    enough = shell(f"{{ {PRUNELLA} --help; echo $? >&2; }} | true")
    assert enough.stderr.decode().strip() in ("0", "1")


def test_ctrl_c_at_a_question_is_130(folder: Path) -> None:
    """Interrupted is no stack, and nothing was written."""
    command = [sys.executable, "-m", "prunella", "init"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
        assert asked.stdout is not None
        assert asked.stdout.readline().startswith(b"1/4")
        asked.send_signal(signal.SIGINT)
        _, told = asked.communicate(timeout=20)
    assert (asked.returncode, b"Traceback" in told) == (130, False)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_tab_in_bash_completes(folder: Path) -> None:
    """The script that bash sources is driven as a tab drives it: commands, options, and the values of one."""
    (folder / "prunella").write_text(f'#!/bin/sh\nexec {PRUNELLA} "$@"\n')
    (folder / "prunella").chmod(0o755)
    tab = 'COMP_WORDS=({0}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _prunella_completion prunella; echo "${{COMPREPLY[*]}}"'
    lines = ("prunella inc", "prunella services pause --re", "prunella token --role OP")
    script = "; ".join(['eval "$(_PRUNELLA_COMPLETE=source_bash prunella)"', *(tab.format(line) for line in lines)])
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["incidents", "--reason", "OPERATIONS"]


def test_text_from_outside_commands_no_terminal(command: Command, configured: Path) -> None:
    """An error that clears the screen, writes the clipboard or begins a line of its own is shown as the text it is."""
    evil = "boom \x1b[2J\x1b]52;c;aGk=\x07 \u202eabc\r\nfake: line\x9b31m\x1b[31mred"
    event = {"event_id": "e1", "service_name": "crm", "http_status": 400, "error_message": evil, "endpoint": "/x"}
    world.call("POST", "/integration-self-heal", event, role="ADMIN")
    said = command("notifications")
    assert "boom  [2J ]52;c;aGk=   abc  fake: line 31m\x1b[31mred" in said.out
    assert len(said.out.splitlines()) == 2
    assert json.loads(command("notifications", "--json").out)["items"][0]["message"].count("\x1b[2J") == 1


def test_terminal_gets_nothing_that_it_would_obey() -> None:
    """Whatever is printed to it, by whichever way; lines, tabs and colours stay, and a pipe gets all as it is."""
    written = io.StringIO()
    terminal = Terminal(written)
    print("a\tb\x1b[1mc\x1b[0m\x1b[2Jd\x1b]0;t\x07\x7fe", file=terminal)
    assert written.getvalue() == "a\tb\x1b[1mc\x1b[0m [2Jd ]0;t  e\n"
    main, other = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", "from prunella.cli import streams; streams.prepare(); print('x\x1b[2Jy')"],
        stdout=other,
        check=True,
    )
    os.close(other)
    assert (done.returncode, os.read(main, 100)) == (0, b"x [2Jy\r\n")
    os.close(main)


def test_legible_marks_what_is_no_text() -> None:
    """What came as bytes that are no UTF-8 shows as such; everything else stays."""
    assert legible("a\udcffé語\n") == "a\ufffdé語\n"
