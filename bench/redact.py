"""What redaction costs: MB/s of ordinary text, a long message, the worst that a stranger can send.

Floor: one pattern of the kind that is written by hand, over the same text. There is no aim but for the last rows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from bench.harness import Options, Report, Row, Spread
from prunella.core.redact import CHARS_MAX, Redactor, scrub

_LINE = (
    '2026-03-01T10:00:00Z ERROR sync of order 4711 failed: HTTP 422 {"type":"invalid_request_error","message":'
    '"No such customer: cus_9s6XKzkNRiz8i3","param":"customer"} at app/sync.py line 42 in push\n'
)
_LONG = (_LINE * (CHARS_MAX // len(_LINE) + 1))[:CHARS_MAX]
_BY_HAND = re.compile(r"(?i)(password|passwd|secret|token|api[_-]?key)(\"?\s*[:=]\s*\"?)([^\s\"&,;]+)")
_MS_MAX, _KNOWN_MS_MAX = 200.0, 1.0


def run(options: Options) -> Report:
    """Measure floor and ours in turn."""
    calls = options.amount(200)
    redactor = Redactor()
    for number in range(200):
        redactor.register(f"registered-value-{number:04}-{number * 7919:08x}")
    rows = [
        _speed("ordinary lines", _LINE, calls * 20, options.rounds),
        _speed("a message of 16 kB", _LONG, calls, options.rounds),
        _worst("1 MB of one character", lambda: scrub("a" * 1_000_000), _MS_MAX, options.rounds),
        _worst("1 MB of ://", lambda: scrub("://" * 333_334), _MS_MAX, options.rounds),
        _worst("200 registered values, 16 kB", lambda: list(redactor.spans(_LONG)), _KNOWN_MS_MAX, options.rounds),
    ]
    return Report("redact: taking secrets out of text", rows)


def _speed(what: str, text: str, calls: int, rounds: int) -> Row:
    floors, ours = [], []
    for _ in range(rounds):
        floors.append(_mb_per_s(lambda: _BY_HAND.sub(r"\1\2***", text), text, calls))
        ours.append(_mb_per_s(lambda: scrub(text), text, calls))
    ratios = [mine / base for mine, base in zip(ours, floors, strict=True)]
    return Row(what=what, unit="MB/s", ours=Spread.of(ours), floor=Spread.of(floors), ratio=Spread.of(ratios))


def _worst(what: str, call: Callable[[], object], ms_max: float, rounds: int) -> Row:
    taken = Spread.of([_seconds(call, 1) * 1000 for _ in range(max(rounds, 5))])
    return Row(what=what, unit="ms", ours=taken, target=f"at most {ms_max:.0f}", met=taken.median <= ms_max)


def _mb_per_s(call: Callable[[], object], text: str, calls: int) -> float:
    return len(text) * calls / _seconds(call, calls) / 1e6


def _seconds(call: Callable[[], object], calls: int) -> float:
    begun_s = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - begun_s
