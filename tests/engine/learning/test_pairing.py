"""A remedy that a person pairs with an issue is trusted at once, and one that can't help is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.curated import curate, issue_of
from engine.world import World
from prunella.core.errors import InvalidInput
from prunella.core.issues import Binding
from prunella.core.records import Level
from prunella.core.states import IncidentState
from prunella.engine.learning import curation, evidence, pairing

LUNCH = {"id": "crm.lunch", "pattern": "closed for lunch", "service": "crm"}


def test_pairing_of_a_person_is_trusted_and_wakes_what_waits(sqlite_path: Path) -> None:
    """Level L1 unless said otherwise; open incidents begin anew with nothing tried, one that a person silenced does not."""

    async def story(world: World) -> None:
        waits = (await world.fail(message="closed for lunch", endpoint=None)).incident_id
        silent = (await world.fail(message="closed for lunch", operation="GET /", endpoint=None)).incident_id
        await world.save(
            replace(await world.incident(waits), state=IncidentState.ESCALATED, memory={"fix": {"tried": ["x"]}})
        )
        await world.save(replace(await world.incident(silent), state=IncidentState.SUPPRESSED))
        await curation.create(world.parts, LUNCH, by="ada")
        bound = await pairing.bind(world.parts, "crm.lunch", "warm_up", {"node": "n1"}, by="ada", reason="it helped")
        assert bound is not None
        assert bound.remedies == (Binding(remedy="warm_up", parameters={"node": "n1"}, by="ada", trusted=True),)
        assert bound.remedies[0].acts_at is Level.L1
        assert await issue_of(world, "crm.lunch") == bound
        woken = await world.incident(waits)
        assert (woken.state, "fix" in woken.memory) == (IncidentState.OPEN, False)
        assert (waits,) in world.queued()
        assert (await world.incident(silent)).state is IncidentState.SUPPRESSED
        (entry,) = await world.audit("issue.bound")
        assert (entry.actor, entry.reason) == ("ada", "warm_up at L1: it helped")

    curate(sqlite_path, story)


def test_pairing_is_replaced_and_ended(sqlite_path: Path) -> None:
    """Bound again it has the new values; of several one goes; what is not bound cannot go."""

    async def story(world: World) -> None:
        parts = world.parts
        await pairing.bind(parts, "any.pool", "warm_up", {"node": "a"}, by="ada")
        bound = await pairing.bind(parts, "any.pool", "warm_up", {"node": "b", "times": 3}, level=Level.L3, by="bob")
        assert bound is not None
        (only,) = bound.remedies
        assert (dict(only.parameters), only.level, only.by) == ({"node": "b", "times": 3}, Level.L3, "bob")
        parted = await pairing.unbind(parts, "any.pool", "warm_up", by="ada", reason="worse")
        assert parted is not None
        assert parted.remedies == ()
        with pytest.raises(InvalidInput, match=r"'warm_up' is not bound to any\.pool; bound: none"):
            await pairing.unbind(parts, "any.pool", "warm_up", by="ada")
        assert await pairing.bind(parts, "nobody", "warm_up", {}, by="ada") is None
        assert await pairing.unbind(parts, "nobody", "warm_up", by="ada") is None

    curate(sqlite_path, story)


@pytest.mark.parametrize(
    ("remedy", "parameters", "words"),
    [
        ("reboot", {}, "there is no remedy 'reboot' to bind; known: refresh_auth, warm_up"),
        ("refresh_auth", {}, "refresh_auth can do nothing here: services.crm has no oauth section"),
        ("warm_up", {}, "warm_up needs node"),
        ("warm_up", {"node": 5}, "node is '5'; it must be text"),
        ("warm_up", {"node": "a", "times": True}, "times is 'True'; it must be whole number"),
        ("warm_up", {"node": "a", "force": 1}, "takes no parameter 'force'"),
    ],
)
def test_pairing_that_cannot_help_is_refused(
    sqlite_path: Path, remedy: str, parameters: dict[str, Any], words: str
) -> None:
    """An unknown remedy, one that can do nothing for the service, and parameters that it does not take."""

    async def story(world: World) -> None:
        await curation.create(world.parts, LUNCH, by="ada")
        with pytest.raises(InvalidInput) as refused:
            await pairing.bind(world.parts, "crm.lunch", remedy, parameters, by="ada")
        assert words in str(refused.value)
        assert (await issue_of(world, "crm.lunch")).remedies == ()

    curate(sqlite_path, story)


def test_remedy_that_fits_one_of_several_services_may_be_bound(sqlite_path: Path) -> None:
    """An issue of no service is about all of them: what can help one of them is taken."""

    async def story(world: World) -> None:
        assert await pairing.bind(world.parts, "any.pool", "refresh_auth", {}, by="ada") is not None

    curate(sqlite_path, story)


def test_pairing_anew_forgives_failures_in_a_row(sqlite_path: Path) -> None:
    """Who binds it again knows of them: the next failure alone takes no trust away; all else that is known stays."""

    async def story(world: World) -> None:
        scope = evidence.scope_of_issue("any.pool")
        async with world.store.transaction() as tx:
            seen = await tx.learning.take_evidence(scope, "warm_up")
            bad = replace(seen, tried=2, ineffective=2, bad=2.0, failures_in_a_row=2)
            await tx.learning.save_evidence(scope, "warm_up", bad)
        await pairing.bind(world.parts, "any.pool", "warm_up", {"node": "a"}, by="ada")
        async with world.store.transaction() as tx:
            found = (await tx.learning.evidence([scope]))[scope, "warm_up"]
        assert found == replace(bad, failures_in_a_row=0)

    curate(sqlite_path, story)
