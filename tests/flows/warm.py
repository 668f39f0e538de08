"""Processes that run `prunella` and begin with its libraries imported: each one real, and a second of CPU cheaper.

They are forked by a process that does nothing else. That `prunella` starts from nothing is held by flows/test_start.py.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["prunella.cli.commands", "prunella.app", "prunella.web.server", "uvicorn"])


class Warm:
    """One such process; spoken to as `subprocess.Popen` is.

    Args:
        errors: the file that its standard error is added to.
        given: what it reads from its standard input.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, environ: Mapping[str, str], errors: Path, given: str = ""
    ) -> None:
        reader, writer = _FORKS.Pipe(duplex=False)
        place: tuple[Any, ...] = (list(arguments), str(folder), dict(environ), str(errors), given, writer)
        self._process = _FORKS.Process(target=_run, args=place, daemon=True)
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()))
        reader.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Return how it ended, if it has."""
        return self._process.exitcode

    def wait(self, within_s: float | None = None) -> int:
        """Return how it ended, once it has."""
        self._process.join(within_s)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("prunella", within_s or 0.0)
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def _run(
    arguments: list[str], folder: str, environ: dict[str, str], errors: str, given: str, stdout: Connection
) -> None:
    """Be what `python -m prunella` would be there."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:0] = [folder, *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))]
    with tempfile.TemporaryFile("w+") as stdin:
        stdin.write(given)
        stdin.seek(0)
        os.dup2(stdin.fileno(), 0)
    os.dup2(stdout.fileno(), 1)
    stdout.close()
    with open(errors, "a") as stderr:
        os.dup2(stderr.fileno(), 2)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.argv = ["prunella", *arguments]
    from prunella.cli import main

    main()
