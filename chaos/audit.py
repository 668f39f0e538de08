"""What became of everything: read from the tables and from the third parties, and never from what a worker says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import OperationalError

from chaos.book import Book
from chaos.crew import Death
from chaos.killer import Outage
from chaos.stories import Shop, with_schema
from chaos.world import World, event_id, has_keys

_FATES = """
SELECT s.event_id, s.incident_id, s.service, o.id, o.state, o.last_error, o.payload_sealed IS NOT NULL
FROM signals s LEFT JOIN operations o ON o.signal_id = s.id
"""
_RUNS = "SELECT id, worker, service, state, operation_id, started_at, ended_at FROM runs ORDER BY started_at, id"
_LEFT = """
SELECT 'an operation', id, state || ': ' || coalesce(last_error, '') FROM operations
WHERE state IN ('waiting', 'running')
UNION ALL SELECT 'an incident', id, state || ': ' || coalesce(held_reason, '') FROM incidents
WHERE state NOT IN ('resolved', 'escalated') OR lease_until IS NOT NULL
UNION ALL SELECT 'a run', id, state FROM runs WHERE state IN ('planned', 'running')
"""
_PUT_OFF = "SELECT id FROM procrastinate_jobs WHERE jsonb_exists(args, 'deaths') AND scheduled_at > now()"


def left(database_url: str) -> list[tuple[str, str, str]]:
    """Return what is not settled yet."""
    try:
        return [(str(what), str(which), str(how)) for what, which, how in _rows(database_url, _LEFT)]
    except OperationalError as error:
        return [("the database", "is away", type(error).__name__)]


def is_put_off(database_url: str) -> bool:
    """Tell whether calls over which workers died wait for their time; on SQLite no queue outlives its process."""
    return not database_url.startswith("sqlite") and bool(_rows(database_url, _PUT_OFF))


def enter(
    book: Book,
    database_url: str,
    world: World,
    accepted: set[int],
    deaths: Sequence[Death],
    outages: Sequence[Outage] = (),
) -> None:
    """Judge events, effects and interruptions."""
    fates = _rows(database_url, _FATES)
    runs = [(*row[:5], _moment(row[5]), _moment(row[6])) for row in _rows(database_url, _RUNS)]
    operations = {row[3]: row for row in fates if row[3] is not None}
    _events(book, world, accepted, fates)
    _effects(book, world)
    _interruptions(book, runs, operations, deaths)
    _alone(book, runs)
    _taken_for_dead(book, runs, deaths, outages)
    book.blame("left undecided", [" ".join(one) for one in left(database_url)])


def _events(book: Book, world: World, accepted: set[int], fates: Sequence[Sequence[Any]]) -> None:
    """Every accepted event is done, or in quarantine with its reason; what is called done was done."""
    by_event = {row[0]: row for row in fates}
    wanted = {event_id(number): f"order-{number}" for number in accepted}
    done = {one for one in wanted if one in by_event and by_event[one][4] == "done"}
    unknown = {one for one in wanted if one in by_event and _is_unknown(by_event[one])}
    undecided = {one for one in wanted if one in by_event and by_event[one][4] in ("waiting", "running")}
    lost = sorted(set(wanted) - done - unknown - undecided)
    effects = {**world.honest.ledger.effects_by_key, **world.forgetful.ledger.effects_by_key}
    book.count("events accepted", len(accepted))
    book.count("done", len(done))
    book.count("quarantined as unknown", len(unknown))
    book.count("undecided at the end", len(undecided), must_be=0)
    book.count("lost", len(lost), must_be=0)
    book.blame("lost", [f"{one} {by_event.get(one, ('not in the tables',))[1:6]}" for one in lost])
    book.blame("called done and never done", sorted(one for one in done if wanted[one] not in effects))
    with_keys = [one for one in unknown if has_keys(by_event[one][2])]
    book.blame("in quarantine although the service honours keys", sorted(with_keys))
    book.blame("stored twice", [row[0] for row in fates if len(fates) != len(by_event)])


def _is_unknown(row: Sequence[Any]) -> bool:
    return row[4] == "dead" and str(row[5]).startswith("outcome unknown")


def _effects(book: Book, world: World) -> None:
    """Nothing is done twice; replays show that the dangerous moment was met."""
    honest, forgetful = world.honest.ledger, world.forgetful.ledger
    book.count("calls", len(honest.requests) + len(forgetful.requests))
    book.count("replays answered from the key", honest.replayed_from_key)
    book.count("double effects with keys", honest.double_effects, must_be=0)
    book.count("double effects without keys", forgetful.double_effects, must_be=0)
    book.blame("keys used for something else", [honest.key_misuses] * bool(honest.key_misuses))


def _interruptions(
    book: Book, runs: Sequence[Sequence[Any]], operations: Mapping[str, Sequence[Any]], deaths: Sequence[Death]
) -> None:
    """What a death interrupted is shown as unknown, and repeated only where keys are honoured."""
    died = {death.worker.pid: datetime.fromtimestamp(death.at_epoch_s, UTC) for death in deaths}
    interrupted = [row for row in runs if _pid(row[1]) in died and (row[6] is None or row[6] > died[_pid(row[1])])]
    honest = [row for row in interrupted if row[3] == "unknown"]
    keyless = [row for row in interrupted if not has_keys(row[2])]
    shown = [row for row in keyless if row[3] == "unknown" and _is_unknown(operations.get(row[4], ("",) * 6))]
    book.count("interrupted runs", len(interrupted))
    book.count("of these shown as unknown", len(honest), must_be=len(interrupted))
    book.count("keyless interruptions", len(keyless))
    book.count("of these in quarantine as unknown", len(shown), must_be=len(keyless))
    for row in keyless:
        again = [one[0] for one in runs if one[4] == row[4] and one[5] > row[5]]
        book.blame(f"repeated although nobody knows what became of {row[0]}", again)


def _alone(book: Book, runs: Sequence[Sequence[Any]]) -> None:
    """No attempt begins while another one of the same operation goes on."""
    ends: dict[str, datetime] = {}
    twice = []
    for row in runs:
        if row[4] in ends and row[5] < ends[row[4]]:
            twice.append(row[0])
        ends[row[4]] = max(row[6] or row[5], ends.get(row[4], row[5]))
    book.count("attempts beside another of the same operation", len(twice), must_be=0)


def _taken_for_dead(
    book: Book, runs: Sequence[Sequence[Any]], deaths: Sequence[Death], outages: Sequence[Outage]
) -> None:
    """Nobody's attempt is given up while it lives, unless PostgreSQL was away and it could not settle."""
    died = {death.worker.pid: death.at_epoch_s for death in deaths}
    wrong = []
    for run_id, worker, _, state, _, started_at, ended_at in runs:
        lived = state == "unknown" and ended_at.timestamp() < died.get(_pid(worker), float("inf"))
        if lived and not any(
            started_at.timestamp() < outage.until_epoch_s and outage.from_epoch_s < ended_at.timestamp()
            for outage in outages
        ):
            wrong.append(f"{run_id} of {worker}")
    book.count("live workers taken for dead", len(wrong), must_be=0)


def _pid(worker: str) -> int:
    """Return the process in a worker's name, `host:pid` with or without more."""
    return int(worker.split(":")[1])


def _rows(database_url: str, query: str) -> list[tuple[Any, ...]]:
    store = Shop(with_schema(database_url))
    try:
        return store.rows(query)
    finally:
        store.close()


def _moment(told: datetime | str | None) -> datetime | None:
    """Return a time as PostgreSQL gives it; SQLite gives its text."""
    return datetime.fromisoformat(told) if isinstance(told, str) else told
