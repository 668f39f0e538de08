"""What reads the words of strangers neither raises nor takes long: what fuzzing found, replayed, and some more."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
from fuzz.targets import SLOW_S, TARGETS
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

FOUND = [json.loads(line) for line in (Path(__file__).parent / "data" / "fuzz.jsonl").read_text().splitlines()]
PIECES = [b"a", b"\0", b'{"', b"'code': '", b"HTTP/1.1 503 x\r\n", b"Traceback (most recent call last):\n", b"eyJ", b"://",
          b"\xf0\x9f\x92\xa5", b"\xff", b"(a|", b"-----BEGIN ", b"Wed, 21 Oct 2026 07:28:00 GMT\0"]  # fmt: skip


def run(name: str, data: bytes) -> None:
    """Run a target, and see how long it took on this processor."""
    begun_s = time.process_time()
    TARGETS[name](data)
    assert time.process_time() - begun_s < SLOW_S, f"{name}: {data[:100]!r} is slow"


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_is_no_trouble(name: str) -> None:
    """The inputs by which fuzzing reached every branch that it ever reached."""
    run(name, b"warm up: what is read once is read now")
    inputs = [base64.b64decode(one["bytes"]) for one in FOUND if one["target"] == name]
    assert inputs
    for data in inputs:
        run(name, data)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece[:8].hex())
def test_repetition_is_not_slow(name: str, piece: bytes) -> None:
    """A piece repeated to 1 MB: linear, or cut before it is looked at."""
    run(name, b"warm up")
    run(name, piece * (1_000_000 // len(piece)))


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=2_000) | st.text(max_size=800).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read(name: str, data: bytes) -> None:
    """Whatever arrives."""
    TARGETS[name](data)
