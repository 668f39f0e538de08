"""The one way out over HTTP: every address is checked at the moment of connecting, every call ends in time.

Never follows a redirect, never reads proxies from the environment, never keeps cookies, and never puts a path, a
query string, a header's value or a body into an error: the host is all that a message names.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json as json_format
import logging
import os
import re
import socket
import ssl
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import httpcore2
import httpx2

from prunella.core.clock import Clock, SystemClock
from prunella.core.errors import ConfigError, EgressFailed, EgressRefused
from prunella.core.redact import scrub

UNSET: Final[Any] = object()
"""Say "no JSON body", because None is a JSON body."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Turn a host and a port into the addresses to connect to, best first."""

_CONNECTIONS_MAX = 100
_IDLE_MAX = 20
_IDLE_S = 1.5  # shorter than the shortest usual server limit (2 s), so that a server rarely hangs up on a reused one
_CONNECT_S = 1.5  # per address while others are left, so that a dead IPv6 route leaves time for IPv4
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5
_ALLOWED_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
_BROKEN = (OSError, UnicodeError, httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError)
_LOOKUP_NAMES = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}

try:
    _USER_AGENT = f"prunella/{version('prunella')}"
except PackageNotFoundError:  # run from a source tree that is not installed
    _USER_AGENT = "prunella/0"

_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")  # all that IANA hands out; NAT64 and IPv4-mapped lie outside it
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    # protocol assignments, 6to4 relays, Azure's host (metadata), Teredo and kin, documentation, 6to4, documentation;
    # shared, link-local and benchmark ranges again, because what `ipaddress` calls global differs by Python's version
    for network in (
        *("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        *("0.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "198.18.0.0/15", "240.0.0.0/4"),
    )
)

for _library in ("httpx2", "httpcore2"):  # they print whole URLs at INFO and headers at DEBUG
    logging.getLogger(_library).setLevel(logging.WARNING)


def is_public(address: str) -> bool:
    """Tell whether `address` belongs to the public internet (IANA special-purpose registries, RFC 6890)."""
    parsed = ipaddress.ip_address(address)
    if parsed.version == 6 and parsed not in _UNICAST_V6:
        return False
    return parsed.is_global and not parsed.is_multicast and not any(parsed in network for network in _NOT_PUBLIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """Say where prunella may call and how much it reads.

    Args:
        allow_hosts: `host`, `host:port` (`[::1]:80`) or a CIDR range that may be private; public hosts need no entry.
        allow_http: calls without TLS, too; off, because headers carry credentials.
        bytes_max: longest body read, after decompression; 1 MiB holds any error and any token reply.
    """

    allow_hosts: frozenset[str] = frozenset()
    allow_http: bool = False
    bytes_max: int = 2**20

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow_hosts", frozenset(entry.lower() for entry in self.allow_hosts))
        problems = [
            f"egress.allow_hosts: {entry!r} is no host, host:port or CIDR range; wildcards and addresses with a "
            f"scheme are not understood, write e.g. 'n8n.internal:5678' or '10.1.0.0/16'"
            for entry in sorted(self.allow_hosts)
            if not _is_allow_entry(entry)
        ]
        if self.bytes_max < 1:
            problems.append(f"egress.bytes_max: must be at least 1 byte, got {self.bytes_max}; the default is {2**20}")
        if problems:
            raise ConfigError(problems)

    def admits(self, host: str, port: int, address: str) -> bool:
        """Tell whether `host` may be called at `address`."""
        if self.names(host, port) or is_public(address):
            return True
        parsed = ipaddress.ip_address(address)
        return any(parsed in ipaddress.ip_network(entry) for entry in self.allow_hosts if "/" in entry)

    def names(self, host: str, port: int) -> bool:
        """Tell whether `host` itself is allowed, which may then be called wherever it leads."""
        name = _shown(host.lower().rstrip("."))
        return not self.allow_hosts.isdisjoint({name, f"{name}:{port}"})


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_allow_entry(entry: str) -> bool:
    if _ALLOWED_HOST.fullmatch(entry):
        return True
    try:
        ipaddress.ip_network(entry)
    except ValueError:
        return False
    return "/" in entry


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: any status, redirects included; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_s: float

    @property
    def text(self) -> str:
        """Return the body as UTF-8, with U+FFFD for what is none."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body read as JSON; raise EgressFailed where it is none."""
        try:
            return json_format.loads(self.body)
        except (ValueError, RecursionError):
            raise EgressFailed(f"reply {self.status}: the body is no JSON", exc_type="JSONDecodeError") from None


class Caller(Protocol):
    """Call the outside world: `Egress`, or a simulated world in its place."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = UNSET,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        deadline_s: float = 5.0,
    ) -> Reply:
        """Send one request and return its reply; raise EgressRefused or EgressFailed."""
        ...


class Egress:
    """Call the outside world over real sockets; one instance per event loop.

    Args:
        resolve: looks names up; default: the operating system.
        tls: trust and protocol settings; default: the operating system's certificates (or SSL_CERT_FILE).
    """

    def __init__(
        self,
        policy: EgressPolicy | None = None,
        *,
        clock: Clock | None = None,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy or EgressPolicy()
        self._clock = clock or SystemClock()
        self._tls = tls or httpcore2.default_ssl_context()
        self._network = _CheckedNetwork(Dialer(self._policy, resolve or _resolve))
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=self._tls,
            max_connections=_CONNECTIONS_MAX,
            max_keepalive_connections=_IDLE_MAX,
            keepalive_expiry=_IDLE_S,
            network_backend=self._network,
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = UNSET,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        deadline_s: float = 5.0,
    ) -> Reply:
        """Send one request and return its reply, whatever its status.

        Args:
            headers: names as wished; those that frame the message (host, content-length …) are ours.
            json, form, content: the body; at most one of them.
            deadline_s: seconds for everything together, from the name lookup to the last byte; 5 s leaves room for
                one repeat within the 10 s that document B allows for a request.

        Raises:
            EgressRefused: nothing was sent, and nothing will be until the caller or the policy changes.
            EgressFailed: no usable reply; `sent` False where nothing left the process.
        """
        target = _target(method, url, self._policy)
        body, content_type = _body(json, form, content)
        watch, outer = _Watch(), sys.exception()
        started_s = self._clock.monotonic()
        try:
            async with (
                asyncio.timeout(deadline_s),
                self._pool.stream(
                    method,
                    _core_url(target),
                    headers=_headers(target, headers or {}, content_type),
                    content=body,
                    extensions={"trace": watch},
                ) as response,
            ):
                reply_headers = _joined(response.headers)
                gathered = _Gathered(reply_headers.get("content-encoding", ""), self._policy.bytes_max)
                async for chunk in response.aiter_stream():
                    gathered.add(chunk)
                return Reply(response.status, reply_headers, gathered.end(), self._clock.monotonic() - started_s)
        except _BROKEN as exc:
            fact = _fact(cause := _innermost(exc, outer), deadline_s)
            raise EgressFailed(
                scrub(f"{method} {target.host}: {fact}"),
                exc_type=type(cause).__name__,
                errno_name=_errno_name(cause),
                sent=watch.sent,
            ) from None

    async def reach(self, host: str, port: int, *, tls: bool, deadline_s: float = 5.0) -> None:
        """Connect as a request would, through the same checks, and hang up; nothing is sent.

        Raises:
            EgressRefused: the address may not be called.
            EgressFailed: no connection came about.
        """
        outer = sys.exception()
        try:
            async with asyncio.timeout(deadline_s):
                stream = await self._network.connect_tcp(host, port)
                try:
                    stream = await stream.start_tls(self._tls, server_hostname=host) if tls else stream
                finally:
                    await stream.aclose()
        except _BROKEN as exc:
            fact = _fact(cause := _innermost(exc, outer), deadline_s)
            raise EgressFailed(
                scrub(f"{host}: {fact}"), exc_type=type(cause).__name__, errno_name=_errno_name(cause), sent=False
            ) from None

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


async def _resolve(host: str, port: int) -> Sequence[str]:
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in answers]


@dataclass(frozen=True, slots=True)
class Dialer:
    """Open connections for what is not HTTP, by the same rule."""

    policy: EgressPolicy = EgressPolicy()
    resolve: Resolve = _resolve

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Look a name up, once, and return where it leads; EgressRefused where any of that may not be called."""
        found = await self.resolve(host, port)
        for address in found:
            self.must_admit(host, port, address)
        return found

    def must_admit(self, host: str, port: int, address: str) -> None:
        """Raise EgressRefused where `host` may not be called at `address`."""
        if not self.policy.admits(host, port, address):
            raise EgressRefused(
                f"{host}: address {address} is not public; add '{_shown(host)}:{port}' to egress.allow_hosts "
                f"if prunella may call it"
            )

    async def dial(self, host: str, port: int) -> socket.socket:
        """Return a connected socket that does not block.

        Raises:
            EgressRefused: the address may not be called.
            OSError: no connection came about; of several addresses, what the last one said.
        """
        failure: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
        addresses = await self.addresses(host, port)
        for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            line = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            line.setblocking(False)
            try:
                async with asyncio.timeout(_CONNECT_S if left else None):
                    await asyncio.get_running_loop().sock_connect(line, (address, port))
                self.must_admit(host, port, str(line.getpeername()[0]))
            except OSError as exc:
                line.close()
                failure = exc
            except BaseException:
                line.close()
                raise
            else:
                return line
        raise failure


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connect to checked addresses only: the name is looked up once, and what was checked is what is connected to."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await self._dialer.addresses(host, port)
        failure: Exception = socket.gaierror(socket.EAI_NONAME, "no address")
        for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            try:
                stream = await self._network.connect_tcp(address, port, timeout=_CONNECT_S if left else timeout)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as exc:
                failure = exc
            else:
                await self._must_be_admitted(stream, host, port)
                return stream
        raise failure

    async def _must_be_admitted(self, stream: httpcore2.AsyncNetworkStream, host: str, port: int) -> None:
        """Look where the socket leads, whatever was asked for, before anything is sent on it."""
        try:
            self._dialer.must_admit(host, port, str(stream.get_extra_info("server_addr")[0]))
        except BaseException:
            await stream.aclose()
            raise


class _Watch:
    """Notice the moment at which the first byte of a request may leave."""

    sent = False

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "http11.send_request_headers.started":
            self.sent = True


class _Gathered:
    """Gather a body, decompressed, and stop at the limit before memory grows."""

    def __init__(self, encoding: str, bytes_max: int) -> None:
        self._encoding = encoding.strip().lower()
        self._bytes_max = bytes_max
        self._body = bytearray()
        self._unpacker: Any = None

    def add(self, chunk: bytes) -> None:
        if self._encoding in ("", "identity"):
            self._keep(chunk)
        elif self._encoding in ("gzip", "x-gzip", "deflate"):
            self._unpack(chunk)
        else:
            raise _unreadable(f"encoded as {self._encoding[:40]!r}, which was not asked for")

    def end(self) -> bytes:
        if self._unpacker is not None and not self._unpacker.eof:
            raise _unreadable("compressed and broke off")
        return bytes(self._body)

    def _unpack(self, chunk: bytes) -> None:
        while chunk:  # more than one round only where several gzip members follow each other (RFC 1952 section 2.2)
            if self._unpacker is None or self._unpacker.eof:
                self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # | 32: gzip or zlib, as the data says
            try:
                self._keep(self._unpacker.decompress(chunk, self._bytes_max - len(self._body) + 1))
            except zlib.error:
                raise _unreadable("said to be compressed and is not") from None
            chunk = self._unpacker.unused_data

    def _keep(self, piece: bytes) -> None:
        if len(self._body) + len(piece) > self._bytes_max:
            raise EgressFailed(
                f"reply: longer than {self._bytes_max} bytes; raise egress.bytes_max if that is expected",
                exc_type="ReplyTooLarge",
            )
        self._body += piece


def _unreadable(fact: str) -> EgressFailed:
    return EgressFailed(f"reply: {fact}", exc_type="DecodingError")


def _target(method: str, url: str, policy: EgressPolicy) -> httpx2.URL:
    if not _TOKEN.fullmatch(method):
        raise EgressRefused("request: the method is no HTTP token; use e.g. GET or POST")
    try:
        target = httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError):
        raise EgressRefused("request: the address is no valid URL; write https://host/path") from None
    if target.scheme not in ("https", "http") or not target.host:
        raise EgressRefused("request: the address needs a scheme and a host; write https://host/path")
    if target.port is not None and not 0 < target.port < 65536:
        raise EgressRefused(f"{target.host}: port {target.port} does not exist; use 1 to 65535")
    if target.userinfo:
        raise EgressRefused(f"{target.host}: the address holds a user or password; send them in a header")
    if target.scheme == "http" and not policy.allow_http:
        raise EgressRefused(f"{target.host}: http is not allowed; use https or set egress.allow_http: true")
    return target


def _core_url(target: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)


def _body(json: Any, form: Mapping[str, str] | None, content: bytes | None) -> tuple[bytes | None, str | None]:
    if (json is not UNSET) + (form is not None) + (content is not None) > 1:
        raise EgressRefused("request: more than one body; give json, form or content")
    if form is not None:
        return urlencode(form).encode(), "application/x-www-form-urlencoded"
    if json is UNSET:
        return content, None
    try:
        return json_format.dumps(json, allow_nan=False, separators=(",", ":")).encode(), "application/json"
    except (TypeError, ValueError, RecursionError) as exc:
        raise EgressRefused(f"request: the body can't be written as JSON ({type(exc).__name__})") from None


def _headers(target: httpx2.URL, headers: Mapping[str, str], content_type: str | None) -> list[tuple[bytes, bytes]]:
    merged = {"user-agent": _USER_AGENT, "accept": "*/*"}
    if content_type is not None:
        merged["content-type"] = content_type
    for name, value in headers.items():
        if name.lower() in _OURS or not _TOKEN.fullmatch(name):
            raise EgressRefused(f"{target.host}: header {name[:40]!r} can't be set by the caller; leave it out")
        if not _VALUE.fullmatch(value):
            raise EgressRefused(f"{target.host}: the value of header {name!r} holds characters that HTTP forbids")
        merged[name.lower()] = value
    ours = [(b"host", target.netloc), (b"accept-encoding", b"gzip")]
    return ours + [(name.encode(), value.strip().encode("latin-1")) for name, value in merged.items()]


def _joined(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw):
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _innermost(exc: BaseException, outer: BaseException | None) -> BaseException:
    """Return the operating system's own error beneath `exc`, or `exc` where there is none.

    `outer` is what the caller was handling already: Python chains it on, but it belongs to another story.
    """
    if isinstance(exc, TimeoutError):
        return exc
    cause, inner = exc, exc.__cause__ or exc.__context__
    while inner is not None and inner is not outer:
        cause = inner if isinstance(inner, OSError) else cause
        inner = inner.__cause__ or inner.__context__
    return cause


def _errno_name(cause: BaseException) -> str | None:
    if isinstance(cause, ssl.SSLError) or not isinstance(cause, OSError) or cause.errno is None:
        return None
    return (_LOOKUP_NAMES if isinstance(cause, socket.gaierror) else errno.errorcode).get(cause.errno)


def _fact(cause: BaseException, deadline_s: float) -> str:
    match cause:
        case TimeoutError():
            return f"no reply within {deadline_s:g} s"
        case socket.gaierror():
            return f"the name does not resolve ({_errno_name(cause)})"
        case ssl.SSLCertVerificationError():
            return f"the certificate is not accepted ({cause.verify_message})"
        case ssl.SSLError():
            return f"TLS failed ({cause.reason})"
        case OSError() if cause.errno is not None:
            return f"{os.strerror(cause.errno)} ({_errno_name(cause)})"
        case httpcore2.RemoteProtocolError():
            return "the reply broke off, or is not HTTP"
    return f"no reply ({type(cause).__name__})"
