"""/api/v1/overview: the figures of the first page."""

from __future__ import annotations

from prunella.app import App
from prunella.engine import overview
from prunella.engine.pauses import KILL_SWITCH
from prunella.web.access import Reads
from prunella.web.api.paging import Out
from prunella.web.api.routing import Rooms


class TallyOut(Out):
    """What became of some incidents of the last 24 hours."""

    opened: int
    recovered: int
    left_to_people: int


class GateOut(Out):
    """A service whose gate is not closed."""

    service: str
    state: str
    reason: str | None


class OverviewOut(Out):
    """How everything stands now, and how the last 24 hours went; times to recover are for half and 95 % of them."""

    health: str
    active: int
    healing: int
    needs_person: int
    disabled: list[str]
    last_24h: TallyOut
    recovery_rate: float | None
    mttr_p50_s: float | None
    mttr_p95_s: float | None
    by_category: dict[str, TallyOut]
    gates: list[GateOut]
    approvals: int
    paused: bool
    paused_by: str | None


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/overview", tags=["overview"])

    @routes.get("", summary="Say how everything stands")
    async def read(_: Reads) -> OverviewOut:
        found = await overview.overview(app.parts)
        async with app.store.transaction() as tx:
            waiting = await tx.census.approvals()
            thrown = (await tx.switches.all()).get(KILL_SWITCH)
            gates = [gate for gate in await tx.gates.all() if gate.state.value != "closed"]
        half_s, most_s = found.mttr_s or (None, None)
        return OverviewOut(
            health=found.health,
            active=found.active,
            healing=found.healing,
            needs_person=found.needs_person,
            disabled=list(found.disabled),
            last_24h=_tally(found.day),
            recovery_rate=found.day.rate,
            mttr_p50_s=half_s,
            mttr_p95_s=most_s,
            by_category={name: _tally(one) for name, one in found.categories.items()},
            gates=[GateOut(service=one.service, state=one.state.value, reason=one.reason) for one in gates],
            approvals=waiting,
            paused=thrown is not None,
            paused_by=thrown["by"] if thrown is not None else None,
        )

    return routes


def _tally(found: overview.Tally) -> TallyOut:
    return TallyOut(opened=found.opened, recovered=found.recovered, left_to_people=found.left)
