"""/api/v1/known-issues: the problems that are recognised by their words: cause, what helps, and who says so."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from prunella.app import App
from prunella.core.records import Severity
from prunella.diagnosis.packs import builtin
from prunella.diagnosis.patterns import Pattern
from prunella.web.access import Reads
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, from_list, unknown
from prunella.web.api.routing import Rooms
from prunella.web.filters import KnownIssueFilter


class KnownIssueOut(Out):
    """A known issue."""

    id: str
    title: str
    state: str
    pattern: str
    severity: Severity
    service: str | None
    kind: str | None
    code: str | None
    means: str | None
    cause: str
    advice: str
    remedy: str | None
    source: str | None
    tags: list[str]

    @classmethod
    def of(cls, one: Pattern) -> KnownIssueOut:
        """Spell a known issue."""
        return cls(
            id=one.id,
            title=one.title,
            state="shipped",
            pattern=one.expression,
            severity=one.severity,
            service=one.service,
            kind=one.kind,
            code=one.code,
            means=one.means,
            cause=one.cause,
            advice=one.advice,
            remedy=one.remedy,
            source=one.source,
            tags=list(one.tags),
        )


def wanted(chosen: KnownIssueFilter) -> list[Pattern]:
    """Return the known issues that are asked for, by id."""
    return sorted((one.pattern for one in builtin() if chosen.fits(one.pattern)), key=lambda one: one.id)


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/known-issues", tags=["known issues"])

    @routes.get("", summary="List what is recognised")
    async def list_known_issues(
        _: Reads, chosen: Annotated[KnownIssueFilter, Depends()], limit: Limit = PAGE, cursor: Cursor = None
    ) -> Page[KnownIssueOut]:
        page, next_cursor = from_list(wanted(chosen), limit, cursor, lambda one: one.id)
        return Page(items=[KnownIssueOut.of(one) for one in page], next_cursor=next_cursor)

    @routes.get("/{issue_id}", summary="Show one")
    async def show_known_issue(_: Reads, issue_id: str) -> KnownIssueOut:
        found = next((one.pattern for one in builtin() if one.pattern.id == issue_id), None)
        if found is None:
            raise unknown("known issue", issue_id)
        return KnownIssueOut.of(found)

    return routes
