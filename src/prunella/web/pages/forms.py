"""Forms of pages: read what a person sent, say once what came of it, and say in words what stood in the way.

What was done is told after a redirect, in a cookie that is good for one page and for one session. What was refused is
told on the page that it was sent from, with what to do next; nothing typed is lost.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from fastapi import Request
from fastapi.responses import Response

from prunella.checks.plugin import PluginFailed
from prunella.core import redact
from prunella.core.errors import Conflict, DatabaseRefused, DatabaseUnavailable, IllegalTransition, InvalidInput
from prunella.web.api.events import in_utc
from prunella.web.auth import Caller, form_of
from prunella.web.pages.frame import Frame, back_to
from prunella.web.problems import Problem

SAID = "prunella_said"
REASON_MAX = 500
_SAID_MAX = 600
_SAID_LASTS_S = 60
_LOOK_AGAIN = "How it stands now is shown below; look at it and decide again."
_LATER = "Nothing was done. Try again when it answers; nothing has to be typed anew."
_EXPLAINED = frozenset({409, 412, 422, 428})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not done, in words for the person who asked for it, and what to do next."""

    status: int
    title: str
    detail: str
    next: str = ""


class Missing(InvalidInput):
    """A form lacks what it has to carry."""


async def tried(act: Awaitable[T]) -> T | Refusal:
    """Carry out what a person asked for, or return why it can't be."""
    try:
        return await act
    except IllegalTransition as error:
        return Refusal(409, "That can't be done as it stands now", redact.scrub(str(error)), _LOOK_AGAIN)
    except Conflict:
        why = "somebody else changed it at this very moment, so nothing was done"
        return Refusal(409, "Somebody was quicker", why, _LOOK_AGAIN)
    except InvalidInput as error:
        return Refusal(
            422, "Something is missing or wrong", redact.scrub(str(error)), "Put it right and send it again."
        )
    except DatabaseUnavailable as error:
        return Refusal(503, "Your database does not answer", redact.scrub(str(error)), _LATER)
    except (DatabaseRefused, PluginFailed) as error:
        return Refusal(502, "It could not be looked at", redact.scrub(str(error)), "Nothing was done.")
    except Problem as error:
        if error.status not in _EXPLAINED:
            raise
        return Refusal(error.status, error.title, redact.scrub(error.detail), _LOOK_AGAIN)


async def reason_of(request: Request, what: str = "", *, needed: bool = False) -> str:
    """Return why a person does something.

    Raises:
        Missing: there is none though `what` needs one, or it is too long.
    """
    reason = (await form_of(request)).get("reason", "").strip()
    if needed and not reason:
        raise Missing(f"a reason is needed to {what}; it stands in the audit and whoever comes next reads it")
    if len(reason) > REASON_MAX:
        raise Missing(f"the reason has {len(reason)} characters; at most {REASON_MAX} are kept")
    return redact.scrub(reason)


def estimated_at(form: Mapping[str, str]) -> datetime:
    """Return the moment of the estimate that a form agrees to.

    Raises:
        Missing: it names none.
    """
    try:
        moment = datetime.fromisoformat(form.get("made_at", ""))
        if moment.tzinfo is not None:
            return in_utc(moment)
    except ValueError:
        pass
    raise Missing("the estimate's moment is missing, or is none with a zone; an estimate comes first")


async def show(
    frame: Frame,
    request: Request,
    name: str,
    *,
    caller: Caller,
    refusal: Refusal | None = None,
    **values: object,
) -> Response:
    """Return a page with what was done just now, or why it was refused; then what was typed stands there, too."""
    typed = await form_of(request) if refusal is not None else {}
    shown = {"said": said(request, caller), "refusal": refusal, "typed": typed, **values}
    status = refusal.status if refusal is not None else 200
    answer = frame.page(request, name, status, caller=caller, **shown)
    if SAID in request.cookies:
        answer.delete_cookie(SAID, path="/", httponly=True, samesite="lax")
    return answer


def back_saying(request: Request, caller: Caller, path: str, words: str) -> Response:
    """Send a browser on to a page that says `words`, once."""
    answer = back_to(request, path)
    if caller.csrf:  # a program that shows its token with every request keeps no cookies
        secure = request.url.scheme == "https"
        value = _sealed(redact.scrub(words)[:_SAID_MAX], caller)
        answer.set_cookie(SAID, value, max_age=_SAID_LASTS_S, path="/", httponly=True, samesite="lax", secure=secure)
    return answer


def said(request: Request, caller: Caller) -> str:
    """Return what was done just now; empty where nothing was, or where the cookie is not ours."""
    shown = request.cookies.get(SAID, "")
    spelled, _, seal = shown.partition(".")
    if not seal or not hmac.compare_digest(seal.encode(), _seal(spelled, caller).encode()):
        return ""
    return base64.urlsafe_b64decode(spelled).decode()


def _sealed(words: str, caller: Caller) -> str:
    spelled = base64.urlsafe_b64encode(words.encode()).decode()
    return f"{spelled}.{_seal(spelled, caller)}"


def _seal(spelled: str, caller: Caller) -> str:
    """Bind words to a session, so that no neighbour's cookie puts words into our mouth."""
    return hmac.new(f"said:{caller.csrf}".encode(), spelled.encode("utf-8", "replace"), "sha256").hexdigest()
