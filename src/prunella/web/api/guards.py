"""Where the guards of applications hand calls over, share their state and leave word.

Every route is a plain step on the ledger or the board that the engine keeps beside its own tables; what it is good for
stands there. Asked by `prunella.connect("https://…")`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from prunella.guard.board import TEXT_MAX, Notice, Standing
from prunella.guard.breaker import State
from prunella.guard.durable import WAIT_S_MAX, Ending, NewCall, storable
from prunella.guard.place import Place
from prunella.web.access import HandsOver, Sent
from prunella.web.api import events
from prunella.web.api.paging import Out

_LEASE_S_MAX = 3600.0

Id = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\x21-\x7e]+$")]
Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]
Text = Annotated[str, Field(max_length=TEXT_MAX), AfterValidator(storable)]
Wait = Annotated[float, Field(ge=0, le=WAIT_S_MAX, allow_inf_nan=False)]
Lease = Annotated[float, Field(gt=0, le=_LEASE_S_MAX, allow_inf_nan=False)]
B = TypeVar("B", bound="Body")


class Body(BaseModel):
    """What is sent; a field that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid")


class Arguments(Body):
    """A call's arguments."""

    args: list[Any]
    kwargs: dict[str, Any]


class CallIn(Body):
    """A call to be written down."""

    id: Id
    function: Name
    policy: Name
    key: Name
    arguments: Arguments
    attempts: Annotated[int, Field(ge=0, le=1_000_000)]
    wait_s: Wait
    error: str


class ClaimIn(Body):
    """Who wants calls of which functions."""

    functions: Annotated[list[Name], Field(max_length=1_000)]
    worker: Name
    lease_s: Lease
    most: Annotated[int, Field(ge=1, le=100)]


class RenewIn(Body):
    """Who is still making a call."""

    id: Id
    worker: Name
    lease_s: Lease


class EndIn(Body):
    """How an attempt ended."""

    id: Id
    worker: Name
    state: Literal["done", "waiting", "dead"]
    wait_s: Wait = 0.0
    error: str | None = None
    counted: bool = True


class StandingIn(Body):
    """Where a breaker stands."""

    name: Name
    state: State
    reason: Text
    open_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ProbeIn(Body):
    """Who wants to probe."""

    name: Name
    lease_s: Lease


class RateIn(Body):
    """A rate that was learned."""

    name: Name
    rate_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NoticeIn(Body):
    """Something that guards noticed."""

    id: Id
    service: events.Name
    code: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
    message: Text
    recovered: bool


class Nothing(Body):
    """Nothing."""


class DoneOut(Out):
    """That it was done."""


class WrittenOut(Out):
    """When a call will be made."""

    id: str
    due_at: float


class ClaimedOut(Out):
    """Calls that were taken."""

    items: list[dict[str, Any]]


class EndedOut(Out):
    """Which call has ended."""

    id: str


class StandingsOut(Out):
    """Where breakers stand."""

    items: list[dict[str, Any]]


class VersionOut(Out):
    """The version that stands now."""

    version: int


class GrantedOut(Out):
    """Whether somebody may probe."""

    granted: bool


class RatesOut(Out):
    """What was learned, by name."""

    rates: dict[str, float]


def router(place: Place) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/guard", tags=["guards"])
    ledger, board = place.ledger, place.board

    def route(path: str, kind: type[B], told: type[Out], answer: Callable[[B], dict[str, Any]]) -> None:
        """Answer what is sent to `path`, away from the event loop: the ledger waits for its database."""
        body = Depends(Sent(kind))

        async def endpoint(_: HandsOver, sent: Any = body) -> JSONResponse:
            return JSONResponse(await asyncio.to_thread(answer, sent))

        name = f"guard{path.replace('/', '_')}"
        routes.post(path, summary=kind.__doc__, operation_id=name, response_model=told)(endpoint)

    def write(sent: CallIn) -> dict[str, Any]:
        call_id, due_at = ledger.write(NewCall(**sent.model_dump()))
        return {"id": call_id, "due_at": due_at}

    def claim(sent: ClaimIn) -> dict[str, Any]:
        return {"items": [asdict(call) for call in ledger.claim(sent.functions, sent.worker, sent.lease_s, sent.most)]}

    def renew(sent: RenewIn) -> dict[str, Any]:
        ledger.renew(sent.id, sent.worker, sent.lease_s)
        return {}

    def end(sent: EndIn) -> dict[str, Any]:
        ledger.end(sent.id, sent.worker, Ending(**sent.model_dump(exclude={"id", "worker"})))
        return {"id": sent.id}

    def learn(sent: RateIn) -> dict[str, Any]:
        board.learn(sent.name, sent.rate_per_s)
        return {}

    def notice(sent: NoticeIn) -> dict[str, Any]:
        board.notice(Notice(**sent.model_dump()))
        return {}

    route("/calls", CallIn, WrittenOut, write)
    route("/calls/claim", ClaimIn, ClaimedOut, claim)
    route("/calls/renew", RenewIn, DoneOut, renew)
    route("/calls/end", EndIn, EndedOut, end)
    route("/breakers", Nothing, StandingsOut, lambda _: {"items": [asdict(one) for one in board.standings()]})
    route(
        "/breakers/report",
        StandingIn,
        VersionOut,
        lambda sent: {"version": board.report(Standing(**sent.model_dump()))},
    )
    route("/breakers/probe", ProbeIn, GrantedOut, lambda sent: {"granted": board.may_probe(sent.name, sent.lease_s)})
    route("/rates", Nothing, RatesOut, lambda _: {"rates": board.learned()})
    route("/rates/learn", RateIn, DoneOut, learn)
    route("/notices", NoticeIn, DoneOut, notice)
    return routes
