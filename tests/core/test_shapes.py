"""Status, headers, code and proof are read from every client's errors, and nothing that is read can do harm."""

from __future__ import annotations

import asyncio
import errno
import http
import http.client
import math
import smtplib
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Any, NoReturn

import aiohttp
import httpcore2
import httpx
import httpx2
import psycopg
import psycopg_pool
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from prunella.core import shapes
from prunella.core.errors import BadResponse, CircuitOpen, EgressFailed
from prunella.core.retry_after import WAIT_MAX_S

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
GET = httpx2.Request("GET", "http://localhost/")


class Made(Exception):
    """An error with any attributes, as some client's."""

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        self.__dict__.update(attributes)


class Response:
    """A response with any attributes."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    def __bool__(self) -> bool:
        return False  # as the responses of requests are for a status from 400 on


def named(name: str, base: type[Exception] = Exception, **attributes: object) -> Exception:
    """Return an error of a class of this name, as a library that is not installed here raises it."""
    error: Exception = type(name, (base,), {})("failed")
    error.__dict__.update(attributes)
    return error


def named_class(name: str) -> type[Exception]:
    """Return a class of this name, for others to be made of."""
    return type(name, (Exception,), {})


class ProtocolError(Exception):
    """An error that carries its cause as its second argument."""


def raised(act: Callable[[], object]) -> Exception:
    """Return the error that `act` raises."""
    try:
        act()
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


def with_cause(error: Exception, cause: BaseException) -> Exception:
    """Return `error` as it is after `raise error from cause`."""
    error.__cause__ = cause
    return error


def with_context(error: Exception, context: BaseException) -> Exception:
    """Return `error` as it is when it was raised while `context` was being handled."""
    error.__context__ = context
    return error


# Status ---------------------------------------------------------------------------------------------------------------

SDK_ERROR = {
    "Error": {"Code": "Throttling"},
    "ResponseMetadata": {"HTTPStatusCode": 429, "HTTPHeaders": {"Retry-After": "7"}},
}


@pytest.mark.parametrize(
    ("thing", "status"),
    [
        (Made(status_code=404), 404),  # starlette, httpx look-alikes, openai
        (Made(status=429), 429),  # aiohttp, kubernetes
        (Made(code=503), 503),  # urllib
        (Made(http_status=402), 402),  # stripe
        (Made(status=http.HTTPStatus.GONE), 410),
        (Made(response=Response(status_code=500)), 500),  # requests, httpx
        (Made(response=SDK_ERROR), 429),  # botocore
        (Response(status_code=204), 204),
        ({"status_code": 200}, 200),
        (BadResponse("no", status=502), 502),
        (Made(status_code="404"), None),
        (Made(status_code=True), None),
        (Made(status_code=0), None),
        (Made(status_code=1000), None),  # a closing code of a web socket
        (Made(code=23505), None),
        (Made(code="42P01"), None),
        (ValueError("404"), None),
        (None, None),
        ("404", None),
        (404, None),
    ],
)
def test_status_is_found_by_its_shape(thing: object, status: int | None) -> None:
    """Under every name that clients use, on the error or its response; a number that is no status is none."""
    assert shapes.status_of(thing) == status


def test_status_of_the_nearest_error_counts() -> None:
    """An error that carries a status of its own is not told by its cause's."""
    assert shapes.status_of(with_cause(Made(status_code=503), Made(status_code=404))) == 503
    assert shapes.status_of(with_cause(ValueError(), with_context(KeyError(), Made(status_code=404)))) == 404


def test_status_of_what_was_set_aside_does_not_count() -> None:
    """`raise … from None` says that what was handled has nothing to do with it."""
    assert shapes.status_of(raised(_set_aside)) is None


def _set_aside() -> NoReturn:
    try:
        raise Made(status_code=404)
    except Made:
        raise ValueError("something else") from None


# Headers --------------------------------------------------------------------------------------------------------------


def message(*headers: tuple[str, str]) -> Message:
    """Return headers as the standard library has them."""
    made = Message()
    for name, value in headers:
        made[name] = value
    return made


@pytest.mark.parametrize(
    "thing",
    [
        Made(headers={"Retry-After": "7"}),
        Made(response_headers={"RETRY-AFTER": "7"}),
        Made(hdrs=message(("Retry-After", "7"))),
        Made(response=Response(headers={"retry-after": "7"})),
        Made(response=SDK_ERROR),
        Made(headers=[("Retry-After", "7")]),
        Made(headers=[(b"Retry-After", b"7")]),
        Made(headers={"Retry-After": 7}),
        Response(headers=httpx2.Headers({"Retry-After": "7"})),
        httpx2.Response(429, headers={"Retry-After": "7"}),
        httpcore2.Response(429, headers={"Retry-After": "7"}),
        httpx2.HTTPStatusError("429", request=GET, response=httpx2.Response(429, headers={"Retry-After": "7"})),
        urllib.error.HTTPError("http://localhost", 429, "", message(("Retry-After", "7")), None),
        with_cause(RuntimeError("wrapped"), Made(headers={"Retry-After": "7"})),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_headers_are_found_by_their_shape(thing: object) -> None:
    """Mappings, lists of pairs, text and bytes, on the error, its response or its cause."""
    assert shapes.headers_of(thing)["retry-after"] == "7"
    assert shapes.asked_wait_s(thing, NOW) == 7.0


@pytest.mark.parametrize("headers", [None, 3, "Retry-After: 7", [1, 2], [("one",)], object(), {}, iter([])])
def test_headers_that_are_none_are_empty(headers: object) -> None:
    """What can't be read as headers is not there."""
    assert shapes.headers_of(Made(headers=headers)) == {}


def test_header_that_is_told_twice_is_joined() -> None:
    """As RFC 9110 section 5.2 has it: then two different waits are no wait, instead of the last of them."""
    twice = Made(headers=message(("Retry-After", "5"), ("Retry-After", "10")))
    assert shapes.headers_of(twice)["retry-after"] == "5, 10"
    assert shapes.asked_wait_s(twice, NOW) is None


# Waits ----------------------------------------------------------------------------------------------------------------

FORMS: list[tuple[Mapping[str, str], float | None]] = [
    ({"Retry-After": "3"}, 3.0),
    ({"Retry-After": " 7 "}, 7.0),
    ({"Retry-After": "0"}, 0.0),
    ({"Retry-After": "Sun, 01 Mar 2026 12:01:30 GMT"}, 90.0),
    ({"Retry-After": "Sunday, 01-Mar-26 12:01:30 GMT"}, 90.0),
    ({"Retry-After": "Sun Mar  1 12:01:30 2026"}, 90.0),
    ({"Retry-After": "Sun, 01 Mar 2026 13:01:30 GMT", "Date": "Sun, 01 Mar 2026 13:00:00 GMT"}, 90.0),
    ({"Retry-After": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0),
    ({"retry-after-ms": "1500"}, 1.5),
    ({"x-ratelimit-reset": "30"}, 30.0),
    ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 60)}, 60.0),
    ({"x-ratelimit-reset": "30", "x-ratelimit-remaining": "9"}, None),
    ({"Retry-After": "9999999999"}, 9999999999.0),
    *(({"Retry-After": text}, None) for text in ("-5", "nan", "inf", "", "²", "garbage", "5, 10")),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "wait_s"), FORMS)
def test_wait_is_read_from_every_client_in_every_form(headers: Mapping[str, str], wait_s: float | None) -> None:
    """Seconds, dates, milliseconds and resets; measured against the response's own Date; nonsense is nothing."""
    response = httpx2.Response(429, headers=[(name.encode(), value.encode()) for name, value in headers.items()])
    clients = [
        httpx2.HTTPStatusError("429", request=GET, response=response),
        urllib.error.HTTPError("http://localhost", 429, "", message(*headers.items()), None),
        Made(headers=dict(headers)),
        Made(response=Response(headers=dict(headers))),
        Made(response={"ResponseMetadata": {"HTTPHeaders": dict(headers)}}),
    ]
    assert [shapes.asked_wait_s(error, NOW) for error in clients] == [wait_s] * len(clients)


@pytest.mark.parametrize(
    ("attributes", "wait_s"),
    [
        ({"retry_after_s": 7}, 7.0),
        ({"retry_after": 7.5}, 7.5),
        ({"retry_after_s": 0}, 0.0),
        ({"retry_after_s": None, "retry_after": 3}, 3.0),
        ({"retry_after": 3, "headers": {"Retry-After": "9"}}, 9.0),
        ({"retry_after": -1}, None),
        ({"retry_after": True}, None),
        ({"retry_after": math.nan}, None),
        ({"retry_after": math.inf}, None),
        ({"retry_after": "7"}, None),
        ({"retry_after": 10**400}, WAIT_MAX_S),
        ({"retry_after": 1e300}, WAIT_MAX_S),
    ],
)
def test_wait_may_be_an_attribute(attributes: dict[str, object], wait_s: float | None) -> None:
    """Headers come first; a number that is too large is cut to what a date can hold."""
    found = shapes.asked_wait_s(Made(**attributes), NOW)
    assert found == wait_s
    assert found is None or NOW + timedelta(seconds=found) > NOW - timedelta(seconds=1)


def test_wait_of_our_own_errors_is_read() -> None:
    """`retry_after_s` of a refusal or of a bad response."""
    assert shapes.asked_wait_s(CircuitOpen("open", retry_after_s=4.0), NOW) == 4.0
    assert shapes.asked_wait_s(CircuitOpen("held", retry_after_s=None), NOW) is None
    assert shapes.asked_wait_s(BadResponse("wait", retry_after_s=2.0), NOW) == 2.0


# Codes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (psycopg.errors.UniqueViolation(), "23505"),
        (psycopg.errors.DeadlockDetected(), "40P01"),
        (psycopg.OperationalError("connection failed"), None),
        (Made(pgcode="40001"), "40001"),  # psycopg2
        (Made(sqlstate="40001", code="x"), "40001"),
        (Made(code="rate_limit_exceeded"), "rate_limit_exceeded"),
        (Made(code="EAI_AGAIN"), "EAI_AGAIN"),  # as errors of JavaScript have it
        (with_cause(RuntimeError(), psycopg.errors.UniqueViolation()), "23505"),  # SQLAlchemy's `orig` is its cause
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "ECONNREFUSED"),
        (OSError(errno.ENOSPC, "full"), "ENOSPC"),
        (OSError("about nothing"), None),
        (OSError(123456, "unknown"), None),
        (socket.gaierror(socket.EAI_AGAIN, "again"), "EAI_AGAIN"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "EAI_NONAME"),
        (socket.gaierror("no number"), "EAI_FAIL"),
        (urllib.error.URLError(ConnectionResetError(errno.ECONNRESET, "reset")), "ECONNRESET"),
        (ssl.SSLError(1, "CERTIFICATE_VERIFY_FAILED"), None),  # 1 is EPERM elsewhere
        (socket.herror(1, "unknown host"), None),
        (Made(orig=psycopg.errors.UniqueViolation()), "23505"),  # SQLAlchemy
        (named("IntegrityError", named_class("SQLAlchemyError"), code="gkpj", orig=Made(sqlstate="23505")), "23505"),
        (named("IntegrityError", named_class("SQLAlchemyError"), code="gkpj"), None),  # a page of its manual
        (Made(sqlite_errorname="SQLITE_BUSY"), "SQLITE_BUSY"),
        (Made(response=SDK_ERROR), "Throttling"),  # botocore
        (Made(response={"Error": "Throttling"}), None),
        (smtplib.SMTPResponseException(451, "later"), "451"),
        (Made(smtp_code=-1), None),
        (named("AioRpcError", named_class("RpcError"), code=lambda: Made(name="UNAVAILABLE")), "UNAVAILABLE"),  # grpc
        (named("AioRpcError", named_class("RpcError"), code=lambda: Made(name="OK")), None),
        (named("AioRpcError", named_class("RpcError"), code=lambda: 1 / 0), None),
        (Made(code=lambda: Made(name="UNAVAILABLE")), None),  # nobody knows what such a method does
        (ExceptionGroup("both", [ValueError(), ConnectionResetError(errno.ECONNRESET, "reset")]), "ECONNRESET"),
        (ProtocolError("aborted", ConnectionResetError(errno.ECONNRESET, "reset")), "ECONNRESET"),  # urllib3
        (Made(code=""), None),
        (Made(code="x" * 101), None),
        (Made(code=404), None),
        (KeyError("x"), None),
    ],
)
def test_code_is_the_services_own_word(error: Exception, code: str | None) -> None:
    """SQLSTATE, a code of an SDK, a name of errno or of name resolution; a number of another list is none."""
    assert shapes.code_of(error) == code


# Proof that nothing was sent ------------------------------------------------------------------------------------------

UNSENT = [
    *map(named, ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "EndpointConnectionError")),
    named("ClientConnectorError", OSError),
    named("ConnectionTimeoutError", OSError),
    type("Ours", (httpx2.ConnectError,), {})("below one of them"),
    *(
        kind("x")
        for client in (httpx, httpx2, httpcore2)
        for kind in (client.ConnectError, client.ConnectTimeout, client.PoolTimeout)
    ),
    psycopg_pool.PoolTimeout("full"),
    ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    OSError(errno.ENETUNREACH, "unreachable"),
    OSError(errno.EHOSTUNREACH, "unreachable"),
    socket.gaierror(socket.EAI_NONAME, "unknown"),
    urllib.error.URLError(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
    named("MaxRetryError", reason=named("NewConnectionError")),
    type("ConnectionError", (OSError,), {})(named("MaxRetryError", reason=named("NewConnectionError"))),  # requests
    with_cause(RuntimeError("wrapped"), httpx2.ConnectError("refused")),
    EgressFailed("refused", exc_type="ConnectError", sent=False),
]
SENT = [
    httpx2.ReadTimeout("late"),
    httpx2.ReadError("reset"),
    httpx2.WriteTimeout("late"),
    httpx2.RemoteProtocolError("closed"),
    httpcore2.ReadTimeout("late"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    BrokenPipeError(errno.EPIPE, "pipe"),
    TimeoutError(errno.ETIMEDOUT, "late"),
    TimeoutError(),
    http.client.RemoteDisconnected("closed"),
    urllib.error.URLError("unknown"),
    urllib.error.HTTPError("http://localhost", 503, "", message(), None),
    psycopg.OperationalError("server closed the connection"),
    named("ConnectError", code="unavailable"),  # connectrpc: any error that the service answered with
    named("MaxRetryError", reason=named("ReadTimeoutError")),
    EgressFailed("late", exc_type="ReadTimeout"),
    Made(sent=None),
    Made(sent=0),
    ValueError("ConnectError"),
]


@pytest.mark.parametrize("error", UNSENT)
def test_connection_that_was_never_made_is_proof(error: Exception) -> None:
    """The error says it, or the error that it was explicitly made of."""
    assert shapes.nothing_was_sent(error)


@pytest.mark.parametrize("error", SENT)
def test_everything_else_is_no_proof(error: Exception) -> None:
    """A connection that broke, an answer that did not come, or an error that says nothing."""
    assert not shapes.nothing_was_sent(error)


def test_what_was_only_being_handled_is_no_proof() -> None:
    """A second host was asked because the first refused: what broke there was sent."""

    def ask_two_hosts() -> NoReturn:
        try:
            raise httpx2.ConnectError("the first refused")
        except httpx2.ConnectError:
            raise httpx2.ReadTimeout("the second did not answer")  # noqa: B904 - that is what is tested

    assert not shapes.nothing_was_sent(raised(ask_two_hosts))


def test_temporary_failure_of_a_name_is_told_from_others() -> None:
    """Only `EAI_AGAIN` may pass by itself."""
    names = {
        code: shapes.is_name_resolution(socket.gaierror(code, "x")) for code in (socket.EAI_AGAIN, socket.EAI_NONAME)
    }
    assert names == {socket.EAI_AGAIN: True, socket.EAI_NONAME: False}
    assert not shapes.is_name_resolution(OSError("down"))


# Real clients, real sockets -------------------------------------------------------------------------------------------


def closed_port() -> int:
    """Return a port of loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """Listen on loopback; answer one request with these bytes and close, or never answer (None)."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer or b"")

        thread = threading.Thread(target=serve)
        if answer is not None:
            thread.start()
        yield int(server.getsockname()[1])
        if answer is not None:
            thread.join()


async def _aget(url: str) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        (await client.get(url, timeout=5.0)).raise_for_status()


async def _aiohttp_post(url: str) -> None:  # a GET it would repeat by itself
    async with aiohttp.ClientSession(raise_for_status=True) as session, session.post(url):
        pass


def _requests_get(url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.get(url, timeout=5.0).raise_for_status()


CLIENTS: dict[str, Callable[[str], object]] = {
    "aiohttp": lambda url: asyncio.run(_aiohttp_post(url)),
    "httpx": lambda url: httpx.get(url, timeout=5.0, trust_env=False).raise_for_status(),
    "requests": _requests_get,
    "httpx2": lambda url: httpx2.get(url, timeout=5.0, trust_env=False).raise_for_status(),
    "httpx2 async": lambda url: asyncio.run(_aget(url)),
    "httpcore2": lambda url: httpcore2.request("GET", url),
    "urllib": lambda url: urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5.0),
}
ANSWERING = sorted(CLIENTS.keys() - {"httpcore2"})  # which raises no error for a status


@pytest.mark.parametrize("client", CLIENTS)
def test_refused_connection_of_a_real_client(client: str) -> None:
    """Nothing was sent, and the code is the system's."""
    error = raised(lambda: CLIENTS[client](f"http://127.0.0.1:{closed_port()}/"))
    assert (shapes.nothing_was_sent(error), shapes.code_of(error), shapes.status_of(error)) == (
        True,
        "ECONNREFUSED",
        None,
    )


@pytest.mark.parametrize("client", CLIENTS)
def test_name_that_cannot_be_resolved_for_a_real_client(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure of name resolution is seen through every layer of the client."""

    def again(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", again)
    error = raised(lambda: CLIENTS[client]("http://service.invalid/"))
    assert shapes.is_name_resolution(error)
    assert shapes.nothing_was_sent(error)


@pytest.mark.parametrize("client", CLIENTS)
def test_connection_that_breaks_under_a_real_client(client: str) -> None:
    """The request was sent and the service hung up: no proof."""
    with listening(b"") as port:
        error = raised(lambda: CLIENTS[client](f"http://127.0.0.1:{port}/"))
    assert not shapes.nothing_was_sent(error)
    assert shapes.status_of(error) is None


def test_answer_that_does_not_come_for_a_real_client() -> None:
    """A read that takes too long is no proof."""
    with listening(None) as port:
        errors = [
            raised(lambda: httpx2.get(f"http://127.0.0.1:{port}/", timeout=0.02, trust_env=False)),
            raised(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=0.02)),
        ]
    assert [shapes.nothing_was_sent(error) for error in errors] == [False, False]


@pytest.mark.parametrize("client", ANSWERING)
def test_answer_of_a_real_server_is_read(client: str) -> None:
    """Status, headers and the wait that was asked for."""
    answer = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nX-Request-Id: r1\r\nContent-Length: 0\r\n\r\n"
    with listening(answer) as port:
        error = raised(lambda: CLIENTS[client](f"http://127.0.0.1:{port}/"))
    assert shapes.status_of(error) == 429
    assert shapes.headers_of(error)["x-request-id"] == "r1"
    assert shapes.asked_wait_s(error, NOW) == 7.0
    assert not shapes.nothing_was_sent(error)
    if isinstance(error, urllib.error.HTTPError):
        error.close()


@pytest.mark.parametrize("client", ["httpx2", "urllib"])
def test_failed_handshake_has_the_code_of_openssl(client: str) -> None:
    """A TLS error's number is OpenSSL's: 1 is not EPERM; its reason has a name."""
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        error = raised(lambda: CLIENTS[client](f"https://127.0.0.1:{port}/"))
    assert any(isinstance(one, ssl.SSLError) for one in shapes.causes(error))
    assert shapes.code_of(error) == "WRONG_VERSION_NUMBER"


def test_database_that_is_not_there_has_no_code() -> None:
    """psycopg's error of a refused connection carries no SQLSTATE; reading it raises nothing."""
    error = raised(lambda: psycopg.connect(f"host=127.0.0.1 port={closed_port()} connect_timeout=2"))
    assert isinstance(error, psycopg.OperationalError)
    assert (shapes.code_of(error), shapes.status_of(error), shapes.headers_of(error)) == (None, None, {})


# Chains and traps -----------------------------------------------------------------------------------------------------


def test_causes_come_nearest_first() -> None:
    """An explicit cause outranks what an error carries, and that outranks what was being handled."""
    cause, carried, handled = KeyError("cause"), IndexError("carried"), ValueError("handled")
    error = with_context(urllib.error.URLError(carried), handled)
    assert list(shapes.causes(error)) == [error, carried]
    error.__cause__ = cause
    assert list(shapes.causes(error)) == [error, cause]
    assert list(shapes.causes(with_context(OSError("x"), handled)))[1:] == [handled]


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("link", ["__cause__", "__context__", "reason"])
def test_chain_that_bites_its_tail_ends(length: int, link: str) -> None:
    """Each error of a circle is looked at once."""
    circle = [Made(number=number) for number in range(length)]
    for number, error in enumerate(circle):
        setattr(error, link, circle[(number + 1) % length])
    assert list(shapes.causes(circle[0])) == circle
    assert shapes.status_of(circle[0]) is None
    assert shapes.code_of(circle[0]) is None
    assert not shapes.nothing_was_sent(circle[0])


def test_slip_while_a_failure_was_handled_is_trouble_of_its_own() -> None:
    """A misspelt name in the branch that handles a lost connection does not heal with the connection."""
    lost = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    assert shapes.code_of(with_context(AttributeError("colour"), lost)) is None
    assert shapes.code_of(with_context(RuntimeError("no connection"), lost)) == "ECONNREFUSED"
    assert shapes.code_of(with_cause(AttributeError("connection"), lost)) == "ECONNREFUSED"


def test_members_of_a_group_come_one_after_the_other() -> None:
    """Each with what stands behind it; as proof no part of a group is enough."""
    first, second, behind = ValueError("first"), KeyError("second"), IndexError("behind the first")
    group = ExceptionGroup("both", [with_cause(first, behind), second])
    assert list(shapes.causes(group)) == [group, first, behind, second]
    assert list(shapes.causes(group, proven=True)) == [group]
    assert not shapes.nothing_was_sent(ExceptionGroup("one", [httpx2.ConnectError("refused")]))


def test_endless_chain_is_cut() -> None:
    """Eight errors deep is deep enough."""
    error: Exception = Made(status_code=404)
    for _ in range(100):
        error = with_cause(Made(), error)
    assert len(list(shapes.causes(error))) == 8
    assert shapes.status_of(error) is None


class Hostile(Exception):
    """An error whose every attribute raises."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name == "args":
            return super().__getattribute__(name)
        raise RuntimeError(f"{name} can't be read")


class Closed:
    """A response that can't be read any more."""

    @property
    def status_code(self) -> NoReturn:
        raise ValueError("the response is closed")

    @property
    def headers(self) -> NoReturn:
        raise OSError("the response is closed")

    text = content = headers


class Trapped(dict[str, str]):
    """Headers that fail when they are read."""

    def items(self) -> NoReturn:
        raise KeyError("not today")


class Unprintable(Exception):
    """Something that can't be turned into text."""

    def __str__(self) -> NoReturn:
        raise ValueError("no text")


TRAPS = [
    Hostile(),
    Closed(),
    Made(response=Closed()),
    Made(response=Hostile()),
    Made(headers=Trapped(a="b")),
    Made(headers={"a": Unprintable()}),
    Made(headers={Unprintable(): "a"}),
    Made(reason=Hostile(), sent=Unprintable(), retry_after=Unprintable()),
    with_cause(ValueError(), Hostile()),
    urllib.error.HTTPError("http://localhost", 404, "", message(), None),
    BaseException(),
    object(),
    type,
]


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: type(trap).__name__)
def test_nothing_raises_whatever_is_read(trap: Any) -> None:
    """An attribute that can't be read is not there."""
    shapes.status_of(trap)
    shapes.headers_of(trap)
    shapes.code_of(trap)
    shapes.asked_wait_s(trap, NOW)
    shapes.asked_wait_s(trap, None)
    shapes.nothing_was_sent(trap)
    shapes.is_name_resolution(trap)
    shapes.text_of(trap)


NAMES = ["status", "status_code", "code", "headers", "response", "reason", "retry_after", "sqlstate", "sent", "text"]
PLAIN = st.sampled_from([None, True, math.nan, 10**400, -1, 7, 404, "x", b"\xff", NOW, KeyError("x"), Unprintable()])
NESTED = (
    PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.sampled_from([*NAMES, "Retry-After"]), PLAIN, max_size=3)
)


@given(st.dictionaries(st.sampled_from(NAMES), NESTED, max_size=6))
def test_any_attributes_are_read_without_harm(attributes: dict[str, object]) -> None:
    """Whatever stands in an error's attributes: a status is a status, a wait is a number, and nothing is raised."""
    for thing in (Made(**attributes), Made(response=attributes), Made(response=Response(**attributes)), attributes):
        status, wait_s = shapes.status_of(thing), shapes.asked_wait_s(thing, NOW)
        assert status is None or 100 <= status <= 599
        assert wait_s is None or 0.0 <= wait_s <= WAIT_MAX_S
        assert all(isinstance(part, str) for pair in shapes.headers_of(thing).items() for part in pair)
        assert isinstance(shapes.code_of(thing), str | None)
        assert isinstance(shapes.text_of(thing), str)


# Bodies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (httpx2.Response(200, text="grün"), "grün"),
        (Response(text="text", content=b"content"), "text"),
        (Response(content=b"gr\xc3\xbcn"), "grün"),
        (Response(body=bytearray(b"body")), "body"),
        (Response(data=b"\xff"), "\N{REPLACEMENT CHARACTER}"),
        (Response(text=lambda: "to be awaited"), ""),  # aiohttp
        (Response(), ""),
        (None, ""),
    ],
)
def test_body_is_read_where_it_is_there(response: object, text: str) -> None:
    """As text or bytes under every name; what would have to be waited for is empty."""
    assert shapes.text_of(response) == text


def test_streamed_body_is_not_waited_for() -> None:
    """requests says by a mark that the body is still on its way."""
    assert shapes.text_of(Response(_content=False, text="would be waited for")) == ""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("wrong"), "wrong"),
        (Made(response=Response(text="body")), "body"),
        (named("HTTPError", response=Response(text='{"code": 7}')), '{"code": 7}\nfailed'),
        (named("SdkError", response=Response(text="fail")), "failed"),  # it quotes the body
        (with_cause(httpx2.ReadError(""), OSError("reset by peer")), "reset by peer"),
        (with_cause(Made(), Made()), ""),
        (Unprintable(), ""),
    ],
)
def test_message_is_the_first_that_is_said(error: Any, message: str) -> None:
    """The service's own words, then the exception's, then those of what stands behind it."""
    assert shapes.message_of(error) == message
