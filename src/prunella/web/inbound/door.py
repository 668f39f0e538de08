"""The door for those who sign what they send: no token of ours, no role; the signature says who it is.

The raw body is checked before anybody parses it. Who is refused is not told why: not whether the name is known, not
what is wrong with the signature. The log says it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request

from prunella.core.errors import SecretError
from prunella.core.events import Listeners
from prunella.core.senders import Sender
from prunella.core.services import SecretSource
from prunella.core.signing import is_genuine
from prunella.web.bodies import mended
from prunella.web.inbound import cloudevents
from prunella.web.problems import Problem

_NOBODY = Sender(name="unknown", kind="", secrets=(), services=frozenset())


@dataclass(frozen=True, slots=True)
class Delivered:
    """One request of a sender who has shown who it is.

    Args:
        headers: with names in lower case.
        body: what the raw bytes say as JSON.
    """

    sender: Sender
    headers: Mapping[str, str]
    raw: bytes
    body: Any


class Door:
    """Let in what is signed by a configured sender."""

    def __init__(
        self,
        senders: Mapping[str, Sender],
        reveal: Callable[[SecretSource], Awaitable[str]],
        now: Callable[[], datetime],
        listeners: Listeners,
    ) -> None:
        self._senders = senders
        self._reveal = reveal
        self._now = now
        self._listeners = listeners

    async def admit(self, request: Request) -> Delivered:
        """Return what was delivered, or answer 401 and nothing more."""
        raw = await request.body()
        sender = self._senders.get(request.path_params.get("source", ""), _NOBODY)
        headers = {name.lower(): value for name, value in request.headers.items()}
        secrets, why = await self._secrets(sender)
        if not is_genuine(sender.kind, secrets, headers, raw, self._now()):
            self._listeners.emit("inbound.refused", source=sender.name, reason=why or "not signed as it should be")
            raise Problem(
                401,
                "This is not from a sender that is known here",
                "its name, its secret and how it signs stand in the section inbound; the log says what did not fit",
                headers={"www-authenticate": 'Signature realm="prunella"'},
            )
        return Delivered(sender, headers, raw, parsed(raw, headers))

    async def _secrets(self, sender: Sender) -> tuple[list[str], str]:
        """Return the secrets that can be opened, and what is wrong with the others."""
        opened, why = [], "" if sender is not _NOBODY else "no sender has this name"
        for source in sender.secrets:
            try:
                opened.append(await self._reveal(source))
            except SecretError as error:  # the other secrets are good while one is missing
                why = str(error)
        return opened, why


class Signed:
    """Let through what is signed; the other kind of caller beside those with a role."""

    async def __call__(self, request: Request) -> Delivered:
        door: Door = request.app.state.door
        return await door.admit(request)


BySignature = Annotated[Delivered, Depends(Signed())]


def parsed(raw: bytes, headers: Mapping[str, str]) -> Any:
    """Read a body as JSON; the data of a CloudEvent in binary mode may be any text."""
    plain = f"{cloudevents.HEADER}specversion" in headers and "json" not in cloudevents.media_type(headers)
    if plain:
        return raw.decode("utf-8", "replace")
    return mended(raw)
