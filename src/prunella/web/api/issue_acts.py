"""What people do with known issues over HTTP: write, change, pair with remedies, end, join, divide, import."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from prunella.app import App
from prunella.core.errors import ConfigError, Conflict
from prunella.core.issues import KnownIssue
from prunella.core.records import Level, Severity
from prunella.diagnosis.packs.entries import LIST_MAX
from prunella.engine.learning import curation, dossier, exchange, joining, pairing
from prunella.engine.learning.exchange import TakenIn
from prunella.packs import read_pack
from prunella.web.access import Acts, Match, ReasonIn, Seen, Sent, Why, Words
from prunella.web.api.issue_shapes import DossierOut, TakenInOut
from prunella.web.api.paging import unknown
from prunella.web.api.routing import Rooms, tag_of
from prunella.web.problems import Problem

T = TypeVar("T")

Said = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
_Whole = Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)]
_Many = Annotated[list[Said], Field(max_length=LIST_MAX)]


class ChangeIn(BaseModel):
    """What shall be said of an issue; null takes away, what is not named stays."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"severity": "HIGH", "advice": "Ask the vendor for a larger quota."}]},
    )

    pattern: Said | None = None
    ignore_case: bool | None = None
    title: Words | None = None
    severity: Severity | None = None
    service: Words | None = None
    kind: Words | None = None
    code: Words | None = None
    means: Words | None = None
    cause: Said | None = None
    advice: Said | None = None
    source: Said | None = None
    tags: _Many | None = None
    examples: Annotated[_Many | None, Field(description="Messages that the pattern has to fit; not kept.")] = None
    others: Annotated[_Many | None, Field(description="Messages that it must not fit; not kept.")] = None

    def said(self) -> dict[str, Any]:
        """Return what was named."""
        return self.model_dump(exclude_unset=True)


class NewIssueIn(ChangeIn):
    """A known issue."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"id": "crm.quota", "pattern": "quota .{1,40} exceeded", "service": "crm", "severity": "HIGH"}]
        },
    )

    id: Words | None = None
    fingerprint: Annotated[
        Words | None, Field(description="A candidate's: what is not said here is taken from there.")
    ] = None

    def said(self) -> dict[str, Any]:
        """Return what was named and means something."""
        return {
            name: value for name, value in super().said().items() if name != "fingerprint" and value not in (None, "")
        }


class BindIn(ReasonIn):
    """Which remedy shall stand by."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"remedy": "invalidate_cache", "level": "L1"}]}
    )

    remedy: Annotated[Words, Field(min_length=1)]
    parameters: Annotated[
        dict[Words, StrictBool | _Whole | Annotated[StrictFloat, Field(allow_inf_nan=False)] | Words],
        Field(default_factory=dict, max_length=50),
    ]
    level: Level = Level.L1


class UnbindIn(ReasonIn):
    """Which remedy shall go."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"remedy": "invalidate_cache"}]})

    remedy: Annotated[Words, Field(min_length=1)]


class MergeIn(ReasonIn):
    """The issue that stands for both."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"into": "crm.quota"}]})

    into: Annotated[Words, Field(min_length=1)]


class SplitIn(ReasonIn):
    """The second problem; with no pattern the issue is taken apart from the one that it was joined with."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{}, {"pattern": "quota of the trial exceeded"}]}
    )

    pattern: Said | None = None
    id: Words | None = None
    title: Words | None = None
    severity: Severity | None = None

    def said(self) -> dict[str, Any]:
        """Return what was named about the second problem."""
        return self.model_dump(exclude_none=True, exclude={"reason"})


class ImportIn(BaseModel):
    """A pack."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "- {id: crm.lunch, pattern: closed for lunch}\n"}]}
    )

    text: str
    replace: Annotated[bool, Field(description="An entry takes the place of what an issue with its id said.")] = False


def add(routes: Rooms, app: App) -> None:
    """Add the routes to those that read."""
    _add_writing(routes, app)
    _add_pairing(routes, app)
    _add_standing(routes, app)
    _add_joining(routes, app)


def _add_writing(routes: Rooms, app: App) -> None:
    @routes.post("", status_code=201, summary="Make a problem known")
    async def create_known_issue(
        caller: Acts, wish: Annotated[NewIssueIn, Depends(Sent(NewIssueIn))], answer: Response
    ) -> DossierOut:
        made = await not_taken(
            curation.create(app.parts, wish.said(), by=caller.name, fingerprint=wish.fingerprint or None)
        )
        return await _shown(app, made, made.id, answer)

    @routes.patch("/{issue_id}", summary="Change what is said of one")
    async def change_known_issue(
        caller: Acts, wish: Annotated[ChangeIn, Depends(Sent(ChangeIn))], seen: Seen, issue_id: str, answer: Response
    ) -> DossierOut:
        changed = await curation.change(app.parts, issue_id, wish.said(), by=caller.name, seen=seen.version)
        return await _shown(app, changed, issue_id, answer)

    @routes.post("/import", summary="Make the entries of a pack known: all or none")
    async def import_known_issues(caller: Acts, sent: Annotated[ImportIn, Depends(Sent(ImportIn))]) -> TakenInOut:
        return TakenInOut.of(await taken_in(app, sent.text, replaces=sent.replace, by=caller.name))


def _add_pairing(routes: Rooms, app: App) -> None:
    @routes.post("/{issue_id}/bind", summary="Bind a remedy; its open incidents are tried with it at once")
    async def bind_remedy(
        caller: Acts, wish: Annotated[BindIn, Depends(Sent(BindIn))], seen: Seen, issue_id: str, answer: Response
    ) -> DossierOut:
        bound = await pairing.bind(
            app.parts,
            issue_id,
            wish.remedy,
            wish.parameters,
            level=wish.level,
            by=caller.name,
            reason=wish.reason,
            seen=seen.version,
        )
        return await _shown(app, bound, issue_id, answer)

    @routes.post("/{issue_id}/unbind", summary="Let a remedy stand by no more")
    async def unbind_remedy(
        caller: Acts, wish: Annotated[UnbindIn, Depends(Sent(UnbindIn))], seen: Seen, issue_id: str, answer: Response
    ) -> DossierOut:
        parted = await pairing.unbind(
            app.parts, issue_id, wish.remedy, by=caller.name, reason=wish.reason, seen=seen.version
        )
        return await _shown(app, parted, issue_id, answer)


def _add_standing(routes: Rooms, app: App) -> None:
    @routes.post("/{issue_id}/resolve", summary="Say that one is over")
    async def resolve_known_issue(caller: Acts, why: Why, seen: Seen, issue_id: str, answer: Response) -> DossierOut:
        over = await curation.resolve(app.parts, issue_id, by=caller.name, reason=why.reason, seen=seen.version)
        return await _shown(app, over, issue_id, answer)

    @routes.post("/{issue_id}/reopen", summary="Say that one is not over")
    async def reopen_known_issue(caller: Acts, why: Why, seen: Seen, issue_id: str, answer: Response) -> DossierOut:
        again = await curation.reopen(app.parts, issue_id, by=caller.name, reason=why.reason, seen=seen.version)
        return await _shown(app, again, issue_id, answer)


def _add_joining(routes: Rooms, app: App) -> None:
    @routes.post("/{issue_id}/merge", summary="Join one with another, which stands for both; that one is answered")
    async def merge_known_issues(
        caller: Acts, wish: Annotated[MergeIn, Depends(Sent(MergeIn))], seen: Seen, issue_id: str, answer: Response
    ) -> DossierOut:
        target = await joining.merge(
            app.parts, issue_id, wish.into, by=caller.name, reason=wish.reason, seen=seen.version
        )
        return await _shown(app, target, issue_id, answer)

    @routes.post("/{issue_id}/split", summary="Undo a join, or make a second issue of a narrower pattern")
    async def split_known_issue(
        caller: Acts, wish: Annotated[SplitIn, Depends(Sent(SplitIn))], seen: Seen, issue_id: str, answer: Response
    ) -> DossierOut:
        return await _shown(app, await split(app, issue_id, wish, by=caller.name, seen=seen), issue_id, answer)


async def split(app: App, issue_id: str, wish: SplitIn, *, by: str, seen: Match) -> KnownIssue | None:
    """Take an issue apart from another, or make two of it."""
    if not wish.said():
        return await joining.part(app.parts, issue_id, by=by, reason=wish.reason, seen=seen.version)
    return await not_taken(joining.divide(app.parts, issue_id, wish.said(), by=by, seen=seen.version))


async def not_taken(act: Awaitable[T]) -> T:
    """Carry out what gives ids away; where one is taken it says so, and not that somebody was quicker."""
    try:
        return await act
    except Conflict as error:
        raise Problem(409, "The id is taken", str(error)) from None


async def taken_in(app: App, text: str, *, replaces: bool, by: str) -> TakenIn:
    """Import a pack; what is wrong with it is told with its lines."""
    try:
        pack = await asyncio.to_thread(read_pack, text)  # a long one takes seconds
    except ConfigError as error:
        lines = [{"pointer": "/text", "detail": line} for line in error.problems]
        raise Problem(422, "The pack can't be taken", f"{len(lines)} wrong; see errors", errors=lines) from None
    return await not_taken(exchange.take_in(app.parts, pack, by=by, replaces=replaces))


async def _shown(app: App, done: KnownIssue | None, issue_id: str, answer: Response) -> DossierOut:
    """Answer an act with the issue as it stands after it."""
    if done is None:
        raise unknown("known issue", issue_id)
    async with app.store.transaction() as tx:
        found = await dossier.of(app.parts, tx, done.id)
    assert found is not None  # it was there a moment ago, and issues are never deleted
    answer.headers["etag"] = tag_of(found.issue.version)
    return DossierOut.told(found)
