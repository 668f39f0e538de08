"""What a diagnosis costs, over a corpus of 352 failures; and how often it is right.

Floor: the rule of thumb that looks at the status and at a few words, as it is written by hand.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.harness import Options, Report, Row, Spread
from prunella.core.records import Failure
from prunella.diagnosis import classify

_CORPUS = Path(__file__).parents[1] / "tests" / "data" / "failures.jsonl"
_FIELDS = ("service", "source", "status", "code", "exc_type", "message", "headers")
_LIMIT = re.compile(r"rate.?limit|too.?many.?requests", re.IGNORECASE)
_NETWORK = re.compile(r"ENOTFOUND|ECONNRESET|ETIMEDOUT|network", re.IGNORECASE)
_DATA = re.compile(r"validation|invalid|schema|required", re.IGNORECASE)
_MEDIAN_US_MAX, _WORST_US_MAX = 30.0, 100.0


def run(options: Options) -> Report:
    """Measure every case several times and take its quickest: the machine's noise is not the case's."""
    cases = [json.loads(line) for line in _CORPUS.read_text().splitlines()]
    failures = [Failure(**{name: case[name] for name in _FIELDS}) for case in cases]
    repeats = options.amount(20)
    floors, medians, worsts = [], [], []
    for _ in range(options.rounds):
        floors.append(statistics.median(_least_us(_by_thumb, one, repeats) for one in failures))
        taken = [_least_us(classify, one, repeats) for one in failures]
        medians.append(statistics.median(taken))
        worsts.append(max(taken))
    ratios = [mine / base for mine, base in zip(medians, floors, strict=True)]
    return Report(
        "classify: what a failure is",
        [
            Row(
                what="median of the corpus", unit="us", ours=Spread.of(medians), floor=Spread.of(floors),
                ratio=Spread.of(ratios), target=f"at most {_MEDIAN_US_MAX:g} us",
                met=statistics.median(medians) <= _MEDIAN_US_MAX,
            ),
            Row(
                what="worst of the corpus (16 kB)", unit="us", ours=Spread.of(worsts),
                target=f"at most {_WORST_US_MAX:g} us", met=statistics.median(worsts) <= _WORST_US_MAX,
            ),
            _right("category right, %", cases, failures, lambda case, found: found in case["accept"], 95.0),
        ],
    )  # fmt: skip


def _right(
    what: str,
    cases: list[dict[str, Any]],
    failures: list[Failure],
    right: Callable[[dict[str, Any], str], bool],
    least: float,
) -> Row:
    pairs = list(zip(cases, failures, strict=True))
    ours = 100 * sum(right(case, classify(one).category.value) for case, one in pairs) / len(pairs)
    floor = 100 * sum(right(case, _by_thumb(one)) for case, one in pairs) / len(pairs)
    return Row(
        what=what, unit="%", ours=Spread.of([ours]), floor=Spread.of([floor]), target=f"at least {least:g}",
        met=ours >= least,
    )  # fmt: skip


def _by_thumb(failure: Failure) -> str:
    status, text = failure.status, failure.message
    if status in (401, 403):
        return "auth"
    if status == 429 or _LIMIT.search(text):
        return "rate_limit"
    if status in (408, 500, 502, 503, 504) or _NETWORK.search(text):
        return "network"
    if status in (400, 422) or _DATA.search(text):
        return "data"
    return "unknown"


def _least_us(call: Callable[[Failure], object], failure: Failure, repeats: int) -> float:
    least = float("inf")
    for _ in range(repeats):
        begun_s = time.perf_counter()
        call(failure)
        least = min(least, time.perf_counter() - begun_s)
    return least * 1e6
