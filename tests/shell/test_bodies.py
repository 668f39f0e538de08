"""Bodies, replies and expressions that are made to cost: each is refused or cut off, and others are answered meanwhile."""

from __future__ import annotations

import gzip
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flows.running import eventually
from prunella.store.tables import known_issues
from prunella.testing import words
from shell.conftest import Shell, body, head, raw

pytestmark = pytest.mark.slow
_GROWTH_BYTES_MAX = 50 * 1024 * 1024
_EVIL = (
    "(a+)+$",
    "(a|aa)+$",
    "(a|a?)+$",
    "([a-zA-Z]+)*$",
    "(.*a){25}",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(x+x+)+y",
    "(\\w|__?)*\\W",
    "(?=(a+))\\1+b",
    "(a{1,999}){1,999}",
    "a{99999}",
    "(",
    "a\\Z(?P<x>b)(?P=x)*",
)
_YAML = {
    "alias bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)),
    "object": "!!python/object/apply:os.system ['touch owned']",
    "name": "- !!python/name:os.system ''",
    "deep": "[" * 20_000,
    "deep blocks": "".join(f"{' ' * n}-\n" for n in range(1_200)),
    "merge of itself": "&a {<<: *a}",
    "many documents": "---\n- 1\n" * 1_000,
    "many keys": "{" + ",".join(f"k{n}: 1" for n in range(60_000)) + "}",
    "half a character": '- {id: a, pattern: "\\ud800"}',
    "number": "- {id: a, pattern: x, severity: " + "9" * 5_000 + "}",
}


@contextmanager
def no_growth(shell: Shell) -> Iterator[None]:
    """Let the server take at no moment more memory than before, but for a little."""
    process = Path(f"/proc/{shell.up.process.pid}")
    (process / "clear_refs").write_text("5")  # proc(5): the highest mark is what is held now
    before = _highest_bytes(process)
    yield
    assert _highest_bytes(process) - before < _GROWTH_BYTES_MAX, "memory grew"


def _highest_bytes(process: Path) -> int:
    (line,) = [one for one in (process / "status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@contextmanager
def no_work(shell: Shell, cpu_s: float = 2.0) -> Iterator[None]:
    """Let the server work for so long at most, however busy the machine is with something else."""
    process = Path(f"/proc/{shell.up.process.pid}/stat")
    before = _worked_s(process)
    yield
    assert _worked_s(process) - before < cpu_s, "it worked for too long"


def _worked_s(stat: Path) -> float:
    user, system = stat.read_text().rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def status_of(answer: bytes) -> int:
    """Return the status of an answer as it came; 0 where the line was cut before one came."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def test_body_that_is_too_much_is_refused_without_being_kept(shell: Shell) -> None:
    """50 MB claimed, 50 MB in chunks, 100,000 levels, a bomb in gzip: 4xx each, and no memory is kept for them."""
    large = b"x" * 50_000_000
    chunked = b"".join(b"10000\r\n" + b"x" * 65_536 + b"\r\n" for _ in range(763)) + b"0\r\n\r\n"
    packed = gzip.compress(b'{"event_id": "' + b"x" * 30_000_000 + b'"}', 1)
    deep = body([])[:1] * 100_000 + b"]" * 100_000
    with no_growth(shell):
        for path in ("/integration-self-heal", "/api/v1/signals", "/api/v1/inbound/partner"):
            assert status_of(raw(shell, head(path, "content-length: 50000000"))) == 413, path
        assert status_of(raw(shell, head("/api/v1/signals", "content-length: 50000000") + large)) in (0, 413)
        assert status_of(raw(shell, head("/api/v1/signals", "transfer-encoding: chunked") + chunked)) in (0, 413)
        deeply = raw(shell, head("/api/v1/signals", f"content-length: {len(deep)}") + deep)
        zipped = raw(
            shell, head("/api/v1/signals", f"content-length: {len(packed)}", "content-encoding: gzip") + packed
        )
    assert status_of(deeply) == 400
    assert status_of(zipped) in (0, 400, 413, 415)
    assert shell.is_well()


def test_packed_body_is_refused_by_its_name(shell: Shell) -> None:
    """Nothing is unpacked that a stranger packed: 415 says so, where it would have been garbage."""
    small = gzip.compress(body({"event_id": "z", "service_name": "quiet"}))
    answer = raw(shell, head("/api/v1/signals", f"content-length: {len(small)}", "content-encoding: gzip") + small)
    assert status_of(answer) == 415


def test_head_without_end_is_cut_off(shell: Shell) -> None:
    """A thousand kilobytes of cookies: 431 or a cut line, and no memory is kept."""
    with no_growth(shell):
        told = raw(shell, head("/", method="GET")[:-2] + b"cookie: " + b"a=b;" * 25_000_000)
    assert status_of(told) in (0, 431)


def test_slow_and_silent_lines_hold_up_nobody(shell: Shell) -> None:
    """A hundred and fifty connections that say nothing, half a head or half a body: others are answered as quickly as before."""
    host, port = urlsplit(shell.up.url).netloc.split(":")
    begun = (
        b"",
        b"POST /api/v1/signals HTTP/1.1\r\nhost: a\r\n",
        head("/api/v1/signals", "content-length: 100") + b'{"a',
    )
    with ExitStack() as lines:
        for number in range(150):
            line = lines.enter_context(socket.create_connection((host, int(port))))
            line.sendall(begun[number % 3])
        before = shell.clock.monotonic()
        for number in range(10):
            shell.reported("quiet", f"meanwhile{number}")
        assert shell.clock.monotonic() - before < 5


def hung_up(line: socket.socket, within_s: float = 5.0) -> bool:
    """Tell whether the server has ended a connection that nothing was said on."""
    line.settimeout(within_s)
    try:
        return line.recv(1) == b""
    except TimeoutError:
        return False


def test_five_hundred_silent_lines_take_nobodys_place(shell: Shell) -> None:
    """More than it may have open at all: the longest silent are hung up, and ten others are served meanwhile."""
    host, port = urlsplit(shell.up.url).netloc.split(":")
    files = resource.prlimit(shell.up.process.pid, resource.RLIMIT_NOFILE)
    begun = (
        b"",
        b"POST /api/v1/signals HTTP/1.1\r\nhost: a\r\n",
        head("/api/v1/signals", "content-length: 100") + b'{"a',
        b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n",
    )
    resource.prlimit(shell.up.process.pid, resource.RLIMIT_NOFILE, (400, files[1]))
    try:
        with ExitStack() as lines:
            opened = []
            for number in range(500):
                opened.append(lines.enter_context(socket.create_connection((host, int(port)), timeout=10)))
                opened[-1].sendall(begun[number % 4])
            assert status_of(raw(shell, head("/livez", method="GET"), within_s=15)) == 200
            assert hung_up(opened[0])
            for number in range(10):
                shell.reported("quiet", f"crowded{number}")
    finally:
        resource.prlimit(shell.up.process.pid, resource.RLIMIT_NOFILE, files)
    assert shell.is_well()


def test_reply_of_a_service_that_is_a_bomb_is_cut_off(shell: Shell) -> None:
    """200 MB in 200 kB, a hundred thousand levels, a body that drips for a minute: a failed run in time, and no growth."""
    shell.world.script("/bomb", [words.bomb(), words.deep(), words.drip(60)])
    before = shell.clock.monotonic()
    with no_growth(shell):
        for number in range(3):
            told = shell.reported("bomb", number, http_status=503, error_message="unavailable", endpoint=f"/b{number}")
            query = f"SELECT 1 FROM runs WHERE incident_id = '{told}' AND ended_at IS NOT NULL"
            eventually(lambda query=query: bool(shell.up.rows(query)))  # type: ignore[misc]
    assert shell.clock.monotonic() - before < 12
    assert shell.is_well()


def test_expression_that_could_be_slow_is_refused_when_it_is_saved(shell: Shell) -> None:
    """By the route, by import and by a split: 422 with the reason; none of them is kept."""
    for number, evil in enumerate(_EVIL):
        made = shell.ask("POST", "/api/v1/known-issues", json={"id": f"evil{number}", "pattern": evil})
        pack = f"- {{id: evil{number}, pattern: {body(evil).decode()}}}\n"
        taken = shell.ask("POST", "/api/v1/known-issues/import", json={"text": pack})
        assert (made.status_code, taken.status_code) == (422, 422), (evil, made.text, taken.text)
    assert shell.up.rows("SELECT id FROM known_issues WHERE id LIKE 'evil%'") == []


@pytest.mark.parametrize("kind", _YAML)
def test_pack_that_is_a_bomb_is_refused_at_once(shell: Shell, kind: str) -> None:
    """Aliases, objects of Python, depth: 422 by the route and by the file, with little work and without growth."""
    with no_growth(shell), no_work(shell):
        taken = shell.ask("POST", "/api/v1/known-issues/import", json={"text": _YAML[kind]})
    assert taken.status_code in (400, 422), taken.text
    assert not (shell.up.folder / "owned").exists()


def test_long_messages_are_read_in_time(shell: Shell) -> None:
    """A hundred kilobytes that are made to be slow, in an event: taken with less than two seconds of work each."""
    for number, text in enumerate(("a" * 100_000, "a" * 99_999 + "!", "x " * 50_000, "((((" * 25_000, '="' * 50_000)):
        with no_work(shell):
            shell.reported("quiet", f"long{number}", error_message=text)


_MANY = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
    INSERT INTO known_issues (id, expression, {others})
    SELECT 'many.' || i, 'order ' || i || ' of the shelf is gone', {others}
    FROM n CROSS JOIN known_issues WHERE id = 'template.many'"""


@contextmanager
def ten_thousand_issues(shell: Shell) -> Iterator[None]:
    """Let the server know ten thousand issues more for a while."""
    wanted = {"id": "template.many", "pattern": "the template of many"}
    assert shell.ask("POST", "/api/v1/known-issues", json=wanted).status_code == 201
    others = ", ".join(one.name for one in known_issues.columns if one.name not in ("id", "expression"))
    shell.up.change(_MANY.format(others=others))
    try:
        eventually(lambda: shell.incident(_gone(shell))["issue_id"] == "many.7777")
        yield
    finally:
        shell.up.change("DELETE FROM known_issues WHERE id LIKE 'many.%'")
        shell.ask("POST", "/api/v1/known-issues/template.many/resolve", json={})


def _gone(shell: Shell) -> str:
    shell.asked += 1
    return shell.reported(
        "open30", f"gone{shell.asked}", error_message=f"order 7777 of the shelf is gone {shell.asked}"
    )


def test_long_messages_are_read_in_time_beside_ten_thousand_known_issues(shell: Shell) -> None:
    """Each begins, and begins again, what many of them look for: little work, an answer each time, and the right issue."""
    unit = "order 7777 of the shelf is gone"
    texts = (
        "order " * 16_000,
        "order 1 of the shelf is gon " * 4_000,
        f"{unit} " * 3_000,
        "7777" * 25_000,
        "g" * 100_000,
    )
    with ten_thousand_issues(shell):
        for number, text in enumerate(texts):
            with no_work(shell):
                told = shell.reported("open31", f"crowd{number}", error_message=text)
            found = shell.incident(told)["issue_id"]
            assert found == ("many.7777" if text.startswith(unit) else None) or unit not in text
        assert shell.is_well()
