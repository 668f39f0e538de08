"""The doors of the server: bodies, deliveries, signatures, tokens, chat answers, filters. A refusal is fine."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Final

from fuzz.cutting import NOW, delivered, finished, request, texts
from prunella.core.clock import Ids, ManualClock, Rng
from prunella.core.redact import Secret
from prunella.core.senders import Sender
from prunella.core.services import Issuing
from prunella.core.signing import is_genuine, key_of
from prunella.egress import Egress
from prunella.notify.slack_answers import is_from_slack, may_reply, pressed_in
from prunella.store.secrets import Keys
from prunella.web import filters
from prunella.web.access import IfMatch, parsed, read_json
from prunella.web.api.events import FailureEvent, ScanRequest, echo_of, to_signal
from prunella.web.api.paging import before
from prunella.web.auth import Gatehouse, form_of
from prunella.web.inbound import door, taking
from prunella.web.inbound.door import Delivered
from prunella.web.inbound.told import EVENTS_MAX
from prunella.web.issuers import JwtIssuer, _public_keys
from prunella.web.problems import Problem

CLOCK: Final = ManualClock(NOW)
IDS: Final = Ids(CLOCK, Rng(1))
KINDS: Final = ("standard_webhooks", "token", "cloudevents", "alertmanager", "grafana", "sentry", "github")
SECRET: Final = "whsec_bm9ib2R5IGtub3dzIHRoaXMgb25lIGZvciBzdXJl"
_FIELDS: Final[Mapping[str, str]] = {"error_code": "data.errors.0.code", "account": "labels.team", "event_id": "id"}
_PARTS: Final = SimpleNamespace(services={}, ids=IDS, clock=CLOCK)
_APP: Final[Any] = SimpleNamespace(parts=_PARTS)  # as much of it as is read before anything is stored
_FILTERS: Final = (
    filters.IncidentFilter,
    filters.OperationFilter,
    filters.AuditFilter,
    filters.RunFilter,
    filters.KnownIssueFilter,
)


def events(data: bytes) -> None:
    """Read a body of document B: an event, or a wish for a scan."""
    _, headers, raw = delivered(data)
    with suppress(Problem):
        body = finished(read_json(request(headers, raw)))
        with suppress(Problem):
            parsed(ScanRequest, body)
        event = parsed(FailureEvent, body)
        to_signal(event, None, IDS, CLOCK, None)
        echo_of(event, headers.get("x-prunella-recovery"))


def inbound(data: bytes) -> None:
    """Read what a sender of each kind told, up to what would be stored."""
    which, headers, raw = delivered(data)
    fields = _FIELDS if which & 64 else {}
    kind = KINDS[which % len(KINDS)]
    sender = Sender(name="fuzz", kind=kind, secrets=(), services=frozenset({"acme"}), service="acme", fields=fields)
    with suppress(Problem):
        told = taking.read(Delivered(sender, headers, raw, door.parsed(raw, headers)))
        for one in told[:EVENTS_MAX]:
            taking._signal_of(_APP, Delivered(sender, headers, raw, None), one)


def signatures(data: bytes) -> None:
    """Show every door a signature that nobody made."""
    which, headers, raw = delivered(data)
    assert not is_genuine(KINDS[which % len(KINDS)], [SECRET], headers, raw, NOW)
    assert not is_from_slack(Secret(SECRET), headers, raw, NOW)
    key_of(raw.decode("utf-8", "replace"))


def chat(data: bytes) -> None:
    """Read an answer from a chat."""
    pressed = pressed_in(data)
    if pressed is not None:
        allowed = may_reply(pressed.reply_to, Secret("https://hooks.slack.example/services/T1/B1/x"))
        assert not allowed or pressed.reply_to.startswith("https://hooks.slack.example")


async def _reveal() -> str:
    return SECRET


_GATEHOUSE: Final = Gatehouse(Keys.parse(base64.b64encode(b"f" * 32).decode()), [Secret(SECRET)], CLOCK.now)
_ISSUER: Final = JwtIssuer(
    Issuing(issuer="https://id.example", audience="prunella", algorithms=("HS256",)),
    Egress(clock=CLOCK),
    CLOCK,
    _reveal,
)


def tokens(data: bytes) -> None:
    """Show a token that nobody signed, to us and as one of an issuer; read the keys of a strange issuer."""
    shown = data.decode("latin-1")
    assert _GATEHOUSE.signed(shown) is None
    assert finished(_ISSUER.read(shown)) is None
    with suppress(Problem), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said of keys that are too short, which are left out
        _public_keys(door.parsed(data, {}))


def queries(data: bytes) -> None:
    """Read what a list is asked with: a cursor, each filter, a version, a form."""
    cursor, tag, name, value = texts(data, 4)
    with suppress(Problem):
        before(cursor)
    finished(IfMatch()(request({"if-match": tag}, b""))).version  # noqa: B018
    for kind in _FILTERS:
        with suppress(Problem):
            filters.read(kind, filters.chosen(kind, {name: value, "since": value, "q": value}))
    with suppress(Problem):
        finished(form_of(request({"content-type": "application/x-www-form-urlencoded"}, data)))
