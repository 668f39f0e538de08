"""/api/v1/metrics/self-healing: what healing came to, in the words of documents B and C, and beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import Query, Request
from pydantic import Field

from prunella.app import App
from prunella.core.records import Category
from prunella.engine.effects import TOIL_MIN, Effect, Effects, IssueEffect, Recent, RemedyEffect, Spread
from prunella.web.access import Reads
from prunella.web.api.paging import Out, Text, Time
from prunella.web.api.routing import Rooms

DAYS = 7
DAYS_MAX = 365
Days = Annotated[int, Query(ge=1, le=DAYS_MAX, description="How far back; what retention forgot counts no more.")]
Percent = Annotated[float | None, Field(description="Percent; null where there was no case.")]


class SpreadOut(Out):
    """How long something took: on average, and within which time half and 95 % were done (nearest rank)."""

    count: int
    mean_s: float
    p50_s: float | None
    p95_s: float | None

    @classmethod
    def of(cls, found: Spread | None) -> SpreadOut | None:
        """Spell it."""
        if found is None:
            return None
        return cls(count=found.count, mean_s=found.mean_s, p50_s=found.p50_s, p95_s=found.p95_s)


class LlmOut(Out):
    """What the advisor was asked, answered, and cost."""

    asked: int
    answered: int
    tokens: int


class ServiceEffectOut(Out):
    """Document B's figures of one service."""

    total_errors: int
    by_category: dict[Category, int]
    incidents: int
    recovered: int
    left_to_people: int
    recovery_success_rate: Percent
    auto_fixed: int
    auto_fix_success_rate: Percent
    time_to_recovery: SpreadOut | None
    circuit_breaker_opens: int
    escalations: int
    disabled: bool
    times_disabled: int
    llm: LlmOut

    @classmethod
    def of(cls, found: Effect) -> ServiceEffectOut:
        """Spell it."""
        return cls(
            total_errors=found.total_errors,
            by_category={Category(name): count for name, count in sorted(found.errors.items())},
            incidents=found.began,
            recovered=found.recovered,
            left_to_people=found.left,
            recovery_success_rate=found.recovery_rate,
            auto_fixed=found.auto_fixed,
            auto_fix_success_rate=found.auto_fix_rate,
            time_to_recovery=SpreadOut.of(found.recovery),
            circuit_breaker_opens=found.gate_opens + found.guard_opens,
            escalations=found.escalations + found.issues,
            disabled=found.is_disabled,
            times_disabled=found.disabled,
            llm=LlmOut(asked=found.asked, answered=found.answered, tokens=found.tokens),
        )


class RemedyOut(Out):
    """What became of one remedy's attempts."""

    remedy: str
    incidents: int
    helped: int
    tried: int
    verified: int
    ineffective: int
    undone: int
    failed: int
    effectiveness: Percent
    futile: int
    regressions: int

    @classmethod
    def of(cls, found: RemedyEffect) -> RemedyOut:
        """Spell it."""
        plain = {name: getattr(found, name) for name in cls.model_fields}
        return cls(**plain)


class IssueRemedyOut(Out):
    """What became of one remedy at one known issue, ever."""

    known_issue: str
    remedy: str
    tried: int
    verified: int
    ineffective: int
    undone: int
    effectiveness: Percent

    @classmethod
    def of(cls, found: IssueEffect) -> IssueRemedyOut:
        """Spell it."""
        plain = {name: getattr(found, name) for name in cls.model_fields if name != "known_issue"}
        return cls(known_issue=found.issue, **plain)


class OpensOut(Out):
    """Which breakers opened: of our gates, and of guards in applications."""

    gates: int
    guards: int


class EscalatedOut(Out):
    """What was left to people."""

    incidents: int
    known_issues: int


class TimesOut(Out):
    """How long it took from the failure to its arrival, from there to the first attempt, from the last to the proof."""

    to_detect: SpreadOut | None
    to_act: SpreadOut | None
    to_verify: SpreadOut | None


class ToilOut(Out):
    """Hours of people's work that were saved, if each auto-fixed incident had taken so many minutes."""

    hours_saved: float
    assumed_minutes_per_incident: float = TOIL_MIN


class SelfHealingOut(Out):
    """Document C's metrics, document B's by service, and how much each remedy helped; at most 30 seconds old."""

    days: int
    since: Time
    until: Time
    total_errors: int
    auto_fixed: int
    auto_fix_success_rate: Percent
    auto_fixed_per_100_errors: Percent
    circuit_breaker_opens: int
    escalations: int
    avg_recovery_time_ms: float | None
    breakers_opened: OpensOut
    escalated: EscalatedOut
    disabled_services: list[str]
    recovery_success_rate: Percent
    times: TimesOut
    toil: ToilOut
    services: dict[str, ServiceEffectOut]
    remedies: list[RemedyOut]
    known_issues: list[IssueRemedyOut]

    @classmethod
    def of(cls, found: Effects, days: int) -> SelfHealingOut:
        """Spell it."""
        every = found.all
        return cls(
            days=days,
            since=found.since.isoformat(),
            until=found.until.isoformat(),
            total_errors=every.total_errors,
            auto_fixed=every.auto_fixed,
            auto_fix_success_rate=every.auto_fix_rate,
            auto_fixed_per_100_errors=every.auto_fixed_per_error,
            circuit_breaker_opens=every.gate_opens + every.guard_opens,
            escalations=every.escalations + every.issues,
            avg_recovery_time_ms=None if every.recovery is None else 1000 * every.recovery.mean_s,
            breakers_opened=OpensOut(gates=every.gate_opens, guards=every.guard_opens),
            escalated=EscalatedOut(incidents=every.escalations, known_issues=every.issues),
            disabled_services=_disabled(found.services),
            recovery_success_rate=every.recovery_rate,
            times=TimesOut(
                to_detect=SpreadOut.of(found.detect),
                to_act=SpreadOut.of(found.act),
                to_verify=SpreadOut.of(found.verify),
            ),
            toil=ToilOut(hours_saved=every.toil_saved_h),
            services={name: ServiceEffectOut.of(one) for name, one in found.services.items()},
            remedies=[RemedyOut.of(one) for one in found.remedies],
            known_issues=[IssueRemedyOut.of(one) for one in found.issues],
        )


def router(_app: App) -> Rooms:
    """Return the route."""
    routes = Rooms(prefix="/api/v1/metrics", tags=["overview"])

    @routes.get("/self-healing", summary="Say what healing came to")
    async def read(
        _: Reads, request: Request, days: Days = DAYS, service: Annotated[Text | None, Query()] = None
    ) -> SelfHealingOut:
        return SelfHealingOut.of(await figures_of(request).of(days, service), days)

    return routes


def figures_of(request: Request) -> Recent:
    """Return what reads the figures for this process."""
    recent: Recent = request.app.state.effects
    return recent


def _disabled(services: Mapping[str, Effect]) -> list[str]:
    return [name for name, one in services.items() if one.is_disabled]
