"""Processes that run `prunella` and begin with its libraries imported: each one real, and a second of CPU cheaper.

They are forked by a process that does nothing else. That `prunella` starts from nothing is held by flows/test_start.py.
"""

from __future__ import annotations

import ast
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("prunella.cli.commands", "prunella.cli.up", "prunella.app", "prunella.web.server", "uvicorn"),
        *("anyio._backends._asyncio", "greenlet", "pydantic.v1", "structlog"),  # what these load while they begin
    ]
)


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
    with tempfile.TemporaryFile("w+") as stdin, open(errors, "a") as stderr:
        stdin.write(given)
        stdin.seek(0)
        _begin(arguments, folder, environ, [folder], (stdin, stdout, stderr))


def _begin(
    arguments: list[str], folder: str, environ: dict[str, str], paths: list[str], streams: Sequence[Any]
) -> None:
    """Become `prunella`, with a folder, an environment and three streams of its own."""
    gc.freeze()  # what was imported stays, and to look at it would copy it, page by page
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:0] = [*paths, *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))]
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.argv = ["prunella", *arguments]
    if "PLANTED" in environ:
        from shell import planted

        planted.listen()
    from prunella.cli import main

    main()


# For shells ---------------------------------------------------------------------------------------------------------

_CLIENT = """#!{python} -SE
import os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as door:
    door.connect({address!r})
    socket.send_fds(door, [repr((sys.argv[1:], os.getcwd(), dict(os.environ))).encode()], [0, 1, 2])
    pid = int(door.recv(32))
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: os.kill(pid, number))
    sys.exit(int(door.recv(8)))
"""


@contextmanager
def typed(folder: Path) -> Iterator[None]:
    """Put a `prunella` into a folder for a shell's PATH: what it starts is such a process, and ends as that ends.

    Args:
        folder: with a short path, because a socket stands there, too.
    """
    address = str(folder / "door")
    (folder / "prunella").write_text(_CLIENT.format(python=sys.executable, address=address))
    (folder / "prunella").chmod(0o755)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        threading.Thread(target=_serve, args=(door,), daemon=True).start()
        yield
        door.shutdown(socket.SHUT_RDWR)


def _serve(door: socket.socket) -> None:
    while True:
        try:
            client, _ = door.accept()
        except OSError:
            return
        threading.Thread(target=_accompany, args=(client,), daemon=True).start()


def _accompany(client: socket.socket) -> None:
    """Start what a shell typed, and tell how it ended."""
    with client:
        said, files, _, _ = socket.recv_fds(client, 1 << 20, 3)
        arguments, folder, environ = ast.literal_eval(said.decode())
        streams = [Connection(one) for one in files]
        process = _FORKS.Process(target=_begin, args=(arguments, folder, environ, [], streams), daemon=True)
        process.start()
        for stream in streams:
            stream.close()
        client.send(str(process.pid).encode())
        process.join()
        client.send(str(process.exitcode).encode())
