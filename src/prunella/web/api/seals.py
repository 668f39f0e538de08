"""/api/v1/audit/verify: whether the audit is as it was written."""

from __future__ import annotations

import re

from prunella.app import App
from prunella.engine import seals
from prunella.engine.seals import Checked
from prunella.web.access import Acts
from prunella.web.api.paging import Out, Time
from prunella.web.api.routing import Rooms
from prunella.web.problems import Problem

_NOTED = re.compile(r"([1-9][0-9]{0,8}):([0-9a-f]{64})")


class BrokenOut(Out):
    """The first seal that does not hold."""

    seal: int
    why: str


class LastOut(Out):
    """The newest seal."""

    number: int
    digest: str
    sealed_at: Time


class CheckedOut(Out):
    """What was found; `noted` is what to keep elsewhere for the next look."""

    ok: bool
    seals: int
    entries: int
    forgotten: int
    unsealed: int
    broken: BrokenOut | None
    last: LastOut | None
    noted: str | None

    @classmethod
    def of(cls, found: Checked) -> CheckedOut:
        """Spell what was found."""
        last = found.last
        return cls(
            ok=found.broken is None,
            seals=found.seals,
            entries=found.entries,
            forgotten=found.forgotten,
            unsealed=found.unsealed,
            broken=None if found.broken is None else BrokenOut(seal=found.broken, why=found.why),
            last=None
            if last is None
            else LastOut(number=last.number, digest=last.digest, sealed_at=last.sealed_at.isoformat()),
            noted=None if last is None else f"{last.number}:{last.digest}",
        )


def router(app: App) -> Rooms:
    """Return the route."""
    routes = Rooms(prefix="/api/v1/audit", tags=["audit"])

    @routes.get("/verify", summary="Compare every entry with its seal, and every seal with the one before")
    async def verify_audit(_: Acts, noted: str | None = None) -> CheckedOut:
        return CheckedOut.of(await seals.verify(app.parts, _seal(noted) if noted else None))

    return routes


def _seal(text: str) -> tuple[int, str]:
    match = _NOTED.fullmatch(text)
    if match is None:
        detail = "write it as the log or an earlier look showed it: NUMBER:DIGEST, 64 hexadecimal digits"
        raise Problem(422, "This is no seal", errors=[{"pointer": "/noted", "detail": detail}])
    return int(match[1]), match[2]
