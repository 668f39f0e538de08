"""How long to wait before trying again: pure arithmetic, never a sleep."""

from __future__ import annotations

from prunella.core.clock import Chance

RECOVERY_WAITS_S = (0.5, 1.0, 2.0)
"""The wait before each of at most three tries of a recovery (document B)."""

RECOVERY_WAIT_MAX_S = 10.0
"""No recovery waits longer than this within a request; a longer wait becomes a due time (document B)."""


def recovery_wait_s(attempt: int, rng: Chance) -> float:
    """Return the wait before try number `attempt` (from 1): its step, times 0.5 to 1.0 so that callers spread."""
    step = RECOVERY_WAITS_S[min(attempt, len(RECOVERY_WAITS_S)) - 1]
    return min(spread_s(step, 0.5, rng), RECOVERY_WAIT_MAX_S)


def at_least_s(asked_s: float, rng: Chance) -> float:
    """Return a wait that is never shorter than asked: jitter only upwards, by at most half."""
    return asked_s * (1.0 + rng.random() * 0.5)


def spread_s(step_s: float, least: float, rng: Chance) -> float:
    """Return `step_s` times a factor between `least` (0 to 1) and 1, so that callers spread."""
    return step_s * (least + rng.random() * (1.0 - least))


def exponential_s(base_s: float, factor: float, attempt: int, cap_s: float) -> float:
    """Return `base_s` for attempt 1, times `factor` for each further one, at most `cap_s`; never overflows."""
    try:
        return min(base_s * float(factor) ** (attempt - 1), cap_s)
    except OverflowError:
        return cap_s if base_s > 0 else 0.0
