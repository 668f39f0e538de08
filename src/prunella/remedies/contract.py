"""What a remedy gets and what it gives back. It acts once and reports; it never decides, waits or records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prunella.core.records import Failure, Request
from prunella.core.services import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing to act on.

    Args:
        request: the call to make, None where the remedy knows it itself.
        idempotency_key: the same for every try of one operation, so that a receiver can tell a repeat.
    """

    service: Service
    account: str
    incident_id: str
    idempotency_key: str
    request: Request | None = None
    stale_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one act brought about.

    Args:
        ok: the act did what it should; whether that healed anything is for verification to say.
        failure: the evidence when it did not.
        proof: what the reply proves, for the record.
        timed_out: no reply came in time.
        busy: another worker is doing the same right now; nothing was done, nothing counts.
        needs_person: why no repetition by machine can help.
    """

    ok: bool
    status: int | None = None
    detail: str = ""
    failure: Failure | None = None
    proof: Any = None
    timed_out: bool = False
    busy: bool = False
    needs_person: str | None = None
    token_version: int | None = None
