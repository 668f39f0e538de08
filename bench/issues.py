"""What a change of one known issue costs every process that seeks 10,000 of them, in time of its own processor.

On SQLite its loop stands still for all of that; on PostgreSQL other work comes in between. Floor: all are read anew.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from chaos.postgres import postgres

from bench.harness import Options, Report, Row, Spread
from bench.known import drawn
from prunella.core.clock import SystemClock
from prunella.core.issues import Binding, KnownIssue
from prunella.engine.learning.known import KnownIssues
from prunella.store import migrations
from prunella.store.contract import Store
from prunella.store.postgres import PostgresStore
from prunella.store.sqlite import SqliteStore

_COUNT = 10_000
_BLOCKED_MS_MAX = 20.0
_NOW = datetime(2026, 3, 1, tzinfo=UTC)


def run(options: Options) -> Report:
    """Measure both databases."""
    count = options.amount(_COUNT)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prunella.db"
        migrations.upgrade(f"sqlite:///{path}")
        rows += asyncio.run(_on("SQLite", SqliteStore.open_file(path, SystemClock()), count, options.rounds))
    with postgres() as server:
        migrations.upgrade(server.uri())
        rows += asyncio.run(_on_postgres(server.uri(), count, options.rounds))
    return Report(f"Known issues: {count:,} of them, and one changes", rows)


async def _on_postgres(url: str, count: int, rounds: int) -> list[Row]:
    return await _on("PostgreSQL", await PostgresStore.open(url), count, rounds)


async def _on(name: str, store: Store, count: int, rounds: int) -> list[Row]:
    rng = random.Random(5)
    async with store.transaction() as tx:
        await tx.learning.add([_issue(rng, number) for number in range(count)], _NOW)
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        known = KnownIssues(store.clock)
        for what, changed in (
            ("all of them are read", 0),
            ("nothing changed", 0),
            ("one changed", 1),
            ("100 changed", 100),
        ):
            await _change(store, rng.sample(range(count), min(changed, count)))
            figures.setdefault(what, []).append(await _refreshed_ms(store, known))
    await store.close()
    anew = Spread.of(figures["all of them are read"])
    return [_row(f"{name}: {what}", values, anew if "changed" in what else None) for what, values in figures.items()]


async def _change(store: Store, numbers: Sequence[int]) -> None:
    async with store.transaction() as tx:
        for issue in await tx.learning.some_issues([f"known-{number}" for number in numbers]):
            await tx.learning.save(replace(issue, expression=f"{issue.expression}x?"), store.clock.now())


async def _refreshed_ms(store: Store, known: KnownIssues) -> float:
    known.forget()
    async with store.transaction() as tx:
        begun_s = time.process_time()
        await known.refresh(tx)
        return (time.process_time() - begun_s) * 1000


def _issue(rng: random.Random, number: int) -> KnownIssue:
    pattern = drawn(rng, number)
    return KnownIssue(
        id=pattern.id, title="Recurring error: it happened again", expression=pattern.expression,
        ignore_case=pattern.ignore_case, cause="what is wrong, in a sentence", advice="what a person does about it",
        tags=("auto_detected", "crm"), remedies=(Binding(remedy="refresh_auth"),), created_at=_NOW, created_by="bench",
    )  # fmt: skip


def _row(what: str, values: list[float], floor: Spread | None) -> Row:
    ours = Spread.of(values)
    aimed = what.endswith("one changed")
    return Row(
        what=what, unit="ms", ours=ours, floor=floor, target=f"<= {_BLOCKED_MS_MAX:g}" if aimed else "",
        met=ours.median <= _BLOCKED_MS_MAX if aimed else None,
    )  # fmt: skip
