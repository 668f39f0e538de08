"""What healing came to, counted over a stretch of time. Reads only.

Incidents count where they began in it, recoveries where they ended in it. Every query walks an index over that time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    union_all,
)

from prunella.core.records import Category
from prunella.core.states import IncidentState, RunState
from prunella.store.session import Session
from prunella.store.sql import Row, Sql, member_of, param, seconds_between
from prunella.store.tables import APART, BY_PEOPLE, TURNS, advice, audit, evidence, runs, signals
from prunella.store.tables import incidents as t

_RESOLVED = IncidentState.RESOLVED.value
_LEFT = (IncidentState.ESCALATED.value, IncidentState.AWAITING_APPROVAL.value)
_VERIFIED = RunState.VERIFIED.value
_UNDER_WAY = (RunState.PLANNED.value, RunState.RUNNING.value, RunState.DONE.value)
_NO_REMEDIES = ("probe", "manual_intervention")  # one only looks, the other hands over
_ALONE = ("L0", "L1")
_BACK_WITHIN = timedelta(hours=24)
_TIMED_MAX = 1000
_DAY = "%Y-%m-%d"
_since, _service = param("since", t.c.first_seen.type), param("service_", Text())
_count = func.count().label("count")


def _of(service: ColumnElement[Any]) -> ColumnElement[bool]:
    return or_(_service.is_(None), service == _service)


def _sum(condition: ColumnElement[bool], amount: ColumnElement[Any] | int = 1) -> ColumnElement[Any]:
    return func.sum(case((condition, amount), else_=0))


def _short(amount: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(amount, Integer)  # sums of short numbers are added up as such


_SERVICES = Sql(
    select(t.c.service).where(text("state <> 'resolved'")).union(select(t.c.service).where(t.c.first_seen >= _since))
)
_ERRORS = Sql(
    select(signals.c.service, signals.c.category, _count)
    .where(
        member_of(signals.c.service, "services"),
        member_of(signals.c.category, "categories"),  # named, so that the index is walked; successes have none
        signals.c.received_at >= _since,
    )
    .group_by(signals.c.service, signals.c.category)
)
_APART = Sql(
    select(signals.c.service, signals.c.category, signals.c.forced, signals.c.source, _count)
    .where(text(APART), signals.c.outcome == "failure", signals.c.received_at >= _since, _of(signals.c.service))
    .group_by(signals.c.service, signals.c.category, signals.c.forced, signals.c.source)
)

_began = and_(t.c.first_seen >= _since, t.c.forced.is_(False), _of(t.c.service))
_with_people = select(audit.c.incident_id).where(text(BY_PEOPLE)).distinct().subquery("with_people")
_tried = (
    select(
        runs.c.incident_id,
        runs.c.remedy,
        _short(func.count()).label("tried"),
        _short(_sum(runs.c.state == _VERIFIED)).label("verified"),
        _short(_sum(runs.c.state == RunState.INEFFECTIVE.value)).label("ineffective"),
        _short(_sum(runs.c.state == RunState.UNDONE.value)).label("undone"),
    )
    .where(  # attempts at what began since began since, too
        runs.c.started_at >= _since, runs.c.remedy.not_in(_NO_REMEDIES), runs.c.state.not_in(_UNDER_WAY)
    )
    .group_by(runs.c.incident_id, runs.c.remedy)
    .subquery("tried")
)
_case = (
    select(
        t.c.id,
        t.c.service,
        t.c.state,
        case((and_(t.c.level.in_(_ALONE), _with_people.c.incident_id.is_(None)), 1), else_=0).label("alone"),
        *(column for column in _tried.c if column.name != "incident_id"),
    )
    .select_from(
        t.outerjoin(_tried, _tried.c.incident_id == t.c.id).outerjoin(
            _with_people, _with_people.c.incident_id == t.c.id
        )
    )
    .where(_began)
    .cte("one_case")
)
_of_incident = (_case.c.id, _case.c.service, _case.c.state, _case.c.alone)
_incident = (
    select(
        *_of_incident,
        func.max(_case.c.tried).label("tried"),  # it has a case for each remedy
        func.max(_case.c.verified).label("verified"),
    )
    .group_by(*_of_incident)
    .subquery("one_incident")
)
_is_settled = _incident.c.state.in_((_RESOLVED, *_LEFT))
_is_well = _incident.c.state == _RESOLVED
_CASES = Sql(
    union_all(
        select(
            literal_column("'service'").label("of"),
            _incident.c.service.label("name"),
            func.count().label("cases"),
            _sum(_is_well).label("recovered"),
            _sum(_incident.c.state.in_(_LEFT)).label("left_to_people"),
            _sum(and_(_is_settled, _incident.c.tried > 0)).label("tried"),
            _sum(and_(_is_well, _incident.c.alone == 1, _incident.c.verified > 0)).label("verified"),
            literal_column("0").label("ineffective"),
            literal_column("0").label("undone"),
            literal_column("0").label("futile"),
        ).group_by(_incident.c.service),
        select(
            literal_column("'remedy'"),
            _case.c.remedy,
            func.count(),
            _sum(and_(_case.c.state == _RESOLVED, _case.c.verified > 0)),
            literal_column("0"),
            func.sum(_case.c.tried),
            func.sum(_case.c.verified),
            func.sum(_case.c.ineffective),
            func.sum(_case.c.undone),
            _sum(and_(_case.c.state == _RESOLVED, _case.c.verified == 0), _case.c.tried),
        )
        .where(_case.c.remedy.is_not(None))
        .group_by(_case.c.remedy),
    )
)

_took = (
    select(t.c.service, seconds_between(t.c.first_seen, t.c.resolved_at).label("took_s"))
    .where(t.c.resolved_at >= _since, t.c.forced.is_(False), _of(t.c.service))
    .subquery("took")
)
_ranked = select(
    _took.c.service,
    _took.c.took_s,
    func.row_number().over(partition_by=_took.c.service, order_by=_took.c.took_s).label("rank"),
    func.count().over(partition_by=_took.c.service).label("all"),
).subquery("ranked")


def _within(percent: int) -> ColumnElement[Any]:
    """Return the time within which so many were done (nearest rank)."""
    return func.min(case((_ranked.c.rank * 100 >= _ranked.c.all * percent, _ranked.c.took_s)))


_RECOVERIES = Sql(
    select(
        _ranked.c.service,
        _count,
        func.avg(_ranked.c.took_s).label("mean_s"),
        _within(50).label("half_s"),
        _within(95).label("most_s"),
    ).group_by(_ranked.c.service)
)

_latest = select(t).where(_began).order_by(t.c.first_seen.desc(), t.c.id.desc()).limit(_TIMED_MAX).subquery("latest")


def _of_attempts(moment: ColumnElement[Any]) -> Any:
    attempts = select(moment).where(runs.c.incident_id == _latest.c.id, runs.c.remedy.not_in(_NO_REMEDIES))
    return attempts.correlate(_latest).scalar_subquery()


_TIMES = Sql(
    select(
        seconds_between(signals.c.occurred_at, signals.c.received_at).label("detect_s"),
        seconds_between(_latest.c.first_seen, _of_attempts(func.min(runs.c.started_at))).label("act_s"),
        seconds_between(_of_attempts(func.max(runs.c.ended_at)), _latest.c.resolved_at).label("verify_s"),
    ).select_from(_latest.outerjoin(signals, signals.c.id == _latest.c.signal_id))
)

_before = t.alias("before")
_REGRESSIONS = Sql(
    select(runs.c.remedy, func.count(t.c.id.distinct()).label("count"))
    .select_from(t.join(_before, _before.c.id == t.c.previous_id).join(runs, runs.c.incident_id == _before.c.id))
    .where(
        _began,
        t.c.regressed,
        seconds_between(_before.c.resolved_at, t.c.first_seen) <= _BACK_WITHIN.total_seconds(),
        runs.c.state == _VERIFIED,
        runs.c.remedy.not_in(_NO_REMEDIES),
    )
    .group_by(runs.c.remedy)
)

_entry = (
    select(audit.c.action, audit.c.target, audit.c.incident_id, audit.c.id)
    .where(text(TURNS), audit.c.at >= _since)
    .subquery("entry")
)
_turn = case(
    (_entry.c.action == "gate.opened", "opened"),
    (_entry.c.action.in_(("gate.disabled", "gate.disable")), "disabled"),
    (_entry.c.action == "issue.escalated", "issue"),
    else_="incident",
).label("turn")
_whose = func.coalesce(t.c.service, _entry.c.target).label("service")
_TURNS = Sql(
    select(_turn, _whose, func.count(func.coalesce(_entry.c.incident_id, _entry.c.id).distinct()).label("count"))
    .select_from(_entry.outerjoin(t, t.c.id == _entry.c.incident_id))
    .where(func.coalesce(t.c.forced, literal(False)).is_(False), _of(_whose.element))
    .group_by(_turn, _whose)
)

_ADVICE = Sql(
    select(
        t.c.service,
        _count,
        _sum(and_(advice.c.ended_at.is_not(None), advice.c.trouble.is_(None))).label("answered"),
        func.sum(advice.c.tokens).label("tokens"),
    )
    .select_from(advice.join(t, t.c.id == advice.c.incident_id))
    .where(advice.c.day >= param("day_"), advice.c.asked_at >= _since, _of(t.c.service))
    .group_by(t.c.service)
)
_EVIDENCE = Sql(
    select(evidence)
    .where(evidence.c.scope.like(param("like_", Text())))
    .order_by(evidence.c.tried.desc(), evidence.c.scope, evidence.c.remedy)
    .limit(param("most"))
)


class EffectRows:
    """Count what healing came to.

    `service` None: of all of them.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def services(self, since: datetime) -> list[str]:
        """Return the services that have open incidents, or had any that began since."""
        return [row["service"] for row in await self._session.fetch(_SERVICES, since=since)]

    async def errors(self, services: Sequence[str], since: datetime) -> list[Row]:
        """Count the failures of services that arrived since, by service and category, forced ones too."""
        categories = [one.value for one in Category]
        return await self._session.fetch(_ERRORS, services=list(services), categories=categories, since=since)

    async def apart(self, since: datetime, service: str | None) -> list[Row]:
        """Count forced failures and what breakers of guards told, by service, category, forced and source."""
        return await self._session.fetch(_APART, since=since, service_=service)

    async def cases(self, since: datetime, service: str | None) -> tuple[list[Row], list[Row]]:
        """Count the incidents that began since by service, and what was tried on them by remedy."""
        rows = await self._session.fetch(_CASES, since=since, service_=service)
        plain = [{name: value if isinstance(value, str) else int(value) for name, value in row.items()} for row in rows]
        services = [{**row, "service": row["name"]} for row in plain if row["of"] == "service"]
        return services, [row for row in plain if row["of"] == "remedy"]

    async def recoveries(self, since: datetime, service: str | None) -> list[Row]:
        """Return how long recoveries took that were proven since, by service."""
        return await self._session.fetch(_RECOVERIES, since=since, service_=service)

    async def times(self, since: datetime, service: str | None) -> list[Row]:
        """Return how long it took to detect, act and verify, of the latest incidents that began since."""
        return await self._session.fetch(_TIMES, since=since, service_=service)

    async def regressions(self, since: datetime, service: str | None) -> dict[str, int]:
        """Return remedy -> incidents that began since, within 24 h after it was proven on the same problem."""
        rows = await self._session.fetch(_REGRESSIONS, since=since, service_=service)
        return {row["remedy"]: row["count"] for row in rows}

    async def turns(self, since: datetime, service: str | None) -> list[Row]:
        """Count gates that opened or were disabled, and what was left to people, by turn and service."""
        return await self._session.fetch(_TURNS, since=since, service_=service)

    async def advice(self, since: datetime, service: str | None) -> list[Row]:
        """Count questions to the advisor by service, with answers and tokens."""
        return await self._session.fetch(_ADVICE, since=since, day_=f"{since:{_DAY}}", service_=service)

    async def evidence(self, scopes: str, most: int) -> list[Row]:
        """Return what became of remedies in the scopes that begin so, ever, those tried most first."""
        return await self._session.fetch(_EVIDENCE, like_=f"{scopes}%", most=most)
