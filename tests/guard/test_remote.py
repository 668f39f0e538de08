"""An engine elsewhere: what it takes, what waits for it on this side, and what it must never be told."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

import prunella as pr
from prunella.core.clock import HOST, SystemClock
from prunella.core.errors import InvalidInput, StoreUnavailable
from prunella.guard import asking
from prunella.guard.board import Notice, Standing
from prunella.guard.breaker import State
from prunella.guard.durable import Ending, NewCall
from prunella.guard.place import DatabasePlace
from prunella.guard.remote import EnginePlace
from prunella.store.secrets import Keys
from prunella.web import problems
from prunella.web.api import guards
from prunella.web.auth import Gatehouse, Role

KEYS = Keys([b"k" * 32])
GATEHOUSE = Gatehouse(KEYS, (), SystemClock().now)


def token(role: Role = Role.APPLICATION) -> str:
    return GATEHOUSE.mint(role, timedelta(hours=1))


@dataclass
class Elsewhere:
    """The routes of an engine, on a real socket; they can go away and come back at the same address."""

    path: Path
    port: int = 0
    server: uvicorn.Server | None = None
    thread: threading.Thread | None = None
    place: DatabasePlace | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        self.place = DatabasePlace(f"sqlite:///{self.path}")
        api = FastAPI()
        problems.install(api)
        api.state.gatehouse = GATEHOUSE
        api.include_router(guards.router(self.place))
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(api, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]})
        self.thread.start()

    def down(self) -> None:
        if self.server is not None and self.thread is not None and self.place is not None:
            self.server.should_exit = True
            self.thread.join()
            self.place.close()
            self.server = None

    def rows(self, query: str = "SELECT id, state, attempts FROM durable_calls ORDER BY id") -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as file:
            return file.execute(query).fetchall()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    engine = Elsewhere(tmp_path / "engine.db")
    engine.up()
    yield engine
    engine.down()


@pytest.fixture
def place(elsewhere: Elsewhere, tmp_path: Path) -> Iterator[EnginePlace]:
    opened = EnginePlace(elsewhere.url, token(), str(tmp_path / "spool.db"))
    yield opened
    opened.close()


def call(key: str = "order-1", **arguments: Any) -> NewCall:
    kept = {"args": [], "kwargs": arguments}
    return NewCall(function="shop:push", policy="crm", key=key, arguments=kept, attempts=3, wait_s=0.0, error="Down")


def spooled(tmp_path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(tmp_path / "spool.db")) as file:
        return file.execute("SELECT path, refused FROM spooled ORDER BY number").fetchall()


def silence_ends(seconds: float = 6.0) -> Any:
    """Let the time go by for which an engine that did not answer is left alone."""
    before = HOST.monotonic
    return HOST.replaced(monotonic=lambda: before() + seconds)


# Calls ----------------------------------------------------------------------------------------------------------------


def test_call_goes_to_the_engine_and_comes_back(place: EnginePlace, elsewhere: Elsewhere) -> None:
    """Written there before `write` returns, claimed by name, and ended with its reason."""
    written, due_at = place.ledger.write(call(order_id=7, note="grüße"))
    assert elsewhere.rows() == [(written, "waiting", 3)]
    assert abs(due_at - HOST.now().timestamp()) < 5
    assert place.ledger.claim([], "w1", 60.0, 10) == []
    (claimed,) = place.ledger.claim(["shop:push"], "w1", 60.0, 10)
    assert (claimed.id, claimed.kwargs, claimed.attempts) == (written, {"order_id": 7, "note": "grüße"}, 4)
    place.ledger.renew(written, "w1", 60.0)
    place.ledger.end(written, "w1", Ending(state="waiting", wait_s=60.0, error="HTTP 503", counted=False))
    assert elsewhere.rows("SELECT state, attempts, last_error FROM durable_calls") == [("waiting", 3, "HTTP 503")]


def test_engine_that_is_down_loses_nothing(place: EnginePlace, elsewhere: Elsewhere, tmp_path: Path) -> None:
    """What is written and what ends meanwhile waits on disk and follows in order; each call is there once."""
    first = place.ledger.write(call("1"))[0]
    place.ledger.claim(["shop:push"], "w1", 60.0, 1)
    elsewhere.down()
    second = place.ledger.write(call("2"))[0]
    place.ledger.end(first, "w1", Ending(state="done"))
    with pytest.raises(StoreUnavailable):
        place.ledger.claim(["shop:push"], "w1", 60.0, 1)
    assert spooled(tmp_path) == [("calls", None), ("calls/end", None)]
    elsewhere.up()
    with silence_ends():
        place.deliver()
    assert sorted(elsewhere.rows()) == sorted([(first, "done", 4), (second, "waiting", 3)])
    assert spooled(tmp_path) == []


def test_call_of_one_key_is_spooled_once(place: EnginePlace, elsewhere: Elsewhere, tmp_path: Path) -> None:
    """Handed over twice while the engine is away: one call, or the second would be made after the first is done."""
    elsewhere.down()
    first = place.ledger.write(call("1"))[0]
    assert place.ledger.write(call("1"))[0] == first
    assert place.ledger.write(call("2"))[0] != first
    elsewhere.up()
    with silence_ends():
        assert place.ledger.write(call("1"))[0] == first
        place.deliver()
        assert len(elsewhere.rows()) == 2


def test_spool_is_carried_for_some_seconds_in_one_go(place: EnginePlace, tmp_path: Path) -> None:
    """A slow engine and a full spool hold up neither the start of a program nor its calls."""
    for number in range(3):
        place._spool.add("calls", _fields(call(str(number))))
    begun, asked = HOST.monotonic(), iter(range(0, 10_000, 4))
    with HOST.replaced(monotonic=lambda: begun + next(asked)):
        place.deliver()
    assert 0 < len(spooled(tmp_path)) < 3
    place.deliver()
    assert spooled(tmp_path) == []


def test_message_whose_answer_was_lost_is_taken_once(place: EnginePlace, elsewhere: Elsewhere, tmp_path: Path) -> None:
    """The same call from the spool of a process that died after it was delivered: still one call, made once."""
    one = call("1")
    written = place.ledger.write(one)[0]
    place._spool.add("calls", _fields(one))
    place._spool.add("calls", _fields(one))
    place.deliver()
    assert elsewhere.rows() == [(written, "waiting", 3)]
    assert spooled(tmp_path) == []


def _fields(one: NewCall) -> dict[str, Any]:
    names = ("id", "function", "policy", "key", "arguments", "attempts", "wait_s", "error")
    return {name: getattr(one, name) for name in names}


def test_message_that_the_engine_refuses_holds_up_no_other(
    place: EnginePlace, elsewhere: Elsewhere, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside with the reason, for a person; what comes after it is delivered."""
    place._spool.add("calls", {"id": "x"})
    place._spool.add("calls", _fields(call("2")))
    place.deliver()
    assert len(elsewhere.rows()) == 1
    ((path, why),) = spooled(tmp_path)
    assert path == "calls"
    assert "HTTP 422" in why
    assert "was set aside" in caplog.text
    place.deliver()


def test_message_that_somebody_spoilt_holds_up_no_other(
    place: EnginePlace, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """It is set aside like one that the engine refuses; the calls behind it are found and delivered."""
    with closing(sqlite3.connect(tmp_path / "spool.db")) as file, file:
        file.execute("INSERT INTO spooled (path, body) VALUES ('calls', '{\"function\": \"sh')")
    one = _fields(call("2"))
    place._spool.add("calls", one)
    assert place._spool.waiting(one["function"], one["key"]) is not None
    place.deliver()
    assert len(elsewhere.rows()) == 1
    ((path, why),) = spooled(tmp_path)
    assert path == "calls"
    assert "is no JSON" in why


def test_silent_engine_is_left_alone_for_a_while(place: EnginePlace, elsewhere: Elsewhere) -> None:
    """Calls must not queue up behind its silence: for five seconds nobody asks again."""
    elsewhere.down()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        place.board.learned()
    elsewhere.up()
    with pytest.raises(StoreUnavailable, match="left alone"):
        place.board.learned()
    with silence_ends():
        assert place.board.learned() == {}


def test_connection_that_the_engine_closed_is_replaced(place: EnginePlace, elsewhere: Elsewhere) -> None:
    """A restart between two questions is not noticed."""
    place.board.learn("crm", 5.0)
    elsewhere.down()
    elsewhere.up()
    assert place.board.learned() == {"crm": 5.0}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_child_never_asks_on_its_parents_connection(place: EnginePlace) -> None:
    """Both would read from one socket, and each might get the other's answer."""
    place.board.learn("crm", 5.0)
    assert len(place._engine._idle) == 1
    if (child := os.fork()) == 0:
        os._exit(len(place._engine._idle))
    assert os.waitpid(child, 0)[1] == 0


# What is shared -------------------------------------------------------------------------------------------------------


def test_board_of_an_engine_is_one_board(place: EnginePlace, elsewhere: Elsewhere) -> None:
    """Standings, the right to probe, rates and notices are the same as beside the engine."""
    assert elsewhere.place is not None
    beside = elsewhere.place.board
    assert place.board.report(Standing(name="crm", state=State.OPEN, reason="down", open_s=0.0)) == 1
    assert [(one.name, one.state) for one in place.board.standings()] == [("crm", State.OPEN)]
    assert [place.board.may_probe("crm", 60.0), beside.may_probe("crm", 60.0)] == [True, False]
    place.board.learn("crm", 12.5)
    assert beside.learned() == place.board.learned() == {"crm": 12.5}
    notice = Notice(service="crm", code="circuit_breaker_open", message="5 failures in a row", recovered=False)
    place.board.notice(notice)
    assert beside.notices(10) == [notice]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("rates/learn", {"name": "a\0b", "rate_per_s": 1.0}),
        ("breakers/report", {"name": "\0", "state": "open", "reason": "", "open_s": 1.0}),
        ("notices", {"id": "n", "service": "crm", "code": "\0", "message": "", "recovered": False}),
        ("calls/claim", {"functions": ["\0"], "worker": "w", "lease_s": 1.0, "most": 1}),
    ],
)
def test_name_that_no_database_of_ours_may_meet_is_refused(place: EnginePlace, path: str, body: dict[str, Any]) -> None:
    """PostgreSQL can't hold NUL: told as an engine that is away, it would be sent again for ever."""
    with pytest.raises(InvalidInput, match="HTTP 422"):
        place._engine.ask(path, body)


@pytest.mark.parametrize("arguments", [{"text": "\ud800"}, {"\ud800": 1}, {"deep": json.loads("[" * 600 + "]" * 600)}])
def test_call_that_could_not_be_sent_back_is_refused_and_holds_up_no_other(
    place: EnginePlace, arguments: dict[str, Any]
) -> None:
    """An application of another make may send it: a claim that fails for it would fail for all."""
    kept = _fields(call("1")) | {"arguments": {"args": [], "kwargs": arguments}}
    with pytest.raises(InvalidInput, match=r"HTTP 4(00|22)"):
        place._engine.ask("calls", kept)
    written = place.ledger.write(call("2"))[0]
    assert [one.id for one in place.ledger.claim(["shop:push"], "w1", 60.0, 10)] == [written]


# Who may ask, and what is never sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATIONS, None])
def test_token_of_another_role_is_told_and_nothing_is_lost(
    role: Role | None, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """The call waits in the spool for a better token; the message says which one, and shows none."""
    bad = token(role) if role is not None else "forged-token-0123456789"
    place = EnginePlace(elsewhere.url, bad, str(tmp_path / "spool.db"))
    for _ in range(2):  # also while it is left alone
        with pytest.raises(StoreUnavailable, match=r"refuses the token \(HTTP 40[13].*--role APPLICATION") as told:
            place.board.learned()
        assert bad not in str(told.value)
    place.ledger.write(call())
    assert spooled(tmp_path) == [("calls", None)]
    place.close()


def test_refused_token_is_said_in_the_log_with_what_to_do(
    elsewhere: Elsewhere, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Connecting does not fail; an engine that comes back and refuses the token is another matter than one away."""
    elsewhere.down()
    with pr.connect(elsewhere.url, token(Role.VIEWER), resume=False, spool=str(tmp_path / "spool.db")) as connection:
        elsewhere.up()
        with silence_ends():
            connection._look_once()
            connection._look_once()
    away, refused = caplog.messages
    assert "does not answer" in away
    assert "make another there with `prunella token --role APPLICATION` and give it to connect" in refused


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://engine.example", "unencrypted"),
        ("https://", "must look like"),
        ("https://user:pw-hunter2@engine.example", "must look like"),
        ("https://engine.example/?token=hunter2", "must look like"),
        ("https://:hunter2@engine.example", "must look like"),
        ("https://engine.example:hunter2", "must look like"),
        ("https://[engine.example", "must look like"),
    ],
)
def test_address_that_would_give_something_away_is_refused(url: str, why: str, tmp_path: Path) -> None:
    """Plain HTTP beyond this machine, and secrets in an address; the message repeats none."""
    with pytest.raises(InvalidInput, match=why) as told:
        EnginePlace(url, "a-token-0123", str(tmp_path / "spool.db"))
    assert "hunter2" not in str(told.value)
    with pytest.raises(InvalidInput, match="--role APPLICATION"):
        EnginePlace("https://engine.example", None, str(tmp_path / "spool.db"))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\nno json!",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999999\r\n\r\n" + b" " * 9_999_999,
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
        b"gibberish\r\n\r\n",
        b"",
    ],
    ids=["no JSON", "too long", "redirect", "page", "gibberish", "hangs up"],
)
def test_strange_answer_counts_as_none(answer: bytes, tmp_path: Path) -> None:
    """Whatever stands at that address: the call is kept on this side, and a redirect is not followed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):  # it may hang up before it has read all
                connection.recv(65_536)
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        place = EnginePlace(f"http://127.0.0.1:{listening.getsockname()[1]}", token(), str(tmp_path / "spool.db"))
        kept = call("1", order_id=7)
        assert place.ledger.write(kept)[0] == kept.id
        server.join()
    assert spooled(tmp_path) == [("calls", None)]
    with closing(sqlite3.connect(tmp_path / "spool.db")) as file:
        ((body,),) = file.execute("SELECT body FROM spooled").fetchall()
    assert json.loads(body)["arguments"] == {"args": [], "kwargs": {"order_id": 7}}
    place.close()


@contextmanager
def answering(tmp_path: Path, answer: bytes, drops: bool = False) -> Iterator[EnginePlace]:
    """Open a place at an address where somebody gives this answer to everything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with suppress(OSError), listening.accept()[0] as connection:
                    connection.recv(65_536)
                    connection.sendall(answer)
                    while drops and not over.wait(0.02):
                        connection.sendall(b" ")

        server = threading.Thread(target=serve)
        server.start()
        place = EnginePlace(f"http://127.0.0.1:{listening.getsockname()[1]}", token(), str(tmp_path / "spool.db"))
        yield place
        over.set()
        place.close()
        with suppress(OSError):
            socket.create_connection(listening.getsockname()).close()
        server.join()


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"id": 1, "items": [{}], "rates": {"crm": "fast"}, "version": [], "granted": null}',
        b'{"items": 7, "rates": {"crm": NaN}, "version": NaN}',
        b'{"items": {"crm": 1}, "rates": ["crm"], "version": 1e999}',
    ],
)
def test_answer_of_somebody_else_is_none(body: bytes, tmp_path: Path) -> None:
    """JSON, and HTTP 200, and yet no engine: nothing is taken for delivered, and the caller hears it is away."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with answering(tmp_path, head.encode() + body) as place:
        board, ledger = place.board, place.ledger
        asked: list[Callable[[], object]] = [
            board.learned,
            board.standings,
            lambda: board.report(Standing(name="crm", state=State.OPEN, reason="", open_s=1.0)),
            lambda: ledger.claim(["shop:push"], "w1", 60.0, 1),
        ]
        for ask in asked:
            place._engine._silent_until = 0.0
            with pytest.raises(StoreUnavailable):
                ask()
        place._engine._silent_until = 0.0
        one = call("1")
        assert ledger.write(one)[0] == one.id
        place._engine._silent_until = 0.0
        ledger.end("1", "w1", Ending(state="done"))
        place._engine._silent_until = 0.0
        with suppress(StoreUnavailable):
            place.deliver()
    assert spooled(tmp_path)[0] == ("calls", None)


def test_answer_that_comes_drop_by_drop_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep the timeout of every read, and the caller for ever."""
    monkeypatch.setattr(asking, "_WHOLE_S", 0.3)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n"
    with answering(tmp_path, head, drops=True) as place, pytest.raises(StoreUnavailable):
        place.board.learned()


@pytest.mark.parametrize("bad", ["a-token-0123\n", "a token 0123", "tökén-0123"])
def test_token_that_no_header_can_carry_is_refused_at_once(bad: str, tmp_path: Path) -> None:
    """Read from a file with its line end: the HTTP client would show it in the error of every question."""
    with pytest.raises(InvalidInput, match="strip") as told:
        EnginePlace("https://engine.example", bad, str(tmp_path / "spool.db"))
    assert bad.strip() not in str(told.value)


# The spool's file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a#b.db", "a?b.db", "a%23b.db", "100%.db", "b c.db"])
def test_spool_is_the_file_that_was_named(name: str, tmp_path: Path) -> None:
    """A path is no address: a sign in it must not lead to another file."""
    place = EnginePlace("http://127.0.0.1:9", token(), str(tmp_path / name))
    place.ledger.write(call())
    place.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_spool_that_can_not_be_written_is_told_at_once(tmp_path: Path) -> None:
    """A folder that is missing, closed or no folder: found at the start, with the file and what to do about it."""
    (tmp_path / "text.db").write_text("no database " * 100)
    (tmp_path / "closed").mkdir(mode=0o500)
    bad = [tmp_path / "missing" / "spool.db", tmp_path, tmp_path / "text.db"]
    if os.geteuid() != 0:  # nothing is closed to root
        bad.append(tmp_path / "closed" / "spool.db")
    for path in bad:
        with pytest.raises(InvalidInput, match=r"can't be written .* spool=…") as told:
            EnginePlace("http://127.0.0.1:9", token(), str(path))
        assert f"the spool {path} " in str(told.value)
