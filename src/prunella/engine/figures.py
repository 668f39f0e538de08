"""The figures of healing: statistics by issue and action, targets that are met or missed, the alarm (document D).

An attempt counts once it has ended: proven, or failed in any way. A recovery takes from the moment its problem was
found to the proof. Hand-overs to a person are no attempts; they and notifications are shares of what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prunella.core.records import Incident, Run
from prunella.core.states import IncidentState, RunState
from prunella.engine import notices, trail
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction
from prunella.store.metrics import Daily

ALARM_WINDOW = timedelta(hours=24)
ALARM_ATTEMPTS_MIN = 5
"""Fewer attempts say nothing about a rate."""
ALARM_ABOVE = 0.20
"""Document D: alert on a failure rate of more than 20 %."""

FAILED = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.UNKNOWN, RunState.INEFFECTIVE, RunState.UNDONE})
"""States of attempts that healed nothing, or whose effect did not last."""
MANUAL = "manual_intervention"
"""The action that hands a thing over to a person."""

_WORST_FIRST = ("FAILED", "MANUAL", "SUCCESS", "IN_PROGRESS")


@dataclass(frozen=True, slots=True)
class Attempts:
    """How many attempts ended, and how many of them failed."""

    ended: int = 0
    failed: int = 0


def recovery_status(run: Run) -> str:
    """Return document D's word for where an attempt stands: IN_PROGRESS, SUCCESS, FAILED or MANUAL."""
    return _status(run.remedy, run.state)


def after_run(run: Run, incident: Incident, now: datetime) -> Daily | None:
    """Return what an attempt that ended now adds to the day's figures; None while its proof is awaited."""
    place: dict[str, Any] = {"day": _day(now), "procedure": run.procedure, "issue": run.issue, "action": run.remedy}
    match recovery_status(run):
        case "SUCCESS":
            return Daily(**place, succeeded=1, recovery_s=(now - incident.first_seen).total_seconds())
        case "FAILED":
            return Daily(**place, failed=1)
        case "MANUAL" if run.state is RunState.DONE:
            return Daily(**place, manual=1)
        case _:
            return None


def after_hand_over(incident: Incident, issue: str, now: datetime, *, notified: int = 1) -> Daily:
    """Return what a hand-over to a person adds to the day's figures."""
    return Daily(day=_day(now), procedure=incident.procedure, issue=issue, action=MANUAL, manual=1, notified=notified)


async def statistics(parts: Parts, days: int) -> list[dict[str, Any]]:
    """Return document D's statistics of the last days, one row per issue and action.

    Its `recovery_status` is what most of its cases came to; of equally many, the worst.
    """
    now = parts.clock.now()
    since = now - timedelta(days=days)
    async with parts.store.transaction() as tx:
        tallies = await tx.runs.tallies(since)
        daily = await tx.metrics.since(_day(since))
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in (one for one in tallies if one["remedy"] != MANUAL):  # those stand in the daily figures
        status = _status(one["remedy"], RunState(one["state"]))
        counted = {"status": status, "cases": one["cases"], "took_s": one["took_s"]}
        groups.setdefault((one["issue"], one["remedy"]), []).append(counted)
    for day in daily:
        if day["manual"]:
            counted = {"status": "MANUAL", "cases": day["manual"], "took_s": None}
            groups.setdefault((day["issue"], MANUAL), []).append(counted)
    return [_statistic(issue, action, counted) for (issue, action), counted in sorted(groups.items())]


async def kpis(parts: Parts, days: int) -> list[dict[str, Any]]:
    """Return document D's four targets with their values in the last days; both None where there was no case."""
    since = parts.clock.now() - timedelta(days=days)
    async with parts.store.transaction() as tx:
        return targets(await tx.metrics.since(_day(since)))


def targets(daily: Sequence[Any]) -> list[dict[str, Any]]:
    """Judge daily figures by document D's targets; rates are in percent, times in minutes."""
    found, succeeded, failed, manual, notified, recovery_s = (
        sum(one[name] for one in daily)
        for name in ("detected", "succeeded", "failed", "manual", "notified", "recovery_s")
    )
    return [
        _target("healing_success_rate", _ratio(100.0 * succeeded, succeeded + failed), above=90.0, unit="%"),
        _target("avg_recovery_time_minutes", _ratio(recovery_s / 60.0, succeeded), below=5.0, unit="min"),
        _target("manual_intervention_rate", _ratio(100.0 * manual, found), below=10.0, unit="%"),
        _target("admin_notification_rate", _ratio(100.0 * notified, found), below=5.0, unit="%"),
    ]


async def attempts_lately(tx: Transaction, now: datetime) -> Attempts:
    """Count the attempts of the alarm's window that have ended."""
    ended = failed = 0
    for one in await tx.runs.tallies(now - ALARM_WINDOW):
        status = _status(one["remedy"], RunState(one["state"]))
        ended += one["cases"] if status in ("SUCCESS", "FAILED") else 0
        failed += one["cases"] if status == "FAILED" else 0
    return Attempts(ended=ended, failed=failed)


def alert(attempts: Attempts) -> str | None:
    """Return why healing itself needs attention (SYSTEM_ALERT), None where it does not."""
    rate = _ratio(attempts.failed, attempts.ended)
    if attempts.ended < ALARM_ATTEMPTS_MIN or rate is None or rate <= ALARM_ABOVE:
        return None
    shown = f"{attempts.failed} of {attempts.ended} attempts within the last 24 h failed ({rate:.0%})"
    return f"{shown}; more than {ALARM_ABOVE:.0%} is an alarm"


async def raise_alarm(parts: Parts) -> None:
    """Tell when healing itself fails too often (document D: SYSTEM_ALERT); once an hour."""
    now = parts.clock.now()
    async with parts.store.transaction() as tx:
        why = alert(await attempts_lately(tx, now))
        if why is not None:
            waiting = await tx.incidents.list(most=500, state=IncidentState.ESCALATED.value)
            affected = [
                ("Affected", f"{len(waiting)} wait for people"),
                ("Recommended", "look at: prunella procedures"),
            ]
            await trail.tell(parts, tx, [notices.system_alert(why, affected, now, parts.public_url)])


def _status(remedy: str, state: RunState) -> str:
    if state in FAILED:
        return "FAILED"
    if remedy == MANUAL and state is not RunState.RUNNING:
        return "MANUAL"
    return "SUCCESS" if state is RunState.VERIFIED else "IN_PROGRESS"


def _statistic(issue: str, action: str, counted: Sequence[dict[str, Any]]) -> dict[str, Any]:
    cases = {status: sum(one["cases"] for one in counted if one["status"] == status) for status in _WORST_FIRST}
    took_s = next((one["took_s"] for one in counted if one["status"] == "SUCCESS"), None)
    return {
        "issue_type": issue,
        "recovery_action": action.upper(),
        "recovery_status": max(_WORST_FIRST, key=lambda status: cases[status]),
        "total_cases": sum(cases.values()),
        "avg_recovery_time_minutes": None if took_s is None else round(took_s / 60.0, 2),
        "successful_recoveries": cases["SUCCESS"],
        "failed_recoveries": cases["FAILED"],
    }


def _target(
    name: str, value: float | None, *, unit: str, above: float | None = None, below: float | None = None
) -> dict[str, Any]:
    words = f"> {above:g} {unit}" if above is not None else f"< {below:g} {unit}"
    passed = None
    if value is not None:
        passed = value > above if above is not None else below is not None and value < below
    return {"name": name, "value": None if value is None else round(value, 2), "target": words, "passed": passed}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
