"""The rungs of a ladder for stuck entities: users' functions under the law of the entity's states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table

from prunella.core.clock import Clock
from prunella.core.findings import Row
from prunella.core.outcomes import Outcome
from prunella.core.procedures import Entity
from prunella.databases.handle import Database
from prunella.databases.written import NOW
from prunella.plugin import RemedyFunction
from prunella.remedies.calling import Services
from prunella.remedies.functions import FunctionRemedy


class EntityRules:
    """A row may be changed while it has the state, and the moment of its state, in which it was seen."""

    def __init__(self, entity: Entity) -> None:
        self.table = entity.table
        self.unit = entity.unit
        self._entity = entity

    def key(self, table: Table) -> str:
        return self._entity.key

    def seen(self, table: Table, row: Row) -> Mapping[str, Any]:
        return {name: row[name] for name in (self._entity.status, self._entity.since)}

    def lawful(self, row: Row, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Hold a new status against the transitions; with a status the moment is written, unless it is given."""
        entity = self._entity
        if entity.status not in changes:
            return changes
        entity.transitions.check(str(row[entity.status]).rstrip(), str(changes[entity.status]))
        return {entity.since: NOW, **changes}


class EntityRemedy(FunctionRemedy):
    """A function of the user for rows of an entity, or one of the ladder's own."""

    def __init__(
        self,
        database: Database,
        entity: Entity,
        function: RemedyFunction,
        *,
        services: Services | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(function, database, EntityRules(entity), services=services, clock=clock)


def retry_workflow(entity: Entity) -> RemedyFunction:
    """Return the ladder's own remedy for a workflow that hangs: the state is entered anew, so that it starts again."""

    async def touch(ctx: Any, row: Any) -> Outcome:
        return Outcome.changed(note="the workflow starts anew", **{entity.since: NOW})

    return RemedyFunction(
        name="retry_workflow", function=touch, idempotent=True, reversible=True, per="row", timeout_s=30.0
    )
