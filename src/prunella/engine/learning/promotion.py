"""Make a pattern that keeps coming back a known issue, unless its words would fit other problems, too.

Promotion gives knowledge, not licence: a remedy that helped with others of the kind stands by, and a person is asked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prunella.core import redact
from prunella.core.errors import StoreError
from prunella.core.issues import MACHINE, Binding, Candidate, KnownIssue, Origin
from prunella.core.records import Failure, Level, Severity
from prunella.diagnosis.fingerprint import mask
from prunella.diagnosis.templates import template
from prunella.engine import trail
from prunella.engine.learning import evidence
from prunella.engine.parts import LEARN, Parts
from prunella.store.contract import Transaction, again_on_conflict

_PROMOTED = 20
_SAMPLE = 2_000
"""Stored messages of other problems on which an expression is tried."""
_STRANGERS_MAX = 0.01
"""Share of them that it may fit."""
_TITLE_CHARS = 100


@dataclass(frozen=True, slots=True)
class _Trial:
    """What an expression did on messages of other problems."""

    tested: int
    fitted: int

    @property
    def precision(self) -> float:
        return 1.0 - self.fitted / self.tested if self.tested else 1.0


async def promote(parts: Parts) -> int:
    """Look at every pattern that was seen often enough; return how many are known issues now."""
    promoted = 0
    async with parts.store.transaction() as tx:
        ready = await tx.learning.ready(parts.learning.promote_after, most=_PROMOTED)
    for candidate in ready:
        try:
            promoted += await _decide(parts, candidate)
        except StoreError:
            raise  # the next look does it again
        except Exception as error:  # nothing that is odd about one keeps the others from being known
            parts.listeners.emit("engine.failed", handler=LEARN, error=type(error).__name__)
            async with parts.store.transaction() as tx:
                await _refuse(parts, tx, candidate, f"looking at it raised {type(error).__name__}")
        await parts.give_way()
    return promoted


@again_on_conflict
async def _decide(parts: Parts, candidate: Candidate) -> bool:
    """Make one pattern known, or note why it can't be."""
    candidate = replace(candidate, message=redact.scrub(candidate.message))  # a secret may have become known since
    made = template(candidate.message)
    async with parts.store.transaction() as tx:
        known = await _known_as(parts, tx, candidate)
        if known is not None:  # meanwhile it is, by another operation's failures or a person
            await tx.learning.settle(candidate.fingerprint, issue_id=known)
            await tx.incidents.name_issue(candidate.fingerprint, known)
            return False
        if await tx.learning.issue(_id(candidate)) is not None:
            await _refuse(parts, tx, candidate, f"it was known as {_id(candidate)}, whose words a person changed")
            return False
        if isinstance(made, str):
            await _refuse(parts, tx, candidate, f"its message gives no pattern: {made}")
            return False
        trial = await _tried(tx, candidate, made.expression)
        if trial.tested and trial.fitted / trial.tested > _STRANGERS_MAX:
            share = f"{trial.fitted} of {trial.tested} stored messages of other problems"
            await _refuse(parts, tx, candidate, f"its pattern would fit {share}")
            return False
        issue = await _issue(parts, tx, candidate, made.expression, trial)
        await tx.learning.add([issue], parts.clock.now())
        await tx.learning.settle(candidate.fingerprint, issue_id=issue.id)
        await tx.incidents.name_issue(candidate.fingerprint, issue.id)
        reason = f"{candidate.occurrences} independent occurrences; precision {trial.precision:.2%} of {trial.tested}"
        await trail.note(parts, tx, "issue.learned", issue.id, reason=reason)
        tx.on_commit(parts.known.forget)
    return True


async def _known_as(parts: Parts, tx: Transaction, candidate: Candidate) -> str | None:
    """Return the known issue that a pattern's failures are occurrences of by now."""
    service = parts.services.get(candidate.service)
    said = Failure(service=candidate.service, code=candidate.code, message=candidate.message)
    await parts.known.refresh(tx)
    return parts.known.match(said, kind=candidate.kind, names=service.vendors if service is not None else ())


async def _refuse(parts: Parts, tx: Transaction, candidate: Candidate, why: str) -> None:
    await tx.learning.settle(candidate.fingerprint, refused=why)
    await trail.note(parts, tx, "issue.refused", candidate.fingerprint, reason=why)


async def _tried(tx: Transaction, candidate: Candidate, expression: str) -> _Trial:
    """Try an expression on what other problems said, under the conditions that it would have."""
    own, sought = mask(candidate.message), re.compile(expression, re.IGNORECASE)
    others = await tx.learning.messages_of_others(candidate.fingerprint, most=_SAMPLE)
    fitted = sum(
        (one.service, one.kind, one.code) == (candidate.service, candidate.kind, candidate.code)
        and sought.search(one.message) is not None
        and mask(one.message) != own  # the same words from elsewhere are the same problem
        for one in others
    )
    return _Trial(len(others), fitted)


async def _issue(parts: Parts, tx: Transaction, candidate: Candidate, expression: str, trial: _Trial) -> KnownIssue:
    """Return what a pattern becomes (document C: title, severity by impact, tags)."""
    now = parts.clock.now()
    component = candidate.component.lower()
    return KnownIssue(
        id=_id(candidate),
        title=f"Recurring error: {' '.join(candidate.message.split())[:_TITLE_CHARS]}",
        expression=expression,
        origin=Origin.LEARNED,
        severity=Severity.CRITICAL if candidate.impact is Severity.CRITICAL else Severity.HIGH,
        service=candidate.service,
        kind=candidate.kind,
        code=candidate.code,
        cause=f"{candidate.action} of {candidate.component} failed {candidate.occurrences} times in this way",
        advice=f"investigate the root cause in {candidate.component}",
        tags=("auto_detected", component),
        remedies=await _pairing(parts, tx, candidate),
        occurrences=candidate.occurrences,
        unfixed=candidate.occurrences,
        last_window=candidate.last_window,
        first_seen=candidate.first_seen,
        last_seen=candidate.last_seen,
        created_at=now,
        created_by=MACHINE,
        precision=trial.precision,
        tested=trial.tested,
    )


async def _pairing(parts: Parts, tx: Transaction, candidate: Candidate) -> Sequence[Binding]:
    """Return the remedy that helped best with others of the kind, for a person to be asked about; none where none did.

    Nobody said that it helps here: it begins at L2 and may rise to L1 by what is proven.
    """
    service = parts.services.get(candidate.service)
    if service is None:
        return ()
    scope = evidence.scope_of_kind(candidate.kind)
    known = {remedy: one for (_, remedy), one in (await tx.learning.evidence([scope])).items()}
    options = [
        evidence.Option(remedy=name, elsewhere=evidence.as_of(known[name], parts.clock.now()))
        for name, remedy in parts.bindable.items()
        if name in known
        and known[name].verified
        and remedy.misfit(service) is None
        and not any(one.required for one in remedy.parameters.values())
    ]
    if not options:
        return ()
    score, best = evidence.ranked(options)[0]
    return (Binding(remedy=best.remedy, level=Level.L1, by=MACHINE),) if score > 0.5 else ()


def _id(candidate: Candidate) -> str:
    """Return a name that a person can type: the service, and letters that tell its problems apart."""
    digest = hashlib.blake2b(candidate.fingerprint.encode(), digest_size=4).hexdigest()
    return f"{re.sub('[^a-z0-9]+', '-', candidate.service.lower()).strip('-') or 'issue'}-{digest}"
