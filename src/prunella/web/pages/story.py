"""An incident's story in the order it happened: received, diagnosed, planned, tried, waited, verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from prunella.core.records import AuditEntry, Run
from prunella.core.states import RunState
from prunella.engine.notices import spell_duration
from prunella.engine.report import Story

_GOOD = frozenset({RunState.VERIFIED})
_BAD = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.UNKNOWN, RunState.INEFFECTIVE})
_CHAPTERS = (
    (("resolved", "verified", "recovered"), "Verified", "good"),
    (("escalated", "failed", "disabled", "dead", "unknown", "refuse"), "Left to people", "bad"),
    (("wait", "held"), "Waits", "wait"),
    (("proposed", "planned", "decided"), "Planned", "busy"),
    (("undone", "suppress"), "Set aside", "off"),
)
"""Words in an audit entry's action -> which chapter it is, and its tone; the first that fits counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a story.

    Args:
        tone: `good`, `busy`, `wait`, `bad` or `off`.
        why: what was known then.
        by: who did it, where it was a person.
    """

    at: datetime
    chapter: str
    tone: str
    text: str
    why: str = ""
    by: str = ""


def steps_of(story: Story) -> list[Step]:
    """Return the story, oldest first."""
    noted = [_noted(entry) for entry in story.timeline if entry.action != "incident.opened"]
    steps = [*_beginning(story), *map(_attempt, story.runs), *noted]
    return sorted(steps, key=lambda step: step.at)  # stable: what was diagnosed comes before what was done about it


def _beginning(story: Story) -> Iterator[Step]:
    incident = story.incident
    by = f"the procedure {incident.procedure}" if incident.procedure else "an event"
    again = " It came back: the incident before seemed well." if incident.regressed else ""
    yield Step(at=incident.first_seen, chapter="Received", tone="off", text=f"Reported by {by}.{again}")
    sure = f"{incident.kind}, {incident.confidence:.0%} sure" if not incident.procedure else incident.kind
    yield Step(
        at=incident.first_seen,
        chapter="Diagnosed",
        tone="off",
        text=f"{incident.category.value.replace('_', ' ')}: {sure}",
        why=f"because of {incident.because}" if incident.because else "",
    )


def _attempt(run: Run) -> Step:
    tone = "good" if run.state in _GOOD else ("bad" if run.state in _BAD else "busy")
    took = f", {spell_duration((run.ended_at - run.started_at).total_seconds())}" if run.ended_at is not None else ""
    status = f" ({run.status}{took})" if run.status is not None else (f" ({took[2:]})" if took else "")
    what = run.remedy.replace("_", " ")
    text = f"{what}: {run.state.value.replace('_', ' ')}{status}"
    at = run.ended_at or run.started_at  # with what came of it, behind its beginning
    return Step(at=at, chapter=f"Attempt {run.attempt}", tone=tone, text=text, why=run.detail)


def _noted(entry: AuditEntry) -> Step:
    by = "" if entry.actor == "prunella" else entry.actor
    words = entry.action.rpartition(".")[2].replace("_", " ")
    for marks, chapter, tone in _CHAPTERS:
        if any(mark in entry.action for mark in marks):
            text = "" if words in ("wait", "resolved", "escalated", "refuse") else words
            return Step(at=entry.at, chapter=chapter, tone=tone, text=text, why=entry.reason, by=by)
    return Step(at=entry.at, chapter=words.capitalize(), tone="busy", text="", why=entry.reason, by=by)
