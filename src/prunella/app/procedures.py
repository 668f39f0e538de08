"""Wire the configured procedures: databases opened, checks and remedies made, names held against the live catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection

from prunella import plugin
from prunella.checks.contract import Check
from prunella.checks.failed import Failed
from prunella.checks.freshness import Freshness
from prunella.checks.orphans import Orphans
from prunella.checks.plugin import Plugin
from prunella.checks.pool import Pool
from prunella.checks.rows import Rows
from prunella.checks.stuck import Stuck
from prunella.core import procedures as configured
from prunella.core.errors import ConfigError, DatabaseUnavailable
from prunella.core.procedures import Entity, Procedure
from prunella.databases import compat
from prunella.databases.catalogue import Problem, problems_of
from prunella.databases.handle import Database
from prunella.egress import Caller
from prunella.engine.pauses import Pauses
from prunella.engine.ready import MANUAL, Ready
from prunella.remedies.contract import Remedy
from prunella.remedies.entities import EntityRemedy, retry_workflow
from prunella.remedies.plugin import PluginRemedy
from prunella.remedies.pool import EndIdle
from prunella.remedies.rows import ArchiveAndDelete, SetRows, Then
from prunella.remedies.services import ConfiguredServices
from prunella.remedies.webhook import Webhook
from prunella.settings import Settings
from prunella.settings.functions import declared, unknown_functions
from prunella.store.secrets import Vault

_PROOFS: Mapping[type, str] = {
    configured.FreshnessCheck: "the newest row is fresh",
    configured.ErrorsCheck: "no newer error, or a newer good row",
    configured.RowsCheck: "no row matches any more",
    configured.OrphansCheck: "no orphan is left",
    configured.PoolCheck: "its use is below the limit",
    configured.StuckCheck: "it moved on",
    configured.PluginCheck: "the check finds nothing any more",
}
"""What a check that finds nothing any more proves, in words."""


@dataclass(frozen=True, slots=True)
class SqlDesk:
    """Where wishes lie in one database (`prunella db upgrade --compat`)."""

    database: Database

    async def take(self) -> Sequence[compat.HealRequest]:
        return await compat.take_requests(self.database)

    async def answer(self, wish_id: str, words: str) -> None:
        await compat.answer(self.database, wish_id, words)


@dataclass(slots=True)
class Care:
    """The user's databases and the procedures over them; `close` gives the connections back.

    Args:
        pauses: what its remedies ask between two batches.
        unchecked: databases that did not answer, so that names could not be held against their catalogue yet.
    """

    databases: dict[str, Database] = field(default_factory=dict)
    procedures: dict[str, Ready] = field(default_factory=dict)
    unchecked: dict[str, str] = field(default_factory=dict)
    pauses: Pauses | None = None

    @property
    def desks(self) -> list[SqlDesk]:
        """Return where people may ask for healings in SQL: PostgreSQL databases with entities."""
        entities = {ready.policy.database for ready in self.procedures.values() if ready.entity is not None}
        return [SqlDesk(one) for name, one in self.databases.items() if name in entities and one.kind == "postgresql"]

    async def close(self) -> None:
        """Give every connection back."""
        await asyncio.gather(*(one.close() for one in self.databases.values()))


async def take_care(settings: Settings, caller: Caller, vault: Vault, pauses: Pauses) -> Care:
    """Open the databases and make the procedures.

    Raises:
        ConfigError: with every name that is not in the catalogue, at its place in the file.
    """
    procedures = {**settings.procedures, **declared(settings, plugin.CHECKS)}
    problems = unknown_functions(settings, procedures.values(), plugin.CHECKS, plugin.REMEDIES)
    care = Care(databases={name: Database(source) for name, source in settings.databases.items()}, pauses=pauses)
    try:
        _must_be_none([*problems, *await _wrong_names(settings, care, procedures.values())])
        maker = _Maker(settings, care.databases, caller, vault, pauses)
        care.procedures = {name: maker.ready(one) for name, one in procedures.items()}
    except BaseException:
        await care.close()
        raise
    return care


def _must_be_none(problems: list[str]) -> None:
    if problems:
        raise ConfigError(problems)


async def _wrong_names(settings: Settings, care: Care, procedures: Iterable[Procedure]) -> list[str]:
    """Hold tables and columns against each live catalogue; a database that is away is looked at before each run."""
    problems: list[str] = []
    for name, database in care.databases.items():
        mine = [one for one in procedures if one.database == name]
        try:
            for one in mine:
                entity = _entity(settings, one)
                found = await database.reading(_problems(database, one, entity))
                at = entity.at if entity is not None else one.at
                problems += [settings.problem((*at, *place), text) for place, text in found]
        except DatabaseUnavailable as error:
            care.unchecked[name] = str(error)
    return problems


async def _go_on(pauses: Pauses, check: Check, batches: int, keys: Sequence[Any]) -> str | None:
    """Stop between two batches when everything rests, or when the check still finds the rows of the first one."""
    rest = await pauses.now()
    if rest is not None:
        return rest.reason
    if batches > 1:
        return None
    left = {str(key) for finding in (await check.look()).findings for key in finding.keys}
    return None if left.isdisjoint(map(str, keys)) else "the check still finds rows of the first batch"


def _look_at(database: Database, spec: configured.CheckSource, cap: int, share_max: float) -> Check:
    match spec:
        case configured.FreshnessCheck():
            return Freshness(database, spec, cap=cap)
        case configured.ErrorsCheck():
            return Failed(database, spec, cap=cap)
        case configured.RowsCheck():
            return Rows(database, spec, cap=cap, share_max=share_max)
        case configured.OrphansCheck():
            return Orphans(database, spec, cap=cap, share_max=share_max)
        case configured.PoolCheck():
            return Pool(database, spec, cap=cap)
    raise AssertionError(f"{spec}: settings let no other check through")


def _problems(database: Database, procedure: Procedure, entity: Entity | None) -> Callable[[Connection], list[Problem]]:
    return lambda connection: problems_of(database, connection, procedure, entity)


def _entity(settings: Settings, procedure: Procedure) -> Entity | None:
    check = procedure.check
    return settings.entities[check.entity] if isinstance(check, configured.StuckCheck) else None


class _Maker:
    """Make what a procedure needs of its parts."""

    def __init__(
        self, settings: Settings, databases: Mapping[str, Database], caller: Caller, vault: Vault, pauses: Pauses
    ) -> None:
        self._settings = settings
        self._databases = databases
        self._caller = caller
        self._vault = vault
        self._pauses = pauses
        self._services = ConfiguredServices(settings.services, caller, vault)

    def ready(self, policy: Procedure) -> Ready:
        """Return one procedure, wired."""
        entity = _entity(self._settings, policy)
        check = self._check(policy, entity)
        remedies = self._ladder(policy, entity) if entity is not None else self._remedies(policy, check)
        delays = policy.remedy.delays_s if isinstance(policy.remedy, configured.WebhookRemedy) else ()
        return Ready(
            policy=policy,
            check=check,
            remedies=remedies,
            proof=_PROOFS[type(policy.check)],
            scope=policy.database or "prunella",
            entity=entity,
            delays_s=delays,
        )

    def _check(self, policy: Procedure, entity: Entity | None) -> Check:
        database, cap = self._databases.get(policy.database or ""), policy.limits.targets_max
        if isinstance(policy.check, configured.PluginCheck):
            function = plugin.CHECKS[policy.check.name]
            return Plugin(database, function, params=policy.check.params, cap=cap)
        assert database is not None  # settings demand one for all others
        if entity is not None:
            return Stuck(database, entity, cap=cap)
        return _look_at(database, policy.check, cap, policy.limits.share_max)

    def _remedies(self, policy: Procedure, check: Check) -> dict[str, Remedy]:
        made = self._remedy(policy, check)
        return {made.name: made} if made is not None else {}

    def _remedy(self, policy: Procedure, check: Check) -> Remedy | None:
        database = self._databases.get(policy.database or "")
        match policy.remedy:
            case configured.WebhookRemedy() as source:
                return Webhook(source, procedure=policy.name, caller=self._caller, vault=self._vault)
            case configured.PluginRemedy(name=name, params=params) if name != MANUAL:
                return self._plugged(name, database, params)
            case configured.EndIdleRemedy() as source if database is not None:
                return EndIdle(database, source)
            case configured.SetRemedy() | configured.ArchiveAndDeleteRemedy() as source if database is not None:
                return self._rows(source, database, check)
        return None

    def _rows(
        self,
        source: configured.SetRemedy | configured.ArchiveAndDeleteRemedy,
        database: Database,
        check: Check,
    ) -> Remedy:
        """Return a remedy for the rows that a check names, under the check's own condition."""
        assert isinstance(check, Rows | Orphans)  # settings allow nothing else
        how: dict[str, Any] = {
            "batch": source.batch,
            "still": check.condition,
            "then": self._then(source.then, database),
            "go_on": partial(_go_on, self._pauses, check),
        }
        if isinstance(source, configured.SetRemedy):
            return SetRows(database, check.table, source.values, **how)
        return ArchiveAndDelete(database, check.table, **how)

    def _then(self, name: str | None, database: Database) -> Then | None:
        """Return what hears of each batch: a function of the user that is called with its rows."""
        if name is None:
            return None
        return self._plugged(name, database, {}).told

    def _plugged(self, name: str, database: Database | None, params: Mapping[str, Any]) -> PluginRemedy:
        return PluginRemedy(plugin.REMEDIES[name], database=database, services=self._services, params=params)

    def _ladder(self, policy: Procedure, entity: Entity) -> dict[str, Remedy]:
        """Return the remedies that an entity's rules name; handing over to a person needs none."""
        database = self._databases[entity.database]
        names = dict.fromkeys([*(rule.remedy for rule in entity.stuck.values()), entity.give_up, *plugin.REMEDIES])
        functions = {name: plugin.REMEDIES.get(name) or retry_workflow(entity) for name in names if name != MANUAL}
        return {
            name: EntityRemedy(database, entity, function, services=self._services)
            for name, function in functions.items()
        }
