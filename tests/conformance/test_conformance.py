"""prunella keeps every promise of the catalogue, and each promise is seen to be broken once."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from conformance import table
from conformance.catalogue import CASES
from conformance.contract import FEATURES, Face, Wish
from conformance.judge import Case, Failed, NotOffered, Verdict, judge
from conformance.lab import Lab
from conformance.ours import Prunella
from conformance.peers import PEERS
from conformance.twins import NOTICED

BY_KEY = {case.key: case for case in CASES}
PUT = [(case, face) for case in CASES for face in case.faces]
PLANTED = [(twin, BY_KEY[key], face) for twin, keys in NOTICED for key in keys.split() for face in BY_KEY[key].faces]
REQUIREMENTS = Path(__file__).parent.parent.parent / "requirements"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("case", "face"), PUT, ids=[f"{case.key}-{face}" for case, face in PUT])
def test_prunella_keeps_each_promise(case: Case, face: Face) -> None:
    """Every case passes, on every face: nothing is left out."""
    verdict = judge(case, Prunella(), face)
    assert (verdict.mark, verdict.seen) == ("pass", ""), case.promise


@pytest.mark.parametrize(
    ("twin", "case", "face"), PLANTED, ids=[f"{type(twin).__name__}-{case.key}-{face}" for twin, case, face in PLANTED]
)
def test_planted_bug_is_noticed(twin: Prunella, case: Case, face: Face) -> None:
    """A prunella that breaks the promise fails the case."""
    verdict = judge(case, twin, face)
    assert verdict.mark == "fail", f"{type(twin).__doc__} {case.promise}: not noticed"


def test_every_case_has_a_planted_bug() -> None:
    """A case that nothing has ever failed proves nothing."""
    assert {case.key for case in CASES} == {key for _, keys in NOTICED for key in keys.split()}
    assert len(BY_KEY) == len(CASES)


def test_every_feature_is_asked_for() -> None:
    """Adapters name features that some case needs; what nobody needs would be a column without a row."""
    assert set(FEATURES) == {feature for case in CASES for feature in case.needs}
    assert [peer.name for peer in PEERS if not peer.features <= set(FEATURES)] == []


def test_peers_are_those_that_are_installed() -> None:
    """Each adapter has its library among the requirements, pinned with hashes and without an address."""
    named = (REQUIREMENTS / "peers.in").read_text().split()
    locked = (REQUIREMENTS / "peers.txt").read_text()
    assert sorted(named) == sorted(peer.name for peer in PEERS)
    assert set(named) <= set(re.findall(r"^([a-z-]+)==", locked, re.MULTILINE))
    assert "://" not in locked
    assert locked.count("--hash=sha256:") >= len(named)


def test_page_shows_the_catalogue_of_today() -> None:
    """The published table has a row for each case, and prunella's column is green; `make conformance PEERS=1` writes it."""
    page = (REQUIREMENTS.parent / "docs" / "conformance.md").read_text()
    assert [case.key for case in CASES if f"| {case.key} | {case.promise} | pass |" not in page] == []
    assert [peer.name for peer in PEERS if f"| {peer.name} " not in page] == []


# The judge is judged --------------------------------------------------------------------------------------------------


def _case(play: object) -> Case:
    return Case("X", "a promise", frozenset({"retry"}), ("sync", "asyncio"), play)  # type: ignore[arg-type]


@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_judge_tells_pass_fail_and_not_offered(face: Face) -> None:
    """What a case raises becomes the verdict, in its own words."""

    async def good(lab: Lab) -> None:
        assert (await lab.call(lab.guard(attempts=2)(lab.service().target))).result == "ok"

    async def bad(lab: Lab) -> None:
        raise Failed("40 reached the service")

    async def broken(lab: Lab) -> None:
        raise ZeroDivisionError("oh")

    async def absent(lab: Lab) -> None:
        raise NotOffered

    seen = [judge(_case(play), Prunella(), face) for play in (good, bad, broken, absent)]
    assert [(one.mark, one.seen) for one in seen] == [
        ("pass", ""),
        ("fail", "40 reached the service"),
        ("fail", "ZeroDivisionError: oh"),
        ("-", ""),
    ]


def test_library_without_the_feature_is_not_asked() -> None:
    """A breaker is not asked to try again, nor a library for threads on an event loop."""

    async def never(lab: Lab) -> None:
        raise AssertionError

    pybreaker = next(peer for peer in PEERS if peer.name == "pybreaker")
    assert judge(_case(never), pybreaker, "sync").mark == "-"
    assert judge(BY_KEY["A"], pybreaker, "asyncio").mark == "-"


def test_table_shows_what_differs_between_faces() -> None:
    """One word where all agree, one for each face where they do not, and below it what was seen."""
    verdicts = [
        Verdict("A", "one", "sync", "pass"),
        Verdict("A", "one", "asyncio", "fail", "40 of 40 reached the service"),
        Verdict("A", "one", "threads", "-"),
        *(Verdict("A", "other", face, "fail", "2 | 3") for face in BY_KEY["A"].faces),
        *(Verdict("B", "other", face, "pass") for face in BY_KEY["B"].faces),
    ]
    page = table.markdown(verdicts, {"one": "1.0", "other": "2.1"}, date(2026, 1, 2), 2)
    assert "2026-01-02" in page
    assert "| one 1.0 | other 2.1 |" in page
    assert f"| A | {BY_KEY['A'].promise} | **fail** (asyncio) | **fail** |" in page
    assert f"| B | {BY_KEY['B'].promise} | - | pass |" in page
    assert "| one | 0 | 1 |" in page
    assert "| other | 1 | 2 |" in page
    assert "- one (asyncio): 40 of 40 reached the service" in page
    assert "- other (sync, asyncio, threads): 2 | 3" in page
    assert any(line.startswith("A") and "fail (asyncio)" in line for line in table.lines(verdicts, ["one"]))


def test_wish_names_what_an_adapter_knows() -> None:
    """An adapter that is asked for nothing guards with nothing, and the call passes."""
    guarded = Prunella().guard(Wish(), "sync")(lambda: "ok")
    assert guarded() == "ok"
