"""Rows of advice: one question per fingerprint and day, and what a day may cost, counted for all processes together."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import case, delete, or_, select, update

from prunella.core.advice import Advice, Allowance, Answer, Consultation
from prunella.core.errors import Conflict
from prunella.store.session import Session, must_change
from prunella.store.sql import Sql, param
from prunella.store.tables import advice as t
from prunella.store.tables import advice_days as d

_KEPT = timedelta(days=31)

_READ = Sql(select(t).where(t.c.day == param("day_"), t.c.fingerprint == param("fingerprint_")))
_DAY = Sql(select(d).where(d.c.day == param("day_")))
_SPEND = Sql(
    update(d)
    .where(
        d.c.day == param("day_"),
        d.c.calls < param("calls_max"),
        d.c.tokens + param("tokens_more") <= param("tokens_most"),
        or_(d.c.silent_until.is_(None), d.c.silent_until <= param("now")),
    )
    .values(
        calls=d.c.calls + 1,
        tokens=d.c.tokens + param("tokens_more"),
        # After a silence one question tries it, and the others wait until that one has its answer.
        silent_until=case((d.c.failures >= param("failures_max"), param("until")), else_=None),
    )
)
_SETTLE = Sql(
    update(t)
    .where(t.c.day == param("day_"), t.c.fingerprint == param("fingerprint_"), t.c.ended_at.is_(None))
    .values(
        ended_at=param("now"), tokens=param("spent"), opinion=param("said", t.c.opinion.type), trouble=param("problem")
    )
)
_GIVE_BACK = Sql(
    update(d)
    .where(d.c.day == param("day_"))
    .values(
        tokens=d.c.tokens + param("difference"),
        failures=case((param("failed") == 1, d.c.failures + 1), else_=0),
        silent_until=case(
            (param("failed") == 0, None), (d.c.failures + 1 >= param("failures_max"), param("until")), else_=None
        ),
    )
)
_FORGET = Sql(delete(t).where(t.c.day < param("before")))
_FORGET_DAYS = Sql(delete(d).where(d.c.day < param("before")))


class AdviceRows:
    """Read and write what was asked and what came of it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def read(self, fingerprint: str, now: datetime) -> Consultation | None:
        """Return what was asked today (UTC) about a fingerprint."""
        row = await self._session.one(_READ, day_=_day(now), fingerprint_=fingerprint)
        if row is None:
            return None
        return Consultation(
            asked_at=row["asked_at"],
            ended_at=row["ended_at"],
            advice=Advice(**row["opinion"]) if row["opinion"] else None,
            trouble=row["trouble"] or "",
        )

    async def book(
        self, fingerprint: str, incident_id: str, digest: str, tokens_max: int, allowance: Allowance, now: datetime
    ) -> str | None:
        """Take a question out of the day's allowance and note that it is asked; else return why it is not.

        `Conflict` when another transaction asks about the same at this moment.
        """
        await self._begin_day(now)
        spent = await self._session.change(
            _SPEND,
            day_=_day(now),
            now=now,
            until=now + timedelta(seconds=allowance.silent_s),
            calls_max=allowance.calls,
            tokens_more=tokens_max,
            tokens_most=allowance.tokens,
            failures_max=allowance.failures,
        )
        if not spent:
            return await self._refusal(allowance, now)
        row = {
            **dict.fromkeys(column.name for column in t.c),
            "day": _day(now),
            "fingerprint": fingerprint,
            "incident_id": incident_id,
            "asked_at": now,
            "prompt_hash": digest,
            "tokens": tokens_max,
        }
        asked = await self._session.insert(
            t, [row], conflict="ON CONFLICT (day, fingerprint) DO NOTHING", returning="day"
        )
        if not asked:
            raise Conflict("advice: the same question is being asked already")
        return None

    async def settle(
        self, fingerprint: str, asked_at: datetime, tokens_max: int, answer: Answer, allowance: Allowance, now: datetime
    ) -> None:
        """Note the answer, count what it really cost, and be silent for a while after too many without advice."""
        touched = await self._session.change(
            _SETTLE,
            day_=_day(asked_at),
            fingerprint_=fingerprint,
            now=now,
            spent=answer.tokens,
            said=asdict(answer.advice) if answer.advice else None,
            problem=answer.trouble or None,
        )
        must_change(touched, f"advice about {fingerprint}")
        await self._session.change(
            _GIVE_BACK,
            day_=_day(asked_at),
            difference=answer.tokens - tokens_max,
            failed=int(answer.advice is None),
            failures_max=allowance.failures,
            until=now + timedelta(seconds=allowance.silent_s),
        )

    async def _begin_day(self, now: datetime) -> None:
        """Make sure the day has its row; the first question of a day also forgets what is older than a month."""
        row = {"day": _day(now), "calls": 0, "tokens": 0, "failures": 0, "silent_until": None}
        if await self._session.insert(d, [row], conflict="ON CONFLICT (day) DO NOTHING", returning="day"):
            await self._session.change(_FORGET, before=_day(now - _KEPT))
            await self._session.change(_FORGET_DAYS, before=_day(now - _KEPT))

    async def _refusal(self, allowance: Allowance, now: datetime) -> str:
        row = await self._session.one(_DAY, day_=_day(now))
        assert row is not None
        if row["silent_until"] is not None and row["silent_until"] > now:
            return (
                f"{row['failures']} answers in a row brought nothing; not asked before {row['silent_until']:%H:%M} UTC"
            )
        if row["calls"] >= allowance.calls:
            return f"the day's {allowance.calls} calls are used up; asked again from 00:00 UTC"
        return f"the day's {allowance.tokens} tokens are used up; asked again from 00:00 UTC"


def _day(now: datetime) -> str:
    return f"{now:%Y-%m-%d}"
