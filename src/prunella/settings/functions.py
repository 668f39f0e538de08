"""What users' modules registered, held against the configuration: once they are imported, and before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from prunella.core.errors import ConfigError
from prunella.core.procedures import (
    ArchiveAndDeleteRemedy,
    Entity,
    PluginCheck,
    PluginRemedy,
    Procedure,
    SetRemedy,
)
from prunella.plugin import CheckFunction
from prunella.settings import Settings, records
from prunella.settings.model import File
from prunella.settings.problems import problems_of
from prunella.settings.source import Loc, Source, shown_name
from prunella.settings.values import Reading, nearest

OWN: Final = frozenset({"manual_intervention", "retry_workflow"})
"""Remedies of prunella's that are called by name, as those of users are."""


def declared(settings: Settings, checks: Mapping[str, CheckFunction]) -> dict[str, Procedure]:
    """Return the procedures that checks with a schedule are; what the file says under the same name stands instead.

    Raises:
        ConfigError: with one line per mistake in a schedule.
    """
    problems: list[str] = []
    found: dict[str, Procedure] = {}
    for name, function in checks.items():
        known = settings.procedures.get(name)
        if not function.schedule or (known is not None and _calls(known, name)):
            continue
        if known is not None:
            problems.append(f"{_origin(name)}: another procedure has this name; choose another one")
            continue
        try:
            found[name] = _procedure(settings, name, function.schedule)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def _calls(procedure: Procedure, name: str) -> bool:
    return isinstance(procedure.check, PluginCheck) and procedure.check.name == name


def _procedure(settings: Settings, name: str, schedule: Mapping[str, Any]) -> Procedure:
    """Read a schedule as if it stood in the file, beside the file's databases."""
    said = json.loads(json.dumps({**schedule, "check": name}, default=repr))
    data = {
        "egress": {"allow_http": settings.egress.allow_http},
        "databases": {database: {"url": "sqlite:///beside"} for database in settings.databases},
        "procedures": {name: said},
    }
    source = Source(_origin(name), data=data)
    try:
        file = File.model_validate(data, context=Reading({}))
    except ValidationError as error:
        raise ConfigError([problem.text for problem in sorted(set(problems_of(error, source)))]) from None
    return replace(records.procedure(name, (file.procedures or {})[name], settings.limits), at=())


def _origin(name: str) -> str:
    return f"@check({shown_name(name)!r})"


def unknown_functions(
    settings: Settings, procedures: Iterable[Procedure], checks: Iterable[str], remedies: Iterable[str]
) -> list[str]:
    """List the functions that procedures and entities name and that no module registered, each at its place."""
    known_checks, known_remedies = sorted(checks), sorted({*remedies, *OWN})
    problems: list[str] = []
    for procedure in procedures:
        if isinstance(procedure.check, PluginCheck) and procedure.check.name not in known_checks:
            way = (*procedure.at, "check")
            problems.append(settings.problem(way, _unknown("check", procedure.check.name, known_checks)))
        problems += _unknown_remedies(settings, _called(procedure), known_remedies)
    for entity in settings.entities.values():
        problems += _unknown_remedies(settings, _ladder(entity), known_remedies)
    return problems


def _unknown_remedies(settings: Settings, called: Iterator[tuple[Loc, str]], known: list[str]) -> list[str]:
    return [settings.problem(way, _unknown("remedy", name, known)) for way, name in called if name not in known]


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = nearest(name, known) or f"; known: {', '.join(map(shown_name, known)) or 'none'}"
    return f"{shown_name(name)!r} is no {what} that a module registered{near}; service.plugins names the modules"


def _called(procedure: Procedure) -> Iterator[tuple[Loc, str]]:
    remedy = procedure.remedy
    if isinstance(remedy, PluginRemedy):
        yield (*procedure.at, "remedy"), remedy.name
    if isinstance(remedy, PluginRemedy | SetRemedy | ArchiveAndDeleteRemedy) and remedy.then is not None:
        yield (*procedure.at, "remedy", "then"), remedy.then


def _ladder(entity: Entity) -> Iterator[tuple[Loc, str]]:
    yield from (((*entity.at, "stuck", state, "remedy"), rule.remedy) for state, rule in entity.stuck.items())
    yield (*entity.at, "give_up", "remedy"), entity.give_up
