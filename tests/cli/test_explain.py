"""An incident is told as a person would tell it, and a pasted error is told from an id."""

from __future__ import annotations

from typing import Any

import pytest

from prunella.cli.explain import diagnose_text, is_incident_id, tell_story
from prunella.core.clock import Ids, ManualClock, Rng


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        (Ids(ManualClock(), Rng(1)).new(), True),
        (f"  {Ids(ManualClock(), Rng(1)).new().upper()}\n", True),
        ("7d0c1f3e-0000-4000-8000-000000000001", False),
        ("Connection refused", False),
        ("", False),
        ("01a2", False),
    ],
)
def test_incident_is_told_from_a_text(text: str, is_id: bool) -> None:
    """Ids are UUIDs of version 7, in any case; everything else is a text to diagnose."""
    assert is_incident_id(text) is is_id


def test_text_is_diagnosed_as_the_engine_would() -> None:
    """Category, kind, confidence, evidence, who has to move, and what to do."""
    found = diagnose_text("slow down", service="crm", status=429, code=None)
    assert (found["category"], found["kind"], found["retryable"]) == ("rate_limit", "rate_limit.window", True)
    assert found["because"] == "HTTP 429"
    assert found["advice"]


@pytest.mark.parametrize(
    ("held", "next_at"), [(None, None), ("crm is paused by ada", None), (None, "2026-01-01T00:00:05")]
)
def test_story_has_what_is_known_and_nothing_empty(held: str | None, next_at: str | None) -> None:
    """Title, diagnosis, state, deeds, timeline and attempts; held and next only where there is something."""
    story: dict[str, Any] = {
        "title": "crm: network.server (HTTP 503)",
        "category": "network",
        "kind": "network.server",
        "confidence": 0.9,
        "because": "HTTP 503",
        "state": "open",
        "status": "pending",
        "count": 3,
        "level": "L0",
        "action_taken": "retry scheduled",
        "held_reason": held,
        "next_at": next_at,
        "issue_id": None,
        "decided": {},
        "timeline": [{"at": "2026-01-01T00:00:00.000000+00:00", "action": "incident.opened", "reason": "HTTP 503"}],
        "runs": [
            {
                "id": "r1",
                "rows": 0,
                "started_at": "2026-01-01T00:00:01.000000+00:00",
                "remedy": "replay",
                "attempt": 1,
                "state": "failed",
                "detail": "HTTP 503",
            }
        ],
    }
    told = tell_story(story)
    assert told.splitlines()[0] == story["title"]
    assert "stands   open (pending), 3 events, level L0" in told
    assert ("  held     " in told, "  next     " in told) == (held is not None, next_at is not None)
    assert "replay         try 1  failed     HTTP 503" in told
    assert "undo" not in told
    assert "weighed" not in told
    story["runs"][0] |= {"rows": 2, "state": "verified"}
    assert tell_story(story).splitlines()[-1] == "      put back by: prunella undo r1"
    story["runs"][0]["remedy"] = "end_idle_connections"
    assert "undo" not in tell_story(story)


def test_numbers_that_decided_are_told() -> None:
    """The remedies that were weighed, with their records, bounds and levels, and which one was chosen."""
    option = {"score": 0.78, "tried": 9, "verified": 7, "ineffective": 2, "undone": 0, "lower_bound": 0.45}
    chosen = {"remedy": "invalidate_cache", "level": "L1", **option}
    other = {"remedy": "restart", "level": "L2", **option, "score": 0.5}
    decided = {"issue": "crm-1", "chosen": "invalidate_cache", "waited": False, "options": [chosen, other]}
    story = {**_story(), "issue_id": "crm-1", "decided": decided}
    told = tell_story(story)
    assert "prunella known-issues show crm-1" in told
    record = "0.78  7 of 9 verified, 2 ineffective, 0 undone, lower bound 0.45, level L1"
    assert f"    -> invalidate_cache   {record}" in told
    assert "       restart            0.50" in told
    assert "only waits" not in told
    assert "only waits" in tell_story({**story, "decided": {**decided, "waited": True}})


def _story() -> dict[str, Any]:
    """Return the story of an incident at which nothing was done yet."""
    return {
        "title": "crm: network.server",
        "category": "network",
        "kind": "network.server",
        "confidence": 0.9,
        "because": "HTTP 503",
        "state": "open",
        "status": "pending",
        "count": 1,
        "level": "L0",
        "action_taken": "recorded",
        "held_reason": None,
        "next_at": None,
        "timeline": [],
        "runs": [],
    }
