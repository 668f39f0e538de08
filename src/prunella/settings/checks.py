"""How the file says what to look for and what to do about it; each kind by its own name and with its own words."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from prunella.settings import addresses as at
from prunella.settings import columns as its
from prunella.settings import values as of
from prunella.settings.choice import Choice
from prunella.settings.section import Found, Section

# what to look for -------------------------------------------------------------------------------------------------


class FreshnessSection(Section):
    """The newest row of a table is older than it should be."""

    table: its.Column
    column: its.Column
    older_than: Annotated[float, of.Between("1s", "3650d")]
    unit: its.Unit | None = None


class ErrorsSection(Section):
    """A log holds fresh errors."""

    table: its.Column
    status: its.Value = Field(default=None, description="Short for where: {status: …}.")
    where: its.Where | None = None
    good: its.Some | None = Field(default=None, description="Rows that prove that a source works again.")
    by: its.Column
    message: its.Column | None = None
    at: its.Column
    within: Annotated[float, of.Between("1s", "31d")] | None = None
    unit: its.Unit | None = None

    def misfits(self) -> Found:
        given = self.model_fields_set & {"status", "where"}
        if len(given) == 1:
            return []
        found = (
            "is missing; every row would count as an error" if not given else "stands beside where; keep one of them"
        )
        return [(("status",), of.hidden(f"{found}; write status: error, or where: {{column: value}}"))]


class RowsSection(Section):
    """Rows that should not be as they are."""

    table: its.Column
    where: its.Where
    older_than: its.Ages | None = Field(default=None, description="Column: how long ago its time must be.")
    unit: its.Unit | None = None


class OrphansSection(Section):
    """Rows whose parent does not exist."""

    child: its.Column
    column: its.Column
    parent: its.Column
    parent_key: its.Column | None = None
    older_than: its.Ages | None = Field(default=None, description="Column: how long ago its time must be.")
    unit: its.Unit | None = None


class PoolSection(Section):
    """Too many of the server's connections are in use."""

    above: Annotated[float, Field(gt=0, le=1), of.EXPANDED_SCALAR] | None = None


class CheckSection(Choice):
    """What to look for."""

    freshness: FreshnessSection | None = None
    errors: ErrorsSection | None = None
    rows: RowsSection | None = None
    orphans: OrphansSection | None = None
    pool: PoolSection | None = None

    @property
    def row_set(self) -> RowsSection | OrphansSection | None:
        """Return the check that finds a set of rows."""
        return self.rows or self.orphans


# what to do about it ----------------------------------------------------------------------------------------------


class CallSection(Section):
    """A workflow that starts by a POST."""

    url: at.Template = Field(description="Facts of the finding may stand behind the host, as {source}.")
    bearer: of.SecretText | None = None


class RetrySection(Section):
    """A workflow that is started again, each time after a longer wait."""

    delays: Annotated[list[Annotated[float, of.Between("1s", "1d")]], Field(min_length=1)]
    webhook: CallSection


class SetSection(Section):
    """Columns and what is written into them; `batch` is how many rows a transaction changes."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, its.Value]
    batch: Annotated[int, Field(ge=1, le=10_000), of.EXPANDED_SCALAR] | None = None

    @property
    def values(self) -> dict[str, Any]:
        """Return column -> value."""
        return dict(self.__pydantic_extra__ or {})

    def misfits(self) -> Found:
        if not self.values:
            return [((), of.hidden("sets nothing; write column: value"))]
        return [((name, "[key]"), error) for name in self.values if (error := its.misnamed(name)) is not None]


class ArchiveSection(Section):
    """Rows that are kept in the archive and then deleted."""

    batch: Annotated[int, Field(ge=1, le=10_000), of.EXPANDED_SCALAR] | None = None


class EndIdleSection(Section):
    """Connections that are ended when they are idle."""

    idle_for: Annotated[float, of.Between("1s", "7d")] | None = None


class RemedySection(Choice):
    """What to do about it."""

    beside: ClassVar[frozenset[str]] = frozenset({"then"})
    webhook: CallSection | None = None
    retry_later: RetrySection | None = None
    set: SetSection | None = None
    archive_and_delete: ArchiveSection | None = None
    end_idle_connections: EndIdleSection | None = None
    then: at.Function | None = Field(default=None, description="A remedy of yours that hears of each batch.")

    @property
    def calls(self) -> CallSection | None:
        """Return the call that it makes."""
        return self.retry_later.webhook if self.retry_later is not None else self.webhook

    def misfits(self) -> Found:
        found = super().misfits()
        if not found and self.then is not None and (self.calls is not None or self.end_idle_connections is not None):
            text = (
                f"stands beside {self.kind}, which changes no rows; remove it, or write the step as a remedy of yours"
            )
            found.append((("then",), of.hidden(text)))
        return found
