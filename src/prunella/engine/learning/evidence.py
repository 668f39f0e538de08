"""What a remedy is worth at a problem: told by what was verified, never by what was hoped. Pure arithmetic.

A mean chooses and a lower bound trusts: the mean tries what looks best so far, the bound lets a machine act alone only
on what can hardly be luck. Chosen by bounds, whatever worked first would be tried for ever (measured:
python -m bench learning).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from prunella.core.issues import Effect, Evidence

HALF_LIFE: Final = timedelta(days=30)
"""After so long an outcome counts half: services change."""
TRUSTED_FROM: Final = 0.8
"""Lower bound of the share of good outcomes from which a learned remedy may act alone."""
DISTRUSTED_BELOW: Final = 0.6
VERIFIED_MIN: Final = 25
"""Verified outcomes before that: 16 clean ones reach the bound, but by luck so does a remedy that works in 6 of 10, at
one of 2,600 problems; with 25 at one of 25,000."""
FAILURES_IN_A_ROW: Final = 2
"""So many take trust away at once, whatever stood before."""
_PRIOR: Final = 2.0  # outcomes that what is known elsewhere is worth
_Z: Final = 1.959964  # two-sided 95 %


NOTHING: Final = Evidence()
WAIT: Final = "wait"
"""The remedy that does nothing: what gets well by itself is no other remedy's merit."""


def scope_of_issue(issue_id: str) -> str:
    """Return under which name the evidence at one problem is kept."""
    return f"issue:{issue_id}"


def scope_of_kind(kind: str) -> str:
    """Return under which name the evidence at all problems of a kind is kept."""
    return f"kind:{kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A remedy that may be chosen.

    Args:
        own: what became of it at this problem.
        elsewhere: what became of it at all problems of this kind, this one among them.
        risk: 0 for the least; decides between equal scores.
        cost: seconds it usually takes; decides between equal risks.
    """

    remedy: str
    own: Evidence = NOTHING
    elsewhere: Evidence = NOTHING
    risk: int = 0
    cost: float = 0.0


def noted(evidence: Evidence, effect: Effect, now: datetime) -> Evidence:
    """Return the evidence with one more outcome."""
    faded = as_of(evidence, now)
    is_good = effect is Effect.VERIFIED
    return replace(
        faded,
        tried=faded.tried + 1,
        verified=faded.verified + is_good,
        ineffective=faded.ineffective + (effect is Effect.INEFFECTIVE),
        undone=faded.undone + (effect is Effect.UNDONE),
        good=faded.good + is_good,
        bad=faded.bad + (not is_good),
        failures_in_a_row=0 if is_good else faded.failures_in_a_row + 1,
    )


def as_of(evidence: Evidence, now: datetime) -> Evidence:
    """Return the evidence as it counts now; a clock that is behind makes nothing younger and nothing older."""
    then = max(now, evidence.at or now)
    left = 0.5 ** ((then - (evidence.at or then)) / HALF_LIFE)
    return replace(evidence, good=evidence.good * left, bad=evidence.bad * left, at=then)


def expected(option: Option) -> float:
    """Return the share of good outcomes to expect: its own ones, and what is known elsewhere as two more of them."""
    elsewhere = (option.elsewhere.good + 1) / (option.elsewhere.good + option.elsewhere.bad + 2)
    own = option.own
    return (own.good + _PRIOR * elsewhere) / (own.good + own.bad + _PRIOR)


def ranked(options: Sequence[Option]) -> list[tuple[float, Option]]:
    """Return the options with their expectations, the best first; equal ones by risk, then cost, then name."""
    scored = [(expected(option), option) for option in options]
    return sorted(scored, key=lambda one: (-round(one[0], 9), one[1].risk, one[1].cost, one[1].remedy))


def lower_bound(good: float, bad: float) -> float:
    """Return the Wilson lower bound of a share at 95 % (Wilson 1927); 0 where nothing is known."""
    count = good + bad
    if count <= 0:
        return 0.0
    share, z2 = good / count, _Z * _Z
    middle = share + z2 / (2 * count)
    reach = _Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return max(0.0, (middle - reach) / (1 + z2 / count))


def may_act_alone(evidence: Evidence, *, trusted: bool) -> bool:
    """Tell whether a learned remedy may act without being asked.

    Args:
        evidence: as of now.
        trusted: whether it may at present: trust is harder to win than to keep, and quickly lost.
    """
    if evidence.failures_in_a_row >= FAILURES_IN_A_ROW:
        return False
    bound = lower_bound(evidence.good, evidence.bad)
    if trusted:
        return bound >= DISTRUSTED_BELOW
    return bound >= TRUSTED_FROM and evidence.verified >= VERIFIED_MIN


def lift(evidence: Evidence, waiting: Evidence) -> float | None:
    """Return by how much a remedy does better than waiting; None while either is hardly known.

    Each is taken with one good and one bad outcome added, so that few outcomes say little.
    """
    if min(evidence.good + evidence.bad, waiting.good + waiting.bad) < _PRIOR:
        return None
    return _smoothed(evidence) - _smoothed(waiting)


def lift_between(evidence: Evidence, waiting: Evidence) -> tuple[float, float]:
    """Return between which bounds a remedy does better than waiting, at 95 % (Newcombe 1998, method 10).

    A remedy has shown that it helps where the lower one is above 0.
    """
    mine, theirs = evidence.share, waiting.share
    up = 1 - lower_bound(evidence.bad, evidence.good) - mine
    down = mine - lower_bound(evidence.good, evidence.bad)
    their_up = 1 - lower_bound(waiting.bad, waiting.good) - theirs
    their_down = theirs - lower_bound(waiting.good, waiting.bad)
    return mine - theirs - math.hypot(down, their_up), mine - theirs + math.hypot(up, their_down)


def _smoothed(evidence: Evidence) -> float:
    return (evidence.good + 1) / (evidence.good + evidence.bad + 2)
