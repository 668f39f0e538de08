"""What a route asks of its caller: a role, and a body of a known shape.

Both are dependencies, so that FastAPI, OpenAPI and the tests can see them; a route without a role fails a test.
Roles come first: who may not ask is not told what is wrong with the question.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunella.web.auth import Caller, Gatehouse, Role
from prunella.web.problems import Problem, unprocessable

B = TypeVar("B", bound=BaseModel)


class Needs:
    """Let through who has one of `roles`."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)

    async def __call__(self, request: Request) -> Caller:
        gatehouse: Gatehouse = request.app.state.gatehouse
        caller: Caller = await gatehouse.admit(request, self.roles)
        request.state.caller = caller  # an error page shows who looks
        return caller


Reports = Annotated[Caller, Depends(Needs(Role.INGEST, Role.APPLICATION, Role.OPERATIONS, Role.ADMIN))]
"""May report events."""
HandsOver = Annotated[Caller, Depends(Needs(Role.APPLICATION))]
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


class ReasonIn(BaseModel):
    """Why a person does something."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=500)] = ""


Why = Annotated[ReasonIn, Depends(Sent(ReasonIn))]


def parsed(model: type[B], body: dict[str, Any]) -> B:
    """Return a body as `model`, or answer 422 with every wrong field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise unprocessable(error) from None


async def read_json(request: Request) -> dict[str, Any]:
    """Read a JSON object; an empty body is an empty object."""
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "The body is no JSON", _where(error)) from None
    if not isinstance(body, dict):
        raise Problem(422, "The body must be a JSON object", errors=[{"pointer": "", "detail": "an object is needed"}])
    return body


def _where(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else "it is not UTF-8"
