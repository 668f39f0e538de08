"""The figures of healing: what counts as what, targets met and missed, and when it is an alarm (document D)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.world import START, World, play
from prunella.core.records import Run
from prunella.core.states import RunState
from prunella.engine import figures
from prunella.engine.figures import Attempts, alert
from prunella.store.metrics import Daily
from store.making import incident, run

ORDER: dict[str, Any] = {"service": "shop", "procedure": "stuck-order"}
MINUTE = timedelta(minutes=1)


def attempt(number: int, state: RunState, **changed: Any) -> Run:
    """An attempt at a stuck order that began, and ended, at the start of the test."""
    fields: dict[str, Any] = {
        **ORDER,
        "operation_id": None,
        "remedy": "reassign_vendor",
        "issue": "STUCK_PENDING",
        "started_at": START,
        "ended_at": None if state is RunState.RUNNING else START,
    }
    return run(number, **{**fields, **changed}, state=state)


def daily(**changed: Any) -> Daily:
    """Figures of one day of the stuck orders."""
    fields: dict[str, Any] = {"day": START.date().isoformat(), "procedure": "stuck-order", "issue": "STUCK_PENDING"}
    return Daily(**{**fields, "action": "reassign_vendor", **changed})


async def written(world: World, *runs: Run, days: tuple[Daily, ...] = ()) -> None:
    """Write attempts at an order that was found at the start, and daily figures."""
    async with world.store.transaction() as tx:
        await tx.incidents.open_or_join(incident(1, **ORDER, resource="123", first_seen=START))
        await tx.runs.add(runs)
        await tx.metrics.add(days)


# What one attempt adds ------------------------------------------------------------------------------------------------


def test_proven_attempt_adds_its_recovery() -> None:
    """A verified attempt is a success that took from the finding of its problem to now."""
    found = incident(first_seen=START)
    added = figures.after_run(attempt(1, RunState.VERIFIED), found, START + 3 * MINUTE)
    assert added == daily(succeeded=1, recovery_s=180.0)


@pytest.mark.parametrize("state", sorted(figures.FAILED))
def test_failed_attempt_adds_a_failure(state: RunState) -> None:
    """Whatever way it failed, it counts once and took no recovery."""
    assert figures.after_run(attempt(1, state), incident(), START) == daily(failed=1)


@pytest.mark.parametrize("state", [RunState.PLANNED, RunState.RUNNING, RunState.DONE])
def test_attempt_without_its_proof_adds_nothing(state: RunState) -> None:
    """An attempt that goes on, or waits for its proof, is neither a success nor a failure."""
    assert figures.after_run(attempt(1, state), incident(), START) is None


def test_hand_over_adds_an_intervention() -> None:
    """What is left to a person counts as such once, and not as an attempt."""
    case = incident(**ORDER)
    manual = daily(action="manual_intervention", manual=1)
    assert figures.after_run(attempt(1, RunState.DONE, remedy="manual_intervention"), case, START) == manual
    assert figures.after_run(attempt(1, RunState.VERIFIED, remedy="manual_intervention"), case, START) is None
    told = daily(action="manual_intervention", manual=1, notified=1)
    assert figures.after_hand_over(case, "STUCK_PENDING", START) == told


# Statistics -----------------------------------------------------------------------------------------------------------


def test_statistics_are_document_ds_answer(sqlite_path: Path) -> None:
    """Its example: 15 cases, 14 recovered in 2.5 minutes on average, 1 failed, one row named SUCCESS."""

    async def story(world: World) -> None:
        proven = [attempt(n, RunState.VERIFIED, verified_at=START + (2 + n % 2) * MINUTE) for n in range(14)]
        too_old = attempt(99, RunState.FAILED, started_at=START - timedelta(days=8))
        await written(world, *proven, attempt(14, RunState.FAILED), too_old, run(50, started_at=START))
        assert await figures.statistics(world.parts, 7) == [
            {
                "issue_type": "STUCK_PENDING",
                "recovery_action": "REASSIGN_VENDOR",
                "recovery_status": "SUCCESS",
                "total_cases": 15,
                "avg_recovery_time_minutes": 2.5,
                "successful_recoveries": 14,
                "failed_recoveries": 1,
            }
        ]

    play(sqlite_path, story)


def test_statistics_show_failures_and_hand_overs(sqlite_path: Path) -> None:
    """Of equally many cases the worse names the row; hand-overs have a row of their own; no recovery, no time."""

    async def story(world: World) -> None:
        runs = [attempt(1, RunState.FAILED), attempt(2, RunState.DONE)]
        await written(world, *runs, days=(daily(action="manual_intervention", manual=2),))
        rows = await figures.statistics(world.parts, 1)
        shown = [tuple(row.values())[1:] for row in rows]
        assert shown == [
            ("MANUAL_INTERVENTION", "MANUAL", 2, None, 0, 0),
            ("REASSIGN_VENDOR", "FAILED", 2, None, 0, 1),
        ]

    play(sqlite_path, story)


# Targets --------------------------------------------------------------------------------------------------------------


def judged(*days: Daily) -> dict[str, tuple[float | None, bool | None]]:
    """Judge daily figures; name -> value and verdict."""
    rows = [{name: getattr(one, name) for name in Daily.__dataclass_fields__} for one in days]
    return {one["name"]: (one["value"], one["passed"]) for one in figures.targets(rows)}


def test_targets_are_strict() -> None:
    """Exactly at the target is not met: more than 90 %, less than 5 min, less than 10 %, less than 5 %."""
    at_target = daily(detected=100, succeeded=90, failed=10, manual=10, notified=5, recovery_s=90 * 300.0)
    better = daily(detected=100, succeeded=91, failed=9, manual=9, notified=4, recovery_s=91 * 299.0)
    names = ("healing_success_rate", "avg_recovery_time_minutes", "manual_intervention_rate", "admin_notification_rate")
    assert judged(at_target) == dict(
        zip(names, [(90.0, False), (5.0, False), (10.0, False), (5.0, False)], strict=True)
    )
    assert judged(better) == dict(zip(names, [(91.0, True), (4.98, True), (9.0, True), (4.0, True)], strict=True))


def test_targets_without_a_case_are_open() -> None:
    """Where nothing happened nothing is met and nothing is missed."""
    assert set(judged().values()) == {(None, None)}
    assert judged(daily(detected=1))["healing_success_rate"] == (None, None)


def test_kpis_sum_their_days(sqlite_path: Path) -> None:
    """All days of the window count, older ones do not; every target says itself in words."""

    async def story(world: World) -> None:
        before = (START - timedelta(days=3)).date().isoformat()
        long_ago = (START - timedelta(days=9)).date().isoformat()
        days = (daily(detected=10, succeeded=9), daily(day=before, failed=1), daily(day=long_ago, failed=50))
        await written(world, days=days)
        first, *_ = rows = await figures.kpis(world.parts, 7)
        assert first == {"name": "healing_success_rate", "value": 90.0, "target": "> 90 %", "passed": False}
        assert [one["target"] for one in rows[1:]] == ["< 5 min", "< 10 %", "< 5 %"]

    play(sqlite_path, story)


# The alarm ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "failed", "alarmed"), [(4, 4, False), (5, 1, False), (5, 2, True), (100, 20, False), (100, 21, True)]
)
def test_alarm_wants_a_rate_above_a_fifth(ended: int, failed: int, *, alarmed: bool) -> None:
    """More than 20 % of at least 5 ended attempts; the reason holds the figures."""
    reason = alert(Attempts(ended, failed))
    assert (reason is not None) is alarmed
    if reason is not None:
        assert f"{failed} of {ended} attempts" in reason


@given(ended=st.integers(0, 500), share=st.floats(0, 1))
def test_alarm_never_ends_by_more_failures(ended: int, share: float) -> None:
    """If some failures are an alarm, more failures among as many attempts are one, too."""
    failed = round(ended * share)
    if alert(Attempts(ended, failed)) is not None:
        assert all(alert(Attempts(ended, more)) is not None for more in range(failed, ended + 1))


def test_alarm_counts_the_last_day(sqlite_path: Path) -> None:
    """Attempts of the last 24 h that are proven or failed; those under way, older ones and replays do not count."""

    async def story(world: World) -> None:
        ended = [attempt(n, state) for n, state in enumerate(sorted(figures.FAILED))]
        others = [
            attempt(20, RunState.VERIFIED),
            attempt(21, RunState.DONE),
            attempt(22, RunState.RUNNING),
            attempt(23, RunState.FAILED, started_at=START - timedelta(hours=25)),
            run(24, state=RunState.FAILED, ended_at=START),
        ]
        await written(world, *ended, *others)
        async with world.store.transaction() as tx:
            assert await figures.attempts_lately(tx, START) == Attempts(ended=6, failed=5)

    play(sqlite_path, story)
