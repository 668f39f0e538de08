"""Who may tell us of failures without a token of ours: programs that sign what they send. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prunella.core.services import SecretSource

TOLD = (
    "service_name",
    "event_id",
    "http_status",
    "error_code",
    "error_message",
    "occurred_at",
    "account",
    "endpoint",
    "method",
    "payload",
    "ordering_key",
    "retry_count",
)
"""What may be read from a place of its own in what a sender sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """One configured sender.

    Args:
        kind: how it signs and what it sends.
        secrets: each of them is good, so that one can be replaced by another without a gap.
        service: what it speaks of where it does not say.
        services: what it may speak of; nothing else is reached.
        fields: where in what it sends a fact stands, by the fact's name.
        failures, successes: types of events that mean this; where one is given, other types mean nothing.
        scan: it may ask for a scan.
    """

    name: str
    kind: str
    secrets: tuple[SecretSource, ...]
    services: frozenset[str]
    service: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    successes: tuple[str, ...] = ()
    scan: bool = False
