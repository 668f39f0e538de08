"""What every page has: templates, headers, addresses that know where we are mounted, and who is looking.

Nothing leaves the host: scripts, styles and pictures are ours, and no page runs what stands in its text.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from prunella.app import App
from prunella.core.redact import scrub
from prunella.engine.notices import spell_duration
from prunella.engine.operations import outcome_unknown
from prunella.web.auth import Caller
from prunella.web.problems import Problem

STATIC = Path(__file__).parent.parent / "static"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Frame:
    """Render pages."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
        )
        self._templates.filters["duration"] = spell_duration
        self._templates.filters["clock"] = clock
        self._templates.tests["outcome_unknown"] = outcome_unknown

    def page(
        self, request: Request, name: str, status: int = 200, *, caller: Caller | None = None, **values: object
    ) -> Response:
        """Return a page.

        Args:
            caller: who looks; None: somebody who has not signed in.
        """
        html = self._templates.get_template(name).render(
            at=lambda path: mounted(request, path),
            static=lambda file: mounted(request, f"/static/{file}?v={version_of(file)}"),
            caller=caller,
            csrf=caller.csrf if caller is not None else "",
            environment=self._app.settings.environment,
            now=self._app.parts.clock.now(),
            **values,
        )
        return HTMLResponse(html, status_code=status, headers=HEADERS)

    def trouble(self, request: Request, problem: Problem) -> Response:
        """Spell a problem for a person; who has not shown who they are is asked to sign in."""
        if problem.status == 401:
            answer = self.page(request, "sign_in.html", 401, token="", refused=False)
        else:
            title, detail = scrub(problem.title), scrub(problem.detail)
            answer = self.page(request, "trouble.html", problem.status, title=title, detail=detail)
        answer.headers.update(problem.headers or {})
        return answer


def mounted(request: Request, path: str) -> str:
    """Return a path of ours as the browser has to ask for it, wherever we are mounted."""
    return f"{request.scope.get('root_path', '')}{path}"


def back_to(request: Request, path: str) -> Response:
    """Send a browser on after a form was taken, so that a reload sends nothing again (RFC 9110 section 15.4.4)."""
    return RedirectResponse(mounted(request, path), status_code=303, headers=HEADERS)


@cache
def version_of(file: str) -> str:
    """Return what changes in a static file's address whenever the file does."""
    return hashlib.sha256((STATIC / file).read_bytes()).hexdigest()[:12]


def clock(moment: datetime | None) -> str:
    """Write a moment."""
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment is not None else ""
