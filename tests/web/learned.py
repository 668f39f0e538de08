"""Known issues with a past, for tests of what shows them."""

from __future__ import annotations

from datetime import timedelta

from prunella.app import App
from prunella.core.issues import Candidate, Evidence
from prunella.core.records import Category, Failure, Incident, Severity, Signal
from prunella.engine.learning import curation, pairing
from prunella.engine.learning.evidence import WAIT, scope_of_issue
from prunella.plugin import RemedyFunction
from prunella.remedies.known import FunctionForIssue

LUNCH = {
    "id": "crm.lunch",
    "title": "Lunch at the warehouse",
    "pattern": "closed for lunch",
    "service": "crm",
    "cause": "Nobody answers from twelve to one.",
    "advice": "Wait until one.",
}


async def warm_up(ctx: object, failure: object, *, node: str, times: int = 1, hard: bool = False) -> None:
    """Do nothing: what is bound is looked at, not carried out."""


WARM = RemedyFunction(name="warm_up", function=warm_up, idempotent=True, reversible=False, per="row", timeout_s=5.0)


def with_warm_up(app: App) -> None:
    """Let a function of the user be there to be bound."""
    function = FunctionForIssue(WARM, None, app.parts.clock)  # type: ignore[arg-type]  # it is never called
    app.parts.bindable["warm_up"] = function  # type: ignore[index]  # a dict, as it is wired


async def filled(app: App) -> str:
    """Let one issue be known with a remedy, outcomes and an open incident, and one pattern be a candidate."""
    with_warm_up(app)
    parts = app.parts
    now = parts.clock.now()
    signal_id, incident_id = parts.ids.new(), parts.ids.new()
    failure = Failure(service="crm", status=503, message="we are closed for lunch", operation="GET /stock")
    incident = Incident(
        id=incident_id,
        service="crm",
        account="",
        fingerprint="lunch",
        signal_id=signal_id,
        title="crm: we are closed for lunch",
        category=Category.NETWORK,
        kind="network.server",
        confidence=0.9,
        because="status 503",
        advice="It is sent again.",
        severity=Severity.MEDIUM,
        first_seen=now - timedelta(minutes=9),
        last_seen=now - timedelta(minutes=4),
    )
    signal = Signal(
        id=signal_id,
        source="t",
        event_id="1",
        service="crm",
        failure=failure,
        occurred_at=now,
        received_at=now,
    )
    candidate = Candidate(
        fingerprint="bare",
        service="crm",
        kind="data.validation",
        component="crm",
        action="POST /orders",
        environment="production",
        message="the cupboard is bare for order 4711",
        confidence=0.6,
        occurrences=2,
        first_seen=now - timedelta(hours=2),
        last_seen=now - timedelta(hours=1),
    )
    async with parts.store.transaction() as tx:
        await tx.incidents.open_or_join(incident)
        await tx.signals.add([(signal, None, None)])
        await tx.signals.attach(incident_id, [signal_id])
        await tx.learning.seen_again([candidate])
    await curation.create(parts, LUNCH, by="ada")
    await pairing.bind(parts, "crm.lunch", "warm_up", {"node": "n1"}, by="ada")
    async with parts.store.transaction() as tx:
        for window in range(4):
            await tx.learning.occurred("crm.lunch", window, now - timedelta(minutes=4))
        known = Evidence(tried=4, verified=3, ineffective=1, good=3.0, bad=1.0, at=now)
        await tx.learning.take_evidence(scope_of_issue("crm.lunch"), "warm_up")
        await tx.learning.save_evidence(scope_of_issue("crm.lunch"), "warm_up", known)
        waited = Evidence(tried=3, verified=1, ineffective=2, good=1.0, bad=2.0, at=now)
        await tx.learning.take_evidence(scope_of_issue("crm.lunch"), WAIT)
        await tx.learning.save_evidence(scope_of_issue("crm.lunch"), WAIT, waited)
    return incident_id
