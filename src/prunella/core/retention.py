"""How long what is over is kept; it must never speak of what is open."""

from __future__ import annotations

from dataclasses import dataclass

_DAY_S = 86_400.0
ANSWERS_S = _DAY_S
"""How long an answer is kept for who asks again with the same Idempotency-Key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long what is over is kept.

    Args:
        operations_s: those that are done or cancelled, once their incident is resolved for as long.
        incidents_s: resolved ones, with their signals and runs; what statistics count beyond that are daily figures.
        notifications_s: those that were sent or could not be.
        audit_s: who did what, never before the incident that it is about; and plans that were answered.
    """

    operations_s: float = 30 * _DAY_S
    incidents_s: float = 90 * _DAY_S
    notifications_s: float = 30 * _DAY_S
    audit_s: float = 365 * _DAY_S
