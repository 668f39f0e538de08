"""What reads the words of strangers neither raises nor takes long: what fuzzing found, replayed, and some more."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from pathlib import Path

import httpx2
import pytest
from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS, slow_s
from hypothesis import given, settings
from hypothesis import strategies as st

from prunella.diagnosis.templates import Template

pytestmark = pytest.mark.slow

FOUND = [json.loads(line) for line in (Path(__file__).parent / "data" / "fuzz.jsonl").read_text().splitlines()]
PIECES = [b"a", b"\0", b'{"', b"'code': '", b"HTTP/1.1 503 x\r\n", b"Traceback (most recent call last):\n", b"eyJ", b"://",
          b"\xf0\x9f\x92\xa5", b"\xff", b"(a|", b"-----BEGIN ", b"Wed, 21 Oct 2026 07:28:00 GMT\0"]  # fmt: skip


def run(name: str, data: bytes) -> None:
    """Run a target, and see how long it took on this processor."""
    begun_s = time.process_time()
    TARGETS[name](data)
    assert time.process_time() - begun_s < slow_s(name), f"{name}: {data[:100]!r} is slow"


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_is_no_trouble(name: str) -> None:
    """The inputs by which fuzzing reached every branch that it ever reached."""
    run(name, b"warm up: what is read once is read now")
    inputs = [base64.b64decode(one["bytes"]) for one in FOUND if one["target"] == name]
    assert inputs
    for data in (*inputs, *SEEDS.get(name, ())):
        run(name, data)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece[:8].hex())
def test_repetition_is_not_slow(name: str, piece: bytes) -> None:
    """A piece repeated to 1 MB: linear, or cut before it is looked at."""
    run(name, b"warm up")
    run(name, piece * (1_000_000 // len(piece)))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=30)
@given(data=st.binary(max_size=2_000) | st.text(max_size=800).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read(name: str, data: bytes) -> None:
    """Whatever arrives."""
    TARGETS[name](data)


def _fails(*_: object, **__: object) -> object:
    raise KeyError("planted")


def _busy() -> None:
    begun_s = time.process_time()
    while time.process_time() - begun_s < slow_s("recognition") * 0.6:
        pass


PLANTED: dict[str, tuple[str, object]] = {
    "templates": ("fuzz.targets.template", lambda message: Template("^something else entirely$", 3)),
    "recognition": ("fuzz.targets.Verifier.spans", lambda *_: _busy()),
    "responses": ("fuzz.targets.read_response", _fails),
    "events": ("fuzz.doors.to_signal", _fails),
    "inbound": ("fuzz.doors.taking.to_signal", _fails),
    "signatures": ("fuzz.doors.is_genuine", lambda *_: True),
    "chat": ("fuzz.doors.may_reply", lambda *_: True),
    "tokens": ("fuzz.doors.Gatehouse.signed", lambda *_: "anybody"),
    "queries": ("fuzz.doors.before", _fails),
    "packs": ("fuzz.files.write_pack", lambda known: "[]"),
    "configuration": ("fuzz.files.load", _fails),
    "spool": ("fuzz.files.Spool.carry", lambda *_: None),
    "names": ("fuzz.files.name_of", lambda name: f'"{name}"'),
    "logs": ("fuzz.files.json.loads", _fails),
    "messages": ("fuzz.files.slack.render", lambda told, buttons: {"text": told.title}),
    "addresses": ("fuzz.files._target", lambda method, url, policy: httpx2.URL(url)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_targets_see_planted_bugs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong behind a target, too slow, or merely not done, is noticed with one of its first inputs."""
    monkeypatch.setattr(*PLANTED[name])
    with pytest.raises((AssertionError, KeyError, ValueError, sqlite3.Error)):
        for data in SEEDS[name]:
            run(name, data)
