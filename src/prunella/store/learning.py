"""Rows of what is learned: patterns that may become known, known issues, and what became of remedies.

Counting is done where the row stands, so that several workers add up; what is decided about an issue is a
compare-and-set, as everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import case, delete, func, or_, select, update

from prunella.core.errors import Conflict
from prunella.core.issues import Binding, Candidate, Evidence, IssueState, KnownIssue
from prunella.store.session import Session, must_change, record, records, row_of
from prunella.store.sql import Row, Sql, member_of, param
from prunella.store.tables import evidence as e
from prunella.store.tables import known_issues as k
from prunella.store.tables import patterns as p

_CANDIDATE = Sql(select(p).where(p.c.fingerprint == param("fingerprint_")))
_READY = Sql(
    select(p)
    .where(p.c.occurrences >= param("least"), p.c.issue_id.is_(None), p.c.refused.is_(None))
    .order_by(p.c.first_seen)
    .limit(param("most"))
)
_CANDIDATES = Sql(
    select(p).where(p.c.issue_id.is_(None)).order_by(p.c.occurrences.desc(), p.c.last_seen.desc()).limit(param("most"))
)
_MESSAGES = Sql(
    select(p).where(p.c.fingerprint != param("fingerprint_")).order_by(p.c.last_seen.desc()).limit(param("most"))
)
_SETTLE = Sql(
    update(p).where(p.c.fingerprint == param("fingerprint_")).values(issue_id=param("issue"), refused=param("why"))
)
_FIRST_BEYOND = Sql(
    select(p.c.last_seen, p.c.fingerprint)
    .order_by(p.c.last_seen.desc(), p.c.fingerprint.desc())
    .offset(param("kept"))
    .limit(1)
)
_FORGET = Sql(
    delete(p).where(
        p.c.last_seen <= param("moment"),
        or_(p.c.last_seen < param("moment"), p.c.fingerprint <= param("print")),
    )
)

_COUNTED = ("occurrences", "unfixed", "failed_fixes", "last_window", "first_seen", "last_seen")
_BY_ID = Sql(select(k).where(k.c.id == param("id_")))
_TAKE = Sql(select(k).where(k.c.id == param("id_")).with_for_update())
_ALL = Sql(select(k).order_by(k.c.id))
_SOME = Sql(select(k).where(member_of(k.c.id, "ids")))
_STAMPS = Sql(select(k.c.id, k.c.version, k.c.changed_at).where(k.c.changed_at >= param("since")))
_STATE = Sql(
    select(
        func.max(k.c.changed_at).label("at"),
        func.count().label("count"),
        func.coalesce(func.sum(k.c.version), 0).label("changes"),
    )
)
_SAVE = Sql(
    update(k)
    .where(k.c.id == param("id_"), k.c.version == param("was"))
    .values(
        version=k.c.version + 1,
        changed_at=param("now"),
        **{
            column.name: param(column.name)
            for column in k.c
            if column.name not in ("id", "version", "changed_at", *_COUNTED)
        },
    )
)
_SEEN = Sql(
    update(k)
    .where(k.c.id == param("id_"), k.c.last_window + param("apart", k.c.last_window.type) <= param("current"))
    .values(
        occurrences=k.c.occurrences + 1,
        unfixed=k.c.unfixed + 1,
        last_window=param("current"),
        first_seen=func.coalesce(k.c.first_seen, param("now", k.c.first_seen.type)),
        last_seen=param("now"),
    )
    .returning(*k.c)
)
_FIXED = Sql(  # where nothing is to be forgotten its row is not held: many incidents of one issue end at once
    update(k)
    .where(k.c.id == param("id_"), or_(k.c.unfixed > 0, k.c.failed_fixes > 0))
    .values(unfixed=0, failed_fixes=0)
)
_FAILED = Sql(update(k).where(k.c.id == param("id_")).values(failed_fixes=k.c.failed_fixes + 1).returning(*k.c))

_ADD_COUNTS = Sql(
    update(k)
    .where(k.c.id == param("id_"))
    .values(
        occurrences=case((k.c.occurrences + param("seen") < 0, 0), else_=k.c.occurrences + param("seen")),
        unfixed=case((k.c.unfixed + param("left") < 0, 0), else_=k.c.unfixed + param("left")),
        last_window=param("window"),
        first_seen=param("first", k.c.first_seen.type),
        last_seen=param("last", k.c.last_seen.type),
    )
)

_SLEEP = Sql(
    update(k)
    .where(k.c.state != IssueState.DORMANT.value, k.c.last_seen < param("before"))
    .values(state=IssueState.DORMANT.value, changed_at=param("now"), version=k.c.version + 1)
)
_FORGIVE = Sql(
    update(e).where(e.c.scope == param("scope_"), e.c.remedy == param("remedy_")).values(failures_in_a_row=0)
)
_HALVE = Sql(update(e).where(e.c.scope == param("scope_")).values(good=e.c.good / 2, bad=e.c.bad / 2))
_EVIDENCE = Sql(select(e).where(member_of(e.c.scope, "scopes")))
_ONE = Sql(select(e).where(e.c.scope == param("scope_"), e.c.remedy == param("remedy_")).with_for_update())

Stamp = tuple[int, datetime]
"""What moves whenever an issue does: its version, and when it changed."""


class LearningRows:
    """Read and write what is learned."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def seen_again(self, candidates: Sequence[Candidate], apart: int = 1) -> None:
        """Count each of these once more, unless that is less than `apart` after it was counted last."""
        table = self._session.dialect.table(p)
        in_one_order = sorted(candidates, key=lambda one: one.fingerprint)  # or two batches deadlock
        larger = (
            f"{name} = CASE WHEN excluded.{name} > {table}.{name} THEN excluded.{name} ELSE {table}.{name} END"
            for name in ("confidence", "last_seen")
        )
        counts = f"excluded.last_window >= {table}.last_window + {int(apart)}"
        await self._session.upsert(
            p,
            [row_of(one) for one in in_one_order],
            conflict=(
                "ON CONFLICT (fingerprint) DO UPDATE SET "
                f"occurrences = {table}.occurrences + CASE WHEN {counts} THEN excluded.occurrences ELSE 0 END, "
                f"last_window = CASE WHEN {counts} THEN excluded.last_window ELSE {table}.last_window END, "
                f"message = excluded.message, {', '.join(larger)}"
            ),
        )

    async def candidate(self, fingerprint: str) -> Candidate | None:
        """Return one pattern."""
        return record(Candidate, await self._session.one(_CANDIDATE, fingerprint_=fingerprint))

    async def candidates(self, *, most: int) -> list[Candidate]:
        """Return patterns that are not known issues, the most frequent first."""
        return records(Candidate, await self._session.fetch(_CANDIDATES, most=most))

    async def ready(self, least: int, *, most: int) -> list[Candidate]:
        """Return patterns that were seen `least` times and not decided about."""
        return records(Candidate, await self._session.fetch(_READY, least=least, most=most))

    async def messages_of_others(self, fingerprint: str, *, most: int) -> list[Candidate]:
        """Return the patterns of other fingerprints, with a message of each, those seen last first."""
        return records(Candidate, await self._session.fetch(_MESSAGES, fingerprint_=fingerprint, most=most))

    async def settle(self, fingerprint: str, *, issue_id: str | None = None, refused: str | None = None) -> None:
        """Note what became of a pattern: an issue, or why it can't become one."""
        await self._session.change(_SETTLE, fingerprint_=fingerprint, issue=issue_id, why=refused)

    async def forget_beyond(self, kept: int) -> int:
        """Forget the patterns that were not seen for longest, where there are more than `kept`."""
        row = await self._session.one(_FIRST_BEYOND, kept=kept)
        return await self._session.change(_FORGET, moment=row["last_seen"], print=row["fingerprint"]) if row else 0

    async def add(self, issues: Sequence[KnownIssue], now: datetime) -> None:
        """Record known issues; `Conflict` where an id is taken."""
        rows = [{**_row(one), "changed_at": now} for one in issues]
        added = await self._session.insert(k, rows, conflict="ON CONFLICT (id) DO NOTHING", returning="id")
        if len(added) != len(rows):
            taken = sorted(Counter(one.id for one in issues) - Counter(added))
            raise Conflict(f"known issue {taken[0]} exists already; choose another id, or change that one")

    async def ensure(self, issue: KnownIssue, now: datetime) -> None:
        """Record an issue unless it stands there."""
        await self._session.insert(k, [{**_row(issue), "changed_at": now}], conflict="ON CONFLICT (id) DO NOTHING")

    async def issue(self, issue_id: str) -> KnownIssue | None:
        """Return one known issue."""
        return _issue(await self._session.one(_BY_ID, id_=issue_id))

    async def take(self, issue_id: str) -> KnownIssue | None:
        """Return one known issue, locked until the transaction ends."""
        return _issue(await self._session.one(_TAKE, id_=issue_id))

    async def issues(self) -> list[KnownIssue]:
        """Return every known issue, by id."""
        return [one for row in await self._session.fetch(_ALL) if (one := _issue(row)) is not None]

    async def some_issues(self, ids: Sequence[str]) -> list[KnownIssue]:
        """Return the known issues with these ids, in no promised order."""
        return [one for row in await self._session.fetch(_SOME, ids=list(ids)) if (one := _issue(row)) is not None]

    async def stamps(self, since: datetime) -> dict[str, Stamp]:
        """Return of the known issues that changed at or after a moment: id -> version, and when it changed."""
        rows = await self._session.fetch(_STAMPS, since=since)
        return {row["id"]: (row["version"], row["changed_at"]) for row in rows}

    async def state_of_issues(self) -> tuple[datetime | None, int, int]:
        """Return what moves whenever a stamp does: the newest change, how many there are, the sum of their versions.

        The newest change alone would not: a transaction that began earlier may end later.
        """
        row = await self._session.one(_STATE)
        assert row is not None
        return row["at"], row["count"], row["changes"]

    async def save(self, issue: KnownIssue, now: datetime) -> KnownIssue:
        """Write what was decided about an issue; `Conflict` when it changed since it was read."""
        values = {name: value for name, value in _row(issue).items() if name not in ("id", "version", *_COUNTED)}
        touched = await self._session.change(_SAVE, **values, id_=issue.id, was=issue.version, now=now)
        must_change(touched, f"known issue {issue.id}")
        return replace(issue, version=issue.version + 1)

    async def occurred(self, issue_id: str, last_window: int, now: datetime, apart: int = 1) -> KnownIssue | None:
        """Count an occurrence; None where that is less than `apart` after one was counted."""
        return _issue(await self._session.one(_SEEN, id_=issue_id, current=last_window, now=now, apart=apart))

    async def add_counts(self, issue: KnownIssue, occurrences: int, unfixed: int) -> None:
        """Add occurrences to those of an issue, or take them away; it says between which moments they lie."""
        await self._session.change(
            _ADD_COUNTS,
            id_=issue.id,
            seen=occurrences,
            left=unfixed,
            window=issue.last_window,
            first=issue.first_seen,
            last=issue.last_seen,
        )

    async def sleep(self, before: datetime, now: datetime) -> int:
        """Let issues sleep that were not seen since a moment; return how many fell asleep."""
        return await self._session.change(_SLEEP, before=before, now=now)

    async def repaired(self, issue_id: str) -> None:
        """Note a repair that was verified: what happened before it counts no more."""
        await self._session.change(_FIXED, id_=issue_id)

    async def not_repaired(self, issue_id: str) -> KnownIssue | None:
        """Note a repair that did not help."""
        return _issue(await self._session.one(_FAILED, id_=issue_id))

    async def evidence(self, scopes: Sequence[str]) -> dict[tuple[str, str], Evidence]:
        """Return (scope, remedy) -> what became of it."""
        rows = await self._session.fetch(_EVIDENCE, scopes=list(scopes))
        return {(row["scope"], row["remedy"]): _evidence(row) for row in rows}

    async def take_evidence(self, scope: str, remedy: str) -> Evidence:
        """Return the same of one, and keep others from changing it until this transaction ends."""
        empty = {"scope": scope, "remedy": remedy, **row_of(Evidence())}
        await self._session.insert(e, [empty], conflict="ON CONFLICT (scope, remedy) DO NOTHING")
        row = await self._session.one(_ONE, scope_=scope, remedy_=remedy)
        assert row is not None  # it was made sure just now
        return _evidence(row)

    async def forgive(self, scope: str, remedy: str) -> None:
        """Count a remedy's failures in a row anew."""
        await self._session.change(_FORGIVE, scope_=scope, remedy_=remedy)

    async def halve_evidence(self, scope: str) -> None:
        """Let what became of remedies there count half."""
        await self._session.change(_HALVE, scope_=scope)

    async def save_evidence(self, scope: str, remedy: str, evidence: Evidence) -> None:
        """Write it."""
        row = {"scope": scope, "remedy": remedy, **row_of(evidence)}
        columns = ", ".join(f"{name} = excluded.{name}" for name in row_of(evidence))
        await self._session.insert(e, [row], conflict=f"ON CONFLICT (scope, remedy) DO UPDATE SET {columns}")


def _issue(row: Row | None) -> KnownIssue | None:
    if row is None:
        return None
    plain = {name: value for name, value in row.items() if name != "changed_at"}
    return KnownIssue(**plain | {"remedies": tuple(Binding(**one) for one in row["remedies"])})


def _row(issue: KnownIssue) -> Row:
    return row_of(issue) | {"remedies": [row_of(one) for one in issue.remedies], "tags": list(issue.tags)}


def _evidence(row: Row) -> Evidence:
    return Evidence(**{name: value for name, value in row.items() if name not in ("scope", "remedy")})
