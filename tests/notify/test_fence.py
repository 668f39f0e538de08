"""What a fence lets out: by the address of the socket, whatever opens it, and nothing outside its call."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from prunella.core.errors import EgressRefused
from prunella.egress import EgressPolicy
from prunella.notify.fence import Fence


@pytest.fixture
def port() -> Iterator[int]:
    """Listen on loopback, where nobody may go."""
    with socket.create_server(("127.0.0.1", 0)) as ear:
        ear.settimeout(0)
        yield int(ear.getsockname()[1])
        with pytest.raises(BlockingIOError):
            ear.accept()


async def _stream(port: int) -> None:
    await asyncio.open_connection("127.0.0.1", port)


def _connect(port: int) -> None:
    with closing(socket.socket()) as line:
        line.connect(("127.0.0.1", port))


def _connect_ex(port: int) -> None:
    with closing(socket.socket()) as line:
        line.connect_ex(("127.0.0.1", port))


def _by_name(port: int) -> None:
    with closing(socket.socket()) as line:
        line.connect(("localhost", port))


def _datagram(port: int) -> None:
    with closing(socket.socket(type=socket.SOCK_DGRAM)) as line:
        line.sendto(b"x", ("127.0.0.1", port))


def _in_a_thread(port: int) -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(_connect, port).result()


async def _stream_of_an_executor(port: int) -> None:
    await asyncio.get_running_loop().run_in_executor(None, _connect, port)


def _local(_: int) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as line:
        line.connect("/run/no-such.sock")


WAYS: tuple[Callable[[int], object], ...] = (
    lambda port: socket.create_connection(("localhost", port)),
    lambda port: smtplib.SMTP("127.0.0.1", port),
    lambda port: asyncio.run(_stream(port)),
    lambda _: subprocess.run([sys.executable, "-c", ""], check=False),
    _connect,
    _connect_ex,
    _by_name,
    _datagram,
    _in_a_thread,
    lambda port: asyncio.run(_stream_of_an_executor(port)),
    _local,
)


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_inside(port: int, way: Callable[[int], object]) -> None:
    """Streams, mail, loops, datagrams, threads, local sockets and programs: refused before anything is sent."""
    fence = Fence(EgressPolicy())
    with pytest.raises(EgressRefused):
        fence.run(lambda: way(port))
    assert fence.refusal is not None


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.7", "::1", "fd00::1", "0.0.0.0"])
def test_metadata_and_private_addresses_are_refused(address: str) -> None:
    """Before a packet leaves: the address alone decides."""
    with pytest.raises(EgressRefused, match="is not public"):
        Fence(EgressPolicy()).run(lambda: socket.create_connection((address, 80), timeout=0.1))


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "localhost"])
def test_what_the_deployment_allows_is_reached(allowed: str) -> None:
    """By address, range and name; a name is good for where it leads and for no other host."""
    with socket.create_server(("127.0.0.1", 0)) as ear, socket.create_server(("127.0.0.2", 0)) as other:
        fence = Fence(EgressPolicy(allow_hosts=frozenset({allowed})))
        host = "localhost" if allowed == "localhost" else "127.0.0.1"
        fence.run(lambda: socket.create_connection((host, ear.getsockname()[1]))).close()
        if "/" not in allowed:
            with pytest.raises(EgressRefused):
                fence.run(lambda: socket.create_connection(other.getsockname()))


def test_others_are_not_fenced_in() -> None:
    """Neither what comes after it, nor other threads meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as ear:
        reached: list[bool] = []

        def beside() -> None:
            socket.create_connection(ear.getsockname()).close()
            reached.append(True)

        thread = threading.Thread(target=beside)
        fence = Fence(EgressPolicy())
        began = threading.Event()
        fence.run(began.set)
        with pytest.raises(EgressRefused):
            fence.run(lambda: socket.create_connection(ear.getsockname()))
        thread.start()
        thread.join()
        socket.create_connection(ear.getsockname()).close()
    assert (reached, began.is_set()) == ([True], True)


def test_name_that_is_allowed_is_looked_up_in_a_thread_too() -> None:
    """An event loop asks for addresses in a thread of its own: what the deployment names is reached from there."""

    async def stream(port: int) -> None:
        _, writer = await asyncio.open_connection("localhost", port)
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as ear:
        fence = Fence(EgressPolicy(allow_hosts=frozenset({"localhost"})))
        fence.run(lambda: asyncio.run(stream(ear.getsockname()[1])))
    assert fence.refusal is None


def test_without_the_fence_the_same_call_gets_through() -> None:
    """What the other tests refuse does connect by itself: the checker can fail."""
    with socket.create_server(("127.0.0.1", 0)) as ear:
        _connect(ear.getsockname()[1])
        line, (caller, _) = ear.accept()
        line.close()
        assert caller == "127.0.0.1"
