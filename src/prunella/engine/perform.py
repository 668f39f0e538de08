"""Let a remedy act, and take its word with care: nothing it raises passes, nothing it says goes on unscrubbed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prunella.core import redact
from prunella.core.errors import PrunellaError, StoreError
from prunella.engine.parts import Parts
from prunella.remedies.contract import Outcome, Target


async def perform(parts: Parts, remedy: str, target: Callable[[], Target]) -> Outcome:
    """Act once on what `target` describes; whatever happens comes back as an outcome."""
    try:
        outcome = await parts.act(remedy, target())
    except StoreError as error:  # our own tables are away: that says nothing about the service
        outcome = Outcome(ok=False, busy=True, detail=str(error))
    except PrunellaError as error:  # a missing secret, a host that is not the service's: no repetition helps
        outcome = Outcome(ok=False, detail=str(error), needs_person=str(error))
    except Exception as error:
        parts.listeners.emit("engine.failed", handler=remedy, error=type(error).__name__)
        outcome = Outcome(ok=False, detail=f"the remedy {remedy} raised {type(error).__name__}")
    person = redact.scrub(outcome.needs_person) if outcome.needs_person else None
    return replace(outcome, detail=redact.scrub(outcome.detail), needs_person=person)
