"""What comes next for one thing that a check found, or no longer finds. Pure: one rule per line, asked in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from prunella.core.findings import Finding
from prunella.core.records import Incident, Run
from prunella.core.states import UNANSWERED, IncidentState
from prunella.engine.ready import Ready

QUIET = timedelta(hours=4)
"""How long a thing must be well before its attempts and regressions are forgotten."""
REGRESSIONS_MAX = 3
"""How often it may come back soon after it was proven well; then it flaps, and a person is asked."""
_DOUBLINGS_MAX = 6
_I = IncidentState


class Next(StrEnum):
    """What may come next."""

    ACT = "act"
    WAIT = "wait"
    PROVEN = "proven"
    INEFFECTIVE = "ineffective"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer with its reason; `until` is the next look that makes sense."""

    next: Next
    reason: str
    until: datetime | None = None


def gone(ready: Ready, incident: Incident, now: datetime) -> Turn:
    """Judge a thing that is not found any more."""
    if _leased(incident, now):
        return Turn(Next.WAIT, "it is being healed", incident.lease_until)
    if incident.memory.get("flapping"):
        clean_since = datetime.fromisoformat(incident.memory.get("clean_since", now.isoformat()))
        if now - clean_since < QUIET:
            return Turn(Next.WAIT, "flapping: it has to be well for 4 h", clean_since + QUIET)
    if incident.state is _I.VERIFYING:
        return Turn(Next.PROVEN, ready.proof)
    return Turn(Next.PROVEN, f"{ready.proof}; it recovered by itself")


def found(
    ready: Ready, incident: Incident, finding: Finding, done: Run | None, now: datetime, *, repeats: bool = False
) -> Turn:
    """Judge a thing that is found.

    Args:
        done: its attempt that waits for proof.
        repeats: an attempt whose worker died is made again, which costs no further one.
    """
    if _leased(incident, now):
        return Turn(Next.WAIT, f"it is being healed by {incident.claimed_by}", incident.lease_until)
    if incident.state in (_I.SUPPRESSED, _I.ESCALATED):
        return Turn(Next.WAIT, incident.held_reason or "it waits for a person")
    if incident.state is _I.VERIFYING and done is not None:
        return _verifying(incident, finding, done, now)
    if incident.regressions >= REGRESSIONS_MAX:
        reason = f"flapping: it came back {incident.regressions} times soon after it was well"
        return Turn(Next.GIVE_UP, reason)
    if incident.attempts >= ready.attempts and not repeats:
        return Turn(Next.GIVE_UP, f"{incident.attempts} attempts did not help")
    if incident.next_at is not None and incident.next_at > now:
        return Turn(Next.WAIT, incident.held_reason or f"next attempt {_clock(incident.next_at)}", incident.next_at)
    return Turn(Next.ACT, "it is due")


def outlived(run: Run | None) -> bool:
    """Tell whether an attempt whose outcome is unknown lost its worker; one that lost its reply was a whole attempt."""
    return run is not None and not run.detail.startswith(UNANSWERED)


def is_old(finding: Finding, since: datetime | None) -> bool:
    """Tell whether a finding's evidence is older than `since`, so that it says nothing about what came after."""
    return finding.occurred_at is not None and since is not None and finding.occurred_at <= since


def acted_there(incident: Incident) -> datetime | None:
    """Return when it was last acted on, by the clock of the database that the evidence is dated by."""
    moment = incident.memory.get("acted_there")
    return datetime.fromisoformat(moment) if moment else None


def again_at(ready: Ready, attempts: int, now: datetime) -> datetime:
    """Return when to try again after `attempts` attempts: as configured, or the cool-down, doubled each time."""
    if ready.delays_s:
        return now + timedelta(seconds=ready.delays_s[min(attempts, len(ready.delays_s) - 1)])
    if ready.entity is not None:
        return now  # its cycle is its cool-down
    doubled = 2 ** min(max(attempts - 1, 0), _DOUBLINGS_MAX)
    return now + timedelta(seconds=ready.policy.limits.cool_down_s * doubled)


def proof_by(ready: Ready, finding: Finding, now: datetime) -> datetime | None:
    """Return until when the proof may take; None: one look right after the act decides."""
    within = ready.policy.verify_within_s
    if not within and (ready.entity is not None or ready.delays_s or finding.occurred_at is not None):
        within = ready.policy.every_s or 300.0
    return now + timedelta(seconds=within) if within else None


def _verifying(incident: Incident, finding: Finding, done: Run, now: datetime) -> Turn:
    """Wait for the proof, or see that there is none."""
    is_over = incident.next_at is None or incident.next_at <= now
    if is_old(finding, acted_there(incident) or done.started_at):
        if is_over:
            return Turn(Next.PROVEN, "nothing newer has happened since the attempt")
        return Turn(Next.WAIT, f"verifying until {_clock(incident.next_at)}", incident.next_at)
    if finding.occurred_at is None and not is_over:
        return Turn(Next.WAIT, f"verifying until {_clock(incident.next_at)}", incident.next_at)
    return Turn(Next.INEFFECTIVE, f"{done.remedy} ended well and healed nothing: {finding.message}")


def _leased(incident: Incident, now: datetime) -> bool:
    return incident.lease_until is not None and incident.lease_until > now


def _clock(moment: datetime | None) -> str:
    return f"{moment:%H:%M:%S} UTC" if moment is not None else "the next look"
