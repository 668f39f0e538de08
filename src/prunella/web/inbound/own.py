"""Events in our own words, signed by Standard Webhooks or shown with a token; or in any words, by configured places."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from prunella.web.inbound.told import Reading, Told, event_id_of, text_at

SERVICE_AT = "data.service_name"


def read_signed(body: Mapping[str, Any], headers: Mapping[str, str], raw: bytes) -> Reading:
    """Read a message of Standard Webhooks; its id is signed, and the same in each delivery."""
    return [_told(body, event_id_of(headers.get("webhook-id", "")))]


def read_plain(body: Mapping[str, Any], headers: Mapping[str, str], raw: bytes) -> Reading:
    """Read what came with a token; without an id of its own, the same bytes are the same event."""
    named = text_at(body, "event_id")
    return [_told(body, event_id_of(named or f"sha256:{hashlib.sha256(raw).hexdigest()}"))]


def _told(body: Mapping[str, Any], event_id: str) -> Told:
    """Read facts from `data`, as Standard Webhooks recommends, or from the body itself."""
    data = body.get("data")
    facts = dict(data) if isinstance(data, Mapping) else dict(body)
    moment = {"occurred_at": text_at(body, "timestamp") or None} if isinstance(data, Mapping) else {}
    return Told(
        event_id=event_id,
        outcome=str(facts.get("outcome") or "failure"),
        item={**body, "data": facts},
        facts={**moment, **facts},
    )
