"""The page of known issues: what is recognised, what may become known, and a tester for pasted texts.

Nothing that is tried here is kept, and nothing of it is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.errors import InvalidInput
from prunella.core.issues import IssueState, Origin
from prunella.core.records import KINDS, Diagnosis, Severity
from prunella.diagnosis import safety
from prunella.diagnosis.classify import classify
from prunella.diagnosis.pasted import failure_of
from prunella.diagnosis.patterns import Pattern, Span
from prunella.diagnosis.trial import Trial, try_out
from prunella.engine.learning import dossier
from prunella.engine.learning.known import pattern_of
from prunella.web import filters
from prunella.web.access import Acts, Reads
from prunella.web.auth import Caller, form_of
from prunella.web.filters import KnownIssueFilter
from prunella.web.pages.forms import Missing, Refusal, show, tried
from prunella.web.pages.frame import Frame

_TEXT_MAX = 65_536
_PATTERNS_MAX = 20
ROWS_MAX = 200
_CANDIDATES = 25
_FIELDS = ("text", "service", "status", "code", "patterns", "severity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a pasted text would be taken for.

    Args:
        safety: expression -> why it could not be kept, empty where it could.
        pieces: the text cut where the pattern that counts fits: what, and whether it is part of a match.
    """

    diagnosis: Diagnosis
    trial: Trial
    safety: Mapping[str, str]
    pieces: Sequence[tuple[str, bool]]


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the page to those that are there."""

    @routes.get("/known-issues")
    async def known_issues(caller: Reads, request: Request) -> Response:
        return await _page(app, frame, request, caller, {}, None)

    @routes.post("/known-issues/try")
    async def try_text(caller: Acts, request: Request) -> Response:
        form = await form_of(request)
        sent = {name: form.get(name, "") for name in _FIELDS}
        came = await tried(_tried(app, sent))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, sent, None, came)
        return await _page(app, frame, request, caller, sent, came)


async def _page(
    app: App,
    frame: Frame,
    request: Request,
    caller: Caller,
    sent: Mapping[str, str],
    came: Tried | None,
    refusal: Refusal | None = None,
) -> Response:
    chosen = filters.chosen(KnownIssueFilter, request.query_params)
    wanted = filters.read(KnownIssueFilter, chosen)
    async with app.store.transaction() as tx:
        total = len(await dossier.named(app.parts, tx, wanted.asked()))
        others = await dossier.named(app.parts, tx, wanted.asked(seen=False))
        unseen = await dossier.whole(app.parts, tx, others[:ROWS_MAX])
        newest = await tx.known.recent(wanted.asked(seen=True), most=ROWS_MAX)
        seen = await dossier.whole(app.parts, tx, newest)
        records = await dossier.outcomes(app.parts, tx, seen)
        services = await tx.known.services()
        candidates = await tx.learning.candidates(most=_CANDIDATES)
    rules = [(name, rule) for name, one in sorted(app.settings.services.items()) for rule in one.rules]
    return await show(
        frame,
        request,
        "known_issues.html",
        caller=caller,
        refusal=refusal,
        sent={name: sent.get(name, "") for name in _FIELDS},
        came=came,
        rules=rules,
        services=sorted(app.settings.services),
        severities=[one.value for one in Severity],
        chosen=chosen,
        choices=_choices(app, services),
        total=total,
        seen=seen,
        others=unseen,
        records=records,
        candidates=candidates,
        promote_after=app.parts.learning.promote_after,
    )


def _choices(app: App, services: Sequence[str]) -> dict[str, list[str]]:
    """Return what the filters offer."""
    shipped = {one.service for one in app.parts.known.shipped.values() if one.service}
    return {
        "state": [one.value for one in IssueState],
        "origin": [one.value for one in Origin],
        "service": sorted({*services, *shipped}),
        "severity": [one.value for one in Severity],
        "kind": sorted(KINDS),
    }


async def _tried(app: App, sent: Mapping[str, str]) -> Tried:
    text = sent["text"].strip()
    if not text:
        raise Missing("there is no text; paste an error, an HTTP answer or a traceback")
    if len(text) > _TEXT_MAX:
        raise Missing(f"the text has {len(text):,} characters; at most {_TEXT_MAX:,} are looked at")
    name, code = sent["service"].strip(), sent["code"].strip() or None
    service = app.settings.services.get(name)
    failure = failure_of(text, service=name, status=_status(sent["status"].strip()), code=code)
    diagnosis = classify(
        failure,
        now=app.parts.clock.now(),
        rules=service.rules if service is not None else (),
        names=service.vendors if service is not None else (),
    )
    expressions = _expressions(sent["patterns"])
    severity = Severity(sent["severity"]) if sent["severity"] in list(Severity) else Severity.MEDIUM
    own = [Pattern(id=f"line {n}", expression=one, severity=severity) for n, one in enumerate(expressions, 1)]
    patterns = own or await _all(app)
    trial = try_out(failure.message, patterns, app.parts.clock, service=name or None, code=code, kind=diagnosis.kind)
    return Tried(
        diagnosis=diagnosis,
        trial=trial,
        safety={one: safety.refusal(one) or "" for one in expressions},
        pieces=pieces(trial.text, trial.matches[0].spans if trial.matches else ()),
    )


async def _all(app: App) -> list[Pattern]:
    async with app.store.transaction() as tx:
        stored = {one.id: pattern_of(one) for one in await tx.learning.issues()}
    return [*{**app.parts.known.shipped, **stored}.values()]


def pieces(text: str, spans: Sequence[Span]) -> list[tuple[str, bool]]:
    """Cut a text where matches begin and end; say of each piece whether it is part of one."""
    cut: list[tuple[str, bool]] = []
    done = 0
    for start, end in sorted(spans):
        if start < done:  # within a match that stands already
            continue
        cut += [(text[done:start], False), (text[start:end], True)]
        done = end
    return [(piece, part) for piece, part in [*cut, (text[done:], False)] if piece]


def _expressions(lines: str) -> list[str]:
    found = list(dict.fromkeys(line.strip() for line in lines.splitlines() if line.strip()))
    if len(found) > _PATTERNS_MAX:
        raise Missing(f"there are {len(found)} patterns; at most {_PATTERNS_MAX} are tried at once")
    return found


def _status(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 100 <= int(text) <= 599):
        raise InvalidInput(f"status {text[:20]!r} is no HTTP status; write a number from 100 to 599, or nothing")
    return int(text)
