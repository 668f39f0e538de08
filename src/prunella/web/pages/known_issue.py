"""The page of one known issue: what it is, what became of its remedies, and what people do about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.issues import KnownIssue
from prunella.core.records import Level, Severity
from prunella.engine.learning import curation, dossier, joining, pairing
from prunella.remedies.known import value_of
from prunella.store.audit import Asked
from prunella.web.access import Acts, Reads
from prunella.web.api.issue_acts import not_taken
from prunella.web.auth import Caller, form_of
from prunella.web.pages.forms import Missing, Refusal, back_saying, reason_of, show, tried
from prunella.web.pages.frame import Frame, safe_path
from prunella.web.problems import Problem

LEVELS = {
    Level.L0: "heal, and tell nobody",
    Level.L1: "heal, and tell",
    Level.L2: "ask each time",
    Level.L3: "leave it to a person",
}
_SAID = {
    "bind": "{remedy} stands by now. Open incidents of this issue are tried with it.",
    "unbind": "{remedy} is not tried any more.",
    "resolve": "Resolved: seen again after a day of quiet it counts as a regression.",
    "reopen": "It is a problem again.",
    "merge": "Joined: {into} stands for both.",
    "split": "They are two now.",
    "change": "Changed.",
}
_CHANGED = ("title", "pattern", "severity", "cause", "advice")
_SET = "set."


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks for: the form as it was sent, by whom, and why."""

    app: App
    form: Mapping[str, str]
    issue_id: str
    by: str
    reason: str

    def typed(self, name: str) -> str:
        """Return what was typed into a field."""
        return self.form.get(name, "").strip()


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the pages to those that are there."""

    @routes.post("/known-issues/make")
    async def make_known(caller: Acts, request: Request) -> Response:
        form = await form_of(request)
        came = await tried(
            not_taken(curation.create(app.parts, {}, by=caller.name, fingerprint=form.get("fingerprint", "")))
        )
        if isinstance(came, Refusal):
            raise Problem(came.status, came.title, came.detail)
        return back_saying(request, caller, f"/known-issues/{came.id}", "It is known now; bind what helps.")

    @routes.get("/known-issues/{issue_id}")
    async def known_issue(caller: Reads, request: Request, issue_id: str) -> Response:
        return await _page(app, frame, request, caller, issue_id)

    @routes.post("/known-issues/{issue_id}/{act}")
    async def act_on_known_issue(caller: Acts, request: Request, issue_id: str, act: str) -> Response:
        if act not in _ACTS:
            raise Problem(404, "Unknown act", f"there is no {act[:50]!r}; known: {', '.join(_ACTS)}")
        form = await form_of(request)
        came = await tried(_acted(app, request, caller, issue_id, act))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, issue_id, came)
        words = _SAID[act].format(remedy=form.get("remedy", ""), into=form.get("into", ""))
        back = safe_path(form.get("back") or f"/known-issues/{came.id}")
        return back_saying(request, caller, back, words)


async def _acted(app: App, request: Request, caller: Caller, issue_id: str, act: str) -> KnownIssue:
    wish = Wish(app, await form_of(request), issue_id, by=caller.name, reason=await reason_of(request))
    done = await _ACTS[act](wish)
    if done is None:
        raise _unknown(issue_id)
    return done


async def _bind(wish: Wish) -> KnownIssue | None:
    name = wish.typed("remedy")
    level = wish.typed("level") or Level.L1
    if level not in list(Level):
        raise Missing(f"level {level[:20]!r} is none; one of {', '.join(Level)}")
    remedy = wish.app.parts.bindable.get(name)
    parameters = {
        one: value_of(parameter.spelled, wish.form[_SET + one])
        for one, parameter in (remedy.parameters if remedy is not None else {}).items()
        if wish.typed(_SET + one)
    }
    return await pairing.bind(
        wish.app.parts, wish.issue_id, name, parameters, level=Level(level), by=wish.by, reason=wish.reason
    )


async def _unbind(wish: Wish) -> KnownIssue | None:
    remedy = wish.typed("remedy")
    return await pairing.unbind(wish.app.parts, wish.issue_id, remedy, by=wish.by, reason=wish.reason)


async def _resolve(wish: Wish) -> KnownIssue | None:
    return await curation.resolve(wish.app.parts, wish.issue_id, by=wish.by, reason=wish.reason)


async def _reopen(wish: Wish) -> KnownIssue | None:
    return await curation.reopen(wish.app.parts, wish.issue_id, by=wish.by, reason=wish.reason)


async def _merge(wish: Wish) -> KnownIssue | None:
    return await joining.merge(wish.app.parts, wish.issue_id, wish.typed("into"), by=wish.by, reason=wish.reason)


async def _split(wish: Wish) -> KnownIssue | None:
    wanted = {name: words for name in ("pattern", "title") if (words := wish.typed(name))}
    if not wanted:
        return await joining.part(wish.app.parts, wish.issue_id, by=wish.by, reason=wish.reason)
    return await not_taken(joining.divide(wish.app.parts, wish.issue_id, wanted, by=wish.by))


async def _change(wish: Wish) -> KnownIssue | None:
    wanted = {name: wish.typed(name) or None for name in _CHANGED if name in wish.form}
    return await curation.change(wish.app.parts, wish.issue_id, wanted, by=wish.by)


_ACTS: Mapping[str, Callable[[Wish], Awaitable[KnownIssue | None]]] = {
    "bind": _bind,
    "unbind": _unbind,
    "resolve": _resolve,
    "reopen": _reopen,
    "merge": _merge,
    "split": _split,
    "change": _change,
}


async def _page(
    app: App, frame: Frame, request: Request, caller: Caller, issue_id: str, refusal: Refusal | None = None
) -> Response:
    async with app.store.transaction() as tx:
        found = await dossier.of(app.parts, tx, issue_id)
        if found is None:
            raise _unknown(issue_id)
        entries = await tx.audit.asked(Asked(target=issue_id, action="issue."), most=10)
    return await show(
        frame,
        request,
        "known_issue.html",
        caller=caller,
        refusal=refusal,
        found=found,
        issue=found.issue,
        levels=LEVELS,
        severities=[one.value for one in Severity],
        entries=entries,
    )


def _unknown(issue_id: str) -> Problem:
    return Problem(404, "Unknown known issue", f"there is no known issue {issue_id[:100]!r}")
