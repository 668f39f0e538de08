"""Every shipped profile holds its own cases, and what is shipped is what the documents say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import profiles  # a tool of this repository
import pytest
import yaml

from prunella.core.records import Failure
from prunella.diagnosis import classify, tables
from prunella.diagnosis.documents import read_profile
from prunella.diagnosis.knowledge import COMPILED, Knowledge, knowledge

DOCUMENTS = profiles.documents()
SERVICES = [one for one in DOCUMENTS if "service" in one]
PROTOCOLS = [one for one in DOCUMENTS if "protocol" in one]


def name_of(document: dict[str, Any]) -> str:
    return str(document.get("service") or document["protocol"])


def failure_of(document: dict[str, Any], case: dict[str, Any]) -> Failure:
    code = case.get("code")
    return Failure(
        service=str(case.get("service") or document.get("service") or "acme"),
        source=case.get("source", "http"),
        status=case.get("status"),
        code=None if code is None else str(code),
        exc_type=case.get("exc_type"),
        message=str(case.get("message") or ""),
        headers={name: str(value) for name, value in (case.get("headers") or {}).items()},
    )


def wrong(document: dict[str, Any]) -> list[str]:
    """Return what the classifier says otherwise than a profile's cases do."""
    found = []
    for case in document["cases"]:
        diagnosis = classify(failure_of(document, case))
        retryable = case.get("retryable", diagnosis.retryable)
        if (diagnosis.kind, diagnosis.retryable) != (case["kind"], retryable):
            found.append(f"{case} -> {diagnosis.kind}, retryable {diagnosis.retryable}: {diagnosis.because}")
    return found


@pytest.mark.parametrize("document", SERVICES, ids=name_of)
def test_service_is_read_as_its_profile_says(document: dict[str, Any]) -> None:
    """Nine of ten cases to the kind; a profile that needs more says so by a rule."""
    assert len(document["cases"]) >= 5
    assert len(wrong(document)) <= len(document["cases"]) * 0.1, "\n".join(wrong(document))


def test_protocols_are_read_as_their_tables_say() -> None:
    """Over all of them: what a protocol says alone may still be overruled by what stands beside it."""
    cases = sum(len(one["cases"]) for one in PROTOCOLS)
    misread = [problem for one in PROTOCOLS for problem in wrong(one)]
    assert cases > 200
    assert len(misread) <= cases * 0.08, "\n".join(misread)


def test_services_are_many() -> None:
    """Sixty families were promised."""
    assert len(SERVICES) >= 100
    assert sum(len(codes) for one in SERVICES for codes in (one.get("codes") or {}).values()) > 10_000


def test_shipped_file_is_what_the_documents_say() -> None:
    """Changed a profile? Run `make profiles`."""
    assert json.loads(COMPILED.read_text()) == json.loads(json.dumps(profiles.compiled(DOCUMENTS)))


def test_every_fact_has_a_source() -> None:
    """Where a vocabulary was published stands in its document."""
    assert [name_of(one) for one in DOCUMENTS if not one.get("sources")] == []


@pytest.mark.parametrize("document", [*SERVICES[:3], PROTOCOLS[0]], ids=name_of)
def test_case_can_fail(document: dict[str, Any]) -> None:
    """A case that claims another kind is seen."""
    lie = {**document, "cases": [{**case, "kind": "cancelled"} for case in document["cases"]]}
    assert len(wrong(lie)) == len(document["cases"])


_NEW = {
    "service": "acme_pay",
    "also": ["acmepay"],
    "sources": ["https://docs.acme.example/errors"],
    "codes": {"data.business": ["limit_of_the_day"], "auth.expired": ["E-17"]},
    "statuses": {418: "policy"},
    "rules": [{"when": {"status": 400, "message": "closed for lunch"}, "kind": "network.server"}],
    "retryable": ["limit_of_the_day"],
    "actors": {"owner": ["limit_of_the_day"]},
}


@pytest.mark.parametrize(
    ("shown", "kind"),
    [
        ({"code": "LIMIT-OF-THE-DAY", "status": 400}, "data.business"),
        ({"code": "e17", "status": 403}, "auth.expired"),
        ({"status": 418}, "policy"),
        ({"status": 400, "message": "We are Closed for Lunch"}, "network.server"),
        ({"status": 400, "message": '{"error": {"code": "limit_of_the_day"}}'}, "data.business"),
    ],
)
def test_new_profile_is_one_document(shown: dict[str, Any], kind: str) -> None:
    """Codes in any spelling, statuses, rules and codes inside a body: as the page about profiles shows."""
    known = Knowledge(profiles.compiled([*DOCUMENTS, _NEW]))
    found = classify(Failure(service="acme-pay-eu", **shown), known=known)
    assert found.kind == kind
    if kind == "data.business":
        assert (found.retryable, found.actor) == (True, "owner")


def test_names_lead_to_a_profile() -> None:
    """By its own name, another of its names, a word of it, or what the caller adds; a stranger has none."""
    known = Knowledge(profiles.compiled(DOCUMENTS))
    for name in ("stripe", "Stripe", "stripe-eu", "stripe_connect", "payments_stripe"):
        found = known.profile([name])
        assert found is not None and found.name == "stripe", name
    assert known.profile(["payments", "stripe"]) is not None
    assert known.profile(["payments", "inbox", "the-makers"]) is None


def test_facts_of_a_code_come_from_its_profile() -> None:
    """Who moves next and whether to try again may differ from the kind's own answer."""
    used_up = classify(Failure(service="openai", status=429, code="insufficient_quota"))
    assert (used_up.kind, used_up.retryable, used_up.actor) == ("rate_limit.quota", False, "owner")
    assert tables.FACTS["rate_limit.quota"][0] is True


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"service": ""}, "has neither service nor protocol"),
        ({"coeds": {}}, "coeds is not known; allowed: "),
        ({"codes": {"data.broken": ["x"]}}, "codes: data.broken is no kind; allowed: auth.expired"),
        ({"codes": {"config": ["A-1"], "bug": ["a1"]}}, "a1 is both config and bug; use a rule"),
        ({"statuses": {42: "config"}}, "statuses: 42: config must be a status and a kind"),
        ({"rules": [{"when": {}, "kind": "config"}]}, "names nothing in when"),
        ({"rules": [{"when": {"text": "x"}, "kind": "config"}]}, "when holds text; allowed: status"),
        ({"rules": [{"when": {"status": 400}, "kind": "x"}]}, "rules: x is no kind"),
        ({"wait_headers": {"x-wait": "fortnights"}}, "fortnights is no unit; allowed: seconds"),
        ({"actors": {"nobody": ["x"]}}, "nobody is no actor; allowed: "),
    ],
)
def test_bad_document_is_refused_with_the_reason(change: dict[str, Any], problem: str) -> None:
    """Every mistake is named, with what is allowed."""
    with pytest.raises(ValueError, match=r"acme_pay|profile") as told:
        read_profile(_NEW | change)
    assert problem in str(told.value)


def test_page_about_profiles_is_true() -> None:
    """The document that it shows is good, and its cases hold."""
    page = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text()
    (shown,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if block.startswith("service: ")]
    document = yaml.safe_load(shown)
    known = Knowledge(profiles.compiled([*DOCUMENTS, document]))
    found = [classify(failure_of(document, case), known=known).kind for case in document["cases"]]
    assert found == [case["kind"] for case in document["cases"]]
    assert len(found) == 5


def test_diagnosis_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Sets of words have another order in each process; which of two equally long phrases wins has not."""
    phrases = sorted({(len(phrase), phrase) for of in knowledge()._phrases.values() for phrase, _ in of})
    rivals = [(one, two) for (size, one), (same, two) in pairwise(phrases) if size == same and size > 12]
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps([f"{one}, {two}" for one, two in rivals[::7]]))
    program = (
        "import json, sys\n"
        "from prunella import Failure, classify\n"
        "for text in json.load(open(sys.argv[1])):\n"
        "    found = classify(Failure(service='acme', message=text))\n"
        "    print(found.kind, found.confidence, found.because)\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program, str(texts)], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    ]
    assert len(set(said)) == 1
    assert said[0].count(b"\n") > 200
