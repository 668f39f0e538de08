"""Procedures as they are configured: what to look for, what to do about it, when, how far and how autonomously.

Defaults are the figures of the source documents and of the rules that are never bent; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prunella.core.records import Level
from prunella.core.redact import Secret
from prunella.core.services import SecretSource
from prunella.core.states import StateMachine


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSource:
    """A database of the user.

    Args:
        url: as SQLAlchemy reads it; postgresql://, sqlite:///, mysql://.
        schema: where tables are looked for; None: the database's own default.
        time_zone: of timestamps that carry none, as IANA names it ("Europe/Berlin").
        unit: of times that are kept as numbers, `s` or `ms` since 1970.
    """

    name: str
    url: Secret
    schema: str | None = None
    statement_timeout_s: float = 30.0
    lock_timeout_s: float = 5.0
    time_zone: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far one run may go.

    Args:
        targets_max: rows or things per run, always.
        share_max: of the table's rows that may match before the whole run is held; row sets only.
        waves: how many targets at once while the outside is called; after the last one the rest.
        cool_down_s: per target, from one attempt to the next.
        attempts: per target, before a person is asked.
    """

    targets_max: int = 500
    share_max: float = 0.20
    waves: tuple[int, ...] = (1, 2, 4, 8)
    cool_down_s: float = 600.0
    attempts: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sightings:
    """How often a thing must be seen, and how far apart, before it is acted on."""

    count: int = 1
    apart_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time in which something rests.

    Args:
        cron: when it begins, in UTC (five fields).
        pause: `procedures`, `notifications` or both.
    """

    name: str
    cron: str
    lasts_s: float
    pause: frozenset[str] = frozenset({"procedures", "notifications"})


# Checks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessCheck:
    """The newest row of a table is older than it should be (HEAL_SYNC_001)."""

    table: str
    column: str
    older_than_s: float
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorsCheck:
    """A log holds fresh errors, grouped by their source (HEAL_SYNC_002).

    Args:
        where: which rows are errors.
        good: which rows of the same source prove that it works again; None: no newer error does.
    """

    table: str
    where: Mapping[str, Any]
    by: str
    message: str | None
    at: str
    within_s: float = 1800.0
    good: Mapping[str, Any] | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsCheck:
    """Rows that should not be as they are (HEAL_DATA_002).

    Args:
        where: column -> value, list of values, None, or {eq, ne, lt, le, gt, ge, in, not_in: value}; empty: all rows.
        older_than: column -> seconds that must have passed since.
    """

    table: str
    where: Mapping[str, Any]
    older_than: Mapping[str, float] = field(default_factory=dict)
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphansCheck:
    """Rows whose parent does not exist (HEAL_DATA_003); a reference that is NULL is none."""

    child: str
    column: str
    parent: str
    parent_key: str = "id"
    older_than: Mapping[str, float] = field(default_factory=dict)
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCheck:
    """More of the server's connections are in use than should be (HEAL_CONN_002)."""

    above: float = 0.80


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckCheck:
    """An entity stays in a state for longer than it should."""

    entity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginCheck:
    """A function of the user."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


CheckSource = FreshnessCheck | ErrorsCheck | RowsCheck | OrphansCheck | PoolCheck | StuckCheck | PluginCheck


# Remedies ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRemedy:
    """Start a workflow by a POST; `{source}` and other facts of the finding may stand in the address.

    Args:
        delays_s: wait so long before each attempt (HEAL_SYNC_002: 1, 2, 4 min); empty: at once.
    """

    url: str
    bearer: SecretSource | None = None
    delays_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRemedy:
    """Set columns of the rows that were found.

    Args:
        values: column -> value; `now` is the database's clock.
        batch: rows per transaction (document A: 100).
        then: a remedy of the user that hears of each batch, as to push it to a shop.
    """

    values: Mapping[str, Any]
    batch: int = 100
    then: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveAndDeleteRemedy:
    """Keep the rows in the archive and delete them."""

    batch: int = 5000
    then: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndIdleRemedy:
    """End connections that have been idle for a while."""

    idle_for_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRemedy:
    """A function of the user, or one of the ladder's own (`retry_workflow`, `manual_intervention`)."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    then: str | None = None


RemedySource = WebhookRemedy | SetRemedy | ArchiveAndDeleteRemedy | EndIdleRemedy | PluginRemedy


# Procedures and entities ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """A check, a remedy and the policy around them.

    Args:
        id: the documents' name ("HEAL_SYNC_001"), or its own.
        every_s, cron: its schedule; exactly one of them.
        remedy: None where each finding names its own (stuck entities).
        verify_within_s: how long the proof may take; 0: one look right after the act.
        notify_above: of a pool's use that is still too high after the act.
        first_run: `soon` after the start, or `wait` for the first interval.
        at: its way in prunella.yaml, for messages.
    """

    name: str
    id: str
    check: CheckSource
    remedy: RemedySource | None = None
    database: str | None = None
    every_s: float | None = None
    cron: str | None = None
    level: Level = Level.L0
    limits: Limits = field(default_factory=Limits)
    sightings: Sightings = field(default_factory=Sightings)
    verify_within_s: float = 0.0
    notify_above: float | None = None
    first_run: str = "soon"
    at: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckRule:
    """How long a state may last, and what is done when it lasts longer."""

    after_s: float
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Something with a status column (document D).

    Args:
        since: the column that says when the row entered its state.
        stuck: state -> rule.
        give_up: the remedy after `attempts` failures.
        at: its way in prunella.yaml, for messages.
    """

    name: str
    database: str
    table: str
    key: str
    status: str
    since: str
    transitions: StateMachine
    stuck: Mapping[str, StuckRule]
    give_up: str = "manual_intervention"
    attempts: int = 3
    unit: str | None = None
    at: tuple[str, ...] = ()
