"""A transaction pooler: PostgreSQL's protocol in front, a few sessions of a real server behind, swapped all the time.

Stands in for PgBouncer and Supavisor where neither is installed. It is less kind than they are: sessions take turns,
so a client rarely meets the same session twice in a row, and what it left there meets the next client.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import make_url

SESSIONS = 4
PGBOUNCER = shutil.which("pgbouncer") or ("/usr/sbin/pgbouncer" if Path("/usr/sbin/pgbouncer").exists() else None)
"""The real thing, where it is installed; tests run with ours everywhere."""
_ENCRYPTION, _CANCEL = (80877103, 80877104), 80877102  # PostgreSQL manual, "Message Formats"
_NOBODY = 65534
_TAKEN = {"user", "database", "application_name", "client_encoding", "DateStyle", "TimeZone"}


class Session:
    """One session of the server; libpq has signed in, and we go on with its socket."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.socket = socket.socket(fileno=os.dup(self.connection.fileno()))
        self.socket.setblocking(False)

    def close(self) -> None:
        self.socket.close()
        self.connection.close()


class Pooler:
    """Lend sessions to clients, one transaction at a time."""

    def __init__(self, url: str, sessions: int = SESSIONS) -> None:
        self.url = url
        self.lent = 0
        self.clients: dict[int, Client] = {}
        self.idle: asyncio.Queue[Session | None] = asyncio.Queue()  # None: to be opened
        for _ in range(sessions):
            self.idle.put_nowait(None)
        self._numbers = itertools.count(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        try:
            if await self._greeted(reader, writer, number):
                self.clients[number] = Client(self, reader, writer)
                await self.clients[number].talk()
        except (OSError, EOFError, asyncio.CancelledError):
            return
        finally:
            self.clients.pop(number, None)
            writer.close()

    async def lend(self) -> Session:
        idle = await self.idle.get()
        try:
            session = idle if idle is not None else await asyncio.to_thread(Session, self.url)
        except psycopg.Error:
            self.idle.put_nowait(None)
            raise
        self.lent += 1
        return session

    async def _greeted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        """Answer the startup message; False where nothing more comes."""
        length, code = struct.unpack("!ii", await reader.readexactly(8))
        rest = await reader.readexactly(length - 8)
        if code in _ENCRYPTION:
            writer.write(b"N")
            return await self._greeted(reader, writer, number)
        if code == _CANCEL:
            client = self.clients.get(struct.unpack("!ii", rest)[0])
            if client is not None and client.session is not None:
                await asyncio.to_thread(client.session.connection.cancel)
            return False
        unknown = {name.decode() for name in rest.rstrip(b"\0").split(b"\0")[::2]} - _TAKEN
        if unknown:
            writer.write(_refusal(f"unsupported startup parameter: {', '.join(sorted(unknown))}"))
            await writer.drain()
            return False
        told = {"server_version": "18.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
        told |= {"DateStyle": "ISO, MDY", "TimeZone": "UTC", "integer_datetimes": "on"}
        writer.write(_message(b"R", struct.pack("!i", 0)))
        writer.writelines(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in told.items())
        writer.write(_message(b"K", struct.pack("!ii", number, number)) + _message(b"Z", b"I"))
        await writer.drain()
        return True


class Client:
    """One client's conversation."""

    def __init__(self, pooler: Pooler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.session: Session | None = None
        self._pooler, self._reader, self._writer = pooler, reader, writer
        self._answer: asyncio.Future[bytes] | None = None
        self._asked = self._answered = 0
        self._heard = bytearray()

    async def talk(self) -> None:
        """Give every transaction a session, and take it back when the server says that it is over."""
        word: asyncio.Future[bytes] = asyncio.ensure_future(self._read())
        try:
            while True:
                waiting = {word} if self._answer is None else {word, self._answer}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._answer is not None and self._answer.done():
                    await self._pass_on(self._answer.result())
                if word.done():
                    await self._forward(word.result())
                    word = asyncio.ensure_future(self._read())
        finally:
            word.cancel()
            if self._answer is not None:
                self._answer.cancel()
            if self.session is not None:  # in the middle of a transaction
                self.session.close()
                self._pooler.idle.put_nowait(None)

    async def _forward(self, message: bytes) -> None:
        if message[:1] == b"X":
            raise EOFError
        if self.session is None:
            try:
                self.session = await self._pooler.lend()
            except psycopg.Error:
                self._writer.write(_refusal("server login failed"))
                await self._writer.drain()
                raise EOFError from None
            self._answer = self._receive()
        self._asked += message[:1] in (b"Q", b"S")
        await asyncio.get_running_loop().sock_sendall(self.session.socket, message)

    async def _pass_on(self, data: bytes) -> None:
        if not data:
            raise EOFError
        self._writer.write(data)
        await self._writer.drain()
        self._heard += data
        state = b""
        while len(self._heard) >= 5 and len(self._heard) > (length := struct.unpack("!i", self._heard[1:5])[0]):
            if self._heard[:1] == b"Z":
                self._answered, state = self._answered + 1, bytes(self._heard[5:6])
            del self._heard[: length + 1]
        if state == b"I" and self._answered == self._asked:
            self._pooler.idle.put_nowait(self.session)
            self.session = self._answer = None
        else:
            self._answer = self._receive()

    def _receive(self) -> asyncio.Future[bytes]:
        assert self.session is not None
        return asyncio.ensure_future(asyncio.get_running_loop().sock_recv(self.session.socket, 65536))

    async def _read(self) -> bytes:
        head = await self._reader.readexactly(5)
        return head + await self._reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


@contextmanager
def pooling(url: str, sessions: int = SESSIONS) -> Iterator[str]:
    """Run a pooler before the server of `url`, and return the address of the same database behind it."""
    pooler, ready, ended = Pooler(url, sessions), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    ports: list[int] = []

    async def serve() -> None:
        server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await ended.wait()
        server.close()
        conversations = asyncio.all_tasks() - {asyncio.current_task()}
        for one in conversations:
            one.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
        await asyncio.sleep(0.01)  # sockets are closed by the loop, in its next rounds
        while not pooler.idle.empty():
            session = pooler.idle.get_nowait()
            if session is not None:
                session.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(5)
        address = make_url(url).set(host="127.0.0.1", port=ports[0], query={})
        yield address.render_as_string(hide_password=False)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()


@contextmanager
def bouncing(url: str) -> Iterator[str]:
    """Run PgBouncer before the server of `url`, and return the address of the same database behind it."""
    folder = Path(tempfile.mkdtemp(prefix="prunella-bouncer-"))
    at = make_url(url)
    port = free_port()
    target = {"host": at.query.get("host", at.host), "port": at.port, "user": at.username, "password": at.password}
    words = " ".join(f"{name}={value}" for name, value in target.items() if value)
    (folder / "users.txt").write_text(f'"{at.username}" "any"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{at.database} = {words}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users.txt\npool_mode = transaction\n"
        "default_pool_size = 4\nserver_login_retry = 1\nlogfile =\n"
    )
    folder.chmod(0o755)
    at_home = str(target["host"]).startswith("/")  # only its owner may enter the folder of a server's socket
    owner = Path(str(target["host"])).stat().st_uid if at_home else _NOBODY
    as_other = ["setpriv", f"--reuid={owner}", "--clear-groups"] if os.geteuid() == 0 else []
    process = subprocess.Popen([*as_other, PGBOUNCER or "", str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield at.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        threading.Event().wait(0.02)
    raise AssertionError("PgBouncer did not come up")


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _refusal(text: str) -> bytes:
    return _message(b"E", f"SFATAL\0C08P01\0M{text}\0\0".encode())
