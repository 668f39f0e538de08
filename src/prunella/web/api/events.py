"""What an integration sends when it failed (document B), and how it becomes a Signal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from prunella.core.clock import Clock, Ids
from prunella.core.records import Failure, Request, Signal
from prunella.core.services import Service
from prunella.diagnosis.fingerprint import operation_of

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w .:/@+-]+$")]


def in_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; `ValueError` where its zone puts it out of the calendar."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it is not within the years 1 to 9999") from None


Moment = Annotated[AwareDatetime, AfterValidator(in_utc)]

FORCED: Mapping[str, Mapping[str, Any]] = {
    "auth": {"http_status": 401, "error_code": "invalid_token", "error_message": "Token expired"},
    "rate_limit": {"http_status": 429, "error_code": "rate_limit_exceeded", "error_message": "Too many requests"},
    "network": {
        "http_status": 503,
        "error_code": "service_unavailable",
        "error_message": "Service temporarily unavailable",
    },
    "data": {"http_status": 400, "error_code": "validation_error", "error_message": "Invalid payload structure"},
}
"""What `X-Force-Failure` pretends, in development only (document B)."""


class FailureEvent(BaseModel):
    """One event of an integration: a failure, or a success that proves it well."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    mode: Literal["webhook"] = "webhook"
    event_id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
    service_name: Name
    http_status: Annotated[int, Field(ge=100, le=599)] | None = None
    error_code: Annotated[str, Field(max_length=200)] | None = None
    error_message: str = ""
    payload: dict[str, Any] | None = None
    endpoint: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    retry_count: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    user_id: Annotated[str, Field(max_length=200)] | None = None
    account: Annotated[str, Field(max_length=200)] | None = None
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    ordering_key: Annotated[str, Field(max_length=200)] | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    occurred_at: Moment | None = None
    outcome: Literal["failure", "success"] = "failure"

    @field_validator("http_status", mode="before")
    @classmethod
    def _zero_is_none(cls, value: object) -> object:
        return None if value == 0 and value is not False else value

    @field_validator("method", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


class ScanRequest(BaseModel):
    """A request to look again at what rests (document B)."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["scan"] = "scan"
    window_minutes: Annotated[float, Field(gt=0, le=44_640)] = 15
    limit: Annotated[int, Field(ge=1, le=500)] = 50


def to_signal(event: FailureEvent, service: Service | None, ids: Ids, clock: Clock, forced: str | None) -> Signal:
    """Return the event as a Signal; everything it says is scrubbed on the way."""
    now = clock.now()
    if forced is not None:
        event = event.model_copy(update=dict(FORCED[forced]))
    user = event.user_id or event.account
    request = None
    if event.endpoint is not None:
        request = Request(
            method=event.method,
            endpoint=event.endpoint,
            payload=event.payload,
            ordering_key=event.ordering_key,
        )
    return Signal(
        id=ids.new(),
        source="webhook",
        event_id=event.event_id,
        service=event.service_name,
        account=service.account_of(user) if service is not None else "",
        outcome=event.outcome,
        occurred_at=_not_future(event.occurred_at, now),
        received_at=now,
        failure=_failure(event) if event.outcome == "failure" else None,
        request=request,
        forced=forced is not None,
    )


def echo_of(event: FailureEvent, header: str | None) -> str | None:
    """Return the incident whose own recovery caused this event, None for an event of its own."""
    named = {name.lower(): value for name, value in event.headers.items()}.get("x-prunella-recovery")
    in_payload = (event.payload or {}).get("recovery_of")
    return header or named or (in_payload if isinstance(in_payload, str) else None)


def _failure(event: FailureEvent) -> Failure:
    return Failure(
        service=event.service_name,
        status=event.http_status,
        code=event.error_code or None,
        message=event.error_message,
        headers=event.headers,
        operation=operation_of(event.method, event.endpoint) if event.endpoint else "",
    )


def _not_future(moment: datetime | None, now: datetime) -> datetime:
    """A sender's clock may be ahead; an event that has not happened yet is taken to have happened now."""
    return now if moment is None or moment > now else moment
