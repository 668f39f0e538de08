"""A client under a policy: what is repeated, what is not, and that its answers stay its own. Real HTTP on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import httpx2
import pytest

import prunella as pr
from guard.conftest import ManualTime
from prunella.core.errors import CircuitOpen, DeadlineExceeded, RetryLater
from prunella.guard.http import AsyncProxy, Proxy, http
from prunella.guard.response import json_response
from prunella.testing import FaultyServer, throttled, words

pytestmark = pytest.mark.slow  # real clients over loopback

Talk = Callable[[Any], Awaitable[Any]]
QUICK = pr.Retry(attempts=3, base_s=0.0)
KEY = {"Idempotency-Key": "order-7"}


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    """A service that plays scripts and keeps the books."""
    with FaultyServer() as one:
        yield one


@pytest.fixture
def quick() -> pr.Policy:
    """Three attempts without waits."""
    return pr.policy("crm", retry=QUICK)


def sent(server: FaultyServer) -> int:
    """Return how many requests arrived."""
    return len(server.ledger.requests)


class Client:
    """One client library: how it is opened, and whether its calls are awaited."""

    def __init__(self, module: str, name: str, asynchronous: bool) -> None:
        self.module = module
        self.name = name
        self.asynchronous = asynchronous

    def talk(self, policy: pr.Policy, say: Callable[[Any], Any]) -> Any:
        """Open a client, put the policy around it, and return what `say(proxy)` brings."""
        opened = getattr(importlib.import_module(self.module), self.name)
        if not self.asynchronous:
            with http(opened(), policy) as proxy:
                assert type(proxy) is Proxy
                return say(proxy)

        async def talk() -> Any:
            async with http(opened(), policy) as proxy:
                assert type(proxy) is AsyncProxy
                return await say(proxy)

        return asyncio.run(talk())

    def read(self, policy: pr.Policy, url: str) -> Any:
        """Return the JSON that a GET under the policy brings."""

        async def aread(proxy: Any) -> Any:
            body = (await proxy.get(url)).json()
            return await body if asyncio.iscoroutine(body) else body

        return self.talk(policy, aread if self.asynchronous else lambda proxy: proxy.get(url).json())


CLIENTS = [
    Client("httpx2", "Client", False),
    Client("httpx2", "AsyncClient", True),
    Client("httpx", "Client", False),
    Client("httpx", "AsyncClient", True),
    Client("requests", "Session", False),
    Client("aiohttp", "ClientSession", True),
]


@pytest.fixture(params=CLIENTS, ids=lambda one: f"{one.module}.{one.name}")
def client(request: pytest.FixtureRequest) -> Client:
    """Every client."""
    chosen: Client = request.param
    return chosen


def status_of(response: Any) -> int:
    """Return the status as the client spells it."""
    return int(response.status_code if hasattr(response, "status_code") else response.status)


# What is repeated -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("verb", ["get", "put", "delete", "options"])
def test_failure_of_a_repeatable_method_is_sent_again(
    server: FaultyServer, quick: pr.Policy, verb: str, status: int
) -> None:
    """These answers may be another one next time, and these methods may be sent again."""
    server.script("/", [status, status, "ok"])
    response = CLIENTS[0].talk(quick, lambda proxy: getattr(proxy, verb)(server.url + "/"))
    assert (response.status_code, sent(server)) == (200, 3)


def test_every_client_repeats(server: FaultyServer, quick: pr.Policy, client: Client) -> None:
    """The shape decides, not the library."""
    server.script("/", [503, 502, "ok"])
    assert status_of(client.talk(quick, lambda proxy: proxy.get(server.url + "/"))) == 200
    assert sent(server) == 3


@pytest.mark.parametrize("status", [200, 201, 301, 400, 401, 404, 409, 422, 501, 505])
def test_other_answers_are_the_callers(server: FaultyServer, quick: pr.Policy, status: int) -> None:
    """A redirect, a client's mistake and what will never work are returned at once."""
    server.script("/", [status])
    response = CLIENTS[0].talk(quick, lambda proxy: proxy.get(server.url + "/"))
    assert (response.status_code, sent(server)) == (status, 1)


def test_last_answer_is_returned_unchanged(server: FaultyServer, quick: pr.Policy, client: Client) -> None:
    """When all attempts are used the caller gets what the client returned, not an exception of ours."""
    server.script("/", [503, 503, words.json(503, {"why": "maintenance"})])

    assert client.read(quick, server.url + "/") == {"why": "maintenance"}
    assert sent(server) == 3


@pytest.mark.parametrize("verb", ["post", "patch"])
@pytest.mark.parametrize("fault", [500, 503, "reset", "lost_reply"])
def test_unsafe_method_is_sent_once(
    server: FaultyServer, quick: pr.Policy, client: Client, verb: str, fault: str | int
) -> None:
    """POST and PATCH may have had their effect: without a key they are never sent again."""
    server.script("/", [fault, "ok"])
    lost = pytest.raises(Exception, match=r".+") if isinstance(fault, str) else contextlib.nullcontext()
    with lost:
        client.talk(quick, lambda proxy: getattr(proxy, verb)(server.url + "/", json={"id": 7}))
    assert sent(server) == 1


@pytest.mark.parametrize(
    "spelling", [KEY, {b"idempotency-key": b"order-7"}, list(KEY.items())], ids=["dict", "bytes", "pairs"]
)
def test_unsafe_method_with_a_key_is_sent_again_under_the_same_key(
    server: FaultyServer, quick: pr.Policy, spelling: Any
) -> None:
    """The receiver knows the key, so a repetition is harmless; the deed is done once."""
    server.script("/", ["lost_reply", 503, "ok"])
    response = CLIENTS[0].talk(quick, lambda proxy: proxy.post(server.url + "/", json={"id": 7}, headers=spelling))
    assert response.status_code == 200
    assert [request.key for request in server.ledger.requests] == ["order-7"] * 3
    assert (server.ledger.effects, server.ledger.double_effects) == (1, 0)


def test_every_client_repeats_a_post_with_a_key(server: FaultyServer, quick: pr.Policy, client: Client) -> None:
    """Headers are given the same way to all of them."""
    server.script("/", [503, "ok"])
    assert status_of(client.talk(quick, lambda proxy: proxy.post(server.url + "/", json={}, headers=KEY))) == 200
    assert [request.key for request in server.ledger.requests] == ["order-7"] * 2


def test_unsafe_method_is_repeated_where_nothing_was_sent(client: Client) -> None:
    """A refused connection is proof: no byte left."""
    server = FaultyServer().start()
    url = server.url
    server.stop()
    retried: list[str] = []
    policy = pr.policy("crm", retry=QUICK, listeners=[lambda event: retried.append(event.name)])
    with pytest.raises(Exception, match=r".+") as caught:
        client.talk(policy, lambda proxy: proxy.post(url, json={}))
    assert retried == ["call.retrying", "call.retrying", "call.gave_up"]
    assert not isinstance(caught.value, pr.PrunellaError)


def test_request_with_a_method_follows_the_same_rule(server: FaultyServer, quick: pr.Policy, client: Client) -> None:
    """`request` looks at the method it is given, in any case."""
    server.script("/get", [503, "ok"])
    server.script("/post", [503, "ok"])
    assert status_of(client.talk(quick, lambda proxy: proxy.request("get", server.url + "/get"))) == 200
    assert status_of(client.talk(quick, lambda proxy: proxy.request("POST", server.url + "/post"))) == 503


def test_body_that_is_used_up_is_not_sent_again(server: FaultyServer, quick: pr.Policy) -> None:
    """A second sending would be an empty one; not even a key makes that right."""
    server.script("/", [503, "ok"])
    rows = io.BytesIO(b"rows")
    response = CLIENTS[0].talk(quick, lambda proxy: proxy.put(server.url + "/", content=rows, headers=KEY))
    assert (response.status_code, sent(server)) == (503, 1)


def test_files_in_memory_are_sent_again_whole(server: FaultyServer, quick: pr.Policy) -> None:
    """Bytes and texts are the same each time, also within files and fields."""
    server.script("/", [503, "ok"])
    fields = {"data": {"kind": "csv", "rows": 2}, "files": {"rows": ("rows.csv", b"1,2")}}
    CLIENTS[0].talk(quick, lambda proxy: proxy.put(server.url + "/", **fields))
    assert sent(server) == 2
    assert all(b"1,2" in request.body for request in server.ledger.requests)


# Waits and time -------------------------------------------------------------------------------------------------------


def test_asked_wait_is_kept(server: FaultyServer, client: Client) -> None:
    """Retry-After counts although no exception was raised; the ledger sees nobody come early."""
    server.script("/", [throttled(0.05), "ok"])
    waits: list[object] = []
    policy = pr.policy("crm", retry=QUICK, listeners=[lambda event: waits.append(event.fields.get("wait_s"))])
    assert status_of(client.talk(policy, lambda proxy: proxy.get(server.url + "/"))) == 200
    assert waits == [0.05]
    assert server.ledger.early == []


def test_long_wait_is_for_later(server: FaultyServer, quick: pr.Policy) -> None:
    """Longer than a call can sit out: the caller learns when, and nothing is sent meanwhile."""
    server.script("/", [throttled(277403), "ok"])
    with pytest.raises(RetryLater):
        CLIENTS[0].talk(quick, lambda proxy: proxy.get(server.url + "/"))
    assert sent(server) == 1


def test_remaining_time_is_handed_to_the_client(server: FaultyServer) -> None:
    """A synchronous client can't be interrupted: it is told how long it may take, and keeps to it."""
    server.script("/", [words.hang(20)])
    policy = pr.policy("crm", deadline_s=0.1)
    with pytest.raises(httpx2.TimeoutException):
        CLIENTS[0].talk(policy, lambda proxy: proxy.get(server.url + "/", timeout=30))


class Recorder:
    """A client that only keeps what it was asked."""

    def __init__(self, timeout: Any = None) -> None:
        self.timeout = timeout
        self.asked: list[Any] = []

    def request(self, method: str, url: str, **kwargs: Any) -> Any:
        self.asked.append(kwargs.get("timeout", "its own"))
        return httpx2.Response(200)

    def get(self, url: str, **kwargs: Any) -> Any:
        return self.request("GET", url, **kwargs)


def test_client_keeps_its_time_where_there_is_no_limit(quick: pr.Policy) -> None:
    """Without a deadline nothing is handed down."""
    client = Recorder(7)
    http(client, quick).get("http://crm.example/")
    assert client.asked == ["its own"]


def test_clients_own_time_stays_where_it_is_the_shorter() -> None:
    """Whether it was given with the request or with the client."""
    client = Recorder(7)
    proxy = http(client, pr.policy("crm", attempt_timeout_s=30.0))
    proxy.get("http://crm.example/")
    proxy.get("http://crm.example/", timeout=2)
    assert client.asked == [7, 2]


def test_time_of_a_policy_above_reaches_the_client(clock: ManualTime) -> None:
    """The deadline is that of the whole call, wherever it was set; when it is over nothing is sent."""
    client = Recorder()
    proxy = http(client, pr.policy("crm"))

    def work(takes_s: float) -> None:
        clock.passes(takes_s)
        proxy.get("http://crm.example/")

    shop = pr.policy("shop", deadline_s=2.0)
    shop.call(work, 0.5)
    assert client.asked == [1.5]
    with pytest.raises(DeadlineExceeded):
        shop.call(work, 2.0)
    assert len(client.asked) == 1


def test_time_of_aiohttp_is_its_own_kind(server: FaultyServer) -> None:
    """aiohttp takes nothing but its ClientTimeout; a silent service ends with its timeout or ours, on time."""
    server.script("/", [words.hang(20)])
    policy = pr.policy("crm", deadline_s=0.1)
    with pytest.raises(TimeoutError):
        CLIENTS[5].talk(policy, lambda proxy: proxy.get(server.url + "/"))


# Other parts of a policy ----------------------------------------------------------------------------------------------


def test_failures_open_the_breaker(server: FaultyServer, client: Client) -> None:
    """Answers that are failures count, although the caller gets them as answers; then nothing is sent."""
    server.script("/", [503])
    policy = pr.policy("crm", breaker=pr.Breaker(failures=2))
    for _ in range(2):
        assert status_of(client.talk(policy, lambda proxy: proxy.get(server.url + "/"))) == 503
    with pytest.raises(CircuitOpen):
        client.talk(policy, lambda proxy: proxy.get(server.url + "/"))
    assert sent(server) == 2


def test_throttling_is_not_held_against_the_service(server: FaultyServer) -> None:
    """429 says that we are too fast, not that the service is down."""
    server.script("/", [429])
    policy = pr.policy("crm", breaker=pr.Breaker(failures=1))
    for _ in range(3):
        assert CLIENTS[0].talk(policy, lambda proxy: proxy.get(server.url + "/")).status_code == 429
    assert policy.breaker.state.value == "closed"


def test_body_is_validated_in_every_client(server: FaultyServer, client: Client) -> None:
    """A torn body behind a 200 is a failure; aiohttp's is read for that and can still be read by the caller."""
    server.script("/", ["bad_json", words.json(200, {"id": 7})])
    policy = pr.policy("crm", retry=QUICK, validate=json_response)

    assert client.read(policy, server.url + "/") == {"id": 7}
    assert sent(server) == 2


def test_key_tells_hosts_apart() -> None:
    """A policy's key is asked with the method and the address; each host has a breaker of its own."""
    policy = pr.policy("web", breaker=pr.Breaker(failures=1), key=lambda method, url, **_: httpx2.URL(url).host)
    client = httpx2.Client(
        transport=httpx2.MockTransport(lambda request: httpx2.Response(503 if request.url.host == "a.example" else 200))
    )
    proxy = http(client, policy)
    assert proxy.get("http://a.example/").status_code == 503
    with pytest.raises(CircuitOpen):
        proxy.get("http://a.example/other")
    assert proxy.get("http://b.example/").status_code == 200
    client.close()


def test_fallback_stands_in(server: FaultyServer) -> None:
    """What stands in for a failed call is asked with the method and the address."""
    server.script("/", [503])
    policy = pr.policy("crm", retry=QUICK, fallback=lambda method, url, **_: f"{method} later")
    assert CLIENTS[0].talk(policy, lambda proxy: proxy.get(server.url + "/")) == "GET later"


def test_policy_around_does_not_multiply(server: FaultyServer, quick: pr.Policy, client: Client) -> None:
    """The last answer was tried three times: the error that its `raise_for_status` makes is not worth six more."""
    server.script("/", [503])
    shop = pr.policy("shop", retry=QUICK)

    def say(proxy: Any) -> Any:
        def fetch() -> None:
            proxy.get(server.url + "/").raise_for_status()

        async def afetch() -> None:
            (await proxy.get(server.url + "/")).raise_for_status()

        return shop.acall(afetch) if client.asynchronous else shop.call(fetch)

    with pytest.raises(Exception, match="503"):
        client.talk(quick, say)
    assert sent(server) == 3
    assert shop.explain()["calls"][-1]["reason"] == "a guard below has tried already"


def test_policy_around_repeats_what_was_not_tried_below(server: FaultyServer, quick: pr.Policy) -> None:
    """An answer that the proxy took for good, and the caller does not, may be asked for again."""
    server.script("/", [404, 404, "ok"])
    shop = pr.policy("shop", retry=pr.Retry(attempts=3, base_s=0.0, on=httpx2.HTTPStatusError))

    def say(proxy: Any) -> Any:
        return shop.call(lambda: proxy.get(server.url + "/").raise_for_status().status_code)

    assert CLIENTS[0].talk(quick, say) == 200
    assert sent(server) == 3


# The proxy itself -----------------------------------------------------------------------------------------------------


def test_what_is_not_listed_is_the_clients(quick: pr.Policy) -> None:
    """Headers, cookies and everything else are reached through the proxy."""
    with http(httpx2.Client(headers={"x-shop": "7"}), quick) as proxy:
        assert proxy.headers["x-shop"] == "7"
        with pytest.raises(AttributeError):
            _ = proxy.no_such_thing


def test_misuse_is_refused_at_once(quick: pr.Policy) -> None:
    """What is no client, and what is no policy, are refused where they are given."""
    with pytest.raises(TypeError, match="has no request"):
        http(object(), quick)
    with pytest.raises(TypeError, match=r"pr\.policy"):
        http(httpx2.Client, "crm")  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="has no post"):
        http(Recorder(), quick).post("http://crm.example/")


def test_request_is_a_context_and_a_task(server: FaultyServer, quick: pr.Policy) -> None:
    """`async with session.get(…)` as aiohttp's users write it, and tasks as httpx's users make them."""
    server.script("/", [503, words.json(200, {"id": 7})])

    async def talk() -> tuple[Any, int]:
        async with http(httpx2.AsyncClient(), quick) as proxy:
            async with proxy.get(server.url + "/") as response:
                first = response.json()
            task = asyncio.create_task(proxy.get(server.url + "/"))
            return first, (await task).status_code

    assert asyncio.run(talk()) == ({"id": 7}, 200)


def test_session_of_aiohttp_is_used_as_ever(server: FaultyServer, quick: pr.Policy) -> None:
    """The context gives connections back: a session that allows one at a time never starves."""
    server.script("/", [503, 503, words.json(200, {"id": 7})])

    async def talk() -> list[Any]:
        found = []
        async with http(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)), quick) as session:
            for _ in range(3):
                async with session.get(server.url + "/") as response:
                    found.append(await response.json())
        return found

    assert asyncio.run(asyncio.wait_for(talk(), 10)) == [{"id": 7}] * 3


def test_context_of_a_response_is_entered_and_left(quick: pr.Policy) -> None:
    """aiohttp's response behaves differently inside its context: it is entered as with the session itself."""
    told: list[str] = []

    class Answer:
        status_code = 200

        async def __aenter__(self) -> str:
            told.append("entered")
            return "what the response hands out"

        async def __aexit__(self, *raised: object) -> None:
            told.append(f"left with {raised[0]}")

    class Session:
        async def request(self, method: str, url: str) -> Answer:
            return Answer()

    async def talk() -> None:
        async with http(Session(), quick).request("GET", "/") as response:
            assert response == "what the response hands out"
            assert told == ["entered"]

    asyncio.run(talk())
    assert told == ["entered", "left with None"]


def test_refused_answer_gives_its_connection_back(server: FaultyServer, quick: pr.Policy) -> None:
    """What an attempt replaces is closed before the next begins; the last one is the caller's."""
    closed: list[int] = []

    class Answer:
        def __init__(self, number: int) -> None:
            self.number, self.status_code = number, 503

        def close(self) -> None:
            closed.append(self.number)

    class Numbered:
        count = 0

        def request(self, method: str, url: str) -> Answer:
            self.count += 1
            return Answer(self.count)

    assert http(Numbered(), quick).request("GET", "/").number == 3
    assert closed == [1, 2]


def test_cancelled_request_is_cancelled(server: FaultyServer, quick: pr.Policy) -> None:
    """A cancellation is never repeated and never counted."""
    server.script("/", [words.hang(20)])

    async def talk() -> None:
        async with http(httpx2.AsyncClient(), quick) as proxy:
            task = asyncio.create_task(proxy.get(server.url + "/"))
            await asyncio.to_thread(server.wait_for, lambda: sent(server) == 1, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(talk())
    assert sent(server) == 1
