"""What one act brought about, in the words that every remedy uses, those of users' plug-ins included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunella.core.records import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one act brought about; a plug-in makes one with `changed`, `done`, `skip` or `failed`.

    Args:
        ok: the act did what it should; whether that healed anything is for verification to say.
        detail: one line for the record.
        changes: column -> value that the engine shall write, where the row is still as it was seen.
        skipped: nothing was done, and that is no failure.
        failure: the evidence when it did not.
        proof: what the reply proves, for the record.
        timed_out: no reply came in time.
        unanswered: a call that may have had its effect brought no reply, so nobody knows.
        busy: another worker is doing the same right now; nothing was done, nothing counts.
        needs_person: why no repetition by machine can help.
        touched: how many rows were changed.
    """

    ok: bool
    status: int | None = None
    detail: str = ""
    changes: Mapping[str, Any] | None = None
    skipped: bool = False
    failure: Failure | None = None
    proof: Any = None
    timed_out: bool = False
    unanswered: bool = False
    busy: bool = False
    needs_person: str | None = None
    token_version: int | None = None
    touched: int = 0

    @classmethod
    def changed(cls, *, note: str = "", **changes: Any) -> Outcome:
        """Have the engine write `changes`: only if the row is as it was seen and its new status may follow."""
        return cls(ok=True, detail=note, changes=changes)

    @classmethod
    def done(cls, note: str = "") -> Outcome:
        """Say that it is done and nothing is left to write."""
        return cls(ok=True, detail=note)

    @classmethod
    def skip(cls, reason: str) -> Outcome:
        """Say that there was nothing to do, and why."""
        return cls(ok=True, detail=reason, skipped=True)

    @classmethod
    def failed(cls, reason: str) -> Outcome:
        """Say that it could not be done, and why."""
        return cls(ok=False, detail=reason)
