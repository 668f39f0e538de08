"""The promises of the one way out, kept against real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import socket
import ssl
import struct
import time
import traceback
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import httpcore2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from loopback import Handler, serving
from prunella.core.errors import ConfigError, EgressFailed, EgressRefused
from prunella.egress import Caller, Egress, EgressPolicy, Reply, Resolve, is_public

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # real sockets, and bombs of 100 MiB

LOOPBACK = EgressPolicy(allow_hosts=frozenset({"127.0.0.0/8"}), allow_http=True)
BOMB_BYTES = 100 * 2**20


class Ear:
    """A server on loopback that answers every request with the same bytes and remembers what it heard."""

    def __init__(self, answer: bytes | Handler) -> None:
        self._answer = answer
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            await self._hear(reader)
            if callable(self._answer):
                await self._answer(reader, writer)
                break
            writer.write(self._answer)
            await writer.drain()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        self.requests.append(head + await reader.readexactly(length))


@contextlib.asynccontextmanager
async def listening(
    answer: bytes | Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Ear]:
    ear = Ear(answer)
    async with serving(ear.serve, host=host, tls=tls) as ear.port:
        yield ear


@contextlib.asynccontextmanager
async def egress(
    policy: EgressPolicy = LOOPBACK, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Egress]:
    out = Egress(policy, resolve=resolve, tls=tls)
    try:
        yield out
    finally:
        await out.close()


def answer(body: bytes = b"{}", *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def resolving(*addresses: str) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


@contextlib.contextmanager
def memory_gauge() -> Iterator[Callable[[], int]]:
    """Measure the most memory that Python held at once within the block, beyond what it held before."""
    tracemalloc.start()
    try:
        yield lambda: peaks[0]
    finally:
        peaks = [tracemalloc.get_traced_memory()[1]]
        tracemalloc.stop()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def short_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    await writer.drain()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    return


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6 and no HTTP at all\r\n\r\n")
    await writer.drain()


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b".")
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.02)


# --- where it may call -------------------------------------------------------------------------------------------

LOOPBACK_SPELLINGS = [
    "localhost", "LOCALHOST", "127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "0x7f.1", "0x7f000001",
    "2130706433", "017700000001", "0177.0.0.1", "0x7f.0x0.0x0.0x1", "0", "0.0.0.0", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]", "１２７.0.0.1", "127。0。0。1",
]  # fmt: skip
OTHER_SPELLINGS = [
    "10.0.0.1", "10.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.1", "3232235521", "169.254.169.254",
    "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b:1::a9fe:a9fe]", "100.64.0.1",
    "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001::1]", "[2001:db8::1]", "[3fff::1]",
    "[100::1]", "[2002:a9fe:a9fe::]", "168.63.129.16", "100.100.100.200", "100.127.255.255", "198.19.255.255",
    "[64:ff9b::a83f:8110]", "[::ffff:0:7f00:1]", "[5f00::1]", "[2001:10::1]", "[2001:20::1]", "0.1.2.3", "169.254.170.2",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS + OTHER_SPELLINGS)
async def test_egress_refuses_every_spelling_of_a_private_address(host: str) -> None:
    """A private address is refused however it is written, and a listener there hears nothing."""
    async with listening(answer()) as ear, egress(EgressPolicy(allow_http=True)) as out:
        for scheme in ("http", "https"):
            with pytest.raises(EgressRefused):
                await out.request("POST", f"{scheme}://{host}:{ear.port}/", json={}, deadline_s=5)
        assert ear.connections == 0


@given(st.ip_addresses(v=4))
def test_is_public_rejects_every_address_wrapped_in_ipv6(address: IPv4Address) -> None:
    """No IPv4 address becomes public by being wrapped: mapped, compatible, NAT64 or 6to4."""
    number = int(address)
    for wrapped in (0xFFFF << 32 | number, number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert not is_public(str(IPv6Address(wrapped)))


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1"])
def test_is_public_accepts_the_public_internet(address: str) -> None:
    """Ordinary public addresses pass: the check is no wall."""
    assert is_public(address)


async def test_egress_refuses_a_name_with_one_private_answer() -> None:
    """A name that resolves to a public and a private address is refused as a whole."""
    async with egress(EgressPolicy(allow_http=True), resolve=resolving("93.184.216.34", "10.0.0.7")) as out:
        with pytest.raises(EgressRefused, match=r"mixed\.test: address 10\.0\.0\.7 is not public"):
            await out.request("GET", "http://mixed.test/")


async def test_egress_connects_to_the_address_it_checked() -> None:
    """A name that turns to another address between two calls is judged anew by what will be connected to."""
    turns = iter(["127.0.0.1", "127.0.0.2"])

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return [next(turns)]

    policy = EgressPolicy(allow_hosts=frozenset({"127.0.0.1/32"}), allow_http=True)
    async with listening(answer(b"{}", "Connection: close")) as good, egress(policy, resolve=rebinding) as out:
        assert (await out.request("GET", f"http://turning.test:{good.port}/")).status == 200
        with pytest.raises(EgressRefused):
            await out.request("GET", f"http://turning.test:{good.port}/")
        assert good.connections == 1


REBINDS = 200


@pytest.mark.parametrize("kept", [True, False], ids=["kept alive", "closed"])
async def test_rebinding_name_never_reaches_the_canary(kept: bool) -> None:
    """A name whose answer flips, or mixes, between two lookups: two hundred calls, and nobody calls where it turned to."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]] * REBINDS)
    looked = 0

    async def rebinding(host: str, port: int) -> Sequence[str]:
        nonlocal looked
        looked += 1
        return next(answers)

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"{}", "Connection: close"))

    policy = EgressPolicy(allow_hosts=frozenset({"127.0.0.1/32"}), allow_http=True)
    refused, canary = 0, Ear(answer())
    async with (
        listening(answer() if kept else hear) as good,
        serving(canary.serve, host="127.0.0.2", port=good.port),
        egress(policy, resolve=rebinding) as out,
    ):
        for _ in range(REBINDS):
            try:
                await out.request("GET", f"http://turning.test:{good.port}/", headers={"Authorization": "Bearer x"})
            except EgressRefused:
                refused += 1
    assert canary.connections == 0
    assert (looked, refused) == ((1, 0) if kept else (REBINDS, REBINDS * 3 // 4))


class Astray(httpcore2.AsyncNetworkBackend):
    """A network that connects elsewhere than it was told, as a proxy in its way does."""

    async def connect_tcp(self, host: str, port: int, *how: Any, **more: Any) -> httpcore2.AsyncNetworkStream:
        return await httpcore2.AnyIOBackend().connect_tcp("127.0.0.1", port)


async def test_egress_looks_where_the_socket_leads() -> None:
    """What the socket is connected to is judged, too, before a byte leaves: not only what was asked for."""
    async with listening(answer()) as ear, egress(EgressPolicy(allow_http=True), resolve=resolving("1.1.1.1")) as out:
        out._network._network = Astray()  # type: ignore[assignment]
        with pytest.raises(EgressRefused, match=r"astray\.test: address 127\.0\.0\.1 is not public"):
            await out.request("GET", f"http://astray.test:{ear.port}/", headers={"Authorization": "Bearer x"})
        with pytest.raises(EgressRefused, match="not public"):
            await out.reach("astray.test", ear.port, tls=False)
    assert ear.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_credentials_stay_with_the_host_that_was_asked(status: int) -> None:
    """Whatever kind of redirect, and to whichever host: the second one hears neither request nor Authorization."""
    async with listening(answer(), host="127.0.0.2") as canary:
        sent = [f"Location: http://127.0.0.2:{canary.port}/", f"Refresh: 0; url=http://127.0.0.2:{canary.port}/"]
        async with listening(answer(b"", *sent, status=f"{status} Moved")) as ear, egress() as out:
            how = {
                "headers": {"Authorization": "Bearer T0psecret", "Cookie": "a=T0psecret"},
                "json": {"k": "T0psecret"},
            }
            reply = await out.request("POST", f"http://127.0.0.1:{ear.port}/", **how)  # type: ignore[arg-type]
        assert (reply.status, canary.connections, len(ear.requests)) == (status, 0, 1)


@pytest.mark.parametrize("entry", ["127.0.0.1", "127.0.0.1:{port}", "127.0.0.0/8"])
async def test_egress_calls_an_allowed_private_host(entry: str) -> None:
    """A private host is reached when the policy names it, its port, or its range."""
    async with listening(answer(b'{"ok":true}')) as ear:
        policy = EgressPolicy(allow_hosts=frozenset({entry.format(port=ear.port)}), allow_http=True)
        async with egress(policy) as out:
            assert (await out.request("GET", f"http://127.0.0.1:{ear.port}/")).json() == {"ok": True}


async def test_egress_refuses_another_port_of_an_allowed_host() -> None:
    """An entry with a port opens that port only."""
    async with listening(answer()) as ear, listening(answer()) as other:
        policy = EgressPolicy(allow_hosts=frozenset({f"127.0.0.1:{ear.port}"}), allow_http=True)
        async with egress(policy) as out:
            with pytest.raises(EgressRefused, match=f"add '127.0.0.1:{other.port}' to egress.allow_hosts"):
                await out.request("GET", f"http://127.0.0.1:{other.port}/")
        assert other.connections == 0


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://api.test/", "http is not allowed"),
        ("ftp://api.test/", "needs a scheme and a host"),
        ("file:///etc/passwd", "needs a scheme and a host"),
        ("//api.test/", "needs a scheme and a host"),
        ("https:///path", "needs a scheme and a host"),
        ("https://user@api.test/", "holds a user or password"),
        ("https://user:hunter2@api.test/", "holds a user or password"),
        ("https://api.test@127.0.0.1/", "holds a user or password"),
        ("https://api.test:99999/", "port 99999 does not exist"),
        ("https://api.test/\r\nHost: evil", "no valid URL"),
        ("https://999.1.1.1/", "no valid URL"),
        ("https://api.test/half a character: \udcff", "no valid URL"),
    ],
)
async def test_egress_refuses_an_address_it_cannot_vouch_for(url: str, why: str) -> None:
    """Plain HTTP, other schemes, users in the address and broken addresses are refused with their reason."""
    async with egress(EgressPolicy()) as out:
        with pytest.raises(EgressRefused, match=why) as refused:
            await out.request("GET", url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("entry", ["*.internal", "https://n8n.internal", "10.0.0.1/8", "n8n internal", "", "user@host"])
def test_policy_refuses_an_entry_it_would_never_match(entry: str) -> None:
    """An entry that could not match anything is a mistake and is named."""
    with pytest.raises(ConfigError, match=r"egress\.allow_hosts"):
        EgressPolicy(allow_hosts=frozenset({entry}))


@pytest.mark.parametrize("headers", [{"Host": "evil"}, {"X-A": "a\r\nX-B: b"}, {"bad name": "x"}, {"X": "snow ☃"}])
async def test_egress_refuses_headers_that_would_reframe_the_request(headers: dict[str, str]) -> None:
    """A header that changes where a request goes or ends is refused before anything is sent."""
    async with listening(answer()) as ear, egress() as out:
        with pytest.raises(EgressRefused):
            await out.request("GET", f"http://127.0.0.1:{ear.port}/", headers=headers)
        assert ear.connections == 0


# --- what it sends -----------------------------------------------------------------------------------------------


async def test_egress_sends_what_it_was_given() -> None:
    """Method, path, query, headers and body arrive unaltered, with our name on them."""
    async with listening(answer()) as ear, egress() as out:
        caller: Caller = out
        url = f"http://127.0.0.1:{ear.port}/a%2Fb?x=1&y=%20"
        await caller.request("PATCH", url, headers={"Idempotency-Key": "k1"}, json={"é": [1, None]})
        await caller.request("POST", url, form={"a": "1 2", "b": "&"})
        await caller.request("PUT", url, content=b"raw \x00 bytes", headers={"content-type": "text/x"})
        await caller.request("GET", url)
    first, form, raw, bare = ear.requests
    assert first.startswith(b"PATCH /a%2Fb?x=1&y=%20 HTTP/1.1\r\n")
    assert f"\r\nhost: 127.0.0.1:{ear.port}\r\n".encode() in first
    assert b"\r\nidempotency-key: k1\r\n" in first
    assert b"\r\nuser-agent: prunella/" in first
    assert b"\r\ncontent-type: application/json\r\n" in first
    assert json.loads(first.partition(b"\r\n\r\n")[2]) == {"é": [1, None]}
    assert form.endswith(b"\r\n\r\na=1+2&b=%26")
    assert b"application/x-www-form-urlencoded" in form
    assert raw.endswith(b"\r\n\r\nraw \x00 bytes")
    assert b"text/x" in raw
    assert b"content-length" not in bare.lower()


@pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": object()}, "deep"])
async def test_egress_refuses_a_body_that_is_no_json(body: object) -> None:
    """A body that JSON can't carry is refused before anything is sent."""
    if body == "deep":
        for _ in range(100_000):
            body = [body]
    async with egress() as out:
        with pytest.raises(EgressRefused, match="can't be written as JSON"):
            await out.request("POST", "http://127.0.0.1:1/", json=body)


async def test_egress_reuses_a_connection_and_keeps_no_cookies() -> None:
    """Calls to one host share a connection, and what one reply sets never travels with the next request."""
    async with listening(answer(b"{}", "Set-Cookie: session=s3cret")) as ear, egress() as out:
        for _ in range(3):
            await out.request("GET", f"http://127.0.0.1:{ear.port}/")
    assert ear.connections == 1
    assert not any(b"s3cret" in request for request in ear.requests)


async def test_egress_ignores_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment neither sees a request nor lifts the address check."""
    async with listening(answer()) as proxy, listening(answer()) as ear, egress() as out:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await out.request("GET", f"http://127.0.0.1:{ear.port}/")
    assert (proxy.connections, ear.connections) == (0, 1)


# --- what it brings back -----------------------------------------------------------------------------------------


async def test_egress_returns_a_redirect_without_following_it() -> None:
    """A redirect is a reply like any other; where it points to hears nothing."""
    async with listening(answer()) as canary:
        location = f"Location: http://127.0.0.1:{canary.port}/"
        async with listening(answer(b"", location, status="302 Found")) as ear, egress() as out:
            reply = await out.request("GET", f"http://127.0.0.1:{ear.port}/")
        assert (reply.status, reply.headers["location"]) == (302, location[10:])
        assert canary.connections == 0


async def test_reply_reads_headers_text_and_json() -> None:
    """Header names are lower-case, repeated ones joined, and bytes that are no UTF-8 never raise."""
    async with listening(answer(b"caf\xe9", "X-A: 1", "X-A: 2", "Retry-After: 7")) as ear, egress() as out:
        reply = await out.request("GET", f"http://127.0.0.1:{ear.port}/")
    assert reply.headers["x-a"] == "1, 2"
    assert reply.headers["retry-after"] == "7"
    assert reply.text == "caf\ufffd"
    assert reply.elapsed_s > 0


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff", b"[" * 100_000])
def test_reply_says_when_its_body_is_no_json(body: bytes) -> None:
    """A body that is no JSON, or too deep to be read, is one kind of failure."""
    with pytest.raises(EgressFailed) as failed:
        Reply(200, {}, body, 0.0).json()
    assert failed.value.exc_type == "JSONDecodeError"


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hello world")),
        ("GZIP", gzip.compress(b"hello ") + gzip.compress(b"world")),
        ("deflate", zlib.compress(b"hello world")),
        ("identity", b"hello world"),
    ],
    ids=["gzip", "gzip-members", "zlib", "identity"],
)
async def test_egress_unpacks_a_compressed_reply(encoding: str, packed: bytes) -> None:
    """Compressed replies arrive unpacked, also in several members."""
    async with listening(answer(packed, f"Content-Encoding: {encoding}")) as ear, egress() as out:
        assert (await out.request("GET", f"http://127.0.0.1:{ear.port}/")).body == b"hello world"


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("gzip", b"no gzip"), ("gzip", gzip.compress(b"hello world" * 99)[:-12]), ("br", b"x"), ("gzip, gzip", b"x")],
    ids=["no-gzip", "cut", "brotli", "twice"],
)
async def test_egress_reports_a_reply_it_cannot_unpack(encoding: str, packed: bytes) -> None:
    """Broken, cut or unasked-for compression is a failure and never half a body."""
    async with listening(answer(packed, f"Content-Encoding: {encoding}")) as ear, egress() as out:
        with pytest.raises(EgressFailed) as failed:
            await out.request("GET", f"http://127.0.0.1:{ear.port}/")
    assert (failed.value.exc_type, failed.value.sent) == ("DecodingError", True)


async def test_egress_reads_up_to_its_limit_and_no_further() -> None:
    """A body of exactly the limit is whole, one more byte is a failure, and the next call works."""
    policy = EgressPolicy(allow_hosts=LOOPBACK.allow_hosts, allow_http=True, bytes_max=1000)
    async with egress(policy) as out:
        for body, encoding in ((b"x" * 1000, "identity"), (gzip.compress(b"x" * 1000), "gzip")):
            async with listening(answer(body, f"Content-Encoding: {encoding}")) as ear:
                assert (await out.request("GET", f"http://127.0.0.1:{ear.port}/")).body == b"x" * 1000
        for body, encoding in ((b"x" * 1001, "identity"), (gzip.compress(b"x" * 1001), "gzip")):
            async with listening(answer(body, f"Content-Encoding: {encoding}")) as ear:
                for _ in range(2):
                    with pytest.raises(EgressFailed, match="longer than 1000 bytes") as failed:
                        await out.request("GET", f"http://127.0.0.1:{ear.port}/")
                    assert failed.value.exc_type == "ReplyTooLarge"


@pytest.fixture(scope="module")
def bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    zeros = bytes(2**20)
    return b"".join([*(packer.compress(zeros) for _ in range(BOMB_BYTES // len(zeros))), packer.flush()])


async def test_egress_survives_a_compression_bomb(bomb: bytes) -> None:
    """A reply that unpacks to 100 MiB ends at the limit, without memory for more than a few times the limit."""
    async with listening(answer(bomb, "Content-Encoding: gzip")) as ear, egress() as out:
        with memory_gauge() as peak_bytes, pytest.raises(EgressFailed, match="longer than 1048576 bytes"):
            await out.request("GET", f"http://127.0.0.1:{ear.port}/")
    assert peak_bytes() < 8 * 2**20


def test_memory_gauge_notices_a_careless_client(bomb: bytes) -> None:
    """The gauge used above does see memory grow when a bomb is unpacked whole."""
    with memory_gauge() as peak_bytes:
        zlib.decompress(bomb, zlib.MAX_WBITS | 16)
    assert peak_bytes() > BOMB_BYTES / 2


# --- how it fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "exc_type", "errno_name"),
    [
        (reset, "ConnectionResetError", "ECONNRESET"),
        (short_body, "RemoteProtocolError", None),
        (hang_up, "RemoteProtocolError", None),
        (garbage, "RemoteProtocolError", None),
        (hang, "TimeoutError", None),
        (drip, "TimeoutError", None),
    ],
)
async def test_egress_names_the_cause_of_a_lost_reply(handler: Handler, exc_type: str, errno_name: str | None) -> None:
    """What broke after the request left is named by its own class, and may have had its effect."""
    deadline_s = 0.3 if exc_type == "TimeoutError" else 30.0
    async with listening(handler) as ear, egress() as out:
        with pytest.raises(EgressFailed) as failed:
            await out.request("POST", f"http://127.0.0.1:{ear.port}/", json={}, deadline_s=deadline_s)
    assert (failed.value.exc_type, failed.value.errno_name, failed.value.sent) == (exc_type, errno_name, True)
    assert len(ear.requests) == 1


async def test_egress_proves_that_a_refused_connection_sent_nothing() -> None:
    """A closed port is named and nothing left."""
    async with listening(answer()) as ear:
        port = ear.port
    async with egress() as out:
        with pytest.raises(EgressFailed) as failed:
            await out.request("POST", f"http://127.0.0.1:{port}/", json={})
    assert failed.value.exc_type == "ConnectionRefusedError"
    assert (failed.value.errno_name, failed.value.sent) == ("ECONNREFUSED", False)


@pytest.mark.parametrize("name", ["EAI_AGAIN", "EAI_NONAME"])
async def test_egress_names_a_failed_lookup(name: str) -> None:
    """A name that does not resolve is told apart from one that may resolve later, and nothing left."""

    async def failing(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(getattr(socket, name), "lookup failed")

    async with egress(resolve=failing) as out:
        with pytest.raises(EgressFailed) as failed:
            await out.request("GET", "https://api.test/")
    assert (failed.value.exc_type, failed.value.errno_name, failed.value.sent) == ("gaierror", name, False)


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".test"])
async def test_egress_reports_a_name_that_dns_cannot_carry(host: str) -> None:
    """A host name with impossible labels is a failure in which nothing left, not a crash."""
    async with egress() as out:
        with pytest.raises(EgressFailed) as failed:
            await out.request("GET", f"https://{host}/")
    assert failed.value.sent is False


async def test_egress_tries_the_next_address_when_one_is_dead() -> None:
    """A name whose first address refuses is reached at its second."""
    async with listening(answer(), host="127.0.0.2") as ear, egress(resolve=resolving("127.0.0.3", "127.0.0.2")) as out:
        assert (await out.request("GET", f"http://twofold.test:{ear.port}/")).status == 200


@pytest.mark.parametrize("handler", [hang, drip])
async def test_egress_ends_at_its_deadline(handler: Handler) -> None:
    """The deadline holds for everything together, however often a server moves a byte."""
    async with listening(handler) as ear, egress() as out:
        started_s = time.monotonic()
        with pytest.raises(EgressFailed, match=r"no reply within 0\.4 s"):
            await out.request("GET", f"http://127.0.0.1:{ear.port}/", deadline_s=0.4)
        assert 0.3 < time.monotonic() - started_s < 1.4


async def test_egress_waiting_for_a_name_sent_nothing_at_its_deadline() -> None:
    """A deadline that strikes before the connection stands proves that nothing left."""

    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    async with egress(resolve=never) as out:
        with pytest.raises(EgressFailed) as failed:
            await out.request("GET", "https://api.test/", deadline_s=0.1)
    assert (failed.value.exc_type, failed.value.sent) == ("TimeoutError", False)


async def test_egress_keeps_the_story_of_its_caller_apart() -> None:
    """A call made while another error is being handled names its own cause."""
    async with listening(hang_up) as ear, egress() as out:
        try:
            raise ConnectionRefusedError(111, "another story")
        except ConnectionRefusedError:
            with pytest.raises(EgressFailed) as failed:
                await out.request("GET", f"http://127.0.0.1:{ear.port}/")
    assert failed.value.exc_type == "RemoteProtocolError"


@pytest.mark.parametrize("handler", [reset, short_body, hang_up, garbage, hang])
async def test_egress_puts_no_secret_into_an_error_or_a_log(handler: Handler, caplog: pytest.LogCaptureFixture) -> None:
    """Path, query, header values and body stay out of messages, tracebacks and logs at every level."""
    caplog.set_level(logging.DEBUG)
    async with listening(handler) as ear, egress() as out:
        with pytest.raises(EgressFailed) as failed:
            await out.request(
                "POST",
                f"http://127.0.0.1:{ear.port}/hook/T0psecret?sig=T0psecret",
                headers={"Authorization": "Bearer T0psecret"},
                json={"token": "T0psecret"},
                deadline_s=0.2,
            )
    assert str(failed.value).startswith("POST 127.0.0.1: ")
    assert "T0psecret" not in "".join(traceback.format_exception(failed.value)) + repr(failed.value) + caplog.text


async def test_egress_logs_nothing_of_a_reply(caplog: pytest.LogCaptureFixture) -> None:
    """A good call leaves no headers in the libraries' logs either, with everything set to DEBUG."""
    caplog.set_level(logging.DEBUG)
    async with listening(answer(b"{}", "Set-Cookie: session=T0psecret")) as ear, egress() as out:
        await out.request("GET", f"http://127.0.0.1:{ear.port}/?key=T0psecret")
    assert "T0psecret" not in caplog.text


# --- TLS ---------------------------------------------------------------------------------------------------------


def certified(folder: Path, name: str, *, days: int = 30) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS settings of a server that is `name`, and of a client that trusts its maker."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


async def test_egress_keeps_the_name_over_tls(tmp_path: Path) -> None:
    """The socket goes to the checked address; certificate, server name and Host stay the name's."""
    server, client = certified(tmp_path, "api.test")
    seen: list[str | None] = []
    server.set_servername_callback(lambda sock, name, context: seen.append(name))
    async with listening(answer(), tls=server) as ear, egress(resolve=resolving("127.0.0.1"), tls=client) as out:
        reply = await out.request("GET", f"https://api.test:{ear.port}/")
    assert reply.status == 200
    assert seen == ["api.test"]
    assert f"host: api.test:{ear.port}".encode() in ear.requests[0]


@pytest.mark.parametrize(
    ("name", "days", "trusted", "why"),
    [
        ("api.test", -1, True, "certificate has expired"),
        ("other.test", 30, True, "Hostname mismatch"),
        ("api.test", 30, False, "self-signed certificate"),
    ],
)
async def test_egress_refuses_a_certificate_and_sends_nothing(
    tmp_path: Path, name: str, days: int, trusted: bool, why: str
) -> None:
    """An expired, foreign or unknown certificate ends the call before the request leaves."""
    server, client = certified(tmp_path, name, days=days)
    tls = client if trusted else None
    async with listening(answer(), tls=server) as ear, egress(resolve=resolving("127.0.0.1"), tls=tls) as out:
        with pytest.raises(EgressFailed, match=why) as failed:
            await out.request("GET", f"https://api.test:{ear.port}/")
    assert (failed.value.exc_type, failed.value.errno_name) == ("SSLCertVerificationError", None)
    assert failed.value.sent is False
    assert ear.requests == []


async def test_egress_names_a_server_that_speaks_no_tls() -> None:
    """HTTPS to a plain port is a TLS failure in which nothing of the request left."""

    async def speak_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer())

    async with serving(speak_plainly) as port, egress() as out:
        with pytest.raises(EgressFailed, match="TLS failed") as failed:
            await out.request("GET", f"https://127.0.0.1:{port}/")
    assert (failed.value.exc_type, failed.value.sent) == ("SSLError", False)
