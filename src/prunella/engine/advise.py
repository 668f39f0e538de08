"""Ask for a second opinion beside the healing: after the decision is recorded, once per fingerprint and day.

What comes back is a line of the incident's timeline and nothing else: no incident, plan, gate or run is ever written
here, and nobody waits for it. At most two questions are under way at a time, so a slow advisor holds up no healing.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from prunella.core import redact
from prunella.core.advice import Advice, Advisor, Allowance, Answer, Consultation, Prompt, Question
from prunella.core.records import Failure, Incident
from prunella.diagnosis.fingerprint import mask
from prunella.engine import trail
from prunella.engine.parts import ADVISE, Parts
from prunella.store.contract import Transaction, again_on_conflict, insist

GIVEN, FAILED, SKIPPED = "advice.given", "advice.failed", "advice.skipped"

_log = logging.getLogger(__name__)
_BY = "advisor"
_AT_ONCE = 2
_LATE_S = 20.0  # no answer so long after the deadline: who asked is dead
_NAME = re.compile(r"[\w.:/{} -]{0,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question that is paid for and waits for its answer."""

    incident: Incident
    prompt: Prompt
    at: datetime


class Desk:
    """Ask the advisor about incidents.

    Args:
        parts: with ids of its own, so that an opinion does not even shift what chance brings to the healing.
    """

    def __init__(self, parts: Parts, advisor: Advisor, allowance: Allowance) -> None:
        self._parts = parts
        self._advisor = advisor
        self._allowance = allowance
        self._under_way = 0

    async def advise(self, incident_id: str) -> None:
        """Put an opinion into the incident's timeline, or why there is none."""
        if self._under_way >= _AT_ONCE:
            await self._come_back(incident_id, self._advisor.deadline_s)
            return
        self._under_way += 1
        try:
            asked = await self._book(incident_id)
            if asked is not None:
                answer = await self._advisor.ask(asked.prompt)
                await insist(self._parts.clock, lambda: self._settle(asked, answer))
        finally:
            self._under_way -= 1

    @again_on_conflict
    async def _book(self, incident_id: str) -> _Asked | None:
        """Take the question out of the day's allowance; None where nothing is to be asked."""
        parts, now = self._parts, self._parts.clock.now()
        async with parts.store.transaction() as tx:
            incident = await tx.incidents.get(incident_id)
            if incident is None or not incident.is_open or await _has_advice(tx, incident_id):
                return None
            known = await tx.advice.read(incident.fingerprint, now)
            if known is not None:
                await self._repeat(tx, incident, known, now)
                return None
            prompt = self._advisor.prompt(question(incident, await tx.signals.failure(incident.signal_id)))
            refusal = await tx.advice.book(
                incident.fingerprint, incident_id, prompt.digest, prompt.tokens_max, self._allowance, now
            )
            if refusal is not None:
                await self._note(tx, incident, SKIPPED, refusal)
                return None
            return _Asked(incident, prompt, now)

    async def _settle(self, asked: _Asked, answer: Answer) -> None:
        """Keep the answer for the day and note it."""
        parts, incident, prompt = self._parts, asked.incident, asked.prompt
        async with parts.store.transaction() as tx:
            await tx.advice.settle(
                incident.fingerprint, asked.at, prompt.tokens_max, answer, self._allowance, parts.clock.now()
            )
            await self._note_answer(tx, incident, answer.advice, answer.trouble)
        outcome = answer.trouble or "advice given"
        _log.info("advisor asked about incident %s, prompt %s: %s", incident.id, prompt.digest, outcome)

    async def _repeat(self, tx: Transaction, incident: Incident, known: Consultation, now: datetime) -> None:
        """Use what was answered about this fingerprint today; wait for an answer that is still to come."""
        late = known.asked_at + timedelta(seconds=self._advisor.deadline_s + _LATE_S)
        if known.ended_at is None and now < late:
            await self._come_back(incident.id, self._advisor.deadline_s)
            return
        trouble = known.trouble or "its answer was lost with the process that asked"
        await self._note_answer(tx, incident, known.advice, f"asked today already: {trouble}")

    async def _note_answer(self, tx: Transaction, incident: Incident, advice: Advice | None, trouble: str) -> None:
        if advice is None:
            await self._note(tx, incident, FAILED, trouble)
        else:
            await self._note(tx, incident, GIVEN, told(advice))

    async def _note(self, tx: Transaction, incident: Incident, action: str, reason: str) -> None:
        await trail.note(self._parts, tx, action, incident.service, reason=reason, incident=incident.id, by=_BY)
        tx.on_commit(lambda: self._parts.bulletin.announce(incident.id))

    async def _come_back(self, incident_id: str, seconds: float) -> None:
        at = self._parts.clock.now() + timedelta(seconds=seconds)
        await self._parts.runner.submit(ADVISE, incident_id, at=at)


def question(incident: Incident, failure: Failure) -> Question:
    """Say what failed in words that hold no data: texts are masked, and so is every name that is none."""
    return Question(
        service=_named(incident.service),
        operation=_named(failure.operation),
        status=failure.status,
        code=_named(failure.code) if failure.code else None,
        exc_type=_named(failure.exc_type) if failure.exc_type else None,
        template=_masked(failure.message),
        kind=incident.kind,
        confidence=incident.confidence,
        because=_masked(incident.because),
    )


def told(advice: Advice) -> str:
    """Write an opinion as one line of a timeline, marked as what it is."""
    parts = [f"an opinion, it decides nothing: {advice.summary}"]
    if advice.steps:
        parts.append("steps: " + "; ".join(f"{number}) {step}" for number, step in enumerate(advice.steps, 1)))
    if advice.prevention:
        parts.append(f"prevention: {advice.prevention}")
    if advice.proposed_action is not None:
        parts.append(f"proposes {advice.proposed_action} ({advice.level}: only a person may start it)")
    parts.append(f"would call it {advice.kind} (confidence {advice.confidence:.2f})")
    return " | ".join(parts)


def _named(text: str) -> str:
    """Return a name as it is, and anything else masked like a text."""
    return redact.scrub(text) if _NAME.fullmatch(text) else _masked(text)


def _masked(text: str) -> str:
    """Scrub first: a secret that came to be known since the text was stored may look like harmless words masked."""
    return mask(redact.scrub(text))


async def _has_advice(tx: Transaction, incident_id: str) -> bool:
    story = await tx.audit.of_incident(incident_id)
    return any(entry.action in (GIVEN, FAILED, SKIPPED) for entry in story)
