"""What every page has: templates, headers, addresses that know where we are mounted, and who is looking.

Nothing leaves the host: scripts, styles and pictures are ours, and no page runs what stands in its text.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from prunella.app import App
from prunella.core.errors import StoreError
from prunella.core.redact import scrub
from prunella.engine.glance import COUNTED_MAX, Edge, Glance
from prunella.engine.notices import spell_duration
from prunella.engine.operations import outcome_unknown
from prunella.engine.patrol import spell_result
from prunella.web.auth import Caller, Role
from prunella.web.problems import Problem

PLACES = (
    ("/", "Overview", "o", ""),
    ("/incidents", "Incidents", "i", ""),
    ("/approvals", "Approvals", "a", "approvals"),
    ("/services", "Services", "s", ""),
    ("/entities", "Entities", "e", ""),
    ("/operations", "Operations", "w", ""),
    ("/known-issues", "Known issues", "k", ""),
    ("/procedures", "Procedures", "p", ""),
    ("/statistics", "Statistics", "t", ""),
    ("/notifications", "Notifications", "n", "notices"),
    ("/audit", "Audit", "u", ""),
    ("/settings", "Settings", ",", ""),
)
"""The pages: address, name, key after `g`, what is counted beside it."""
THEMES = ("light", "dark")
THEME_COOKIE = "prunella_theme"
STATIC = Path(__file__).parent.parent / "static"


class Frame:
    """Render pages."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.glance = Glance(app.parts)
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
        )
        self._templates.filters["duration"] = spell_duration
        self._templates.filters["came"] = spell_result
        self._templates.filters["clock"] = clock
        self._templates.filters["ago"] = self._ago
        self._templates.tests["outcome_unknown"] = outcome_unknown

    async def look(self, request: Request) -> None:
        """Read what stands at the edge of the page that is asked for; a dependency of every page."""
        with suppress(StoreError):  # the page itself will say so
            request.state.edge = await self.glance.edge()

    def page(
        self, request: Request, name: str, status: int = 200, *, caller: Caller | None = None, **values: object
    ) -> Response:
        """Return a page.

        Args:
            caller: who looks; None: somebody who has not signed in.
        """
        values.setdefault("status", status)
        html = self._templates.get_template(name).render(
            at=lambda path: mounted(request, path),
            static=lambda file: mounted(request, f"/static/{file}?v={version_of(file)}"),
            caller=caller,
            csrf=caller.csrf if caller is not None else "",
            now=self._app.parts.clock.now(),
            **self._framing(request, caller),
            **values,
        )
        return HTMLResponse(html, status_code=status)

    def fragment(self, request: Request, name: str, **values: object) -> str:
        """Return a part of a page, as text."""
        return self._templates.get_template(name).render(at=lambda path: mounted(request, path), csrf="", **values)

    def _framing(self, request: Request, caller: Caller | None) -> dict[str, Any]:
        """Return what the frame around a page shows."""
        edge: Edge = getattr(request.state, "edge", Edge())
        path = request.url.path.removeprefix(request.scope.get("root_path", "")) or "/"
        theme = request.cookies.get(THEME_COOKIE, "")
        return {
            "environment": self._app.settings.environment,
            "theme": theme if theme in THEMES else "",
            "edge": edge,
            "places": [
                (place, words, key, _counted(getattr(edge, count)) if count else "")
                for place, words, key, count in PLACES
            ],
            "here": "/" + path.split("/")[1],
            "back": _back(request, path),
            "may_act": caller is not None and caller.role in (Role.OPERATIONS, Role.ADMIN),
            "may_rule": caller is not None and caller.role is Role.ADMIN,
        }

    def _ago(self, moment: datetime | None) -> Markup:
        """Tell a moment from now on, with the moment itself in the title."""
        return ago(moment, self._app.parts.clock.now())

    def trouble(self, request: Request, problem: Problem) -> Response:
        """Spell a problem for a person; who has not shown who they are is asked to sign in."""
        if problem.status == 401:
            answer = self.page(request, "sign_in.html", 401, token="", refused=False)
        else:
            title, detail = scrub(problem.title), scrub(problem.detail)
            caller = getattr(request.state, "caller", None)
            errors = [(error["pointer"], scrub(error["detail"])) for error in problem.errors]
            words = {"title": title, "detail": "" if errors else detail, "errors": errors}
            answer = self.page(request, "trouble.html", problem.status, caller=caller, **words)
        answer.headers.update(problem.headers or {})
        return answer


def mounted(request: Request, path: str) -> str:
    """Return a path of ours as the browser has to ask for it, wherever we are mounted."""
    return f"{request.scope.get('root_path', '')}{path}"


def ago(moment: datetime | None, now: datetime) -> Markup:
    """Tell how long ago a moment is, or in how long it comes, as an element that a script keeps true."""
    if moment is None:
        return Markup("")
    apart_s = (now - moment).total_seconds()
    size = abs(apart_s)
    unit, length_s = next(((u, s) for u, s in (("d", 86_400), ("h", 3_600), ("min", 60)) if size >= s), ("s", 1))
    told = f"{int(size // length_s)} {unit} ago" if apart_s > 0 else f"in {round(size / length_s)} {unit}"
    told = "now" if size < 2 else told
    at = f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return Markup('<time class="ago" datetime="{}" title="{} UTC">{}</time>').format(at, clock(moment), told)


def _back(request: Request, path: str) -> str:
    """Return where a form of the frame leads back to: this page, or the one whose form was refused here."""
    if request.method == "GET":
        return path + (f"?{request.url.query}" if request.url.query else "")
    came = urlsplit(request.headers.get("referer", ""))
    own = came.netloc == request.headers.get("host") and came.path.removeprefix(request.scope.get("root_path", ""))
    return safe_path(own or "/")


def _counted(count: int) -> str:
    return f"{COUNTED_MAX - 1}+" if count >= COUNTED_MAX else str(count or "")


def safe_path(path: str) -> str:
    """Return a path of ours that a form named, the overview for any other address."""
    ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if ours else "/"


def back_to(request: Request, path: str) -> Response:
    """Send a browser on after a form was taken, so that a reload sends nothing again (RFC 9110 section 15.4.4)."""
    return RedirectResponse(mounted(request, path), status_code=303)


@cache
def version_of(file: str) -> str:
    """Return what changes in a static file's address whenever the file does."""
    return hashlib.sha256((STATIC / file).read_bytes()).hexdigest()[:12]


def clock(moment: datetime | None) -> str:
    """Write a moment."""
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment is not None else ""
