"""Tell an incident's story in words, and diagnose a text that somebody pasted."""

from __future__ import annotations

import re
from typing import Any

from prunella.cli.printing import many
from prunella.core.clock import SystemClock
from prunella.diagnosis.classify import classify
from prunella.diagnosis.pasted import failure_of

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


_UNDOABLE = ("done", "verified", "ineffective")


def is_incident_id(text: str) -> bool:
    """Tell an incident's id from the text of an error."""
    return _ID.fullmatch(text.strip().lower()) is not None


def diagnose_text(text: str, *, service: str, status: int | None, code: str | None) -> dict[str, Any]:
    """Classify a pasted text as the engine would."""
    diagnosis = classify(failure_of(text, service=service, status=status, code=code), now=SystemClock().now())
    return {
        "category": diagnosis.category.value,
        "kind": diagnosis.kind,
        "confidence": round(diagnosis.confidence, 2),
        "because": diagnosis.because,
        "retryable": diagnosis.retryable,
        "actor": diagnosis.actor.value,
        "retry_after_s": diagnosis.retry_after_s,
        "signals": list(diagnosis.signals),
        "advice": diagnosis.advice,
    }


def tell_story(story: dict[str, Any]) -> str:
    """Write an incident as a person would tell it."""
    lines = [
        story["title"],
        f"  is       {story['category']} / {story['kind']}",
        f"  because  {story['because']} (confidence {story['confidence']:.2f})",
        f"  stands   {story['state']} ({story['status']}), {many(story['count'], 'event')}, level {story['level']}",
        f"  did      {story['action_taken']}",
    ]
    if story["held_reason"]:
        lines.append(f"  held     {story['held_reason']}")
    if story["next_at"]:
        lines.append(f"  next     {story['next_at']}")
    if story["issue_id"]:
        lines.append(f"  known    {story['issue_id']}; look at it with: prunella known-issues show {story['issue_id']}")
    lines += _weighed(story["decided"])
    lines.append("  timeline")
    lines += [f"    {entry['at'][:23]}  {entry['action']:<20} {entry['reason']}" for entry in story["timeline"]]
    lines.append("  attempts")
    for run in story["runs"]:
        tried = f"{run['remedy']:<14} try {run['attempt']}  {run['state']:<10} {run['detail']}"
        lines.append(f"    {run['started_at'][:23]}  {tried}")
        if run["rows"] and run["state"] in _UNDOABLE and run["remedy"] != "end_idle_connections":  # those are no rows
            lines.append(f"      put back by: prunella undo {run['id']}")
    return "\n".join(lines)


def _weighed(decided: dict[str, Any]) -> list[str]:
    """Tell which remedies were weighed, and the numbers that decided."""
    if not decided:
        return []
    lines = ["  weighed  (expected share of repairs that last; what became of each here)"]
    for one in decided["options"]:
        mark = "->" if one["remedy"] == decided["chosen"] else "  "
        record = (
            f"{one['verified']} of {one['tried']} verified, {one['ineffective']} ineffective, {one['undone']} undone"
        )
        lines.append(
            f"    {mark} {one['remedy']:<18} {one['score']:.2f}  {record}, "
            f"lower bound {one['lower_bound']:.2f}, level {one['level']}"
        )
    if decided["waited"]:
        lines.append("    only waits this time, so that it is known what passes by itself")
    return lines
