"""How the file says who may tell us of failures by signed requests, and of which services."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from prunella.core.redact import Secret
from prunella.core.senders import TOLD, Sender
from prunella.core.signing import key_of
from prunella.settings import values as of
from prunella.settings.section import Found, Section
from prunella.settings.source import Loc, shown_name

_SECRET_CHARS_MIN: Final = 16
_PATH: Final = re.compile(r"[\w@$:/-]{1,100}(?:\.[\w@$:/-]{1,100}){0,9}")
_TYPED: Final = frozenset({"standard_webhooks", "cloudevents", "token"})
_SCANNING: Final = frozenset({"github", "standard_webhooks", "token"})
_SENDER_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise of.wrong(
            "is no place in a body; write names with dots between them, e.g. labels.service or data.errors.0"
        )
    return text


def _fact(text: str) -> str:
    if text not in TOLD:
        raise of.hidden(f"is no fact of an event{of.nearest(text, list(TOLD))}; allowed: {', '.join(TOLD)}")
    return text


def _sender_name(text: str) -> str:
    if not _SENDER_NAME.fullmatch(text):
        raise of.hidden("this name can't stand in an address; write small letters, digits, - and _, at most 64")
    return text


Place = Annotated[of.Text, AfterValidator(_path)]
Fact = Annotated[str, AfterValidator(_fact)]
SenderName = Annotated[str, AfterValidator(_sender_name)]
Types = Annotated[list[of.Text], Field(min_length=1)]


class SenderSection(Section):
    """Somebody who may tell us of failures at /api/v1/inbound/NAME, by requests that prove who sent them."""

    kind: Annotated[
        Literal["standard_webhooks", "alertmanager", "sentry", "grafana", "github", "cloudevents", "token"],
        of.EXPANDED,
    ]
    secrets: Annotated[list[of.SecretText], Field(min_length=1, max_length=10)] = Field(
        description="What it signs with, or its token; several while one replaces another."
    )
    service: of.Text | None = Field(default=None, description="The service that it speaks of where it does not say.")
    services: Annotated[list[of.Text], Field(min_length=1)] | None = Field(
        default=None, description="Services that it may name; default: service, and nothing else."
    )
    fields: dict[Fact, Place] | None = Field(
        default=None, description="Where a fact stands in what it sends, e.g. error_message: data.reason."
    )
    failures: Types | None = Field(default=None, description="Types of events that are failures; default: all.")
    successes: Types | None = Field(default=None, description="Types of events that are successes.")
    scan: of.Flag | None = Field(default=None, description="Whether it may ask for a scan.")

    def misfits(self) -> Found:
        found: Found = []
        if self.service is None and self.services is None:
            found.append(((), of.hidden("names no service; add service: NAME, or services: [NAME, …]")))
        if self.kind not in _TYPED:
            text = f"is for {', '.join(sorted(_TYPED))}; {self.kind} says itself what failed, remove it"
            given = {"failures": self.failures, "successes": self.successes}
            found += [((name,), of.hidden(text)) for name, value in given.items() if value is not None]
        if self.scan and self.kind not in _SCANNING:
            found.append((("scan",), of.hidden(f"is for {', '.join(sorted(_SCANNING))}; {self.kind} never asks")))
        if self.fields is not None and "event_id" in self.fields and self.kind != "token":
            text = "is for token; the others have an id that the signature covers, remove it"
            found.append((("fields", "event_id"), of.hidden(text)))
        return found + list(self._weak())

    def _weak(self) -> Found:
        """Name secrets that can't be right; those in the store are seen when they are used."""
        found: Found = []
        for position, secret in enumerate(self.secrets):
            if not isinstance(secret, Secret):
                continue
            if self.kind == "standard_webhooks" and key_of(secret.reveal()) is None:
                text = "the value is no secret of Standard Webhooks; it is whsec_ and 24 to 64 bytes in base64"
                found.append((("secrets", position), of.hidden(text)))
            elif len(secret.reveal()) < _SECRET_CHARS_MIN:
                text = f"the value is too short to be a secret; at least {_SECRET_CHARS_MIN} characters"
                found.append((("secrets", position), of.hidden(text)))
        return found


def misfits(senders: Mapping[str, SenderSection], services: Mapping[str, Any]) -> Found:
    """Name what senders speak of and no service is called."""
    named: list[tuple[Loc, str]] = []
    for name, section in senders.items():
        if section.service is not None:
            named.append((("inbound", name, "service"), section.service))
        named += [(("inbound", name, "services", at_), one) for at_, one in enumerate(section.services or ())]
    known = [shown_name(name) for name in services]
    allowed = f"; services: {', '.join(known) or 'none'}"
    return [
        (loc, of.wrong(f"is no service{of.nearest(one, known) or allowed}"))
        for loc, one in named
        if one not in services
    ]


def senders(sections: Mapping[str, SenderSection] | None) -> dict[str, Sender]:
    """Return the senders by name."""
    return {name: _sender(name, section) for name, section in (sections or {}).items()}


def _sender(name: str, section: SenderSection) -> Sender:
    return Sender(
        name=name,
        kind=section.kind,
        secrets=tuple(section.secrets),
        service=section.service or "",
        services=frozenset([*([section.service] if section.service else ()), *(section.services or ())]),
        fields=dict(section.fields or {}),
        failures=tuple(section.failures or ()),
        successes=tuple(section.successes or ()),
        scan=bool(section.scan),
    )
