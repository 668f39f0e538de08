"""The figures of the first page (document B: dashboard; document D: KPIs). Reads only.

The recovery rate counts what was settled of what began in a window: resolved, against resolved and left to people.
What is being healed counts on neither side. Forced failures stay out of all but what is open.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prunella.core.records import AuditEntry, Category, Gate, Incident
from prunella.core.states import GateState, IncidentState
from prunella.engine.parts import Parts
from prunella.store.sql import Row

DAY = timedelta(hours=24)
WEEK = timedelta(days=7)
_SERVICES_MAX = 6
_FOR_PEOPLE_MAX = 6
_FEED_MAX = 14
_LEFT = (IncidentState.ESCALATED.value, IncidentState.AWAITING_APPROVAL.value)
_SHARES = (0.50, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of some incidents."""

    opened: int = 0
    recovered: int = 0
    left: int = 0

    @property
    def rate(self) -> float | None:
        """Return the share that recovered of what was settled; None where nothing was."""
        settled = self.recovered + self.left
        return self.recovered / settled if settled else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """A service among those that fail most.

    Args:
        hours: incidents per hour, the oldest first.
    """

    name: str
    tally: Tally
    hours: Sequence[int]
    state: GateState


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How everything stands.

    Args:
        mttr_s: seconds within which half, and 95 %, of the recoveries of the last 24 h were done; None: none were.
        hours: what became of the incidents of each hour, the oldest first.
    """

    active: int
    healing: int
    needs_person: int
    disabled: Sequence[str]
    day: Tally
    mttr_s: tuple[float, float] | None
    categories: Mapping[str, Tally]
    hours: Sequence[tuple[datetime, Tally]]
    failing: Sequence[Failing]
    for_people: Sequence[Incident]
    feed: Sequence[AuditEntry]

    @property
    def health(self) -> str:
        """Return the glance: `needs_you`, `healing` or `healthy`."""
        if self.needs_person or self.disabled:
            return "needs_you"
        return "healing" if self.active else "healthy"


async def overview(parts: Parts) -> Overview:
    """Read how everything stands now, and how the last 24 hours went."""
    now = parts.clock.now()
    since = now - DAY
    async with parts.store.transaction() as tx:
        states = await tx.glance.open_by_state()
        _, took_s = await tx.glance.times_to_recover(since, _SHARES)
        categories = await tx.glance.by_category(since)
        hours = await tx.glance.by_hour(since)
        worst = [row["service"] for row in await tx.glance.most_failing(since, _SERVICES_MAX)]
        of_worst = await tx.glance.of_services(worst, since)
        gates = {gate.service: gate for gate in await tx.gates.all()}
        for_people = await tx.glance.for_people(_FOR_PEOPLE_MAX)
        feed = await tx.glance.audit_latest(_FEED_MAX)
    return Overview(
        active=sum(states.values()) - states.get(IncidentState.SUPPRESSED.value, 0),
        healing=sum(states.get(one.value, 0) for one in (IncidentState.HEALING, IncidentState.VERIFYING)),
        needs_person=sum(states.get(state, 0) for state in _LEFT),
        disabled=sorted(name for name, gate in gates.items() if gate.state is GateState.DISABLED),
        day=_tally(categories),
        mttr_s=(took_s[0], took_s[1]) if took_s else None,
        categories={one.value: _tally([row for row in categories if row["category"] == one]) for one in Category},
        hours=_by_hour(hours, now, DAY),
        failing=[_failing(name, of_worst, now, gates.get(name)) for name in worst],
        for_people=for_people,
        feed=feed,
    )


async def rates(parts: Parts, span: timedelta) -> list[tuple[datetime, Tally]]:
    """Return what became of the incidents of each hour of the last `span` (at most `WEEK`), the oldest first."""
    now = parts.clock.now()
    span = min(span, WEEK)
    async with parts.store.transaction() as tx:
        return _by_hour(await tx.glance.by_hour(now - span), now, span)


def _tally(rows: Sequence[Row]) -> Tally:
    states: Counter[str] = Counter()
    for row in rows:
        states[row["state"]] += row["count"]
    return Tally(
        opened=states.total(),
        recovered=states[IncidentState.RESOLVED.value],
        left=sum(states[state] for state in _LEFT),
    )


def _by_hour(rows: Sequence[Row], now: datetime, span: timedelta) -> list[tuple[datetime, Tally]]:
    """Sort counted rows into hours; those without an incident are there, too."""
    of_hour: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of_hour[row["hour"]].append(row)
    return [(hour, _tally(of_hour[f"{hour:%Y-%m-%d %H}"])) for hour in _hours(now, span)]


def _hours(now: datetime, span: timedelta) -> list[datetime]:
    latest = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    count = int(span / timedelta(hours=1))
    return [latest - timedelta(hours=back) for back in range(count - 1, -1, -1)]


def _failing(name: str, rows: Sequence[Row], now: datetime, gate: Gate | None) -> Failing:
    own = [row for row in rows if row["service"] == name]
    hours = [tally.opened for _, tally in _by_hour(own, now, DAY)]
    return Failing(name=name, tally=_tally(own), hours=hours, state=gate.state if gate else GateState.CLOSED)
