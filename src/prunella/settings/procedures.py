"""How the file says what is healed in the users' databases: where, when, how far, how autonomously."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from prunella.settings import addresses as at
from prunella.settings import columns as its
from prunella.settings import values as of
from prunella.settings.checks import CheckSection, RemedySection
from prunella.settings.section import Found, Section
from prunella.settings.source import Loc, shown_name

LevelName = Annotated[Literal["L0", "L1", "L2", "L3"], of.EXPANDED]
Every = Annotated[float, of.Between("1s", "31d")]
Percent = Annotated[float, Field(gt=0, le=1), of.EXPANDED_SCALAR]

STUCK = "stuck-"
"""Begins the name of the procedure that an entity brings along."""


class DatabaseSection(Section):
    """A database of the user."""

    url: at.UserDatabase
    namespace: its.Column | None = Field(default=None, alias="schema", description="Where tables are looked for.")
    statement_timeout: Annotated[float, of.Between("100ms", "1h")] | None = None
    lock_timeout: Annotated[float, of.Between("10ms", "10m")] | None = None
    time_zone: its.Zone | None = Field(default=None, description="Of timestamps that carry none, as Europe/Berlin.")
    unit: its.Unit | None = Field(default=None, description="Of times that are kept as numbers since 1970.")


class EntityLimitsSection(Section):
    """How far one run may go."""

    targets_max: Annotated[int, Field(ge=1, le=1_000_000), of.EXPANDED_SCALAR] | None = None
    waves: Annotated[list[of.Count], Field(min_length=1)] | None = None
    cool_down: Annotated[float, of.Between("0s", "31d")] | None = None


class LimitsSection(EntityLimitsSection):
    """How far one run may go, and what share of a table may match."""

    share_max: Percent | None = None
    attempts: of.Count | None = None


class WindowSection(Section):
    """A time in which something rests."""

    name: at.Name
    cron: its.Cron = Field(description="When it begins, in UTC.")
    lasts: Annotated[float, of.Between("1m", "31d")] = Field(alias="for")
    pause: Annotated[list[Literal["procedures", "notifications"]], Field(min_length=1)] | None = None


class SightingsSection(Section):
    """How often a thing must be seen before it is acted on."""

    count: Annotated[int, Field(ge=1, le=10), of.EXPANDED_SCALAR] | None = None
    apart: Annotated[float, of.Between("0s", "1d")] | None = None


class VerifySection(Section):
    """How long the proof may take."""

    within: Annotated[float, of.Between("0s", "7d")]


class ScheduledSection(Section):
    """What runs by itself, every so often or by cron."""

    every: Every | None = None
    cron: its.Cron | None = Field(default=None, description="In UTC.")
    level: LevelName | None = None
    first_run: Annotated[Literal["soon", "wait"], of.EXPANDED] | None = None

    def misfits(self) -> Found:
        if self.every is None or self.cron is None:
            return []
        return [(("cron",), of.hidden("stands beside every; keep one of the two"))]


class ProcedureSection(ScheduledSection):
    """What to look for, and what to do about it."""

    id: at.Name | None = None
    database: of.Text | None = None
    check: CheckSection
    remedy: RemedySection | None = None
    limits: LimitsSection | None = None
    sightings: SightingsSection | None = None
    verify: VerifySection | None = None
    notify_above: Percent | None = Field(default=None, description="Tell people when a pool is still fuller.")

    def misfits(self) -> Found:
        found = super().misfits()
        if self.every is None and self.cron is None:
            found.append(((), of.hidden('has no schedule; add every: 15m, or cron: "0 2 * * SUN"')))
        if self.notify_above is not None and self.check.pool is None:
            found.append((("notify_above",), of.wrong("has a meaning beside check: pool only; remove it")))
        if self.check.rows is not None and its.is_all(self.check.rows.where) and self._heals_alone:
            found.append((("check", "rows", "where"), _all_rows()))
        if self.check.errors is not None and its.is_all(self.check.errors.where) and self._heals_alone:
            found.append((("check", "errors", "where"), _all_rows()))
        return [*found, *self._place_misfits(), *self._remedy_misfits()]

    @property
    def _heals_alone(self) -> bool:
        return self.level in (None, "L0")

    def _place_misfits(self) -> Found:
        if self.database is not None or self.check.plugin is not None:
            return []
        return [(("database",), of.hidden("is missing; name the database in which to look"))]

    def _remedy_misfits(self) -> Found:
        remedy = self.remedy
        if remedy is None:
            if self.check.plugin is not None:
                return []
            return [(("remedy",), of.hidden("is missing; say what is to be done, e.g. manual_intervention"))]
        if remedy.kind in ("set", "archive_and_delete") and self.check.row_set is None:
            text = "changes rows, and this check finds no set of them; use check: rows or orphans"
            return [(("remedy", remedy.kind), of.hidden(text))]
        if remedy.kind == "end_idle_connections" and self.database is None:
            return [(("database",), of.hidden("is missing; name the database whose connections are ended"))]
        return self._delete_misfits() if remedy.archive_and_delete is not None else []

    def _delete_misfits(self) -> Found:
        found: Found = []
        rows, kind = self.check.row_set, self.check.kind
        if rows is not None and rows.older_than is None:
            text = (
                "is missing; rows may be deleted only when they are old enough that nobody is still writing them "
                "(a child may come before its parent); add e.g. older_than: {created_at: 10m}"
            )
            found.append((("check", kind, "older_than"), of.hidden(text)))
        if self.sightings is not None and self.sightings.count == 1:
            text = "is too few for a remedy that deletes; what is deleted must have been seen twice, write 2 or more"
            found.append((("sightings", "count"), of.wrong(text)))
        return found


class StuckSection(Section):
    """How long a state may last, and what is done then."""

    after: Annotated[float, of.Between("1s", "3650d")]
    remedy: at.Function


class GiveUpSection(Section):
    """When trying ends, and what is done then."""

    after_attempts: of.Count | None = None
    remedy: at.Function | None = None


class EntitySection(ScheduledSection):
    """Something with a status column."""

    database: of.Text
    table: its.Column
    key: its.Column
    status: its.Column
    since: its.Column = Field(description="The column that says when the row entered its state.")
    transitions: Annotated[dict[str, list[its.State]], Field(min_length=1)]
    stuck: Annotated[dict[str, StuckSection], Field(min_length=1)]
    give_up: GiveUpSection | None = None
    limits: EntityLimitsSection | None = None
    unit: its.Unit | None = None

    def misfits(self) -> Found:
        named = {state for following in self.transitions.values() for state in following}
        known = list(dict.fromkeys([*self.transitions, *sorted(named)]))
        found = super().misfits()
        for state in self.stuck:
            if state not in known:
                near = _near(state, known, "states")
                found.append((("stuck", state, "[key]"), of.hidden(f"is no state of transitions{near}")))
            elif not self.transitions.get(state):
                text = "is an end: nothing follows it in transitions, so nothing is stuck in it; remove it"
                found.append((("stuck", state, "[key]"), of.hidden(text)))
        return found


def _near(word: str, known: list[str], what: str) -> str:
    shown = [shown_name(name) for name in known]
    return of.nearest(word, shown) or f"; {what}: {', '.join(shown) or 'none'}"


def _all_rows() -> PydanticCustomError:
    return of.wrong("rows are never healed without being told to a person; write level: L1 or stricter, or a filter")


# between sections -------------------------------------------------------------------------------------------------

Procedures = Mapping[str, ProcedureSection]
Entities = Mapping[str, EntitySection]


def misfits(databases: Mapping[str, DatabaseSection], procedures: Procedures, entities: Entities) -> Found:
    """List what does not fit between these sections."""
    found: Found = []
    for way, name in _databases_named(procedures, entities):
        if name not in databases:
            found.append(((*way, "database"), of.wrong(f"is no database{_near(name, list(databases), 'databases')}")))
    for entity in entities:
        if STUCK + entity in procedures:
            text = "is the name of the procedure that an entity brings along; choose another one"
            found.append((("procedures", STUCK + entity, "[key]"), of.hidden(text)))
    return found


def _databases_named(procedures: Procedures, entities: Entities) -> Iterator[tuple[Loc, str]]:
    yield from ((("procedures", name), one.database) for name, one in procedures.items() if one.database is not None)
    yield from ((("entities", name), one.database) for name, one in entities.items())


def windows_named_twice(windows: list[WindowSection]) -> Found:
    """List windows whose name was given before."""
    names = [window.name for window in windows]
    return [
        (("windows", number, "name"), of.wrong("is the name of another window; choose another one"))
        for number, name in enumerate(names)
        if name in names[:number]
    ]


def addresses(procedures: Procedures) -> dict[Loc, str]:
    """Return the addresses that procedures call, by their way in the file."""
    calls = {name: one.remedy for name, one in procedures.items() if one.remedy is not None}
    return {
        ("procedures", name, "remedy", *(("retry_later",) if remedy.retry_later else ()), "webhook", "url"): (
            remedy.calls.url
        )
        for name, remedy in calls.items()
        if remedy.calls is not None
    }
