"""Tests of counting what failed: what one occurrence is, when a person hears of it, what sleeps and what comes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from engine.learning.test_autofix import STALE, bound, fail, function, known, rebuild
from engine.world import START, World, play
from prunella.core.issues import Candidate, IssueState
from prunella.core.records import Failure, Severity
from prunella.diagnosis.patterns import Pattern
from prunella.engine.learning import evidence
from prunella.engine.learning.occurrences import confidence, window_of

_DAY_S = 24 * 3600.0


async def candidates(world: World) -> list[Candidate]:
    """Return the patterns that are not known."""
    async with world.store.transaction() as tx:
        return await tx.learning.candidates(most=50)


def test_storm_of_500_counts_once(sqlite_path: Path) -> None:
    """500 failures of many accounts within a moment are one occurrence, however often is looked."""

    async def story(world: World) -> None:
        for n in range(5):
            for k in range(100):
                await world.fail(status=401, message=STALE, account=f"a{n}-{k}")
            await world.learn()
        assert [one.occurrences for one in await candidates(world)] == [1]

    play(sqlite_path, story)


def test_storm_at_the_edge_of_a_window_counts_once(sqlite_path: Path) -> None:
    """Whenever it begins, and however often is looked while it lasts; eight minutes of it are two."""

    async def story(world: World) -> None:
        await world.later(300 - world.parts.clock.now().timestamp() % 300 - 8)
        for n in range(8):
            await world.fail(status=401, message=STALE, account=f"a{n}")
            await world.later(2)
            await world.learn()
        assert [one.occurrences for one in await candidates(world)] == [1]
        for n in range(8):
            await world.later(60)
            await world.fail(status=401, message=STALE, account=f"b{n}")
            await world.learn()
        assert [one.occurrences for one in await candidates(world)] == [2]

    play(sqlite_path, story)


def test_retries_of_one_call_count_once_and_later_ones_again(sqlite_path: Path) -> None:
    """What joins the open incident within five minutes is the same occurrence; what comes later is the next."""

    async def story(world: World) -> None:
        counts = []
        for pause in (0, 60, 60, 400, 10, 400):
            await world.later(pause)
            await fail(world)
            await world.learn()
            counts.append(
                sum(one.occurrences for one in await candidates(world)) or (await world.issues())[0].occurrences
            )
        assert counts == [1, 1, 1, 2, 2, 3]

    play(sqlite_path, story)


def test_nothing_new_is_counted_twice(sqlite_path: Path) -> None:
    """A look at what was learned from already changes nothing."""

    async def story(world: World) -> None:
        await fail(world)
        assert (await world.learn())["seen"] == 1
        await world.later(400)
        assert (await world.learn())["seen"] == 0

    play(sqlite_path, story)


def test_forced_failures_teach_nothing(sqlite_path: Path) -> None:
    """What somebody made happen on purpose is no occurrence."""

    async def story(world: World) -> None:
        await world.fail(status=500, message=STALE, forced=True)
        assert (await world.learn())["seen"] == 0

    play(sqlite_path, story)


def test_issue_that_comes_back_ten_times_is_passed_on(sqlite_path: Path) -> None:
    """At ten occurrences without a verified repair an issue is louder, with the reason, told once and written down."""

    async def story(world: World) -> None:
        await world.put_issue(known(severity=Severity.LOW))
        for _ in range(12):
            await fail(world)
            await world.learn()
            await world.later(400)
        issue = await world.issue("stale")
        assert (issue.occurrences, issue.unfixed, issue.severity) == (12, 12, Severity.HIGH)
        why = "high occurrence rate: 10 occurrences without a verified repair"
        assert issue.escalation_reason == why
        assert [one.reason for one in await world.audit("issue.escalated")] == [why]
        (told,) = await world.told("issue_escalated")
        assert dict(told.facts)["Reason"] == why

    play(sqlite_path, story)


@pytest.mark.parametrize(
    ("by", "quiet_s", "state", "left"),
    [
        ("ann", _DAY_S + 60, IssueState.REGRESSED, 4.0),
        ("ann", 3600.0, IssueState.ACTIVE, 8.0),
        ("prunella", _DAY_S + 60, IssueState.ACTIVE, 8.0),
    ],
)
def test_what_a_person_solved_and_comes_back_is_a_regression(
    sqlite_path: Path, by: str, quiet_s: float, state: IssueState, left: float
) -> None:
    """Only what a person resolved regresses, after a day of quiet; then what was learned of its remedies counts half."""

    async def story(world: World) -> None:
        await world.put_issue(known(bound("rebuild")))
        scope = evidence.scope_of_issue("stale")
        async with world.store.transaction() as tx:
            before = await tx.learning.take_evidence(scope, "rebuild")
            await tx.learning.save_evidence(scope, "rebuild", replace(before, good=8.0, at=START))
        await world.change_issue("stale", state=IssueState.RESOLVED, resolved_by=by, resolved_at=START)
        await world.later(quiet_s)
        await fail(world)
        await world.learn()
        assert (await world.issue("stale")).state is state
        async with world.store.transaction() as tx:
            assert (await tx.learning.evidence([scope]))[scope, "rebuild"].good == left

    play(sqlite_path, story, bindable=[function("rebuild", rebuild)])


def test_unseen_issue_sleeps_and_wakes(sqlite_path: Path) -> None:
    """What was not seen for 90 days is dormant, is kept, and is active again once it is seen."""

    async def story(world: World) -> None:
        await world.put_issue(known())
        await fail(world)
        await world.learn()
        (incident,) = await world.incidents()
        await world.heal(incident.id)
        await world.later(91 * _DAY_S)
        assert (await world.learn())["dormant"] == 1
        assert (await world.issue("stale")).state is IssueState.DORMANT
        await fail(world)
        await world.learn()
        assert (await world.issue("stale")).state is IssueState.ACTIVE

    play(sqlite_path, story)


def test_shipped_issue_gets_its_row_when_it_is_seen(sqlite_path: Path) -> None:
    """What comes along is counted like any other from its first occurrence on."""
    shipped = Pattern(id="till.stale", expression=r"price list \d+ .* is stale", title="Stale list", remedy="rebuild")

    async def story(world: World) -> None:
        await fail(world)
        assert await world.issues() == []
        await world.learn()
        (issue,) = await world.issues()
        assert (issue.id, issue.occurrences, issue.origin.value) == ("till.stale", 1, "pack")
        assert [(one.remedy, one.trusted) for one in issue.remedies] == [("rebuild", True)]

    play(sqlite_path, story, bindable=[function("rebuild", rebuild)], shipped=[shipped])


def test_flood_of_new_errors_is_bounded(sqlite_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the cap the patterns that were not seen for longest are forgotten, and no others."""
    monkeypatch.setattr("prunella.engine.learning.occurrences.PATTERNS_MAX", 3)

    async def story(world: World) -> None:
        for letter in "abcdef":
            await world.fail(status=500, message=f"the till of {letter * 4} says something odd about it")
            await world.learn()
            await world.later(1)
        left = sorted(one.message.split()[3] for one in await candidates(world))
        assert left == ["dddd", "eeee", "ffff"]

    play(sqlite_path, story)


@pytest.mark.parametrize(
    ("frames", "impact", "environment", "expected"),
    [
        ((), Severity.MEDIUM, "development", 0.5),
        (("a.py:f",), Severity.MEDIUM, "development", 0.7),
        ((), Severity.MEDIUM, "production", 0.6),
        ((), Severity.CRITICAL, "development", 0.7),
        (("a.py:f",), Severity.CRITICAL, "production", 1.0),
    ],
)
def test_confidence_is_document_c_s(
    frames: tuple[str, ...], impact: Severity, environment: str, expected: float
) -> None:
    """Half, and more for a stack, for production and for critical impact."""
    assert confidence(Failure(service="crm", message="m", frames=frames), impact, environment) == expected


def test_windows_are_stretches_of_time() -> None:
    """Moments of one stretch share its number."""
    assert window_of(START, 300) == window_of(START + timedelta(seconds=299), 300)
    assert window_of(START, 300) + 1 == window_of(START + timedelta(seconds=300), 300)
