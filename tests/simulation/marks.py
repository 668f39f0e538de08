"""Rare places that the histories have to have been to: a walk that never came near a branch says nothing about it."""

from __future__ import annotations

import sqlite3
from collections import Counter

AUDIT = {
    "an attempt outlived its worker": "run.unknown",
    "a breaker opened": "gate.opened",
    "a breaker let a probe through": "gate.half_open",
    "a breaker closed": "gate.closed",
    "a service was seen to be down": "gate.down",
    "a service was told to be well again": "gate.recovered",
    "a person paused a service": "gate.pause",
    "a person took a service away": "gate.disable",
    "a person gave a service back": "gate.enabled",
    "an incident was escalated by the machine": "incident.escalated",
    "an incident was escalated by a person": "incident.escalate",
    "an incident was put aside": "incident.suppress",
    "an incident was ended on a person's word": "incident.resolve",
    "an incident was taken up again": "incident.retry",
    "a step was refused by the gatekeeper": "incident.refuse",
    "a step waits": "incident.wait",
    "a plan was proposed": "approval.proposed",
    "a plan was approved": "approval.approved",
    "a plan was rejected": "approval.rejected",
    "a bound remedy lasted": "remedy.verified",
    "a bound remedy did not help": "remedy.ineffective",
    "a bound remedy was trusted no longer": "issue.distrusted",
    "a secret was taken away": "secret.dropped",
    "a round failed": "procedure.failed",
}
RUNS = {
    "a replay outlived its worker": ("replay", "the worker died in mid-call"),
    "a refresh outlived its worker": ("refresh_token", "the worker died in mid-call"),
    "a bound remedy outlived its worker": ("invalidate_cache", "the worker died in mid-call"),
    "a probe outlived its worker": ("probe", "the worker died in mid-call"),
    "two wanted to refresh one token": ("refresh_token", "another worker is refreshing"),
    "a stale token was read again": ("refresh_token", "another refresh was quicker"),
    "a refresh token was refused": ("refresh_token", "invalid_grant"),
    "a token endpoint gave no reply": ("refresh_token", "gave no reply"),
    "a refresh was left half-done": ("refresh_token", "a worker ended while it refreshed"),
    "a secret was missing": ("refresh_token", "is not set"),
    "the database went away in mid-call": ("", "disk I/O error"),
}
HELD = {
    "data waits for its correction": "the data has to be corrected",
    "credentials wait for a person": "a person has to renew",
    "an unrepeatable call is in quarantine": "outcome unknown",
    "a request rests until the scan": "rests until the next scan",
    "an incident waits for leave": "waits for approval",
    "a person carries the plan out": "a person carries the plan out",
    "nothing but a success can prove it": "wait for a success signal",
    "a service that nobody configured": "is not configured",
}
SEEN = {
    "somebody else was quicker: nothing was changed": "missed",
    "somebody else has the incident": "missed claim",
    "a worker had no database for its work": "engine.failed",
}
FAULTS = {
    "the power failed": "crash",
    "a worker was killed": "kill",
    "the database was away": "store.failed",
    "the clock was set forward": "clock forward",
    "the clock was set back": "clock back",
    "a known event came again": "duplicate",
    "our own replay was reported as a failure": "echo",
    "a channel was deaf": "chat deaf",
    "a token had ended before its time": "expired",
    "a reply was lost after its effect": "answer lost",
    "a reply came too late, after its effect": "answer timeout_after",
    "a reply never came, and no effect": "answer timeout",
    "a connection was refused": "answer refused",
    "a name was not found": "answer dns",
    "a service was not available": "answer 503",
    "a service failed": "answer 500",
    "a service asked for a long wait": "answer 429_30",
    "a service asked for a short wait": "answer 429_2",
    "a service asked for some wait": "answer 429",
    "a token was refused": "answer 401",
    "a request was refused": "answer 422",
    "a success that was none: HTML": "answer html",
    "a success that was none: ok is false": "answer ok_false",
    "a token endpoint was not available": "token 503",
    "a token endpoint was not there": "token refused",
    "a token endpoint said something odd": "token odd",
    "a new pair of tokens was lost on the way": "token lost",
    "a refresh token was used twice": "token reuse",
}
MARKS = (*FAULTS, *AUDIT, *RUNS, *HELD, *SEEN)
"""Every mark, in words."""


def been(seen: Counter[str], database: sqlite3.Connection) -> Counter[str]:
    """Count how often one history passed each mark.

    Args:
        seen: what was counted on the way, by its key in `FAULTS` and `SEEN`.
    """
    marks = Counter({mark: seen[key] for mark, key in {**FAULTS, **SEEN}.items()})
    audit = dict(database.execute("SELECT action, count(*) FROM audit GROUP BY action").fetchall())
    marks.update({mark: audit.get(action, 0) for mark, action in AUDIT.items()})
    for name, detail in database.execute("SELECT remedy, detail FROM runs"):
        marks.update(mark for mark, (remedy, words) in RUNS.items() if remedy in name and words in (detail or ""))
    for (reason,) in database.execute("SELECT held_reason FROM incidents WHERE held_reason <> ''"):
        marks.update(mark for mark, words in HELD.items() if words in reason)
    return marks
