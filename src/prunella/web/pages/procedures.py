"""The pages of procedures: what runs by itself, when, how far it may go, what it did, and what it would do now.

Roles that only look see figures, never rows of the user's tables: a plan and its sample need one that may act.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.procedures import EndIdleRemedy, PluginCheck, PluginRemedy
from prunella.engine import orders
from prunella.engine.patrol import Round
from prunella.engine.ready import MANUAL, Ready
from prunella.engine.sweep import Swept
from prunella.store.sql import Row
from prunella.web.access import Acts, Reads
from prunella.web.auth import Caller
from prunella.web.pages.approvals import difference
from prunella.web.pages.forms import Refusal, back_saying, reason_of, show, tried
from prunella.web.pages.frame import Frame
from prunella.web.problems import Problem

_HISTORY = 25
_LOGGED = frozenset({"procedure.finished", "procedure.failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One procedure, or one round that every deployment has, with what its schedule remembers."""

    name: str
    ready: Ready | None
    round: Round
    row: Mapping[str, Any]
    next_at: datetime | None

    @property
    def schedule(self) -> tuple[str, float | str]:
        """Return how often it runs, or when."""
        if self.round.every_s is not None:
            return "every", self.round.every_s
        return "cron", self.round.cron or ""

    @property
    def check(self) -> str:
        """Return what it looks for, as prunella.yaml calls it."""
        return "" if self.ready is None else _sort(self.ready.policy.check)

    @property
    def remedy(self) -> str:
        """Return what it does, as prunella.yaml calls it."""
        if self.ready is None:
            return ""
        return _sort(self.ready.policy.remedy) or ", ".join(sorted({*self.ready.remedies} - {MANUAL}))


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the pages to those that are there."""
    _reading_routes(routes, app, frame)

    @routes.post("/procedures/{name}/dry-run")
    async def dry_run(caller: Acts, request: Request, name: str) -> Response:
        _must_be_known(app, name)
        came = await tried(orders.dry_run(app.parts, name))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, name, refusal=came)
        return await _page(app, frame, request, caller, name, would=came)

    @routes.post("/procedures/{name}/run")
    async def run(caller: Acts, request: Request, name: str) -> Response:
        _must_be_known(app, name)
        came = await tried(orders.run_now(app.parts, name, by=caller.name))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, name, refusal=came)
        return back_saying(request, caller, f"/procedures/{name}", _what_came(came))

    @routes.post("/procedures/{name}/{act}")
    async def act(caller: Acts, request: Request, name: str, act: str) -> Response:
        _must_be_known(app, name)
        if act not in ("pause", "resume"):
            raise Problem(404, "Unknown act", f"there is no {act[:50]!r}; known: dry-run, run, pause, resume")
        came = await tried(_moved(app, request, caller, name, act))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, name, refusal=came)
        return back_saying(request, caller, f"/procedures/{name}", came)


def _reading_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    @routes.get("/procedures")
    async def procedures(caller: Reads, request: Request) -> Response:
        known = await _all(app)
        ours = [one for one in known if one.ready is not None]
        rounds = [one for one in known if one.ready is None]
        return await show(frame, request, "procedures.html", caller=caller, procedures=ours, rounds=rounds)

    @routes.get("/procedures/{name}")
    async def procedure(caller: Reads, request: Request, name: str) -> Response:
        _must_be_known(app, name)
        return await _page(app, frame, request, caller, name)


async def _moved(app: App, request: Request, caller: Caller, name: str, act: str) -> str:
    reason = await reason_of(request, "pause a procedure", needed=act == "pause")
    change = orders.pause if act == "pause" else orders.resume
    await change(app.parts, name, by=caller.name, reason=reason)
    return f"{name} is paused until somebody resumes it." if act == "pause" else f"{name} runs again, beginning now."


async def _page(
    app: App,
    frame: Frame,
    request: Request,
    caller: Caller,
    name: str,
    *,
    would: Swept | None = None,
    refusal: Refusal | None = None,
) -> Response:
    known = next(one for one in await _all(app) if one.name == name)
    async with app.store.transaction() as tx:
        entries = await tx.audit.list(most=4 * _HISTORY, target=name)
        incidents = await tx.incidents.list(most=_HISTORY, procedure=name)
    plan = would.plan if would is not None else None
    return await show(
        frame,
        request,
        "procedure.html",
        caller=caller,
        refusal=refusal,
        one=known,
        runs=[one for one in entries if one.action in _LOGGED][:_HISTORY],
        entries=[one for one in entries if one.action not in _LOGGED][:_HISTORY],
        incidents=incidents,
        would=would,
        difference=difference(plan) if plan else None,
    )


async def _all(app: App) -> list[Known]:
    async with app.store.transaction() as tx:
        rows = {row["name"]: row for row in await tx.procedures.all()}
    return [
        Known(
            name=name,
            ready=app.parts.procedures.get(name),
            round=one,
            row=rows.get(name, {}),
            next_at=_next(one, rows.get(name)),
        )
        for name, one in sorted(app.rounds.items())
    ]


def _next(one: Round, row: Row | None) -> datetime | None:
    if row is None or row["last_started_at"] is None or row["paused_by"]:
        return None
    return one.after(row["last_started_at"])


def _what_came(swept: Swept) -> str:
    """Say what a run came to."""
    told = ", ".join(f"{name} {count}" for name, count in swept.as_log().items())
    if swept.verdict is not None and swept.plan is not None and swept.verdict.answer.value == "propose":
        return f"It ran: {told}. Its plan waits for an answer under Approvals."
    return f"It ran: {told}."


def _must_be_known(app: App, name: str) -> None:
    if name not in app.parts.procedures:
        known = ", ".join(sorted(app.parts.procedures)) or "none"
        raise Problem(404, "Unknown procedure", f"there is no procedure {name[:100]!r}; known: {known}")


def _sort(source: object) -> str:
    """Name a check or a remedy as prunella.yaml does: FreshnessCheck is `freshness`."""
    if source is None:
        return ""
    if isinstance(source, (PluginCheck, PluginRemedy)):
        return source.name
    if isinstance(source, EndIdleRemedy):
        return "end_idle_connections"
    name = type(source).__name__.removesuffix("Check").removesuffix("Remedy")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
