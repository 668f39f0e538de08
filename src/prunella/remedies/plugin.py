"""A function of the user as the remedy of a procedure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Boolean, Date, DateTime, Integer, Numeric, String, Table, Uuid
from sqlalchemy.types import NullType

from prunella.core.clock import Clock
from prunella.core.findings import Row
from prunella.databases.columns import key_of
from prunella.databases.handle import Database
from prunella.plugin import RemedyFunction
from prunella.remedies.calling import Services
from prunella.remedies.functions import FunctionRemedy

_COMPARABLE = (Boolean, Date, DateTime, Integer, NullType, Numeric, String, Uuid)


class TableRules:
    """A row may be changed while it holds all that was seen of it, as far as the database can compare it."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.unit: str | None = None

    def key(self, table: Table) -> str:
        return key_of(table).name

    def seen(self, table: Table, row: Row) -> Mapping[str, Any]:
        known = {name: value for name, value in row.items() if name in table.columns}
        return {name: value for name, value in known.items() if isinstance(table.columns[name].type, _COMPARABLE)}

    def lawful(self, row: Row, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        return changes


class PluginRemedy(FunctionRemedy):
    """A function of the user; what it wants changed is written where a finding is a row of `table`."""

    def __init__(
        self,
        function: RemedyFunction,
        *,
        database: Database | None = None,
        table: str | None = None,
        services: Services | None = None,
        params: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        rules = None if table is None else TableRules(table)
        super().__init__(function, database, rules, services=services, params=params, clock=clock)
