"""People are told in document B's words, as loud as it says, once per channel."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.world import START, case, of_category, open_gate
from prunella.core.clock import Ids, ManualClock, Rng
from prunella.core.records import Category, Failure, Notice, Severity
from prunella.engine import notices
from prunella.engine.notices import DASHBOARD, Route, Routes, rows, spell_duration

LINK = "https://prunella.example/incidents/1"
LOUD = frozenset({Severity.HIGH, Severity.CRITICAL})
ALL = frozenset(Severity)


def ids() -> Ids:
    return Ids(ManualClock(), Rng(1))


def notice(severity: Severity = Severity.HIGH, key: str = "k") -> Notice:
    return Notice(key=key, kind="detected", severity=severity, title="t", facts=(("Service", "crm"),))


@pytest.mark.parametrize(
    ("category", "severity"), [(Category.NETWORK, Severity.MEDIUM), (Category.DATA, Severity.HIGH)]
)
def test_detected_has_document_bs_words_and_loudness(category: Category, severity: Severity) -> None:
    """Title and facts in B's order; as loud as the incident is severe."""
    looked = case(incident={"severity": severity}, **of_category(category))
    told = notices.detected(looked.incident, looked.failure, "replay it", "event-1", LINK)
    assert (told.title, told.severity, told.kind) == ("Integration Failure Detected", severity, "detected")
    assert [name for name, _ in told.facts] == [
        "Service",
        "Category",
        "Error",
        "Recovery Plan",
        "Status",
        "Event ID",
        "Timestamp",
    ]
    facts = dict(told.facts)
    assert (facts["Category"], facts["Recovery Plan"], facts["Event ID"]) == (category.value, "replay it", "event-1")
    assert facts["Timestamp"] == "2026-01-01T00:00:00+00:00"


def test_attempt_has_document_bs_words() -> None:
    """Service, action, attempt of three, previous error; LOW."""
    looked = case(message="Service Unavailable")
    told = notices.attempt(looked.incident, "replay the original request", 2, looked.failure, LINK)
    assert (told.title, told.severity) == ("Recovery Attempt", Severity.LOW)
    assert told.facts == (
        ("Service", "crm"),
        ("Action", "replay the original request"),
        ("Attempt", "2/3"),
        ("Previous Error", "Service Unavailable"),
    )


def test_recovered_has_document_bs_words() -> None:
    """Service, resolution, time to recover, original error; LOW."""
    looked = case(message="Service Unavailable")
    told = notices.recovered(looked.incident, "replayed", looked.failure, START + timedelta(seconds=4.2), LINK)
    assert (told.title, told.severity) == ("Integration Recovered", Severity.LOW)
    assert told.facts == (
        ("Service", "crm"),
        ("Resolution", "replayed"),
        ("Time to Recover", "4.2 s"),
        ("Original Error", "Service Unavailable"),
    )


def test_disabled_has_document_bs_words() -> None:
    """Service, reason, count, what to do and where; HIGH."""
    told = notices.disabled(open_gate(state="disabled", reason="5 consecutive data failures"), 5, LINK)
    assert (told.title, told.severity) == ("Integration Disabled", Severity.HIGH)
    assert told.facts == (
        ("Service", "crm"),
        ("Reason", "5 consecutive data failures"),
        ("Failure Count", "5"),
        ("Action Required", "Manual review and re-enable"),
        ("Dashboard", LINK),
    )


def test_person_is_called_loudly() -> None:
    """Whoever has to act hears it HIGH, with the reason in place of a plan."""
    looked = case()
    told = notices.needs_person(looked.incident, looked.failure, "reconnect crm", LINK)
    assert (told.severity, dict(told.facts)["Recovery Plan"]) == (Severity.HIGH, "reconnect crm")


def test_failure_without_words_shows_its_title() -> None:
    """An error without a message is still named."""
    looked = case(message="")
    for told in (
        notices.detected(looked.incident, looked.failure, "p", "e", LINK),
        notices.attempt(looked.incident, "a", 1, looked.failure, LINK),
        notices.recovered(looked.incident, "r", looked.failure, START, LINK),
    ):
        assert looked.incident.title in dict(told.facts).values()


def test_keys_tell_what_may_be_said_again() -> None:
    """Detected, attempt and recovered once per incident; a disablement once per disablement, not once per service."""
    looked, failure = case(), Failure(service="crm")
    keys = {
        notices.detected(looked.incident, failure, "p", "e", LINK).key,
        notices.detected(looked.incident, failure, "other", "f", LINK).key,
        notices.attempt(looked.incident, "a", 1, failure, LINK).key,
        notices.attempt(looked.incident, "b", 2, failure, LINK).key,
        notices.recovered(looked.incident, "r", failure, START, LINK).key,
    }
    assert keys == {"detected:incident-1", "attempt:incident-1", "recovered:incident-1"}
    first, second = open_gate(), open_gate(since=START + timedelta(seconds=1))
    assert notices.disabled(first, 1, LINK).key != notices.disabled(second, 1, LINK).key
    assert notices.disabled(first, 1, LINK).key != notices.enabled(first, "ada", START, LINK).key


def test_enabled_has_document_bs_words() -> None:
    """A re-enabled integration is a recovered one: with what it took, and what had been wrong."""
    gate = open_gate(reason="9 network failures within 60 minutes")
    told = notices.enabled(gate, "ada", gate.since + timedelta(minutes=130), LINK)
    assert (told.title, told.kind, told.severity) == ("Integration Recovered", "recovered", Severity.LOW)
    assert told.facts == (
        ("Service", gate.service),
        ("Resolution", "enabled again by ada"),
        ("Time to Recover", "2 h 10 min"),
        ("Original Error", "9 network failures within 60 minutes"),
    )


# Routes ---------------------------------------------------------------------------------------------------------------


def test_notice_goes_once_to_each_channel_that_a_rule_names() -> None:
    """Two rules that name one channel make one row; the first rule's timing counts."""
    routes = Routes((Route(LOUD, ("ops", "boss")), Route(ALL, ("ops", "log"), digest_s=60)))
    queued = routes.outgoing(notice(), ids(), START + timedelta(seconds=1))
    assert {row.channel: row.next_at for row in queued} == {
        "ops": START + timedelta(seconds=1),
        "boss": START + timedelta(seconds=1),
        "log": START + timedelta(seconds=60),
        DASHBOARD: None,
    }
    assert len({row.id for row in queued}) == 4


def test_notice_that_no_rule_names_goes_nowhere() -> None:
    """A whisper is not sent where only sirens are wanted; no rules, no rows."""
    assert Routes((Route(LOUD, ("ops",)),)).outgoing(notice(Severity.LOW), ids(), START) == []
    assert Routes().outgoing(notice(Severity.MEDIUM), ids(), START) == []


@pytest.mark.parametrize("severity", list(Severity))
@pytest.mark.parametrize("resource", [None, "123"])
def test_what_a_person_should_know_is_on_the_dashboard_at_once(severity: Severity, resource: str | None) -> None:
    """Whatever the rules say: what is loud, and all that a procedure says, once and as sent; a whisper is not."""
    told = replace(notice(severity), resource=resource)
    for routes in (Routes(), Routes((Route(ALL, ("ops",)),))):
        shown = [row for row in routes.outgoing(told, ids(), START) if row.channel == DASHBOARD]
        assert len(shown) == (severity in LOUD or resource is not None)
        assert all((row.state, row.sent_at, row.next_at) == ("sent", START, None) for row in shown)


def test_rows_carry_the_notice_unchanged() -> None:
    """Key, kind, title, facts, link and incident reach the outbox as they were built."""
    looked = case()
    built = notices.detected(looked.incident, looked.failure, "p", "e", LINK)
    (row,) = rows([built], Routes((Route(ALL, ("ops",)),)), ids(), START)
    for name in ("key", "kind", "severity", "title", "facts", "incident_id", "link"):
        assert getattr(row, name) == getattr(built, name)
    assert (row.state, row.attempts, row.created_at) == ("waiting", 0, START)


@given(st.floats(1, 86_400), st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_digest_comes_at_the_next_full_interval(every_s: float, now: datetime) -> None:
    """A gathered notice waits, but never longer than the interval, and all of one interval go together."""
    (row,) = Routes((Route(ALL, ("ops",), digest_s=every_s),)).outgoing(notice(Severity.LOW), ids(), now)
    assert row.next_at is not None
    assert -1e-3 <= (row.next_at - now).total_seconds() <= every_s + 1e-3


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"),
        (0.34, "340 ms"),
        (0.999, "999 ms"),
        (1, "1.0 s"),
        (4.24, "4.2 s"),
        (59.94, "59.9 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (31 * 86_400, "744 h"),
    ],
)
def test_duration_reads_as_people_say_it(seconds: float, words: str) -> None:
    """Milliseconds, seconds, minutes or hours, as coarse as it is useful."""
    assert spell_duration(seconds) == words


def test_channel_never_stands_in_for_itself() -> None:
    """A rule that names one of its own channels means the others; for that one its own word counts, if it has one."""
    rule = Route(ALL, ("ops", "mail"), fallback="mail")
    routes = Routes((rule,), fallbacks={"ops": "pager", "mail": "pager"})
    assert [routes.fallback(name, Severity.LOW) for name in ("ops", "mail", "other")] == ["mail", "pager", None]
    assert Routes((rule,)).fallback("mail", Severity.LOW) is None
