"""From checked sections to the records of procedures. What is not given keeps the record's own default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prunella.core import procedures as to
from prunella.core.records import Level
from prunella.core.redact import Secret
from prunella.core.states import StateMachine
from prunella.settings.checks import CheckSection, RemedySection
from prunella.settings.model import File
from prunella.settings.procedures import (
    STUCK,
    DatabaseSection,
    EntityLimitsSection,
    EntitySection,
    ProcedureSection,
    WindowSection,
)

_EVERY_S = 300.0
"""How often an entity is looked at unless told otherwise (document D: 5 min)."""
_DURATIONS = frozenset(
    {"older_than", "within", "cool_down", "apart", "idle_for", "every", "after", "statement_timeout", "lock_timeout"}
)


def healing(file: File) -> dict[str, Any]:
    """Return what the settings hold about the users' databases, by field name."""
    general = _limits(file.limits, to.Limits())
    entities = {name: _entity(name, section) for name, section in (file.entities or {}).items()}
    procedures = {name: procedure(name, section, general) for name, section in (file.procedures or {}).items()}
    cycles = [_stuck(entities[name], section, general) for name, section in (file.entities or {}).items()]
    return {
        "databases": _databases(file.databases or {}),
        "limits": general,
        "windows": _windows(file.windows or []),
        "procedures": procedures | {cycle.name: cycle for cycle in cycles},
        "entities": entities,
    }


def _databases(sections: Mapping[str, DatabaseSection]) -> dict[str, to.DatabaseSource]:
    return {name: _database(name, section.given()) for name, section in sections.items()}


def _database(name: str, given: dict[str, Any]) -> to.DatabaseSource:
    url, schema = Secret(given.pop("url")), given.pop("namespace", None)
    return to.DatabaseSource(name=name, url=url, schema=schema, **_seconds(given))


def _limits(section: EntityLimitsSection | None, over: to.Limits) -> to.Limits:
    """Return limits: what the section does not give is as in `over`."""
    given = _seconds(section.given()) if section is not None else {}
    if "waves" in given:
        given["waves"] = tuple(given["waves"])
    return replace(over, **given)


def _windows(sections: list[WindowSection]) -> tuple[to.Window, ...]:
    return tuple(_window(section) for section in sections)


def _window(section: WindowSection) -> to.Window:
    paused = {} if section.pause is None else {"pause": frozenset(section.pause)}
    return to.Window(name=section.name, cron=section.cron, lasts_s=section.lasts, **paused)


def procedure(name: str, section: ProcedureSection, over: to.Limits) -> to.Procedure:
    """Return a procedure; its limits stand over those of the file, and each delay is an attempt."""
    if section.remedy is not None and section.remedy.retry_later is not None:
        over = replace(over, attempts=len(section.remedy.retry_later.delays))
    remedy = None if section.remedy is None else _remedy(section.remedy)
    given = _seconds({n: v for n, v in section.given().items() if n in ("database", "every", "cron", "notify_above")})
    if section.verify is not None:
        given["verify_within_s"] = section.verify.within
    if section.first_run is not None:
        given["first_run"] = section.first_run
    return to.Procedure(
        name=name,
        id=section.id or name,
        check=_check(section.check),
        remedy=remedy,
        level=Level(section.level or Level.L0),
        limits=_limits(section.limits, over),
        sightings=_sightings(section),
        at=("procedures", name),
        **given,
    )


def _sightings(section: ProcedureSection) -> to.Sightings:
    deletes = section.remedy is not None and section.remedy.archive_and_delete is not None
    given = section.sightings.given() if section.sightings is not None else {}
    return replace(to.Sightings(count=2 if deletes else 1), **_seconds(given))


def _check(section: CheckSection) -> to.CheckSource:
    if section.plugin is not None:
        name, params = section.plugin
        return to.PluginCheck(name=name, params=params)
    if section.freshness is not None:
        return to.FreshnessCheck(**_seconds(section.freshness.given()))
    if section.rows is not None:
        return to.RowsCheck(**section.rows.given())
    if section.orphans is not None:
        return to.OrphansCheck(**section.orphans.given())
    if section.pool is not None:
        return to.PoolCheck(**section.pool.given())
    assert section.errors is not None  # a choice has exactly one kind
    given = _seconds(section.errors.given())
    if "status" in given:
        given["where"] = {"status": given.pop("status")}
    return to.ErrorsCheck(**{"message": None, **given})


def _remedy(section: RemedySection) -> to.RemedySource:
    if section.plugin is not None:
        name, params = section.plugin
        return to.PluginRemedy(name=name, params=params, then=section.then)
    if section.set is not None:
        batch = {} if section.set.batch is None else {"batch": section.set.batch}
        return to.SetRemedy(values=section.set.values, then=section.then, **batch)
    if section.archive_and_delete is not None:
        return to.ArchiveAndDeleteRemedy(then=section.then, **section.archive_and_delete.given())
    if section.end_idle_connections is not None:
        return to.EndIdleRemedy(**_seconds(section.end_idle_connections.given()))
    call = section.calls
    assert call is not None  # a choice has exactly one kind
    delays = tuple(section.retry_later.delays) if section.retry_later is not None else ()
    return to.WebhookRemedy(url=call.url, bearer=call.bearer, delays_s=delays)


def _entity(name: str, section: EntitySection) -> to.Entity:
    given = section.give_up.given() if section.give_up is not None else {}
    names = {"after_attempts": "attempts", "remedy": "give_up"}
    return to.Entity(
        name=name,
        database=section.database,
        table=section.table,
        key=section.key,
        status=section.status,
        since=section.since,
        transitions=StateMachine(section.transitions, name=name),
        stuck={state: to.StuckRule(after_s=rule.after, remedy=rule.remedy) for state, rule in section.stuck.items()},
        unit=section.unit,
        at=("entities", name),
        **{names[name]: value for name, value in given.items()},
    )


def _stuck(entity: to.Entity, section: EntitySection, over: to.Limits) -> to.Procedure:
    """Return the procedure of an entity: the cycle is its cool-down, and giving up ends its attempts."""
    given = _seconds({name: value for name, value in section.given().items() if name in ("every", "cron")})
    if section.first_run is not None:
        given["first_run"] = section.first_run
    return to.Procedure(
        name=STUCK + entity.name,
        id=f"HEAL_{re.sub(r'[^A-Z0-9]+', '_', entity.name.upper())}",
        check=to.StuckCheck(entity=entity.name),
        database=entity.database,
        level=Level(section.level or Level.L0),
        limits=_limits(section.limits, replace(over, cool_down_s=0.0, attempts=entity.attempts)),
        at=entity.at,
        **(given or {"every_s": _EVERY_S}),
    )


def _seconds(given: dict[str, Any]) -> dict[str, Any]:
    """Name durations as records do: units last."""
    return {f"{name}_s" if name in _DURATIONS else name: value for name, value in given.items()}
