"""What masking costs, against a dozen plain substitutions one after the other: the same lines, one run.

The lines are drawn as logs and services write them: some fifteen words around two or three values that vary. The last
row is the slowest of some texts of a million characters, on the whole road from the raw text to its fingerprint.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence

from bench.harness import Options, Report, Row, Spread
from bench.known import WORDS
from prunella.core.records import Failure
from prunella.diagnosis import classify, fingerprint, mask

_LINES, _LINES_PER_S_MIN, _HOSTILE_MAX_MS = 20_000, 50_000, 200.0
_HOSTILE = (
    "a",
    "1",
    "1.",
    "a-",
    "a.",
    "'",
    '"',
    "ab:",
    "a@",
    "0:",
    "-",
    "a1",
    "1,",
    "x:/",
    "[REDACTED:",
    " ",
    "\n",
    "é",
)
_PLAIN = tuple(
    (re.compile(pattern), f"<{name}>")
    for name, pattern in (
        ("url", r"https?://\S+"),
        ("email", r"[\w.+-]+@[\w-]+\.[\w.]+"),
        ("uuid", r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"),
        ("time", r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?)?"),
        ("clock", r"\b\d\d:\d\d:\d\d\b"),
        ("ip", r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"),
        ("hex", r"\b0x[0-9a-f]+\b|\b[0-9a-f]{16,}\b"),
        ("host", r"\b(?:[a-z0-9-]+\.)+(?:com|net|org|io|test)\b"),
        ("quoted", r"'[^']*'"),
        ("duration", r"\b\d+(?:\.\d+)? ?(?:ms|s|seconds)\b"),
        ("id", r"\b(?=\w*\d)(?=\w*[A-Za-z])\w+\b"),
        ("number", r"\b\d+(?:\.\d+)?\b"),
    )
)


def run(options: Options) -> Report:
    """Measure masking, whole fingerprints and hostile texts."""
    rng = random.Random(7)
    lines = [_line(rng) for _ in range(options.amount(_LINES))]
    failures = [Failure(service="acme", message=line) for line in lines[: len(lines) // 4 + 1]]
    diagnoses = [classify(failure) for failure in failures]
    floors, masked, whole, hostile = [], [], [], []
    for _ in range(options.rounds):
        floors.append(len(lines) / _timed(lambda: [_by_hand(line) for line in lines]))
        masked.append(len(lines) / _timed(lambda: [mask(line) for line in lines]))
        whole.append(len(failures) / _timed(lambda: list(map(fingerprint, failures, diagnoses))))
        hostile.append(max(_road_ms(piece) for piece in _HOSTILE))
    return Report(
        f"Grouping: lines of {sum(map(len, lines)) // len(lines)} characters on average",
        [_masking(floors, masked), _fingerprints(whole), _worst(hostile)],
    )


def _masking(floors: Sequence[float], masked: Sequence[float]) -> Row:
    ours = Spread.of(masked)
    return Row(
        what="mask",
        unit="lines/s",
        floor=Spread.of(floors),
        ours=ours,
        ratio=Spread.of([mine / theirs for mine, theirs in zip(masked, floors, strict=True)]),
        target=f">= {_LINES_PER_S_MIN:,}",
        met=ours.median >= _LINES_PER_S_MIN,
    )


def _fingerprints(whole: Sequence[float]) -> Row:
    return Row(what="fingerprint of a failure", unit="failures/s", ours=Spread.of(whole))


def _worst(hostile: Sequence[float]) -> Row:
    spread = Spread.of(hostile)
    met = spread.median <= _HOSTILE_MAX_MS
    return Row(
        what="slowest text of a million characters", unit="ms", ours=spread, target=f"<= {_HOSTILE_MAX_MS:g}", met=met
    )


def _road_ms(piece: str) -> float:
    text = piece * (10**6 // len(piece))
    return 1000 * _timed(lambda: _fingerprint(Failure(service="acme", message=text)))


def _fingerprint(failure: Failure) -> str:
    return fingerprint(failure, classify(failure))


def _by_hand(line: str) -> str:
    for pattern, name in _PLAIN:
        line = pattern.sub(name, line)
    return line


def _timed(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def _line(rng: random.Random) -> str:
    values = (
        f"order {rng.randrange(10**6)}",
        f"at 2026-03-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:00:{rng.randrange(60):02}Z",
        f"from 10.0.{rng.randrange(256)}.{rng.randrange(256)}:{rng.randrange(65536)}",
        f"of cus_{rng.getrandbits(60):x}",
        f"after {rng.randrange(30_000)}ms",
        f"to https://api-{rng.randrange(9)}.acme.test/v1/orders/{rng.randrange(10**6)}",
        f"for user{rng.randrange(1000)}@acme.test",
        f"request {rng.getrandbits(128):032x}",
        f"amount {rng.uniform(0, 1000):.2f} EUR",
        f"in 'batch {rng.randrange(100)}'",
    )
    words = [rng.choice(WORDS) for _ in range(12)]
    for value in rng.sample(values, rng.randrange(1, 4)):
        words.insert(rng.randrange(len(words)), value)
    return " ".join(words)
