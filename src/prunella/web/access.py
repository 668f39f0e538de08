"""What a route asks of its caller: a role, a body of a known shape, the version that a change is meant for.

All are dependencies, so that FastAPI, the OpenAPI document and the tests can see them; a route without a role fails a
test. Roles come first: who may not ask is not told what is wrong with the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette._utils import get_route_path

from prunella.core.redact import scrub
from prunella.web.auth import Caller, Gatehouse, Role
from prunella.web.bodies import read_json
from prunella.web.limits import Limits, Pace
from prunella.web.problems import Problem, unprocessable

__all__ = [
    "Acts",
    "HandsOver",
    "Needs",
    "Reads",
    "ReasonIn",
    "Reports",
    "Rules",
    "Seen",
    "Sent",
    "Told",
    "Why",
    "Words",
    "read_json",
]

B = TypeVar("B", bound=BaseModel)
_CALLER = "prunella.caller"


class Needs:
    """Let through who has one of `roles`, at most as often as `pace` allows, and who asks for nothing unknown."""

    def __init__(self, *roles: Role, pace: Pace = Pace.OTHERS) -> None:
        self.roles = frozenset(roles)
        self.pace = pace

    async def __call__(self, request: Request) -> Caller:
        known = request.scope.get(_CALLER)
        if isinstance(known, Caller):  # this request was let in already
            return known
        gatehouse: Gatehouse = request.app.state.gatehouse
        limits: Limits | None = getattr(request.app.state, "limits", None)
        caller = await self._admitted(request, gatehouse)
        if limits is not None:
            limits.take(self.pace, caller, request)
        _must_be_plain(request)
        request.scope[_CALLER] = caller
        request.state.caller = caller  # an error page shows who looks
        return caller

    async def _admitted(self, request: Request, gatehouse: Gatehouse) -> Caller:
        """Let somebody in; a token that is no good is told to who listens."""
        try:
            return await gatehouse.admit(request, self.roles)
        except Problem as refused:
            refusals = getattr(request.app.state, "refusals", None)
            if refusals is not None and refused.status == 401 and gatehouse.shows_something(request):
                refusals(request)
            raise


Reports = Annotated[
    Caller, Depends(Needs(Role.INGEST, Role.APPLICATION, Role.OPERATIONS, Role.ADMIN, pace=Pace.INTAKE))
]
"""May report events."""
HandsOver = Annotated[Caller, Depends(Needs(Role.APPLICATION, pace=Pace.INTAKE))]
"""Applications, whose guards hand calls over and share what they learned."""
may_read = Needs(Role.VIEWER, Role.OPERATIONS, Role.ADMIN)
Reads = Annotated[Caller, Depends(may_read)]
"""May look."""
Acts = Annotated[Caller, Depends(Needs(Role.OPERATIONS, Role.ADMIN))]
"""May act on incidents and services, and see what they hold."""
Rules = Annotated[Caller, Depends(Needs(Role.ADMIN))]
"""May change settings and credentials."""


class Sent(Generic[B]):
    """Read the body as `model`, where Content-Type says nothing to the contrary; an empty body is an empty object."""

    def __init__(self, model: type[B]) -> None:
        self.model = model

    async def __call__(self, request: Request) -> B:
        return parsed(self.model, await read_json(request))


Words = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
"""What a person writes; PostgreSQL holds no null character."""
Told = Annotated[Words, AfterValidator(scrub)]
"""What a person writes to be shown and kept: people paste secrets, too."""


class ReasonIn(BaseModel):
    """Why a person does something."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "the vendor confirmed"}]})

    reason: Told = ""


Why = Annotated[ReasonIn, Depends(Sent(ReasonIn))]


@dataclass(frozen=True, slots=True)
class Match:
    """What `If-Match` says: the version that somebody has seen and wants to change (RFC 9110 section 13.1.1).

    Args:
        tag: None: whatever stands there.
    """

    tag: str | None

    @property
    def version(self) -> int | None:
        """Return it as a version; one that never stands anywhere where it is none."""
        if self.tag is None:
            return None
        return int(self.tag) if self.tag.isascii() and self.tag.isdecimal() and len(self.tag) < 10 else -1


class IfMatch:
    """Read the header `If-Match`."""

    async def __call__(self, request: Request) -> Match:
        said = request.headers.get("if-match", "").strip()
        return Match(None if said in ("", "*") else said.removeprefix("W/").strip('"'))


Seen = Annotated[Match, Depends(IfMatch())]


def needs_of(dependant: Dependant) -> Needs | None:
    """Return what a route asks of who calls; None where it is open."""
    return next((one for one in calls_of(dependant) if isinstance(one, Needs)), None)


def calls_of(dependant: Dependant) -> list[object]:
    """Return everything that a route depends on."""
    return [call for one in dependant.dependencies for call in (one.call, *calls_of(one))]


def queries_of(dependant: Dependant) -> list[str]:
    """Return the query parameters that a route knows."""
    own = [param.alias for param in dependant.query_params]
    return own + [name for one in dependant.dependencies for name in queries_of(one)]


def parsed(model: type[B], body: dict[str, object]) -> B:
    """Return a body as `model`, or answer 422 with every wrong field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise unprocessable(error) from None


def _must_be_plain(request: Request) -> None:
    """Refuse what no database holds, and in the API what is not asked in one way only.

    A filter with a typing error would show everything, and one that is written twice would count once.
    """
    if "\0" in request.url.path:
        raise Problem(404, "Not Found", "no address holds a null character")
    asked = request.query_params.multi_items()
    if any("\0" in text for _, text in asked):
        raise Problem(422, "No text may hold a null character", "take %00 out of the address")
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if dependant is None or not get_route_path(request.scope).startswith("/api/"):
        return
    names, known = [name for name, _ in asked], queries_of(dependant)
    allowed = f"allowed: {', '.join(known)}" if known else "none is taken here"
    _refuse("Unknown query parameter", [name for name in names if name not in known], allowed)
    _refuse("A query parameter stands twice", [name for name in known if names.count(name) > 1], "write it once")


def _refuse(title: str, names: Sequence[str], words: str) -> None:
    if names:
        errors = [{"pointer": f"/query/{name[:100]}", "detail": words} for name in names[:10]]
        raise Problem(422, title, f"{names[0][:100]!r}; {words}", errors=errors)
