"""A world in which two remedies can be bound: one that comes along, and one of the user with typed parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.world import CRM, OAUTHED, PROBED, World, play
from prunella.core.issues import KnownIssue
from prunella.core.records import Severity
from prunella.diagnosis.patterns import Pattern
from prunella.engine.learning.known import KnownIssues
from prunella.plugin import RemedyFunction
from prunella.remedies.known import Bindable, FunctionForIssue, RefreshAuth

SHIPPED = (
    Pattern(
        id="oauthed.gone",
        expression="the grant is gone",
        severity=Severity.HIGH,
        service="oauthed",
        title="Grant is gone",
        cause="Somebody took it back.",
        advice="Connect anew.",
        remedy="refresh_auth",
        source="https://docs.example/grants",
        tags=("oauth",),
    ),
    Pattern(id="any.pool", expression="connection pool exhausted", remedy="nobody_has_it"),
)


async def warm_up(
    ctx: Any, failure: Any, *, node: str, times: int = 1, hard: bool = False, wait_s: float = 0.5
) -> None:
    """Do nothing: what is bound is looked at, not carried out."""


WARM = RemedyFunction(name="warm_up", function=warm_up, idempotent=True, reversible=False, per="row", timeout_s=5.0)


def curate(migrated: Path, story: Callable[[World], Awaitable[None]]) -> World:
    """Run a story over such a world."""

    async def told(world: World) -> None:
        parts = world.parts
        warm = FunctionForIssue(WARM, None, parts.clock)  # type: ignore[arg-type]  # it is never called
        bindable: dict[str, Bindable] = {"refresh_auth": RefreshAuth(), "warm_up": warm}
        world.parts = replace(parts, bindable=bindable, known=KnownIssues(parts.clock, SHIPPED))
        await story(world)

    return play(migrated, told, services=(CRM, PROBED, OAUTHED))


async def issue_of(world: World, issue_id: str) -> KnownIssue:
    """Return an issue as it stands."""
    async with world.store.transaction() as tx:
        found = await tx.learning.issue(issue_id)
    assert found is not None
    return found
