"""Bugs to plant in the workers: each breaks one promise, and the ledger has to say so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import update

from prunella.core.states import RunState
from prunella.engine import heal, intake, retention
from prunella.engine.intake import Arrival
from prunella.engine.parts import Parts
from prunella.engine.report import Receipt
from prunella.guard.board import SqlBoard
from prunella.remedies.contract import Target
from prunella.store import incidents, operations
from prunella.store.credentials import CredentialRows
from prunella.store.sql import Sql, member_of, param
from prunella.store.tables import incidents as incident_table
from prunella.store.tables import operations as operation_table
from prunella.web.inbound import door

_LATER_S = 3.0
_KEPT_BYTES = 20_000


def _put(place: object, name: str, value: object) -> None:
    assert hasattr(place, name), f"{place} has no {name}: the bug can't be planted any more"
    setattr(place, name, value)


def _new_key_per_try() -> None:
    """Forget that a repeat must carry the key of the first try."""
    target = heal._target

    def with_a_new_key(*given: Any) -> Target:
        run = given[3]
        return replace(target(*given), idempotency_key=f"{run.idempotency_key}-{run.attempt}")

    _put(heal, "_target", with_a_new_key)


def _repeat_keyless() -> None:
    """Repeat what a death interrupted wherever it went."""
    _put(heal, "_REPEATABLE", heal._REPEATABLE | {"POST"})


def _claim_without_looking() -> None:
    """Take what is open whoever has it, and begin what is to be replayed whether or not it is begun."""
    t, o = incident_table, operation_table
    claim = (
        update(t)
        .where(t.c.id == param("id_"), t.c.state.in_(["pending", "open", "healing", "verifying"]))
        .values(claimed_by=param("worker"), lease_until=param("until"), state="healing", version=t.c.version + 1)
        .returning(*t.c)
    )
    begin = (
        update(o).where(member_of(o.c.id, "ids")).values(state="running", attempts=o.c.attempts + 1).returning(o.c.id)
    )
    _put(incidents, "_CLAIM", Sql(claim))
    _put(operations, "_BEGIN", Sql(begin))


def _accept_before_commit() -> None:
    """Answer every third batch first, and write it later."""
    record = intake.record
    later: set[asyncio.Task[Any]] = set()
    batches = itertools.count()

    async def write(parts: Parts, arrivals: Sequence[Arrival]) -> None:
        await asyncio.sleep(_LATER_S)
        await record(parts, arrivals)

    async def at_once(parts: Parts, arrivals: Sequence[Arrival]) -> list[Receipt]:
        if next(batches) % 3:
            return await record(parts, arrivals)
        later.add(asyncio.get_running_loop().create_task(write(parts, arrivals)))
        return [Receipt(None, arrival.signal.id, duplicate=False) for arrival in arrivals]

    _put(intake, "record", at_once)


def _answer_and_forget() -> None:
    """Answer every third batch, and never write it."""
    record = intake.record
    batches = itertools.count()

    async def perhaps(parts: Parts, arrivals: Sequence[Arrival]) -> list[Receipt]:
        if next(batches) % 3:
            return await record(parts, arrivals)
        return [Receipt(None, arrival.signal.id, duplicate=False) for arrival in arrivals]

    _put(intake, "record", perhaps)


def _hide_the_unknown() -> None:
    """Write down that what a death interrupted has failed, as if anybody knew."""

    class Failed:
        RUNNING = RunState.RUNNING
        UNKNOWN = RunState.FAILED

    _put(heal, "RunState", Failed)


def _refresh_by_everybody() -> None:
    """Refresh a token without asking who else does."""

    async def won(*_: object) -> bool:
        return True

    _put(CredentialRows, "claim_refresh", won)


def _keep_every_event() -> None:
    """Never let go of what was reported."""
    record = intake.record
    kept: list[bytes] = []

    async def keep(parts: Parts, arrivals: Sequence[Arrival]) -> list[Receipt]:
        kept.extend(bytes(_KEPT_BYTES) for _ in arrivals)
        return await record(parts, arrivals)

    _put(intake, "record", keep)


def _forget_nothing() -> None:
    """Keep every row for ever."""

    async def nothing(*_: object, **__: object) -> dict[str, int]:
        return {}

    _put(retention, "forget", nothing)


def _count_every_copy() -> None:
    """Take each copy of a delivery for another event."""
    record = intake.record
    copies = itertools.count()

    async def apart(parts: Parts, arrivals: Sequence[Arrival]) -> list[Receipt]:
        renamed = [replace(one.signal, event_id=f"{one.signal.event_id}:{next(copies)}") for one in arrivals]
        return await record(parts, [replace(one, signal=signal) for one, signal in zip(arrivals, renamed, strict=True)])

    _put(intake, "record", apart)


def _believe_every_signature() -> None:
    """Let in whoever signs anything."""
    _put(door, "is_genuine", lambda *_: True)


def _everybody_probes() -> None:
    """Give the right to probe to every process that asks."""
    _put(SqlBoard, "may_probe", lambda *_: True)


PLANTS: dict[str, Callable[[], None]] = {
    "new key per try": _new_key_per_try,
    "repeat keyless": _repeat_keyless,
    "claim without looking": _claim_without_looking,
    "accept before commit": _accept_before_commit,
    "answer and forget": _answer_and_forget,
    "hide the unknown": _hide_the_unknown,
    "refresh by everybody": _refresh_by_everybody,
    "count every copy": _count_every_copy,
    "believe every signature": _believe_every_signature,
    "everybody probes": _everybody_probes,
    "keep every event": _keep_every_event,
    "forget nothing": _forget_nothing,
}
