"""A chain of seals over the audit: what was written can't be changed, removed or put in between without showing.

A seal covers a batch of entries and the seal before it. Whoever can write to the database could make the whole chain
anew; so each new seal is told to the log, and `verify` takes a seal noted elsewhere to compare with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prunella.core.records import AuditEntry, Seal
from prunella.engine import trail
from prunella.engine.parts import Parts
from prunella.store.audit import Asked
from prunella.store.contract import Transaction, again_on_conflict

HANDLER: Final = "seals"
EVERY: Final = timedelta(seconds=30)
SETTLED: Final = timedelta(seconds=5)
"""Younger entries wait: their transactions may not have ended, and ids of before would come after."""
BATCH: Final = 500
TRAIL: Final = "audit"
BROKEN: Final = "audit.broken"
CHECKED_WITHIN: Final = timedelta(days=7)
_AT_ONCE: Final = 20
_KEPT_AT_LEAST: Final = timedelta(days=7)  # the shortest retention of the audit that settings allow
_ENTRY: Final = ("id", "at", "actor", "action", "target", "incident_id", "reason", "details")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a look at the whole chain found.

    Args:
        entries: those that stand under a seal and were compared with it.
        forgotten: seals whose entries retention let go; of these only the chain is checked.
        unsealed: entries that wait for their seal.
        last: the end of the chain, to be noted elsewhere; None where nothing is sealed.
        broken: the first seal that is not as it was; None: all are.
    """

    seals: int
    entries: int
    forgotten: int
    unsealed: int
    last: Seal | None
    broken: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The end of the chain, what waits for its seal, and what a person found within `CHECKED_WITHIN`."""

    last: Seal | None
    unsealed: int
    checked: AuditEntry | None

    @property
    def broken(self) -> bool:
        """Tell whether that look found it broken."""
        return self.checked is not None and self.checked.action == BROKEN


async def seal_in_turn(parts: Parts) -> None:
    """Seal what is due, and look again in a while."""
    try:
        await seal(parts)
    finally:
        await parts.runner.submit(HANDLER, at=parts.clock.now() + EVERY)


async def seal(parts: Parts) -> int:
    """Seal all entries that are old enough; return how many."""
    sealed = 0
    while (count := await _seal_batch(parts)) > 0:
        sealed += count
        if count < BATCH:
            break
        await parts.give_way()
    return sealed


@again_on_conflict
async def _seal_batch(parts: Parts) -> int:
    async with parts.store.transaction() as tx:
        await tx.seals.take_turn()
        now = parts.clock.now()
        entries = await tx.seals.unsealed(now - SETTLED, BATCH)
        if not entries:
            return 0
        made = seal_over(entries, await tx.seals.last(), now)
        await tx.seals.put(made, [entry.id for entry in entries])
        tx.on_commit(
            lambda: parts.listeners.emit("audit.sealed", number=made.number, digest=made.digest, entries=made.entries)
        )
    return len(entries)


def seal_over(entries: Sequence[AuditEntry], last: Seal | None, now: datetime) -> Seal:
    """Return the seal that follows `last`, over `entries`."""
    made = Seal(
        number=last.number + 1 if last is not None else 1,
        previous=last.digest if last is not None else "",
        content=content_of(entries),
        digest="",
        entries=len(entries),
        sealed_at=now,
    )
    return replace(made, digest=digest_of(made))


def content_of(entries: Sequence[AuditEntry]) -> str:
    """Return the digest of entries, in the order of their ids."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda one: one.id):
        digest.update(_canonical({name: getattr(entry, name) for name in _ENTRY}))
        digest.update(b"\n")
    return digest.hexdigest()


def digest_of(seal: Seal) -> str:
    """Return the digest of what a seal says; not of when it was forgotten, which comes later."""
    said = ("number", "previous", "content", "entries", "sealed_at")
    return hashlib.sha256(_canonical({name: getattr(seal, name) for name in said})).hexdigest()


def _canonical(value: Any) -> bytes:
    """Write a value as the one JSON text that it has: names in order, no blanks, moments in UTC to the microsecond."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_moment)
    return text.encode("utf-8", "surrogatepass")


def _moment(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"an audit entry can't hold {type(value).__name__}")
    return value.astimezone(UTC).isoformat(timespec="microseconds")


async def verify(parts: Parts, noted: tuple[int, str] | None = None) -> Checked:
    """Compare every entry with its seal and every seal with the one before; stop at the first that is broken.

    Args:
        noted: number and digest of a seal as somebody noted it; shows whether the chain was made anew since.
    """
    before: Seal | None = None
    entries = forgotten = 0
    async with parts.store.transaction() as tx:
        unsealed, astray = await tx.seals.count_unsealed(), await tx.seals.astray()
    why = ""
    while not why:
        async with parts.store.transaction() as tx:
            seals = await tx.seals.after(before.number if before is not None else 0, _AT_ONCE)
            for one in seals:
                counted, why = await _checked(tx, one, before, noted)
                if why:
                    return _found(before, entries, forgotten, unsealed, _gap(before, one), why)
                entries, forgotten = entries + counted, forgotten + (one.forgotten_at is not None)
                before = one
        if not seals:
            break
        await parts.give_way()
    if astray is not None and not await _has(parts, astray):
        return _found(before, entries, forgotten, unsealed, astray, f"entries stand under seal {astray}, which is gone")
    if noted is not None and (before is None or before.number < noted[0]):
        last = before.number if before is not None else 0
        return _found(before, entries, forgotten, unsealed, noted[0], f"was noted, and the chain ends at {last}")
    return _found(before, entries, forgotten, unsealed, None, "")


async def check(parts: Parts, *, by: str) -> Checked:
    """Look at the whole chain for a person, and note in the audit what was found; `stands` tells it again."""
    found = await verify(parts)
    last = f"up to seal {found.last.number}" if found.last is not None else "no seal yet"
    reason = f"{found.entries} entries as they were written, {last}"
    if found.broken is not None:
        reason = f"seal {found.broken} is broken: {found.why}"
    async with parts.store.transaction() as tx:
        await trail.note(parts, tx, "audit.checked" if found.broken is None else BROKEN, TRAIL, reason=reason, by=by)
    return found


async def stands(parts: Parts) -> Standing:
    """Return how the chain stands, without reading it."""
    lately = Asked(action=f"{TRAIL}.", target=TRAIL, since=parts.clock.now() - CHECKED_WITHIN)
    async with parts.store.transaction() as tx:
        last, unsealed = await tx.seals.last(), await tx.seals.count_unsealed()
        checked = await tx.audit.asked(lately, most=1)
    return Standing(last=last, unsealed=unsealed, checked=checked[0] if checked else None)


def _found(last: Seal | None, entries: int, forgotten: int, unsealed: int, broken: int | None, why: str) -> Checked:
    seals = last.number if last is not None else 0
    return Checked(
        seals=seals, entries=entries, forgotten=forgotten, unsealed=unsealed, last=last, broken=broken, why=why
    )


def _gap(before: Seal | None, one: Seal) -> int:
    """Return the number that breaks the chain: one that is missing, or this one."""
    return min(one.number, before.number + 1 if before is not None else 1)


async def _checked(tx: Transaction, one: Seal, before: Seal | None, noted: tuple[int, str] | None) -> tuple[int, str]:
    """Return how many entries stand under a seal as they did, and what is wrong with it, where something is."""
    expected = before.number + 1 if before is not None else 1
    if one.number != expected:
        return 0, f"is missing; the next one is {one.number}"
    if one.previous != (before.digest if before is not None else ""):
        return 0, "does not follow the seal before it"
    if digest_of(one) != one.digest:
        return 0, "its own digest does not fit what it says"
    if noted is not None and noted[0] == one.number and noted[1] != one.digest:
        return 0, "is another one than was noted"
    wrong = await _under(tx, one)
    if wrong and one.forgotten_at is None:  # retention may have let it go between two statements
        again = await tx.seals.get(one.number)
        if again is not None and again != one:
            one, wrong = again, await _under(tx, again)
    return (0 if one.forgotten_at is not None else one.entries), wrong


async def _under(tx: Transaction, one: Seal) -> str:
    """Return what is wrong with the entries under a seal."""
    entries = await tx.seals.under(one.number)
    if one.forgotten_at is not None:
        if one.forgotten_at - one.sealed_at < _KEPT_AT_LEAST:
            return "was marked as forgotten sooner than retention does"
        return f"was forgotten, and {len(entries)} entries still stand under it" if entries else ""
    if len(entries) != one.entries:
        return f"{len(entries)} entries stand under it, where there were {one.entries}"
    return "" if content_of(entries) == one.content else "an entry under it is not as it was"


async def _has(parts: Parts, number: int) -> bool:
    async with parts.store.transaction() as tx:
        return await tx.seals.get(number) is not None
