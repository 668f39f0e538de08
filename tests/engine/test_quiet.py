"""Quiet hours, by people's clocks: around midnight, in other zones, and when clocks are put forward or back."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.records import Severity
from prunella.engine.quiet import Quiet

BERLIN = Quiet(begins=time(22), ends=time(7), zone="Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("due", "sent"),
    [
        ("2026-01-10T20:59", "2026-01-10T20:59"),  # 21:59 in Berlin
        ("2026-01-10T21:00", "2026-01-11T06:00"),
        ("2026-01-11T02:00", "2026-01-11T06:00"),
        ("2026-01-11T05:59:59", "2026-01-11T06:00"),
        ("2026-01-11T06:00", "2026-01-11T06:00"),
        ("2026-07-10T20:00", "2026-07-11T05:00"),  # summer time
        ("2026-03-28T23:00", "2026-03-29T05:00"),  # clocks go forward that night
        ("2026-10-24T22:00", "2026-10-25T06:00"),  # and back
        ("2026-10-25T01:30", "2026-10-25T06:00"),  # the hour that comes twice
        ("2027-03-28T00:59", "2027-03-28T05:00"),  # before and after the hour that never comes
        ("2027-03-28T01:00", "2027-03-28T05:00"),
    ],
)
def test_quiet_ends_in_the_morning_of_its_zone(due: str, sent: str) -> None:
    """What is due at night waits until seven by Berlin's clocks."""
    assert BERLIN.after(Severity.LOW, utc(due)) == utc(sent)


@pytest.mark.parametrize(
    ("due", "sent"),
    [
        ("2027-03-28T00:59", "2027-03-28T00:59"),  # 01:59; the next minute is 03:00, and 02:30 stands for 03:30
        ("2027-03-28T01:30", "2027-03-28T02:00"),
        ("2026-10-25T00:29", "2026-10-25T00:29"),  # 02:29 for the first time
        ("2026-10-25T00:30", "2026-10-25T03:00"),  # quiet begins with the first 02:30, and lasts over the second
    ],
)
def test_quiet_may_begin_in_an_hour_that_comes_twice_or_never(due: str, sent: str) -> None:
    """From half past two to four: the hour begins once, and ends by the clock that people read."""
    early = Quiet(begins=time(2, 30), ends=time(4), zone="Europe/Berlin")
    assert early.after(Severity.LOW, utc(due)) == utc(sent)


@pytest.mark.parametrize(
    ("due", "sent"), [("11:59", "11:59"), ("12:00", "13:30"), ("13:29", "13:30"), ("13:30", "13:30")]
)
def test_quiet_may_lie_within_a_day(due: str, sent: str) -> None:
    """A lunch break."""
    lunch = Quiet(begins=time(12), ends=time(13, 30), zone="UTC")
    assert lunch.after(Severity.MEDIUM, utc(f"2026-05-05T{due}")) == utc(f"2026-05-05T{sent}")


@pytest.mark.parametrize("severity", list(Severity))
def test_what_is_grave_wakes_people(severity: Severity) -> None:
    """HIGH and CRITICAL go out at once, unless something else is said."""
    night = utc("2026-01-11T02:00")
    assert (BERLIN.after(severity, night) == night) is (severity in {Severity.HIGH, Severity.CRITICAL})
    strict = Quiet(begins=time(22), ends=time(7), zone="UTC", spares=frozenset())
    assert strict.after(severity, night) == utc("2026-01-11T07:00")


@given(
    st.times().filter(lambda one: one.tzinfo is None),
    st.times().filter(lambda one: one.tzinfo is None),
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Chatham"]),
)
def test_quiet_never_sends_earlier_and_never_holds_for_more_than_a_day(
    begins: time, ends: time, moment: datetime, zone: str
) -> None:
    """Whatever the hours and the zone: the result is not quiet, not before, and at most 25 hours later."""
    quiet = Quiet(begins=begins, ends=ends, zone=zone)
    if begins == ends:
        return
    sent = quiet.after(Severity.LOW, moment)
    assert moment <= sent <= moment + timedelta(hours=25)
    assert quiet.after(Severity.LOW, sent) == sent
