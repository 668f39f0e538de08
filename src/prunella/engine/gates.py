"""The Gate of a service: who may close it to calls, when, and why. Pure changes; callers save what they get.

Two ladders stand side by side and never mix: our own calls open and close the gate (breaker, documents C and E);
failures from outside disable the service (document B). A person's pause or disablement is lifted by a person.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from prunella.core.clock import Rng
from prunella.core.records import Category, Gate
from prunella.core.services import DisableAfter, GateLimits
from prunella.core.states import GATE, GateState

MACHINE = "prunella"
"""Who moved a gate, where no person did."""
_OPEN_MAX_S = 600.0
_DOUBLINGS_MAX = 20  # far beyond the longest open time; a week of openings would overflow a float
_COUNTERS = {Category.AUTH: "auth", Category.DATA: "data", Category.UNKNOWN: "unknown"}


def move(gate: Gate, state: GateState, now: datetime, *, reason: str | None, by: str = MACHINE) -> Gate:
    """Return the gate in another state; `IllegalTransition` where that may not follow."""
    GATE.check(gate.state, state)
    return replace(gate, state=state, reason=reason, changed_by=by, since=now, reopen_at=None)


def count_failures(gate: Gate, category: Category, number: int) -> Gate:
    """Count failures from outside towards disablement; network and rate limit keep no counter here."""
    counter = _COUNTERS.get(category)
    return replace(gate, **{counter: getattr(gate, counter) + number}) if counter else gate


def over_threshold(gate: Gate, limits: DisableAfter, network_count: int) -> tuple[str, int] | None:
    """Return why the service has to be disabled, and the count that says so; None while it need not."""
    if gate.state in (GateState.DISABLED, GateState.PAUSED):
        return None
    for category, counter in _COUNTERS.items():
        limit, count = getattr(limits, counter), getattr(gate, counter)
        if limit is not None and count >= limit:
            after = " after a token refresh" if category is Category.AUTH else ""
            return f"{count} consecutive {category.value} failures{after}", count
    if limits.network is not None and network_count >= limits.network:
        return f"{network_count} network failures within {limits.network_within_s / 60:.0f} minutes", network_count
    return None


def count_success(gate: Gate, now: datetime) -> Gate:
    """Forget consecutive failures: the service has just proved to be well."""
    return replace(gate, auth=0, data=0, unknown=0, failures=0, recovery_fail_count=0)


def record_call(gate: Gate, ok: bool, limits: GateLimits, now: datetime, rng: Rng) -> Gate:
    """Count one of our own calls: open after too many failures, close after enough successes."""
    if ok:
        return _after_success(gate, limits, now)
    gate = replace(gate, failures=gate.failures + 1, successes=0)
    if gate.state is GateState.HALF_OPEN or (gate.state is GateState.CLOSED and gate.failures >= limits.failures):
        return _open(gate, limits, now, rng, f"{gate.failures} failed calls in a row")
    return gate


def begin_probe(gate: Gate, now: datetime) -> Gate:
    """Let the first call through when the open time is over."""
    if gate.state is GateState.OPEN and gate.reopen_at is not None and gate.reopen_at <= now:
        return replace(move(gate, GateState.HALF_OPEN, now, reason=gate.reason), successes=0)
    return gate


def stop(gate: Gate, calls: int, bad: int, limits: GateLimits, now: datetime, rng: Rng) -> Gate:
    """Open after a bad wave: more than half of its calls failed, and as many as open the gate when in a row."""
    if gate.state is not GateState.CLOSED or bad < limits.failures or bad * 2 <= calls:
        return gate
    return _open(gate, limits, now, rng, f"{bad} of {calls} calls of a wave failed")


def throttle(gate: Gate, until: datetime) -> Gate:
    """Keep silent until `until`, as the service asked."""
    return replace(gate, throttled_until=max(until, gate.throttled_until or until))


def enable(gate: Gate, now: datetime, *, by: str) -> Gate:
    """Close the gate again and start every count anew."""
    gate = move(gate, GateState.CLOSED, now, reason=None, by=by)
    return replace(
        count_success(gate, now), counting_from=now, openings=0, successes=0, throttled_until=None, down_since=None
    )


def _after_success(gate: Gate, limits: GateLimits, now: datetime) -> Gate:
    gate = replace(count_success(gate, now), successes=gate.successes + 1, last_recovery_at=now)
    if gate.state is GateState.HALF_OPEN and gate.successes >= limits.successes:
        return replace(move(gate, GateState.CLOSED, now, reason=None), openings=0, successes=0, down_since=None)
    return gate


def _open(gate: Gate, limits: GateLimits, now: datetime, rng: Rng, reason: str) -> Gate:
    """Open for a time that doubles with each opening in a row, spread so that workers do not probe in step."""
    doubled = 2 ** min(gate.openings, _DOUBLINGS_MAX)
    open_s = min(limits.open_s * doubled, max(limits.open_s, _OPEN_MAX_S)) * (1.0 + rng.random() * 0.1)
    opened = move(gate, GateState.OPEN, now, reason=reason)
    return replace(
        opened,
        openings=gate.openings + 1,
        reopen_at=now + timedelta(seconds=open_s),
        down_since=gate.down_since or now,
    )
