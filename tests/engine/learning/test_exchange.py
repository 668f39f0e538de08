"""Packs come in whole or not at all, are never trusted, and what goes out comes in again as the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.curated import SHIPPED, curate, issue_of
from engine.world import World
from prunella.core import redact
from prunella.core.errors import Conflict, InvalidInput
from prunella.core.issues import Binding, IssueState, KnownIssue, Origin
from prunella.core.records import Level
from prunella.diagnosis.packs import builtin
from prunella.diagnosis.patterns import Pattern
from prunella.engine.learning import curation, exchange, pairing
from prunella.engine.learning.known import pattern_of
from prunella.packs import read_pack, write_pack

PACK = """
- {id: crm.lunch, pattern: closed for lunch, service: crm, remedy: refresh_auth, title: Lunch}
- {id: crm.over, pattern: 'we sold out of \\d+', resolved: true}
- {id: crm.warm, pattern: it is cold in here, remedy: warm_up}
- {id: crm.none, pattern: nobody is there, remedy: nobody_has_it}
"""
OTHER = "- {id: crm.lunch, pattern: gone to lunch, service: crm}\n- {id: crm.new, pattern: something new came up}\n"


def test_pack_is_taken_in_without_licence(sqlite_path: Path) -> None:
    """A remedy is bound by name and asks each time; what cannot be bound is said; what was resolved is."""

    async def story(world: World) -> None:
        incident_id = (await world.fail(message="closed for lunch")).incident_id
        came = await exchange.take_in(world.parts, read_pack(PACK), by="ada")
        assert (came.added, came.changed, came.alone) == (("crm.lunch", "crm.over", "crm.warm", "crm.none"), (), ())
        assert came.notes == (
            "crm.warm: warm_up needs node, so a person has to bind it",
            "crm.none: there is no remedy nobody_has_it here, so it is left to a person",
        )
        lunch = await issue_of(world, "crm.lunch")
        (binding,) = lunch.remedies
        assert (binding.remedy, binding.trusted, binding.acts_at) == ("refresh_auth", False, Level.L2)
        assert (lunch.origin, lunch.created_by) == (Origin.PACK, "ada")
        assert (await issue_of(world, "crm.over")).state is IssueState.RESOLVED
        assert (await issue_of(world, "crm.warm")).remedies == ()
        assert (await world.incident(incident_id)).issue_id == "crm.lunch"
        assert {(entry.actor, entry.target) for entry in await world.audit("issue.imported")} == {
            ("ada", name) for name in came.added
        }
        again = await exchange.take_in(world.parts, read_pack(PACK), by="ada")
        assert (again.added, again.alone) == ((), came.added)

    curate(sqlite_path, story)


def test_other_issue_of_the_same_id_is_replaced_only_where_that_is_asked_for(sqlite_path: Path) -> None:
    """Otherwise nothing of the pack comes in, and the ids are named; replaced, its bindings and counts stay."""

    async def story(world: World) -> None:
        parts = world.parts
        await exchange.take_in(parts, read_pack(PACK), by="ada")
        await pairing.bind(parts, "crm.lunch", "warm_up", {"node": "n1"}, by="ada")
        with pytest.raises(Conflict, match=r"other known issues with the ids crm\.lunch; nothing was imported"):
            await exchange.take_in(parts, read_pack(OTHER), by="ada")
        async with world.store.transaction() as tx:
            assert await tx.learning.issue("crm.new") is None
        came = await exchange.take_in(parts, read_pack(OTHER), by="ada", replaces=True)
        assert (came.added, came.changed) == (("crm.new",), ("crm.lunch",))
        lunch = await issue_of(world, "crm.lunch")
        assert (lunch.expression, [one.remedy for one in lunch.remedies]) == (
            "gone to lunch",
            ["refresh_auth", "warm_up"],
        )

    curate(sqlite_path, story)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {id: a/b, pattern: letters}", "its id stands in addresses"),
        ("".join(f"- {{id: d{n}, pattern: '\\d{{{n + 1}}}'}}\n" for n in range(51)), "at most 50 such patterns"),
    ],
)
def test_pack_that_cannot_be_kept_is_refused_whole(sqlite_path: Path, text: str, words: str) -> None:
    """Ids that no address holds, and more patterns without letters than are kept."""

    async def story(world: World) -> None:
        with pytest.raises(InvalidInput, match=words):
            await exchange.take_in(world.parts, read_pack(text), by="ada")
        async with world.store.transaction() as tx:
            assert await tx.learning.issues() == []

    curate(sqlite_path, story)


def sought(pattern: Pattern) -> Pattern:
    """Return what of a pattern decides what it fits, and which one counts."""
    return replace(pattern, title="", cause="", source=None, tags=(), remedy=None)


def test_what_goes_out_comes_in_again_as_the_same(sqlite_path: Path) -> None:
    """Learned, written and shipped ones; also where a message from outside holds what no pack does."""
    texts: list[str] = []
    before = {}

    async def goes_out(world: World) -> None:
        parts = world.parts
        await curation.create(parts, {"id": "crm.quote", "pattern": 'say "it\'s 1e5" \\d+', "title": "1e5"}, by="ada")
        await curation.change(parts, "oauthed.gone", {"severity": "LOW"}, by="ada")
        await pairing.bind(parts, "crm.quote", "warm_up", {"node": "n1"}, by="ada")
        made = KnownIssue(
            id="crm-1f2e3d4c",
            title="Recurring\x1b[31m error:\u2028 " + "x" * 200,
            expression=r"^the\ lift\s+is\ broken\ \d[\d.,]{0,400}$",
            origin=Origin.LEARNED,
            service="crm",
            kind="network.server",
            cause="GET /\n failed " + "y" * 2000,
            source="seen here",
            tags=("auto_detected", "", "crm"),
            remedies=(Binding(remedy="refresh_auth"),),
            created_at=parts.clock.now(),
            created_by="prunella",
        )
        async with world.store.transaction() as tx:
            await tx.learning.add([made], parts.clock.now())
            stored = await tx.learning.issues()
        before.update({one.id: pattern_of(one) for one in stored})
        texts.append(write_pack(await exchange.handed_out(parts)))
        assert [one.pattern.id for one in await exchange.handed_out(parts, ["crm.quote"])] == ["crm.quote"]
        with pytest.raises(InvalidInput, match="there is no known issue 'nobody'"):
            await exchange.handed_out(parts, ["nobody"])

    async def comes_in(world: World) -> None:
        came = await exchange.take_in(world.parts, read_pack(texts[0]), by="bob", replaces=True)
        assert (sorted(came.added), came.changed) == (["crm-1f2e3d4c", "crm.quote"], ("oauthed.gone",))
        async with world.store.transaction() as tx:
            after = {one.id: one for one in await tx.learning.issues()}
        for name, pattern in before.items():
            came_in = pattern_of(after[name])
            assert sought(came_in) == sought(pattern)
        assert after["crm-1f2e3d4c"].title.startswith("Recurring [31m error: xxx")
        assert after["crm-1f2e3d4c"].remedies[0].acts_at is Level.L2
        assert SHIPPED[1].id not in after

    curate(sqlite_path, goes_out)
    curate(sqlite_path, comes_in)


@pytest.mark.parametrize("spelled", ["swordfish-blue-harbour", r"swordfish\-blue\-harbour"])
def test_secret_in_a_pattern_comes_neither_in_nor_out(sqlite_path: Path, spelled: str) -> None:
    """Refused when it is written, changed or imported; one that became a secret later is not handed out."""
    secret = "swordfish-blue-harbour"
    entry = {"id": "crm.spelled", "pattern": f"list of {spelled} is stale"}

    async def story(world: World) -> None:
        await curation.create(world.parts, entry, by="ada")
        assert len(await exchange.handed_out(world.parts, ["crm.spelled"])) == 1
        redact.register(secret)
        try:
            for chosen in (["crm.spelled"], []):
                with pytest.raises(InvalidInput, match=r"crm\.spelled: a secret stands in its pattern"):
                    await exchange.handed_out(world.parts, chosen)
            with pytest.raises(InvalidInput, match="a secret stands in its pattern"):
                await curation.create(world.parts, {**entry, "id": "crm.again"}, by="ada")
            with pytest.raises(InvalidInput, match="a secret stands in its pattern"):
                await exchange.take_in(
                    world.parts, read_pack(f"- {{id: crm.pack, pattern: {spelled} it is}}\n"), by="ada"
                )
            changed = {"pattern": "list of [a-z-]{5,40} is stale"}
            await curation.change(world.parts, "crm.spelled", changed, by="ada")
            assert len(await exchange.handed_out(world.parts, ["crm.spelled"])) == 1
        finally:
            redact.forget(secret)

    curate(sqlite_path, story)


def test_password_that_is_a_word_of_a_shipped_pattern_stops_no_pack(sqlite_path: Path) -> None:
    """What comes with prunella is public: it goes out and comes in, whatever word somebody took for a password."""
    redact.register("integration")

    async def story(world: World) -> None:
        (shipped,) = [one for one in builtin() if one.pattern.id == "github.app-permission-missing"]
        came = await exchange.take_in(world.parts, (shipped,), by="ada")
        assert came.added == (shipped.pattern.id,)
        assert shipped.pattern.expression in write_pack(await exchange.handed_out(world.parts))

    curate(sqlite_path, story)
