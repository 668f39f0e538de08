"""Whatever a remedy does, an outcome comes back, scrubbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.world import CRM, World, play
from prunella.core.errors import InvalidInput, SecretError, StoreUnavailable
from prunella.engine.perform import perform
from prunella.remedies.contract import Outcome, Target

TARGET = Target(service=CRM, account="", incident_id="i", idempotency_key="k")
TOKEN = "xoxb-1234567890-abcdefghijklmnop"


@pytest.mark.parametrize(
    ("raised", "outcome", "told"),
    [
        (StoreUnavailable("locked"), Outcome(ok=False, busy=True, detail="locked"), 0),
        (SecretError("not set"), Outcome(ok=False, detail="not set", needs_person="not set"), 0),
        (InvalidInput("not its own"), Outcome(ok=False, detail="not its own", needs_person="not its own"), 0),
        (ValueError("a detail"), Outcome(ok=False, detail="the remedy replay raised ValueError"), 1),
    ],
)
def test_raising_remedy_becomes_an_outcome(sqlite_path: Path, raised: Exception, outcome: Outcome, told: int) -> None:
    """Our tables away: busy; refused by us: a person's; a bug: a failure that says so and is heard of as our own."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [raised]
        assert await perform(world.parts, "replay", lambda: TARGET) == outcome
        assert len(world.emitted("engine.failed")) == told

    play(sqlite_path, story)


def test_target_that_cannot_be_made_is_an_outcome_too(sqlite_path: Path) -> None:
    """A payload that does not open any more fails this attempt, not the engine."""

    async def story(world: World) -> None:
        def target() -> Target:
            raise SecretError("operations:1: sealed with another key")

        outcome = await perform(world.parts, "replay", target)
        assert outcome.needs_person == "operations:1: sealed with another key"
        assert world.hands.deeds == []

    play(sqlite_path, story)


def test_words_of_a_remedy_are_scrubbed(sqlite_path: Path) -> None:
    """What a service answered may hold a token; what goes into rows and messages does not."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [Outcome(ok=False, detail=f"bad {TOKEN}", needs_person=f"renew {TOKEN}")]
        outcome = await perform(world.parts, "replay", lambda: TARGET)
        assert TOKEN not in f"{outcome.detail} {outcome.needs_person}"
        assert "renew" in (outcome.needs_person or "")

    play(sqlite_path, story)
