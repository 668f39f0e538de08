"""How fast may our calls to a service begin? Pure: a bucket of tokens in the gate, its rate learned (HEAL_RATE_001).

Document A's figures: x 0.8 on a 429, x 1.1 while all goes well, between a tenth and twice the configured rate. The
gate is one row, read under its lock, so the rate holds for all workers together.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from prunella.core.records import Gate
from prunella.core.services import Service

_SLOWER, _FASTER = 0.8, 1.1
_LEAST, _MOST = 0.1, 2.0
_BURST_S = 0.5  # so much may begin at once after a rest; more would be a peak that services count against us
_GOOD_MIN = 10
_FASTER_EVERY = timedelta(seconds=1)
_WHOLE = 1.0 - 1e-6  # a token that is due now may be short of a rounding


def of(gate: Gate, service: Service | None) -> float | None:
    """Return how many calls per second may begin, within what is configured now; None where nothing limits them."""
    initial = service.rate_per_s if service is not None else None
    if initial is None:
        return None
    learned = gate.rate_per_s if gate.rate_per_s is not None else initial
    return min(max(learned, initial * _LEAST), initial * _MOST)


def bounds(service: Service) -> tuple[float, float] | None:
    """Return between which rates it learns; None where nothing limits them."""
    initial = service.rate_per_s
    return None if initial is None else (initial * _LEAST, initial * _MOST)


def filled(gate: Gate, service: Service | None, now: datetime) -> Gate:
    """Count the tokens as they are now."""
    rate = of(gate, service)
    if rate is None:
        return gate
    burst = max(1.0, rate * _BURST_S)
    if gate.tokens_at is None:
        return replace(gate, rate_per_s=rate, tokens=burst, tokens_at=now)
    passed_s = max((now - gate.tokens_at).total_seconds(), 0.0)
    tokens = min(gate.tokens + rate * passed_s, burst)
    return replace(gate, rate_per_s=rate, tokens=tokens, tokens_at=max(now, gate.tokens_at))


def begun(gate: Gate, service: Service | None, calls: int) -> Gate:
    """Take a token for each call that begins."""
    return gate if of(gate, service) is None else replace(gate, tokens=gate.tokens - calls)


def free(gate: Gate, service: Service | None) -> int | None:
    """Return how many calls may begin at once, None where nothing limits them; tokens have to be counted before."""
    return None if of(gate, service) is None else max(int(gate.tokens + 1.0 - _WHOLE), 0)


def next_at(gate: Gate, service: Service | None, now: datetime) -> datetime:
    """Return when the next token is there."""
    rate = of(gate, service)
    missing = max(_WHOLE - gate.tokens, 0.0)
    return now if rate is None else now + timedelta(seconds=missing / rate)


def learned(gate: Gate, service: Service | None, now: datetime, *, began: datetime, good: int, refused: int) -> Gate:
    """Let calls that began at `began` teach the rate: one step down per round, however many 429s it brought.

    A call that began before the last step says nothing about the rate since.
    """
    rate = of(gate, service)
    if rate is None or (gate.rate_since is not None and began < gate.rate_since):
        return gate
    if refused:
        slower = replace(gate, rate_per_s=rate * _SLOWER, rate_since=now, rate_good=0)
        return replace(slower, rate_per_s=of(slower, service))
    gate = replace(gate, rate_good=gate.rate_good + good)
    rested = gate.rate_since is None or now - gate.rate_since >= _FASTER_EVERY
    if gate.rate_good < _GOOD_MIN or not rested:
        return gate
    faster = replace(gate, rate_per_s=rate * _FASTER, rate_since=now, rate_good=0)
    return replace(faster, rate_per_s=of(faster, service))


def spell(gate: Gate, service: Service) -> str:
    """Say how fast the lane goes, as people read it."""
    rate = of(gate, service) or 0.0
    was = "" if rate == service.rate_per_s else f" (learned; configured {service.rate_per_s:g})"
    return f"{rate:.3g} calls per second{was}"
