"""What each list can be filtered by: one place for the API and the pages; a test compares the command line with it.

No `from __future__ import annotations` here: FastAPI reads the types off the classes as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Query
from pydantic import AfterValidator, TypeAdapter, ValidationError

from prunella.core.issues import IssueState, Origin
from prunella.core.records import Category, Severity
from prunella.core.states import IncidentState, OperationState, RunState
from prunella.store.audit import Asked
from prunella.store.backlog import Wanted
from prunella.store.known import Asked as KnownAsked
from prunella.web.api.events import in_utc
from prunella.web.api.paging import Account, Text, given
from prunella.web.problems import Problem

F = TypeVar("F")

OPEN = "open_any"
"""All states of an incident that somebody still has to do something about."""
STATES = (OPEN, *(state.value for state in IncidentState))
_OPEN_STATES = [state.value for state in IncidentState if state is not IncidentState.RESOLVED]
Due = Literal["due", "overdue", "later", "resting"]


def _meant(moment: datetime) -> datetime:
    """Return a moment in UTC; one without a zone is meant so."""
    return in_utc(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


Since = Annotated[datetime, AfterValidator(_meant)]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentFilter:
    """Which incidents are meant."""

    state: Annotated[IncidentState | Literal["open_any"] | None, Query(description="open_any: all unresolved.")] = None
    service: Text | None = None
    procedure: Text | None = None
    category: Category | None = None
    severity: Severity | None = None
    since: Annotated[Since | None, Query(description="Seen at or after this moment.")] = None
    q: Annotated[Text | None, Query(description="Letters within the title, whatever their case.")] = None

    def asked(self) -> dict[str, Any]:
        """Return what the store is asked for."""
        return given(
            {
                "state": _OPEN_STATES if self.state == OPEN else self.state,
                "service": self.service,
                "procedure": self.procedure,
                "category": self.category,
                "severity": self.severity,
                "since": self.since,
                "title": self.q,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFilter:
    """Which operations are meant."""

    service: Text | None = None
    state: OperationState | None = None
    incident: Text | None = None
    account: Account | None = None
    due: Due | None = None
    idempotency_key: Text | None = None

    def asked(self, now: datetime) -> Wanted:
        """Return what the store is asked for."""
        return Wanted(
            service=self.service,
            states=(self.state,) if self.state is not None else None,
            incident=self.incident,
            account=self.account,
            due=self.due,
            idempotency_key=self.idempotency_key,
            now=now,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries of the audit are meant."""

    actor: Text | None = None
    action: Annotated[Text | None, Query(description="gate.pause, or gate. for all that begin so.")] = None
    target: Text | None = None
    incident: Text | None = None
    since: Annotated[Since | None, Query(description="At or after this moment.")] = None

    def asked(self) -> Asked:
        """Return what the store is asked for."""
        return Asked(**{name: getattr(self, name) for name in names(AuditFilter)})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which attempts are meant."""

    procedure: Text | None = None
    incident: Text | None = None
    service: Text | None = None
    state: RunState | None = None
    since: Annotated[Since | None, Query(description="Begun at or after this moment.")] = None

    def asked(self) -> dict[str, Any]:
        """Return what the store is asked for."""
        found = given({name: getattr(self, name) for name in names(RunFilter)})
        return {"incident_id" if name == "incident" else name: value for name, value in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownIssueFilter:
    """Which known issues are meant."""

    state: IssueState | None = None
    origin: Origin | None = None
    service: Annotated[Text | None, Query(description="By the name of its profile: `stripe`.")] = None
    severity: Severity | None = None
    kind: Annotated[Text | None, Query(description="The diagnosed kind that it asks for, or that it means.")] = None
    has_remedy: Annotated[bool | None, Query(description="Whether a remedy is bound.")] = None
    q: Annotated[Text | None, Query(description="Letters within id, title, cause or pattern, whatever their case.")] = (
        None
    )

    def asked(self, *, seen: bool | None = None) -> KnownAsked:
        """Return what the store is asked for.

        Args:
            seen: whether they have occurred here.
        """
        return KnownAsked(**{name: getattr(self, name) for name in names(KnownIssueFilter)}, seen=seen)


@cache
def names(kind: type) -> tuple[str, ...]:
    """Return the names of a filter's fields."""
    return tuple(field.name for field in fields(kind))


def chosen(kind: type, sent: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a form that somebody filled in."""
    return {name: value for name in names(kind) if (value := str(sent.get(name, "")).strip())}


def read(kind: type[F], filled: Mapping[str, str]) -> F:
    """Read what was filled in, by the rules of the API; what can't be taken is named."""
    try:
        return TypeAdapter(kind).validate_python(dict(filled))
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        wrong = [one["msg"] for one in error.errors() if one["loc"][0] == name]
        raise Problem(422, f"Unknown {name}", f"got {filled[name][:50]!r}; {' or '.join(wrong)}") from None
