"""Is it proven to be well again? Pure: looks at what came back, never at who claims success."""

from __future__ import annotations

from dataclasses import dataclass

from prunella.core.records import Signal

_MANY = 1000  # from so many on the store no longer counts what is done


@dataclass(frozen=True, slots=True)
class Verification:
    """What the look showed: `proven` True heals, False disproves, None leaves it open."""

    proven: bool | None
    how: str


def by_operations(operations: dict[str, int]) -> Verification:
    """Judge by the replays: each answered as its service promises, and none is left."""
    done = operations.get("done", 0)
    left = operations.get("waiting", 0) + operations.get("running", 0)
    dead = operations.get("dead", 0)
    total = done + left + dead
    if not total:
        return Verification(None, "there is no request whose success could prove it")
    if left and "done" not in operations and left >= _MANY:
        return Verification(None, f"{left:,} requests and more to go")
    if left:
        return Verification(None, f"{done} of {total} requests went through, {left} to go")
    if dead:
        return Verification(False, f"{done} of {total} requests went through, {dead} in quarantine")
    return Verification(True, f"{done} of {total} replayed requests answered as expected")


def by_probe(ok: bool, detail: str) -> Verification:
    """Judge by the service's own health check."""
    return Verification(ok, f"health check: {detail}")


def by_person(name: str) -> Verification:
    """Take a person's word, where nothing else can tell."""
    return Verification(True, f"on the word of {name}")


def by_success(signal: Signal) -> Verification:
    """Judge by a success that was reported from outside."""
    return Verification(True, f"success reported by {signal.source} ({signal.event_id})")
