"""Records check themselves when they are made, and no raw text gets past the first of them."""

from __future__ import annotations

import dataclasses
import inspect
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core import records
from prunella.core.lineage import name_of
from prunella.core.records import (
    KINDS,
    Actor,
    Category,
    Diagnosis,
    Failure,
    Gate,
    Incident,
    Level,
    Notification,
    Operation,
    Run,
    Severity,
)
from prunella.core.states import GateState, IncidentState, OperationState, RunState

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RECORDS = [one for one in vars(records).values() if inspect.isclass(one) and dataclasses.is_dataclass(one)]
TOKEN = "xoxb-1234567890-abcdefghijklmnop"


def diagnosis(**changed: Any) -> Diagnosis:
    fields: dict[str, Any] = {
        "kind": "network.server",
        "confidence": 0.95,
        "because": "HTTP 503",
        "retryable": True,
        "actor": Actor.PROVIDER,
        "advice": "wait",
    }
    return Diagnosis(**{**fields, **changed})


def incident(**changed: Any) -> Incident:
    fields: dict[str, Any] = {
        "id": "i",
        "service": "crm",
        "account": "",
        "fingerprint": "f",
        "signal_id": "s",
        "title": "t",
        "category": "network",
        "kind": "network.server",
        "confidence": 0.9,
        "because": "b",
        "advice": "a",
        "severity": "MEDIUM",
        "first_seen": NOW,
        "last_seen": NOW,
    }
    return Incident(**{**fields, **changed})


@pytest.mark.parametrize("record", RECORDS, ids=lambda one: one.__name__)
def test_every_record_is_frozen_and_slotted(record: type) -> None:
    """A record is shared freely, because nobody can change it or hang something onto it."""
    assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(record)


@pytest.mark.parametrize("name", ["message", "code", "exc_type", "operation"])
def test_failure_takes_secrets_out_of_every_text(name: str) -> None:
    """Whatever field carries a token, the record does not."""
    fields: dict[str, Any] = {"service": "crm", name: f"refused {TOKEN} at once"}
    failure = Failure(**fields)
    assert TOKEN not in repr(failure)
    assert "REDACTED" in getattr(failure, name)


def test_failure_keeps_only_the_headers_that_are_evidence() -> None:
    """Retry hints and challenges stay, with lower-case names; cookies and credentials never get in."""
    given_headers = {
        "Retry-After": "30",
        "X-RateLimit-Reset": "17",
        "WWW-Authenticate": "Bearer",
        "Set-Cookie": "session=1",
        "Authorization": f"Bearer {TOKEN}",
    }
    kept = Failure(service="crm", headers=given_headers).headers
    assert kept == {"retry-after": "30", "x-ratelimit-reset": "17", "www-authenticate": "Bearer"}


@pytest.mark.parametrize("name", ["bases", "causes", "frames"])
def test_failure_keeps_a_few_names_without_secrets(name: str) -> None:
    """What a table stored as a list is a tuple again; what is too long is cut, and a token is none."""
    fields: dict[str, Any] = {"service": "crm", name: [f"of {TOKEN}", *"abcdefghijkl"]}
    kept = getattr(Failure(**fields), name)
    assert isinstance(kept, tuple)
    assert len(kept) == 8
    assert TOKEN not in kept[0]
    assert kept[1] == "a"


def test_failure_tells_none_from_zero() -> None:
    """No status is None; an empty message is an empty message."""
    failure = Failure(service="crm")
    assert (failure.status, failure.code, failure.message) == (None, None, "")


@given(st.text())
def test_scrubbing_a_failure_twice_changes_nothing(text: str) -> None:
    """A failure that was stored and read again is the same failure."""
    once = Failure(service="crm", message=text)
    assert Failure(service="crm", message=once.message) == once


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_belongs_to_the_category_of_its_name(kind: str) -> None:
    """`auth.expired` is auth; a kind without a category in its name is unknown."""
    family = kind.partition(".")[0]
    wanted = Category(family) if "." in kind else Category.UNKNOWN
    assert diagnosis(kind=kind).category is wanted


def test_diagnosis_refuses_a_kind_that_nobody_knows() -> None:
    """The message lists what is known."""
    with pytest.raises(ValueError, match=r"unknown kind 'auth\.lost'; known: auth\.expired, "):
        diagnosis(kind="auth.lost")


@pytest.mark.parametrize("confidence", [-0.01, 1.01, float("nan"), float("inf")])
def test_diagnosis_refuses_a_confidence_that_is_none(confidence: float) -> None:
    """Confidence lies within 0 and 1."""
    with pytest.raises(ValueError, match="confidence must be within 0 and 1"):
        diagnosis(confidence=confidence)


def test_rows_become_enumerations_again() -> None:
    """Text as it stands in the tables is turned into the states, severities and levels it means."""
    made = incident(state="escalated", level="L2", severity="HIGH")
    assert (made.state, made.level, made.severity) == (IncidentState.ESCALATED, Level.L2, Severity.HIGH)
    assert made.category is Category.NETWORK
    assert Gate(service="crm", state="paused", since=NOW, counting_from=NOW).state is GateState.PAUSED  # type: ignore[arg-type]
    assert operation(state="dead").state is OperationState.DEAD
    assert run(state="unknown").state is RunState.UNKNOWN


@pytest.mark.parametrize("wrong", [{"state": "lost"}, {"severity": "LOUD"}, {"level": "L9"}, {"category": "weather"}])
def test_incident_refuses_words_that_mean_nothing(wrong: dict[str, str]) -> None:
    """An unknown word is refused when the record is made, not somewhere downstream."""
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        incident(**wrong)


@pytest.mark.parametrize("state", IncidentState)
def test_incident_is_open_until_it_is_resolved(state: IncidentState) -> None:
    """Escalated and suppressed are open: somebody still has to do something."""
    assert incident(state=state).is_open is (state is not IncidentState.RESOLVED)


def test_notification_spells_its_facts() -> None:
    """Facts are pairs of text, however they were stored."""
    made = Notification(
        id="n",
        key="k",
        channel="ops",
        kind="detected",
        severity="LOW",  # type: ignore[arg-type]
        title="t",
        facts=(["Count", 3],),  # type: ignore[arg-type]
        incident_id=None,
        link=None,
        next_at=NOW,
        created_at=NOW,
    )
    assert made.facts == (("Count", "3"),)
    assert made.severity is Severity.LOW


def operation(**changed: Any) -> Operation:
    fields: dict[str, Any] = {
        "id": "o",
        "incident_id": "i",
        "signal_id": "s",
        "service": "crm",
        "account": "",
        "method": "POST",
        "endpoint": "/",
        "payload_sealed": b"",
        "idempotency_key": "k",
        "created_at": NOW,
    }
    return Operation(**{**fields, **changed})


def run(**changed: Any) -> Run:
    fields: dict[str, Any] = {
        "id": "r",
        "incident_id": "i",
        "operation_id": None,
        "service": "crm",
        "procedure": "p",
        "remedy": "replay",
        "attempt": 1,
        "idempotency_key": "k",
        "worker": "w",
        "started_at": NOW,
    }
    return Run(**{**fields, **changed})


# Evidence of exceptions and responses


class Answer:
    """A response as many clients shape it."""

    status_code = 401
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"', "Set-Cookie": "session=s3cret", "Retry-After": "7"}  # noqa: RUF012
    text = '{"error": "invalid_token"}'


class Refused(Exception):
    """An error that carries its response."""

    def __init__(self, message: str = "") -> None:
        self.response = Answer()
        super().__init__(message)


def test_failure_reads_an_exception_with_its_response() -> None:
    """Class, text, status and the headers that carry evidence; a silent error speaks by its response's body."""
    failure = Failure.from_exception(Refused("401 for Bearer sk_live_51HunterHunterHunter2"), service="crm")
    assert (failure.source, failure.status, failure.exc_type) == ("http", 401, name_of(Refused))
    assert failure.headers["retry-after"] == "7"
    assert "set-cookie" not in failure.headers
    assert "Hunter" not in failure.message
    assert Failure.from_exception(Refused(), service="crm").message == Answer.text


def test_failure_names_what_stands_behind_an_exception() -> None:
    """Class, the classes that it is made of, causes and the functions it came through: names, and nothing else."""

    def send() -> NoReturn:
        raise UnicodeError("not sent") from ConnectionResetError(104, "reset")

    with pytest.raises(UnicodeError) as caught:
        send()
    failure = Failure.from_exception(caught.value, service="crm")
    assert (failure.exc_type, failure.bases, failure.causes) == (
        "UnicodeError",
        ("ValueError",),
        ("ConnectionResetError",),
    )
    assert failure.frames[0].endswith(".send")
    assert failure.code == "ECONNRESET"


def test_failure_reads_an_error_of_the_machine() -> None:
    """An errno is a code, and no HTTP is claimed where there was none."""
    failure = Failure.from_exception(ConnectionRefusedError(111, "refused"), service="crm", operation="POST /orders")
    assert (failure.source, failure.status, failure.code) == ("python", None, "ECONNREFUSED")
    assert failure.operation == "POST /orders"


def test_failure_reads_a_response() -> None:
    """Status, body and headers of what came back."""
    failure = Failure.from_response(Answer(), service="crm")
    assert (failure.status, failure.message, failure.headers["retry-after"]) == (401, Answer.text, "7")
