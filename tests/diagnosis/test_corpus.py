"""352 labelled failures of ninety services: how often the answer is right, and how sure it may be of itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prunella.core.records import Diagnosis, Failure
from prunella.diagnosis import classify

CORPUS = Path(__file__).parents[1] / "data" / "failures.jsonl"
SHOWN = ("service", "source", "status", "code", "exc_type", "message", "headers")

Judged = list[tuple[dict[str, Any], Diagnosis]]


@pytest.fixture(scope="module")
def judged() -> Judged:
    """Diagnose every case from what a classifier may look at."""
    cases = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    return [(case, classify(Failure(**{name: case[name] for name in SHOWN}))) for case in cases]


def share(judged: Judged, right: Any) -> float:
    return sum(bool(right(case, found)) for case, found in judged) / len(judged)


def accepted(case: dict[str, Any], found: Diagnosis) -> bool:
    return found.category in case["accept"]


def test_category_is_right(judged: Judged) -> None:
    """Nineteen of twenty, and nearly all of the plain ones."""
    assert share(judged, accepted) >= 0.95
    plain = [pair for pair in judged if "adversarial" not in pair[0]["tags"]]
    assert share(plain, accepted) >= 0.99


def test_every_category_is_known_well(judged: Judged) -> None:
    """Macro-F1: rare categories count as much as common ones."""
    hits, wanted, said = Counter[str](), Counter[str](), Counter[str]()
    for case, found in judged:
        label = found.category.value if accepted(case, found) else case["category"]
        wanted[label] += 1
        said[found.category.value] += 1
        hits[label] += accepted(case, found)
    scores = [2 * hits[one] / (wanted[one] + said[one]) for one in wanted]
    assert sum(scores) / len(scores) >= 0.94


def test_kind_and_remedy_are_right(judged: Judged) -> None:
    """The kind names the remedy; whether to try again is the dearest question of all."""
    assert share(judged, lambda case, found: found.kind == case["kind"]) >= 0.90
    assert share(judged, lambda case, found: found.retryable == case["retryable"]) >= 0.95
    hopeless = [pair for pair in judged if not pair[0]["retryable"]]
    assert share(hopeless, lambda _, found: found.retryable) <= 0.04


def test_confidence_means_what_it_says(judged: Judged) -> None:
    """An answer that claims nine tenths is right in at least 98 of 100 cases, and says why."""
    sure = [pair for pair in judged if pair[1].confidence >= 0.9]
    assert len(sure) > 200
    assert share(sure, accepted) >= 0.98
    assert all(found.because for _, found in judged)


def test_corpus_can_fail(judged: Judged) -> None:
    """The same judge over answers that are all alike: it sees the difference."""
    always = [(case, judged[0][1]) for case, _ in judged]
    assert share(always, accepted) < 0.5
