"""What healing is worth: document C's metrics, document B's per service, and how much each remedy helps. Reads only.

Incidents count where they began in the span, recoveries and their times where they were proven in it, all else where
it happened in it; forced failures count nowhere. A figure without a case is None, never 0 %. docs/observability.md
defines each.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prunella.core.states import GateState
from prunella.engine.learning.evidence import scope_of_issue
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction
from prunella.store.sql import Row

TOIL_MIN = 15.0
"""Minutes of work that an incident saves which nobody had to look at: an assumption, shown with its figure."""
FRESH_S = 30.0
"""How old figures may be that are shown."""
_ISSUES_MAX = 100
_KEPT_MAX = 50
_OF_ISSUE = scope_of_issue("")
_ADDED = (
    *("began", "recovered", "left", "tried", "auto_fixed", "gate_opens", "guard_opens", "escalations", "issues"),
    *("disabled", "asked", "answered", "tokens"),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, in seconds: on average, and within which time half and 95 % were done."""

    count: int
    mean_s: float
    p50_s: float | None = None
    p95_s: float | None = None

    @classmethod
    def of(cls, took_s: Sequence[float]) -> Spread | None:
        """Return it by nearest rank; None of nothing."""
        if not took_s:
            return None
        ranked, count = sorted(took_s), len(took_s)
        half, most = (ranked[-(-count * percent // 100) - 1] for percent in (50, 95))
        return cls(count, sum(ranked) / count, half, most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What healing came to, of one service or of all.

    Args:
        errors: category -> failures that arrived.
        began: incidents that began; of these `recovered` are proven well and `left` wait for a person.
        tried: of these, those that are settled and on which a remedy was tried.
        auto_fixed: of these, those that a remedy brought back and no person had a hand in.
        recovery: of what was proven well in the span, from the first failure to the proof.
        gate_opens, guard_opens: how often our gate, and breakers of guards in applications, opened.
        escalations: incidents, and `issues` known issues, that were left to people.
        disabled: how often it was disabled.
        asked, answered, tokens: what the advisor (a language model) was asked, answered, and cost.
    """

    errors: Mapping[str, int] = field(default_factory=dict)
    began: int = 0
    recovered: int = 0
    left: int = 0
    tried: int = 0
    auto_fixed: int = 0
    recovery: Spread | None = None
    gate_opens: int = 0
    guard_opens: int = 0
    escalations: int = 0
    issues: int = 0
    disabled: int = 0
    is_disabled: bool = False
    asked: int = 0
    answered: int = 0
    tokens: int = 0

    @property
    def total_errors(self) -> int:
        """Return how many failures arrived (document C)."""
        return sum(self.errors.values())

    @property
    def recovery_rate(self) -> float | None:
        """Return the percentage that is well of what is settled (document B)."""
        return percent(self.recovered, self.recovered + self.left)

    @property
    def auto_fix_rate(self) -> float | None:
        """Return the percentage that was fixed without a person of what was tried and is settled."""
        return percent(self.auto_fixed, self.tried)

    @property
    def auto_fixed_per_error(self) -> float | None:
        """Return document C's own formula in percent; many failures are one incident, so it is lower than the rate."""
        return percent(self.auto_fixed, self.total_errors)

    @property
    def toil_saved_h(self) -> float:
        """Return the hours of work that nobody had, if an incident takes `TOIL_MIN`."""
        return self.auto_fixed * TOIL_MIN / 60


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedyEffect:
    """What became of the attempts of one remedy, on incidents that began in the span.

    Args:
        incidents: on how many it was tried; `helped` of them are well and it was verified there.
        futile: attempts without effect on incidents that something else, or a person, brought back.
        regressions: incidents that came back within 24 hours after it was proven on them.
    """

    remedy: str
    incidents: int
    helped: int
    tried: int
    verified: int
    ineffective: int
    undone: int
    futile: int
    regressions: int

    @property
    def failed(self) -> int:
        """Return the attempts that did not even end well."""
        return self.tried - self.verified - self.ineffective - self.undone

    @property
    def effectiveness(self) -> float | None:
        """Return the percentage of its attempts that was verified."""
        return percent(self.verified, self.tried)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueEffect:
    """What became of a remedy at a known issue, ever: kept for as long as the issue, whatever retention forgets."""

    issue: str
    remedy: str
    tried: int
    verified: int
    ineffective: int
    undone: int

    @property
    def effectiveness(self) -> float | None:
        """Return the percentage that was verified."""
        return percent(self.verified, self.tried)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What healing came to since a moment.

    Args:
        all: all services together; its `recovery` has the average alone.
        detect, act, verify: of the latest incidents that began: from the failure to its arrival, from there to the
            first attempt, from the end of the last one to the proof.
    """

    since: datetime
    until: datetime
    all: Effect
    services: Mapping[str, Effect]
    remedies: Sequence[RemedyEffect]
    issues: Sequence[IssueEffect]
    detect: Spread | None
    act: Spread | None
    verify: Spread | None


async def effects(tx: Transaction, now: datetime, days: int, named: Iterable[str], service: str | None) -> Effects:
    """Read what healing came to in the last days, of one service or of all.

    Args:
        named: services that are configured.
    """
    since, read = now - timedelta(days=days), tx.effects
    sought = [service] if service is not None else sorted({*named, *await read.services(since)})
    by_service, by_remedy = await read.cases(since, service)
    counted = {
        "errors": await read.errors(sought, since),
        "apart": await read.apart(since, service),
        "cases": by_service,
        "recoveries": await read.recoveries(since, service),
        "turns": await read.turns(since, service),
        "advice": await read.advice(since, service),
    }
    times = await read.times(since, service)
    regressions = await read.regressions(since, service)
    evidence = await read.evidence(_OF_ISSUE, _ISSUES_MAX) if service is None else []
    disabled = {one.service for one in await tx.gates.all() if one.state is GateState.DISABLED}
    services = _by_service(counted, {name for name in disabled if service in (None, name)})
    return Effects(
        since=since,
        until=now,
        all=_together(list(services.values())),
        services=services,
        remedies=[_remedy(row, regressions) for row in by_remedy],
        issues=[_issue(row) for row in evidence],
        detect=_spread(times, "detect_s"),
        act=_spread(times, "act_s"),
        verify=_spread(times, "verify_s"),
    )


class Recent:
    """Read figures at most twice a minute, whoever asks how often: each reading walks all that began in its span."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._read: OrderedDict[tuple[int, str | None], tuple[float, Effects]] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def of(self, days: int, service: str | None = None) -> Effects:
        """Return what healing came to, at most `FRESH_S` old."""
        key = (days, service)
        async with self._one_at_a_time:
            read_at, found = self._read.get(key, (float("-inf"), None))
            if found is None or self._parts.clock.monotonic() - read_at >= FRESH_S:
                found = await self._look(days, service)
                self._read[key] = (self._parts.clock.monotonic(), found)
            self._read.move_to_end(key)
            if len(self._read) > _KEPT_MAX:
                self._read.popitem(last=False)
            return found

    async def _look(self, days: int, service: str | None) -> Effects:
        async with self._parts.store.transaction() as tx:
            return await effects(tx, self._parts.clock.now(), days, self._parts.services, service)


def percent(part: float, whole: float) -> float | None:
    """Return a share in percent; None of nothing."""
    return 100.0 * part / whole if whole else None


def _by_service(counted: Mapping[str, Sequence[Row]], disabled: AbstractSet[str]) -> dict[str, Effect]:
    """Put what was counted together, service by service."""
    rows: defaultdict[str, dict[str, list[Row]]] = defaultdict(lambda: {name: [] for name in counted})
    for one in disabled:
        rows[one] = {name: [] for name in counted}
    for name, found in counted.items():
        for row in found:
            rows[row["service"]][name].append(row)
    return {name: _effect(rows[name], name in disabled) for name in sorted(rows)}


def _effect(rows: Mapping[str, Sequence[Row]], is_disabled: bool) -> Effect:
    case = rows["cases"][0] if rows["cases"] else {}
    asked = rows["advice"][0] if rows["advice"] else {}
    turns = {row["turn"]: row["count"] for row in rows["turns"]}
    forced = [row for row in rows["apart"] if row["forced"]]
    of_guards = [row for row in rows["apart"] if row["source"] == "guard" and not row["forced"]]
    errors = Counter({row["category"]: row["count"] for row in rows["errors"]})
    for row in forced:
        errors[row["category"]] -= row["count"]
    return Effect(
        errors=+errors,
        began=case.get("cases", 0),
        recovered=case.get("recovered", 0),
        left=case.get("left_to_people", 0),
        tried=case.get("tried", 0),
        auto_fixed=case.get("verified", 0),
        recovery=_recovery(rows["recoveries"]),
        gate_opens=turns.get("opened", 0),
        guard_opens=sum(row["count"] for row in of_guards),
        escalations=turns.get("incident", 0),
        issues=turns.get("issue", 0),
        disabled=turns.get("disabled", 0),
        is_disabled=is_disabled,
        asked=asked.get("count", 0),
        answered=asked.get("answered", 0),
        tokens=asked.get("tokens", 0),
    )


def _recovery(rows: Sequence[Row]) -> Spread | None:
    return Spread(rows[0]["count"], rows[0]["mean_s"], rows[0]["half_s"], rows[0]["most_s"]) if rows else None


def _together(services: Sequence[Effect]) -> Effect:
    """Add up services."""
    took = [one.recovery for one in services if one.recovery is not None]
    proven = sum(one.count for one in took)
    sums = {name: sum(getattr(one, name) for one in services) for name in _ADDED}
    errors = sum((Counter(one.errors) for one in services), Counter[str]())
    mean_s = sum(one.mean_s * one.count for one in took) / proven if proven else 0.0
    return Effect(errors=errors, recovery=Spread(proven, mean_s) if proven else None, **sums)


def _remedy(row: Row, regressions: Mapping[str, int]) -> RemedyEffect:
    return RemedyEffect(
        remedy=row["name"],
        incidents=row["cases"],
        helped=row["recovered"],
        tried=row["tried"],
        verified=row["verified"],
        ineffective=row["ineffective"],
        undone=row["undone"],
        futile=row["futile"],
        regressions=regressions.get(row["name"], 0),
    )


def _issue(row: Row) -> IssueEffect:
    return IssueEffect(
        issue=row["scope"].removeprefix(_OF_ISSUE),
        remedy=row["remedy"],
        tried=row["tried"],
        verified=row["verified"],
        ineffective=row["ineffective"],
        undone=row["undone"],
    )


def _spread(rows: Sequence[Row], name: str) -> Spread | None:
    """Return how long something took where it happened; clocks of senders may be ahead of ours."""
    return Spread.of([max(row[name], 0.0) for row in rows if row[name] is not None])
