"""The ledger convicts the careless client and acquits the careful one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from prunella.testing import FaultyServer, words
from prunella.testing.words import Form, Word


def deliver(client: httpx2.Client, *, key: str | None = None, patient: bool = False) -> None:
    """Post an order until it works: careful with a key and patience, careless without."""
    for _ in range(10):
        try:
            reply = client.post("/orders", json={"order": 7}, headers={"Idempotency-Key": key} if key else {})
        except httpx2.TransportError:
            continue
        if reply.status_code == 200:
            return
        if patient:
            threading.Event().wait(float(reply.headers.get("retry-after", 0)))
    pytest.fail("never delivered")


AMBIGUOUS: list[str | Word] = ["lost_reply", words.after_effect("cut"), words.after_effect(503), "ok"]


def test_careless_client_repeats_a_deed_and_is_caught(server: FaultyServer, client: httpx2.Client) -> None:
    """Without a key, each retry after a lost reply does the deed again."""
    server.script("/orders", AMBIGUOUS)
    deliver(client)
    assert (server.ledger.effects, server.ledger.double_effects) == (4, 3)


def test_careful_client_does_a_deed_once(server: FaultyServer, client: httpx2.Client) -> None:
    """With a key, the retries are answered from memory."""
    server.script("/orders", AMBIGUOUS)
    deliver(client, key="order-7")
    assert (server.ledger.effects, server.ledger.double_effects) == (1, 0)
    assert server.ledger.effects_by_key == {"order-7": 1}
    assert server.ledger.replayed_from_key == 3


def test_key_is_no_help_where_it_is_not_honoured() -> None:
    """A receiver that ignores keys does the deed each time, and the ledger counts it under the key."""
    with FaultyServer(honour_keys=False) as server, httpx2.Client(base_url=server.url, trust_env=False) as client:
        server.script("/orders", ["lost_reply", "ok"])
        deliver(client, key="order-7")
        assert server.ledger.effects_by_key == {"order-7": 2}
        assert (server.ledger.double_effects, server.ledger.replayed_from_key) == (1, 0)


def test_new_key_for_each_try_is_caught_by_identity() -> None:
    """A key made anew for each try protects nothing; told what the deed is, the ledger sees it."""
    with (
        FaultyServer(identity=lambda request: f"order {request.json()['order']}") as server,
        httpx2.Client(base_url=server.url, trust_env=False) as client,
    ):
        for attempt in range(2):
            client.post("/orders", json={"order": 7}, headers={"Idempotency-Key": f"try-{attempt}"})
        assert server.ledger.effects_by_key == {"order 7": 2}
        assert server.ledger.double_effects == 1


def test_different_deeds_are_not_double(server: FaultyServer, client: httpx2.Client) -> None:
    """Two orders, two paths, two methods: nothing is done twice."""
    client.post("/orders", json={"order": 7})
    client.post("/orders", json={"order": 8})
    client.put("/orders", json={"order": 8})
    client.post("/refunds", json={"order": 8})
    client.get("/orders")
    assert (server.ledger.effects, server.ledger.double_effects) == (4, 0)


def test_stored_answer_is_the_first_success(server: FaultyServer, client: httpx2.Client) -> None:
    """A repeated key gets the answer of its deed, marked as replayed, whatever the script would say now."""
    server.script("/orders", [words.json(201, {"id": 1}), words.json(201, {"id": 2})])
    headers = {"Idempotency-Key": "k"}
    replies = [client.post("/orders", json={}, headers=headers) for _ in range(2)]
    assert [(reply.status_code, reply.json()) for reply in replies] == [(201, {"id": 1})] * 2
    assert [reply.headers.get("idempotent-replayed") for reply in replies] == [None, "true"]


def test_key_used_for_something_else_is_refused(server: FaultyServer, client: httpx2.Client) -> None:
    """A known key with another body is a mistake: 422, counted, nothing done."""
    headers = {"Idempotency-Key": "k"}
    client.post("/orders", json={"order": 7}, headers=headers)
    assert client.post("/orders", json={"order": 8}, headers=headers).status_code == 422
    assert (server.ledger.key_misuses, server.ledger.effects) == (1, 1)


def test_failures_and_reads_have_no_effect(server: FaultyServer, client: httpx2.Client) -> None:
    """Only a success of a request that changes something counts."""
    server.script("/orders", [503, words.throttled(0), words.html(), "empty", "bad_json", words.redirect("/"), "ok"])
    for _ in range(6):
        client.post("/orders", json={})
    client.get("/orders")
    assert server.ledger.effects == 0


def test_impatient_client_is_caught(server: FaultyServer, client: httpx2.Client) -> None:
    """Asking again before the wait is over is early, once per request."""
    server.script("/orders", [words.throttled(5), words.throttled(5), "ok"])
    deliver(client)
    assert [request.path for request in server.ledger.early] == ["/orders", "/orders"]


def test_patient_client_is_not_accused(server: FaultyServer, client: httpx2.Client) -> None:
    """Who waits as long as asked is not early; nor is who asks elsewhere meanwhile."""
    server.script("/orders", [words.throttled(0.1), words.throttled(0.1), "ok"])
    server.script("/refunds", [words.throttled(30)])
    client.post("/refunds", json={})
    deliver(client, patient=True)
    assert len(server.ledger.requests) == 4
    assert server.ledger.early == []


@pytest.mark.parametrize("form", ["seconds", "date", "epoch", "delta", "ratelimit"])
def test_early_is_judged_in_every_form(form: Form, server: FaultyServer, client: httpx2.Client) -> None:
    """However the wait was spelt, it counts; below a scripted path it counts for all."""
    server.script("/crm", [words.throttled(30, form), "ok"])
    client.get("/crm/contacts/1")
    client.get("/crm/contacts/2")
    assert [request.path for request in server.ledger.early] == ["/crm/contacts/2"]


def test_in_flight_counts_overlap(server: FaultyServer, client: httpx2.Client) -> None:
    """Eight at once are eight; one after another is one."""
    for _ in range(50):
        client.get("/fast")
    assert server.ledger.in_flight_max == 1
    server.script("/slow", [words.delayed(0.3)])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.get("/slow"), range(8)))
    assert server.ledger.in_flight_max == 8
    server.wait_for(lambda: server.ledger.in_flight == 0, 5)


def test_requests_are_kept_whole(server: FaultyServer, client: httpx2.Client) -> None:
    """Time, method, path, query, headers and body of each request can be looked up."""
    client.put("/a/b?x=1&y=%20", content=b"\x00raw", headers={"X-Trace": "T"})
    client.get("/")
    first, second = server.ledger.requests
    assert (first.method, first.path, first.query, first.body) == ("PUT", "/a/b", "x=1&y=%20", b"\x00raw")
    assert first.headers["x-trace"] == "T"
    assert first.at_s <= second.at_s


def test_parallel_deeds_are_all_counted(server: FaultyServer, client: httpx2.Client) -> None:
    """Two hundred deeds from sixteen threads, each sent twice with its key: none lost, none double."""

    def post(number: int) -> int:
        return client.post(
            "/orders", json={"n": number // 2}, headers={"Idempotency-Key": str(number // 2)}
        ).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(post, range(400))) == {200}
    assert (server.ledger.effects, server.ledger.double_effects) == (200, 0)
    assert (server.ledger.replayed_from_key, len(server.ledger.requests)) == (200, 400)
