"""A command finds its configuration, its engine or its store, and every error is one line that says what to do."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli.conftest import KEY, Command
from prunella.cli import world
from prunella.core.clock import SystemClock
from prunella.core.errors import ConfigError, PrunellaError
from prunella.store.secrets import Keys
from prunella.store.sqlite import SqliteStore
from prunella.testing import FaultyServer, Word, hang
from prunella.testing import words as w
from prunella.web.auth import Gatehouse, Role


@pytest.mark.parametrize(
    ("arguments", "rest", "path"),
    [
        (["--config", "a.yaml", "scan"], ["scan"], "a.yaml"),
        (["-c", "a.yaml", "scan"], ["scan"], "a.yaml"),
        (["scan", "--config", "a.yaml"], ["scan"], "a.yaml"),
        (["scan", "-c", "a.yaml", "--json"], ["scan", "--json"], "a.yaml"),
        (["--config=a.yaml", "scan"], ["scan"], "a.yaml"),
        (["config", "check", "--config=dir/a.yaml"], ["config", "check"], "dir/a.yaml"),
        (["-c", "a.yaml", "scan", "-c", "b.yaml"], ["scan"], "b.yaml"),
        (["scan"], ["scan"], None),
        ([], [], None),
        (["explain", "--configuration broke"], ["explain", "--configuration broke"], None),
    ],
)
def test_configuration_is_taken_from_wherever_it_stands(
    folder: Path, arguments: list[str], rest: list[str], path: str | None
) -> None:
    """Before or after the command, in both spellings; the last one counts; nothing else is touched."""
    assert world.take_config(arguments) == rest
    assert world.config_path() == (Path(path) if path else None)


@pytest.mark.parametrize("option", ["--config", "-c"])
def test_configuration_without_a_path_is_said(folder: Path, option: str) -> None:
    """The message shows what to write."""
    with pytest.raises(ConfigError, match=rf"{option}: a path is missing; write {option} prunella.yaml"):
        world.take_config(["scan", option])


def test_configuration_is_chosen_named_or_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option comes before PRUNELLA_CONFIG, that before prunella.yaml, and without any there are the defaults."""
    assert (world.config_path(), world.config_name()) == (None, "no file, defaults only")
    (folder / "prunella.yaml").write_text("")
    assert world.config_path() == Path("prunella.yaml")
    monkeypatch.setenv("PRUNELLA_CONFIG", "named.yaml")
    assert world.config_path() == Path("named.yaml")
    world.take_config(["-c", "chosen.yaml"])
    assert (world.config_path(), world.config_name()) == (Path("chosen.yaml"), "chosen.yaml")


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)])
def test_duration_is_read(text: str, seconds: float) -> None:
    """Seconds, minutes, hours and days."""
    assert world.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "5", "h", "1w", "-1h", "1.5h", "1h ", "9999999d", "1h30m"])
def test_duration_that_is_none_is_said(text: str) -> None:
    """The message shows what was given and what to write."""
    with pytest.raises(ConfigError, match="is no duration; write 30m, 12h or 7d"):
        world.duration_s(text)


def test_minted_token_is_good_for_the_engine_of_this_key(folder: Path) -> None:
    """It needs the key only, and the engine with that key lets it in."""
    token = world.mint("OPERATIONS", 60)
    caller = Gatehouse(Keys.parse(KEY), (), SystemClock().now).signed(token)
    assert caller is not None
    assert (caller.name, caller.role) == (world.person(), Role.OPERATIONS)
    assert Gatehouse(Keys.parse(KEY), (), lambda: datetime(2099, 1, 1, tzinfo=UTC)).signed(token) is None


# Reading values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "tokens"),
    [("access\nrefresh\n", ("access", "refresh")), ("access\n", ("access", None)), (" a \r\n\n b \n", ("a", "b"))],
)
def test_tokens_are_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, given: str, tokens: tuple[str, str | None]
) -> None:
    """The access token, and on a second line the refresh token; blank lines do not matter."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    assert world.read_tokens() == tokens


def test_secret_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces within stay, the line's end goes."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(" a b \n"))
    assert world.read_secret("value: ") == " a b "


@pytest.mark.parametrize("read", [world.read_tokens, lambda: world.read_secret("value: ")])
def test_empty_input_is_said(monkeypatch: pytest.MonkeyPatch, read: Callable[[], object]) -> None:
    """Nothing came: the message says what to pipe in."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(ConfigError, match="standard input was empty; pipe"):
        read()


# Asking the engine ----------------------------------------------------------------------------------------------------


def aim(folder: Path, url: str) -> None:
    """Configure the engine's address."""
    (folder / "prunella.yaml").write_text(f"service: {{listen: '{urlsplit(url).netloc}'}}\n")


def test_running_engine_is_asked_over_http(folder: Path) -> None:
    """Method, address, query and body arrive, with a token for the role that the command needs."""
    with FaultyServer() as engine:
        aim(folder, engine.url)
        engine.script("/api", [w.json(200, {"items": [1]})])
        assert world.call("PUT", "/api/x", {"a": 1}, query={"limit": 2}, role="ADMIN") == {"items": [1]}
        (seen,) = engine.ledger.requests
    assert (seen.method, seen.path, seen.json()) == ("PUT", "/api/x", {"a": 1})
    caller = Gatehouse(Keys.parse(KEY), (), SystemClock().now).signed(seen.headers["authorization"].split()[1])
    assert caller is not None
    assert caller.role is Role.ADMIN


def test_name_is_never_a_way_elsewhere(command: Command, configured: Path) -> None:
    """`..` in place of a service's name would pause everything; signs of addresses are only signs of a name."""
    wrong = [("..", 2), ("", 2), ("x/../..", 1), ("a b", 1), ("é?x=1#y", 1)]
    commands = [(["services", "pause", name], status) for name, status in wrong]
    for words, status in [*commands, (["incidents", "show", "."], 2), (["undo", " "], 2), (["ack", ""], 2)]:
        said = command(*words)
        assert (said.status, said.out, len(said.err.strip().splitlines())) == (status, "", 1), words
        assert "look what listens" not in said.err
    assert world.call("GET", "/api/v1/pause")["paused"] is False


def test_number_that_is_none_is_said(command: Command, configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nan passes every comparison and no JSON."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("token\n"))
    said = command("credentials", "set", "crm", "--expires-in", "nan")
    assert (said.status, said.err) == (2, "nan and inf are no numbers here; write a finite one\n")


def test_answer_of_another_version_is_one_line(command: Command, folder: Path) -> None:
    """JSON that has not what a command shows: said with the place, status 1, no stack."""
    with FaultyServer() as engine:
        aim(folder, engine.url)
        engine.script("/", [w.json(200, {"ok": True})])
        said = command("services", "list")
    assert (said.status, len(said.err.splitlines())) == (1, 1)
    assert "an answer of another version: KeyError at services.py:" in said.err


PROBLEM = {"title": "Not in this state", "status": 409, "detail": "service crm is closed"}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (w.json(409, PROBLEM), "Not in this state (409); service crm is closed"),
        (
            w.json(
                422, {"title": "Wrong", "errors": [{"pointer": "/a", "detail": "b"}, {"pointer": "/c", "detail": "d"}]}
            ),
            "Wrong (422); /a: b; /c: d",
        ),
        (w.json(404, {"detail": "Not Found"}), "the engine refused (404); Not Found"),
        (w.json(500, ["a list"]), "the engine refused (500)"),
        (w.html(502, "Bad gateway"), "the engine refused (502)"),
        (w.parse("reset"), "look what listens there"),
        (w.parse("cut"), "look what listens there"),
        (w.parse("garbage"), "look what listens there"),
        (w.parse("bad_json"), "look what listens there"),
        (w.parse("bad_utf8"), "look what listens there"),
        (w.parse("wrong_type"), "look what listens there"),
        (w.html(200), "look what listens there"),
        (w.parse("empty"), "look what listens there"),
    ],
    ids=lambda one: one.name if isinstance(one, Word) else "",
)
def test_every_answer_that_is_none_is_one_line(folder: Path, word: Word, message: str) -> None:
    """A refusal is told in the engine's words; whatever else listens there is said to be no engine."""
    with FaultyServer() as engine:
        aim(folder, engine.url)
        engine.script("/", [word])
        with pytest.raises(PrunellaError) as caught:
            world.call("GET", "/api/v1/incidents")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_engine_that_does_not_answer_in_time_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for absent: nothing is done beside it."""
    monkeypatch.setattr(world, "_CALL_S", 0.2)
    with FaultyServer() as engine:
        aim(folder, engine.url)
        engine.script("/", [hang(5)])
        with pytest.raises(PrunellaError, match="the engine did not answer within"):
            world.call("GET", "/api/v1/incidents")


@pytest.mark.parametrize("listen", ["[::1]:1", "127.0.0.1:1"])
def test_store_is_opened_when_no_engine_runs(configured: Path, listen: str) -> None:
    """The same routes answer without a server, on addresses of both families."""
    configured.write_text(configured.read_text().replace("127.0.0.1:1", listen))
    assert world.call("GET", "/api/v1/incidents") == {"items": [], "next_cursor": None}
    with pytest.raises(PrunellaError, match=r"Unknown incident \(404\); there is no incident 'nobody'"):
        world.call("GET", "/api/v1/incidents/nobody")


@pytest.mark.parametrize("line", ["status", "pause", "incidents", "token", "known-issues", "secret set slack"])
def test_nothing_is_begun_where_nothing_of_prunellas_is(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """In the wrong folder nothing is paused and nothing is well: no key and no database are made, and it is said."""
    monkeypatch.delenv("PRUNELLA_SECRET_KEY")
    monkeypatch.setattr(sys, "stdin", io.StringIO("value"))
    said = command(*line.split())
    assert (said.status, said.out) == (2, "")
    assert "there is no prunella.yaml and no prunella.db here; go where prunella up runs" in said.err
    assert list(folder.iterdir()) == []
    (folder / "prunella.yaml").write_text("")
    monkeypatch.setattr(sys, "stdin", io.StringIO("value"))
    assert command(*line.split()).status == 0


def test_store_that_another_process_holds_is_said(configured: Path, command: Command, sqlite_path: Path) -> None:
    """No engine answers, but somebody has the file: one line with what to do."""
    holder = SqliteStore.open_file(sqlite_path, SystemClock())
    try:
        said = command("incidents")
    finally:
        assert holder._lock_file is not None
        holder._database.close()
        holder._lock_file.close()
    assert said.status == 1
    assert "in use by process" in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_environment_without_a_proxy_is_not_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment does not stand between a command and its engine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with FaultyServer() as engine:
        aim(folder, engine.url)
        assert world.call("GET", "/api") == {"ok": True}
