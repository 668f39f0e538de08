"""FaultyServer listens, plays its scripts, receives messages, goes down and comes back."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx2
import pytest

from prunella.testing import FaultyServer, words


def test_unscripted_server_says_ok(server: FaultyServer, client: httpx2.Client) -> None:
    """Out of the box every path and method works."""
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        reply = client.request(method, "/any/thing")
        assert (reply.status_code, reply.json()) == (200, {"ok": True})
    head = client.head("/any/thing")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "12")


def test_longest_script_counts(server: FaultyServer, client: httpx2.Client) -> None:
    """A script covers what lies below its path, unless something closer is scripted; a like beginning is not enough."""
    server.script("/crm", [503])
    server.script("/crm/contacts", [418])
    paths = ["/crm", "/crm/deals/1?x=/crm/contacts", "/crm/contacts", "/crm/contacts/7", "/crmx", "/"]
    assert [client.get(path).status_code for path in paths] == [503, 503, 418, 418, 200, 200]
    server.script("/", [500])
    assert client.get("/crmx").status_code == 500


def test_new_script_replaces_the_old(server: FaultyServer, client: httpx2.Client) -> None:
    """Faults can be healed in the middle of a test."""
    server.script("/x", [503])
    assert client.get("/x").status_code == 503
    server.script("/x", ["ok"])
    assert client.get("/x").status_code == 200


def test_path_without_slash_is_refused(server: FaultyServer) -> None:
    """A path that could never match is a mistake, with the right spelling in the message."""
    with pytest.raises(ValueError, match="path 'crm' does not begin with '/'; write '/crm'"):
        server.script("crm", ["ok"])


def test_only_loopback_is_served() -> None:
    """A server full of faults is not for the network."""
    with pytest.raises(ValueError, match="loopback only"):
        FaultyServer(host="0.0.0.0")


def test_second_loopback_address_is_a_canary() -> None:
    """Two servers on one port number, told apart by address."""
    with FaultyServer() as front:
        port = int(front.url.rpartition(":")[2])
        with FaultyServer(host="127.0.0.2", port=port) as canary, httpx2.Client(trust_env=False) as client:
            front.script("/", [words.redirect(f"{canary.url}/internal")])
            client.get(front.url, follow_redirects=False)
            assert canary.ledger.requests == []
            client.get(front.url, follow_redirects=True)
            assert [request.path for request in canary.ledger.requests] == ["/internal"]


# Up and down


def test_down_server_shows_a_page(server: FaultyServer, client: httpx2.Client) -> None:
    """With `up` False everything, token endpoint and receivers included, is a 503 page; scripts do not move on."""
    chat = server.chat("/slack")
    server.script("/x", [418, "ok"])
    server.up = False
    replies = [client.get("/x"), client.post("/slack", json={"text": "hello"})]
    assert {(reply.status_code, reply.headers["content-type"]) for reply in replies} == {
        (503, "text/html; charset=utf-8")
    }
    assert chat.messages == []
    server.up = True
    assert client.get("/x").status_code == 418


def test_maintenance_window_opens_and_ends(
    server: FaultyServer, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that lies ahead changes nothing yet; in it, Retry-After reaches beyond its end."""
    passed_s, real = 0.0, time.monotonic
    monkeypatch.setattr("prunella.testing.faulty.time.monotonic", lambda: real() + passed_s)
    server.maintenance(in_s=60, for_s=60)
    assert client.get("/x").status_code == 200
    server.maintenance(for_s=30.5)
    closed = client.get("/x")
    assert (closed.status_code, 20 < int(closed.headers["retry-after"]) <= 31) == (503, True)
    assert client.get("/x").status_code == 503
    assert len(server.ledger.early) == 1
    passed_s = 31.0
    assert client.get("/x").status_code == 200


def test_stopped_server_refuses_and_comes_back_on_its_port() -> None:
    """Stop cuts kept-alive connections and refuses new ones; start serves the same address with the same ledger."""
    server = FaultyServer().start()
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        client.get("/before")
        server.stop()
        server.stop()
        for _ in range(3):
            with pytest.raises(httpx2.TransportError):
                client.get("/while")
        with pytest.raises(httpx2.ConnectError):
            client.get("/while")
        with server:
            assert client.get("/after").status_code == 200
        assert [request.path for request in server.ledger.requests] == ["/before", "/after"]


def test_stop_does_not_wait_for_hanging_requests(server: FaultyServer, client: httpx2.Client) -> None:
    """A test with a hang in it ends at once, and no thread stays behind in the wait."""
    server.script("/hang", [words.hang(60)])

    def hang() -> None:
        with pytest.raises(httpx2.TransportError):
            client.get("/hang", timeout=60)

    hanging = threading.Thread(target=hang)
    hanging.start()
    server.wait_for(lambda: server.ledger.in_flight == 1, 5)
    started_s = time.monotonic()
    server.stop()
    hanging.join(5)
    assert not hanging.is_alive()
    server.wait_for(lambda: server.ledger.in_flight == 0, 2)
    assert time.monotonic() - started_s < 2


def test_starting_twice_is_refused(server: FaultyServer) -> None:
    """One server, one address."""
    with pytest.raises(RuntimeError, match="already listens at http://127"):
        server.start()


def test_address_before_the_start_is_refused() -> None:
    """There is no port yet, and the message says what to do."""
    with pytest.raises(RuntimeError, match=r"call start\(\)"):
        _ = FaultyServer().url


# Waiting


def test_wait_for_sees_what_happens_later(server: FaultyServer, client: httpx2.Client) -> None:
    """The waiter wakes when the ledger changes, without polling."""
    worker = threading.Thread(target=lambda: [client.post("/x", json={"n": number}) for number in range(5)])
    worker.start()
    server.wait_for(lambda: server.ledger.effects == 5, 5)
    worker.join()


def test_wait_for_gives_up_with_the_ledger(server: FaultyServer, client: httpx2.Client) -> None:
    """A wait in vain says what did happen."""
    client.post("/seen")
    with pytest.raises(TimeoutError, match=r"waited 0.05 s in vain; so far: <Ledger: 1 requests \(last: POST /seen\)"):
        server.wait_for(lambda: server.ledger.effects == 2, 0.05)


# Receivers


def test_chat_keeps_messages_and_can_throttle(server: FaultyServer, client: httpx2.Client) -> None:
    """A message that was throttled was not received; the next one was, and answers as Slack does."""
    chat = server.chat("/slack")
    server.script("/slack", [words.throttled(1), "ok"])
    replies = [client.post("/slack", json={"text": text}) for text in ("one", "two")]
    assert [(reply.status_code, reply.headers.get("retry-after")) for reply in replies] == [(429, "1"), (200, None)]
    assert replies[1].text == "ok"
    assert chat.messages == [{"text": "two"}]


@pytest.mark.parametrize("body", [b"no json", b"[]", b"\xff"])
def test_chat_refuses_what_is_no_message(body: bytes, server: FaultyServer, client: httpx2.Client) -> None:
    """Chat systems take JSON objects only."""
    chat = server.chat("/slack")
    reply = client.post("/slack", content=body)
    assert (reply.status_code, reply.text, chat.messages) == (400, "invalid_payload", [])


def test_teams_accepts_and_sets_its_trap(server: FaultyServer, client: httpx2.Client) -> None:
    """202 is a delivery; 200 with a text of failure is none."""
    teams = server.teams("/teams")
    server.script("/teams", ["teams_trap", "ok"])
    trap, good = (client.post("/teams", json={"type": "message", "n": number}) for number in range(2))
    assert (trap.status_code, "delivery failed" in trap.text, good.status_code) == (200, True, 202)
    assert teams.messages == [{"type": "message", "n": 1}]


def test_webhook_keeps_headers_and_bytes(server: FaultyServer, client: httpx2.Client) -> None:
    """What a signature covers is kept as it came, even when the reply is lost."""
    hook = server.webhook("/hook")
    server.script("/hook", ["lost_reply"])
    with pytest.raises(httpx2.ReadError):
        client.post("/hook", content=b'{ "a":1}', headers={"webhook-signature": "v1,abc"})
    assert [(kept.headers["webhook-signature"], kept.body) for kept in hook.received] == [("v1,abc", b'{ "a":1}')]


# On the wire


def test_chunked_bodies_are_read(server: FaultyServer, client: httpx2.Client) -> None:
    """A body of unknown length arrives whole, and the connection stays usable."""

    def parts() -> Iterator[bytes]:
        yield b"one "
        yield b"two" * 1000

    assert client.post("/x", content=parts()).status_code == 200
    assert client.post("/x", content=b"next").status_code == 200
    assert [request.body for request in server.ledger.requests] == [b"one " + b"two" * 1000, b"next"]


def test_sequential_requests_never_seem_to_overlap(server: FaultyServer) -> None:
    """A client that sends the next request the moment it has the reply is still one at a time."""
    url = httpx2.URL(server.url)
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection((url.host, url.port or 0))) for _ in range(2)]
        for connection in connections * 1000:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while not connection.recv(65536).endswith(b"}"):
                pass
    assert server.ledger.in_flight_max == 1


def test_client_that_gives_up_makes_no_noise(
    server: FaultyServer, client: httpx2.Client, capfd: pytest.CaptureFixture[str]
) -> None:
    """A client that leaves in the middle of an answer is everyday life, not a traceback."""
    server.script("/x", [words.delayed(0.1, words.deep(2_000_000)), words.drip(1), "ok"])
    for _ in range(2):
        with pytest.raises(httpx2.ReadTimeout):
            client.get("/x", timeout=0.05)
    server.wait_for(lambda: server.ledger.in_flight == 0, 5)
    assert client.get("/x").status_code == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_command_line_serves_until_interrupted() -> None:
    """`python -m prunella.testing` prints its address, plays a script and ends with the ledger."""
    command = [sys.executable, "-m", "prunella.testing", "--script", "/x=503,ok"]
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        codes = [httpx2.get(f"{url}/x", trust_env=False).status_code for _ in range(2)]
        process.send_signal(signal.SIGINT)
        farewell = process.stdout.read()
    assert codes == [503, 200]
    assert "2 requests" in farewell
    assert process.returncode == 0


@pytest.mark.parametrize(
    "sent", [b"Content-Length: 10\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
)
def test_server_does_not_act_on_half_a_request(sent: bytes) -> None:
    """Given a client that dies while it sends, nothing is recorded and no effect happens."""
    with FaultyServer() as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(b"POST /orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n" + sent)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        assert server.ledger.requests == []
        assert server.ledger.effects == 0
