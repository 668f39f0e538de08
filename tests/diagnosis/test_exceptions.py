"""Errors as the real clients raise them are understood: what stands behind them, not what they are wrapped in."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import enum
import errno
import http.client
import json
import smtplib
import socket
import sqlite3
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import httpx
import httpx2
import psycopg
import psycopg_pool
import pytest
import requests
import sqlalchemy
import tenacity
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from prunella.core.records import Diagnosis, Failure
from prunella.diagnosis import classify

Get = Callable[[str, float], object]
TIMEOUT_S = 5.0


def raised(act: Callable[[], object]) -> Exception:
    """Return the error that `act` raises."""
    try:
        act()
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


def meant(error: BaseException, service: str = "orders") -> Diagnosis:
    """Diagnose an error of a service that nobody knows."""
    return classify(Failure.from_exception(error, service=service))


def said(error: BaseException) -> tuple[str, bool]:
    """Return what is wrong and whether to try again."""
    found = meant(error)
    return found.kind, found.retryable


# Clients of HTTP ------------------------------------------------------------------------------------------------------


async def _httpx2_async(url: str, timeout_s: float) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=timeout_s) as client:
        (await client.get(url)).raise_for_status().json()


async def _httpx_async(url: str, timeout_s: float) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=timeout_s) as client:
        (await client.get(url)).raise_for_status().json()


async def _aiohttp(url: str, timeout_s: float) -> None:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(raise_for_status=True, timeout=timeout) as session, session.post(url) as reply:
        await reply.json()


def _requests(url: str, timeout_s: float) -> None:
    with requests.Session() as session:
        session.trust_env = False
        reply = session.get(url, timeout=timeout_s)
        reply.raise_for_status()
        reply.json()


def _urllib3(url: str, timeout_s: float) -> None:
    with urllib3.PoolManager(retries=urllib3.Retry(0), timeout=timeout_s) as pool:
        pool.request("GET", url).json()


def _urllib(url: str, timeout_s: float) -> None:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=timeout_s) as reply:
        json.load(reply)


CLIENTS: dict[str, Get] = {
    "aiohttp": lambda url, timeout_s: asyncio.run(_aiohttp(url, timeout_s)),
    "httpx": lambda url, timeout_s: httpx.get(url, timeout=timeout_s, trust_env=False).raise_for_status().json(),
    "httpx async": lambda url, timeout_s: asyncio.run(_httpx_async(url, timeout_s)),
    "httpx2": lambda url, timeout_s: httpx2.get(url, timeout=timeout_s, trust_env=False).raise_for_status().json(),
    "httpx2 async": lambda url, timeout_s: asyncio.run(_httpx2_async(url, timeout_s)),
    "requests": _requests,
    "urllib": _urllib,
    "urllib3": _urllib3,
}
RAISING = sorted(CLIENTS.keys() - {"urllib3"})  # which raises no error for a status


def closed_port() -> int:
    """Return a port of loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def answering(answer: bytes | None, tls: ssl.SSLContext | None = None, *, reset: bool = False) -> Iterator[str]:
    """Serve one connection: send these bytes and close, or reset the connection, or stay silent (None)."""
    done = threading.Event()

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection, tls.wrap_socket(connection, server_side=True) if tls else connection as stream:
                stream.recv(65536)
                if answer is None:
                    done.wait(TIMEOUT_S)
                elif reset:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                else:
                    stream.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.getsockname()[1]}/"
        done.set()
        thread.join()


def reply(status: str, body: str, kind: str = "application/json") -> bytes:
    """Return an answer as it goes over the line."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Return a server's side of TLS with a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, plain)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize("client", CLIENTS)
def test_refused_connection_is_one(client: str) -> None:
    """Nobody listens: a connection, by the system's own code."""
    error = raised(lambda: CLIENTS[client](f"http://127.0.0.1:{closed_port()}/", TIMEOUT_S))
    assert said(error) == ("network.connection", True)
    assert Failure.from_exception(error, service="orders").code == "ECONNREFUSED"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("code", ["EAI_AGAIN", "EAI_NONAME"])
def test_unknown_name_is_no_connection(client: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name resolution is told apart through every layer, in whatever language its text is."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(getattr(socket, code), "der Name ist nicht bekannt")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert said(raised(lambda: CLIENTS[client]("http://service.invalid/", TIMEOUT_S))) == ("network.dns", True)


@pytest.mark.parametrize("client", CLIENTS)
def test_certificate_nobody_vouches_for_is_no_connection(client: str, self_signed: ssl.SSLContext) -> None:
    """TLS that fails is not tried again, whatever class the client makes of it."""
    with answering(b"", self_signed) as url:
        error = raised(lambda: CLIENTS[client](url, TIMEOUT_S))
    assert said(error) == ("network.tls", False)
    assert Failure.from_exception(error, service="orders").code == "CERTIFICATE_VERIFY_FAILED"


@pytest.mark.parametrize("client", CLIENTS)
def test_answer_that_does_not_come_is_a_timeout(client: str) -> None:
    """The service is silent; most of these errors are silent, too."""
    with answering(None) as url:
        error = raised(lambda: CLIENTS[client](url, 0.05))
    assert said(error) == ("network.timeout", True)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("reset", [True, False])
def test_connection_that_breaks_is_one(client: str, reset: bool) -> None:
    """Reset, or closed without an answer."""
    with answering(b"", reset=reset) as url:
        error = raised(lambda: CLIENTS[client](url, TIMEOUT_S))
    assert said(error) == ("network.connection", True)


@pytest.mark.parametrize("client", sorted(CLIENTS.keys()))
def test_answer_that_is_no_json_is_a_bad_response(client: str) -> None:
    """The client asked for JSON and could not read what came."""
    with answering(reply("200 OK", "not json at all")) as url:
        error = raised(lambda: CLIENTS[client](url, TIMEOUT_S))
    assert said(error) == ("data.bad_response", False)


@pytest.mark.parametrize("client", RAISING)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("503 Service Unavailable", ("network.server", True)),
        ("429 Too Many Requests", ("rate_limit.window", True)),
        ("404 Not Found", ("data.not_found", False)),
        ("403 Forbidden", ("auth.permission", False)),
    ],
)
def test_status_that_a_client_raises_is_read(client: str, status: str, kind: tuple[str, bool]) -> None:
    """`raise_for_status` and its like."""
    with answering(reply(status, "")) as url:
        error = raised(lambda: CLIENTS[client](url, TIMEOUT_S))
    assert said(error) == kind
    if isinstance(error, urllib.error.HTTPError):
        error.close()


@pytest.mark.parametrize("client", ["httpx", "httpx async", "httpx2", "httpx2 async", "requests"])
def test_body_of_a_refusal_is_read(client: str) -> None:
    """The service's own code outranks its status: a 400 that is an expired grant is no bad record."""
    with answering(reply("400 Bad Request", '{"error": "invalid_grant"}')) as url:
        error = raised(lambda: CLIENTS[client](url, TIMEOUT_S))
    assert said(error) == ("auth.invalid", False)


def test_body_that_was_not_read_is_not_waited_for() -> None:
    """A streamed answer stays with its caller."""
    with answering(reply("500 Internal Server Error", "later")) as url, requests.Session() as session:
        session.trust_env = False
        with session.get(url, stream=True, timeout=TIMEOUT_S) as streamed:
            error = raised(streamed.raise_for_status)
            assert "later" not in Failure.from_exception(error, service="orders").message
            assert streamed.text == "later"


# Silent errors, wrappers and subclasses ------------------------------------------------------------------------------


class OrderLate(httpx.ReadTimeout):
    """A class of the application's own, made of one that is known."""


class OrderFailed(Exception):
    """A class of the application's own that says nothing."""


def made_of(error: Exception, cause: BaseException) -> Exception:
    """Return `error` as it is after `raise error from cause`."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ReadError(""), ("network.connection", True)),
        (httpx.PoolTimeout(""), ("network.contention", True)),
        (httpx2.PoolTimeout(""), ("network.contention", True)),
        (TimeoutError(), ("network.timeout", True)),
        (MemoryError(), ("resource", False)),
        (asyncio.CancelledError(), ("cancelled", False)),
        (http.client.RemoteDisconnected(""), ("network.connection", True)),
        (ConnectionResetError(errno.ECONNRESET, ""), ("network.connection", True)),
        (OSError(errno.ENOSPC, ""), ("resource", False)),
        (psycopg_pool.PoolTimeout(""), ("network.contention", True)),
        (sqlalchemy.exc.TimeoutError(""), ("network.contention", True)),
        (psycopg.errors.UniqueViolation(), ("data.conflict", False)),
        (psycopg.errors.DeadlockDetected(), ("network.contention", True)),
        (smtplib.SMTPAuthenticationError(535, b""), ("auth.invalid", False)),
        (smtplib.SMTPResponseException(451, b""), ("network.server", True)),
        (KeyError("id"), ("bug", False)),
        (OrderLate("zu spät"), ("network.timeout", True)),
        (made_of(OrderFailed("ging nicht"), OrderLate("")), ("network.timeout", True)),
        (made_of(OrderFailed("ging nicht"), httpx.ReadError("")), ("network.connection", True)),
        (made_of(RuntimeError("ging nicht"), psycopg.errors.UniqueViolation()), ("data.conflict", False)),
        (made_of(httpx.PoolTimeout(""), TimeoutError()), ("network.contention", True)),
        (
            made_of(requests.ConnectionError(""), made_of(httpx.ConnectError(""), ssl.CertificateError(""))),
            ("network.tls", False),
        ),
        (made_of(aiohttp.ConnectionTimeoutError(), asyncio.CancelledError()), ("network.timeout", True)),
        (made_of(requests.ConnectionError(""), KeyError("x")), ("network.connection", True)),
        (ExceptionGroup("zwei", [httpx.ConnectTimeout(""), httpx.ConnectTimeout("")]), ("network.timeout", True)),
        (
            made_of(OrderFailed(""), ExceptionGroup("alle", [ConnectionRefusedError(errno.ECONNREFUSED, "")])),
            ("network.connection", True),
        ),
        (sqlalchemy.exc.IntegrityError("INSERT", {}, psycopg.errors.UniqueViolation()), ("data.conflict", False)),
        (sqlalchemy.exc.OperationalError("SELECT", {}, psycopg.errors.AdminShutdown()), ("network.server", True)),
        (sqlalchemy.exc.DBAPIError("SELECT", {}, psycopg.errors.QueryCanceled()), ("network.timeout", True)),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseException) else one[0],
)
def test_class_and_causes_speak_where_the_text_does_not(error: BaseException, kind: tuple[str, bool]) -> None:
    """The deepest cause that says something, else the class, else what the class is made of."""
    assert said(error) == kind


def test_slip_in_the_handling_branch_is_a_bug() -> None:
    """What was being handled would heal, the misspelt name would not."""

    def slip() -> None:
        try:
            raise httpx.ConnectError("refused")
        except httpx.ConnectError as error:
            print(error.colour)  # type: ignore[attr-defined]

    assert said(raised(slip)) == ("bug", False)


def test_application_that_wraps_what_it_handles_is_seen_through() -> None:
    """Without `from`, too: that is how most code is written."""

    def wrap() -> None:
        try:
            raise httpx.ConnectTimeout("")
        except httpx.ConnectTimeout:
            raise RuntimeError("ging nicht")  # noqa: B904 - that is what is tested

    assert said(raised(wrap)) == ("network.timeout", True)


def test_error_of_a_retry_or_a_group_of_calls_is_seen_through() -> None:
    """tenacity's verdict, `asyncio.timeout`, a failed group: what counts is what happened within."""

    @tenacity.retry(stop=tenacity.stop_after_attempt(1))
    def tried() -> None:
        raise httpx.ReadError("")

    async def late() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_httpx2_async(f"http://127.0.0.1:{closed_port()}/", TIMEOUT_S))
            group.create_task(asyncio.Event().wait())

    assert said(raised(tried)) == ("network.connection", True)
    assert said(raised(lambda: asyncio.run(late()))) == ("network.timeout", True)
    assert said(raised(lambda: asyncio.run(together()))) == ("network.connection", True)


def test_pool_that_is_empty_is_contention() -> None:
    """A client whose connections are all in use waits for itself."""

    def take_two(url: str) -> None:
        limits = httpx2.Limits(max_connections=1)
        timeout = httpx2.Timeout(TIMEOUT_S, pool=0.02)
        with httpx2.Client(trust_env=False, limits=limits, timeout=timeout) as client, client.stream("GET", url):
            client.get(url)

    with answering(reply("200 OK", "x" * 10)) as url:
        assert said(raised(lambda: take_two(url))) == ("network.contention", True)


# Databases ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(session_postgres_url: str) -> Iterator[sqlalchemy.Engine]:
    """Return an engine on a database with one table."""
    made = sqlalchemy.create_engine(
        sqlalchemy.make_url(session_postgres_url).set(drivername="postgresql+psycopg"), pool_size=1, max_overflow=0,
        pool_timeout=0.02,
    )  # fmt: skip
    with made.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE entry (ref text UNIQUE NOT NULL)")
    yield made
    made.dispose()


TROUBLE = {
    "INSERT INTO entry VALUES ('a'), ('a')": ("data.conflict", False),
    "INSERT INTO entry VALUES (NULL)": ("data.validation", False),
    "SET statement_timeout = 5; SELECT pg_sleep(2)": ("network.timeout", True),
    "SELECT nothing FROM entry": ("config", False),
    "SELECT 1 / 0": ("data.validation", False),
}


@pytest.mark.parametrize("statement", TROUBLE)
def test_postgresql_is_understood_with_and_without_a_wrapper(
    statement: str, session_postgres_url: str, engine: sqlalchemy.Engine
) -> None:
    """The code of the database decides, whoever carries it."""

    def wrapped() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def bare() -> None:
        with psycopg.connect(session_postgres_url) as connection:
            connection.execute(statement.encode())

    errors = raised(bare), raised(wrapped)
    assert [said(error) for error in errors] == [TROUBLE[statement]] * 2
    codes = {Failure.from_exception(error, service="orders").code for error in errors}
    assert len(codes) == 1


def test_database_that_is_not_there_is_a_connection() -> None:
    """psycopg's error carries no SQLSTATE then."""
    error = raised(lambda: psycopg.connect(f"host=127.0.0.1 port={closed_port()} connect_timeout=2"))
    assert said(error) == ("network.connection", True)


def test_wrong_password_is_no_connection() -> None:
    """It is not tried again, although the class is the one of lost connections and carries no code."""
    said_by_server = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "shop"\0\0'
    with answering(b"E" + (len(said_by_server) + 4).to_bytes(4, "big") + said_by_server) as url:
        port = url.rpartition(":")[2].rstrip("/")
        options = "user=shop sslmode=disable gssencmode=disable connect_timeout=2"
        error = raised(lambda: psycopg.connect(f"host=127.0.0.1 port={port} {options}"))
    assert said(error) == ("auth.invalid", False)


def test_pool_of_sqlalchemy_that_is_empty_is_contention(engine: sqlalchemy.Engine) -> None:
    """`QueuePool limit` is a time-out by its name and contention by its meaning."""
    with engine.connect():
        assert said(raised(engine.connect)) == ("network.contention", True)


def test_pool_of_psycopg_that_is_empty_is_contention(session_postgres_url: str) -> None:
    """So is psycopg's."""
    with (
        psycopg_pool.ConnectionPool(session_postgres_url, min_size=1, max_size=1, open=True) as pool,
        pool.connection(),
    ):
        assert said(raised(lambda: pool.getconn(timeout=0.02))) == ("network.contention", True)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("INSERT INTO entry VALUES ('a'), ('a')", ("data.conflict", False)),
        ("INSERT INTO entry VALUES (NULL)", ("data.validation", False)),
        ("SELECT nothing FROM entry", ("config", False)),
    ],
)
def test_sqlite_is_understood_with_and_without_a_wrapper(statement: str, kind: tuple[str, bool]) -> None:
    """By the name of its own error code."""
    made = sqlalchemy.create_engine("sqlite://")
    with contextlib.closing(sqlite3.connect(":memory:")) as bare, made.connect() as wrapped:
        bare.execute("CREATE TABLE entry (ref text UNIQUE NOT NULL)")
        wrapped.exec_driver_sql("CREATE TABLE entry (ref text UNIQUE NOT NULL)")
        errors = raised(lambda: bare.execute(statement)), raised(lambda: wrapped.exec_driver_sql(statement))
    made.dispose()
    assert [said(error) for error in errors] == [kind] * 2


def test_locked_sqlite_is_contention(tmp_path: Path) -> None:
    """Somebody else writes."""
    path = tmp_path / "entries.db"
    with (
        contextlib.closing(sqlite3.connect(path)) as first,
        contextlib.closing(sqlite3.connect(path, timeout=0)) as second,
    ):
        first.execute("BEGIN EXCLUSIVE")
        assert said(raised(lambda: second.execute("BEGIN IMMEDIATE"))) == ("network.contention", True)


# Libraries that are not installed here: classes of the same names and shapes --------------------------------------------


def kind_of(name: str, *bases: type[BaseException], **members: object) -> type[Exception]:
    """Return a class as the named library has it: `botocore.exceptions.ClientError`."""
    module, _, short = name.rpartition(".")
    return type(short, bases or (Exception,), {"__module__": module, **members})


CLIENT_ERROR = kind_of("botocore.exceptions.ClientError")
RPC_ERROR = kind_of("grpc.RpcError")
POSTGRES_ERROR = kind_of("asyncpg.exceptions._base.PostgresError")
REDIS_ERROR = kind_of("redis.exceptions.RedisError")
Status = enum.Enum("Status", "OK CANCELLED UNAVAILABLE DEADLINE_EXCEEDED RESOURCE_EXHAUSTED UNAUTHENTICATED NOT_FOUND")


def of_aws(code: str, status: int, name: str = "") -> Exception:
    """Return an error as botocore raises it, of a class of its own where the service's model has one."""
    kind = kind_of(f"botocore.errorfactory.{name}", CLIENT_ERROR) if name else CLIENT_ERROR
    error = kind(f"An error occurred ({code}) when calling the PutItem operation: no")
    error.response = {  # type: ignore[attr-defined]
        "Error": {"Code": code, "Message": "no"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
    }
    return error


def of_grpc(status: str) -> Exception:
    """Return an error as a call of gRPC raises it."""
    member = Status[status]
    return kind_of("grpc._channel._InactiveRpcError", RPC_ERROR, code=lambda self: member, details=lambda self: "")("")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (of_aws("ThrottlingException", 400), ("rate_limit.window", True)),
        (of_aws("ExpiredTokenException", 400), ("auth.expired", True)),
        (of_aws("AccessDenied", 403), ("auth.permission", False)),
        (of_aws("NoSuchKey", 404, "NoSuchKey"), ("data.not_found", False)),
        (of_aws("InternalError", 500), ("network.server", True)),
        (of_grpc("UNAVAILABLE"), ("network.server", True)),
        (of_grpc("DEADLINE_EXCEEDED"), ("network.timeout", True)),
        (of_grpc("RESOURCE_EXHAUSTED"), ("rate_limit.window", True)),
        (of_grpc("NOT_FOUND"), ("data.not_found", False)),
        (of_grpc("CANCELLED"), ("cancelled", False)),
        (kind_of("asyncpg.exceptions.UniqueViolationError", POSTGRES_ERROR, sqlstate="23505")(""), ("data.conflict", False)),
        (kind_of("asyncpg.exceptions.TooManyConnectionsError", POSTGRES_ERROR, sqlstate="53300")(""), ("network.contention", True)),
        (kind_of("redis.exceptions.BusyLoadingError", REDIS_ERROR)(""), ("network.server", True)),
        (kind_of("redis.exceptions.TimeoutError", REDIS_ERROR)(""), ("network.timeout", True)),
        (made_of(kind_of("redis.exceptions.ConnectionError", REDIS_ERROR)(""), socket.gaierror(socket.EAI_NONAME, "")), ("network.dns", True)),
        (kind_of("google.api_core.exceptions.ServiceUnavailable")(""), ("network.server", True)),
        (kind_of("google.auth.exceptions.RefreshError")(""), ("auth.invalid", False)),
        (kind_of("botocore.exceptions.EndpointConnectionError")(""), ("network.connection", True)),
        (kind_of("botocore.exceptions.NoCredentialsError")(""), ("auth.invalid", False)),
        (kind_of("psycopg2.errors.UniqueViolation", pgcode="23505")(""), ("data.conflict", False)),
    ],
    ids=lambda one: f"{type(one).__name__}" if isinstance(one, BaseException) else one[0],
)  # fmt: skip
def test_library_is_understood_by_its_shape(error: Exception, kind: tuple[str, bool]) -> None:
    """No library has to be there, or imported."""
    assert said(error) == kind


class Confused(Exception):
    """An error whose every way of speaking fails."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("no text")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


def test_error_that_cannot_speak_is_recorded_all_the_same() -> None:
    """Nothing raises; its class stays."""
    failure = Failure.from_exception(Confused(), service="orders")
    assert (failure.message, failure.code) == ("", None)
    assert (failure.exc_type or "").endswith(".Confused")
