"""/api/v1/known-issues: problems that are recognised by their words: cause, what helps, and what became of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from prunella.app import App
from prunella.core.issues import KnownIssue
from prunella.engine.learning import dossier, exchange
from prunella.packs import write_pack
from prunella.web.access import Reads
from prunella.web.api import issue_acts
from prunella.web.api.issue_shapes import CandidateOut, DossierOut, KnownIssueOut, Outcomes, PackOut
from prunella.web.api.paging import PAGE, Cursor, Limit, Page, Text, from_list, unknown
from prunella.web.api.routing import Rooms, tag_of
from prunella.web.filters import KnownIssueFilter

CANDIDATES_MAX = 500
_MANY = 10**8


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/known-issues", tags=["known issues"])

    @routes.get("", summary="List what is recognised")
    async def list_known_issues(
        _: Reads, chosen: Annotated[KnownIssueFilter, Depends()], limit: Limit = PAGE, cursor: Cursor = None
    ) -> Page[KnownIssueOut]:
        page, outcomes, next_cursor = await page_of(app, chosen, limit, cursor)
        return Page(items=[KnownIssueOut.of(one, outcomes[one.id]) for one in page], next_cursor=next_cursor)

    @routes.get("/candidates", summary="List what may become known, the most frequent first")
    async def list_candidates(_: Reads, limit: Limit = PAGE, cursor: Cursor = None) -> Page[CandidateOut]:
        async with app.store.transaction() as tx:
            found = await tx.learning.candidates(most=CANDIDATES_MAX)
        page, next_cursor = from_list(
            found, limit, cursor, lambda one: f"{_MANY - min(one.occurrences, _MANY):09} {one.fingerprint}"
        )
        return Page(items=[CandidateOut.of(one) for one in page], next_cursor=next_cursor)

    @routes.get("/export", summary="Hand known issues out as a pack")
    async def export_known_issues(
        _: Reads, ids: Annotated[Text | None, Query(description="Only these, with commas between them.")] = None
    ) -> PackOut:
        found = await exchange.handed_out(app.parts, ids.split(",") if ids is not None else ())
        return PackOut(count=len(found), text=write_pack(found))

    @routes.get("/{issue_id}", summary="Show one, with what became of its remedies")
    async def show_known_issue(_: Reads, issue_id: str, answer: Response) -> DossierOut:
        async with app.store.transaction() as tx:
            found = await dossier.of(app.parts, tx, issue_id)
        if found is None:
            raise unknown("known issue", issue_id)
        answer.headers["etag"] = tag_of(max(found.issue.version, 0))  # one without a row gets it as version 0
        return DossierOut.told(found)

    issue_acts.add(routes, app)
    return routes


async def page_of(
    app: App, chosen: KnownIssueFilter, limit: int, cursor: str | None
) -> tuple[list[KnownIssue], dict[str, Outcomes], str | None]:
    """Return one page of known issues, by id, what became of their remedies, and the cursor of the next page."""
    async with app.store.transaction() as tx:
        ids, next_cursor = from_list(await dossier.named(app.parts, tx, chosen.asked()), limit, cursor, str)
        page = await dossier.whole(app.parts, tx, ids)
        return page, dict(await dossier.outcomes(app.parts, tx, page)), next_cursor
