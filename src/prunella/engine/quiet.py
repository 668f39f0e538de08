"""Hours in which nobody is woken: what is not grave waits until they end. Pure; times are those of people's clocks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from prunella.core.records import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """Daily hours of silence.

    Args:
        begins, ends: by the clocks of `zone`; they may lie around midnight.
        spares: what may wake people all the same.
    """

    begins: time
    ends: time
    zone: str
    spares: frozenset[Severity] = frozenset({Severity.HIGH, Severity.CRITICAL})

    def after(self, severity: Severity, moment: datetime) -> datetime:
        """Return when something that is due at `moment` may be sent."""
        if severity in self.spares:
            return moment
        here = moment.astimezone(ZoneInfo(self.zone))
        for day in (here.date() - timedelta(days=1), here.date()):
            begins = datetime.combine(day, self.begins, here.tzinfo)
            last_day = day if self.begins < self.ends else day + timedelta(days=1)
            ends = datetime.combine(last_day, self.ends, here.tzinfo).astimezone(UTC)
            if begins.astimezone(UTC) <= moment < ends:  # in UTC: on two days a year an hour comes twice, or never
                return ends
        return moment
