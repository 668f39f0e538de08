"""The wait a service asks for is read in every form, and nothing from outside can break the reading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.retry_after import WAIT_MAX_S, retry_after_s

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOW_EPOCH = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"Retry-After": " 7 "}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Sun, 01 Mar 2026 12:01:30 GMT"}, 90.0),
        ({"retry-after": "Sunday, 01-Mar-26 12:01:30 GMT"}, 90.0),
        ({"retry-after": "Sun Mar  1 12:01:30 2026"}, 90.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Sunday, 06-Nov-94 08:49:37 GMT"}, 0.0),
        ({"x-ratelimit-reset-after": "1.25"}, 1.25),
        ({"x-ratelimit-reset": "30"}, 30.0),
        ({"x-ratelimit-reset": str(NOW_EPOCH + 60)}, 60.0),
        ({"x-ratelimit-reset": str((NOW_EPOCH + 60) * 1000)}, 60.0),
        ({"x-ratelimit-reset": str(NOW_EPOCH - 60)}, 0.0),
        ({"ratelimit-reset": "12"}, 12.0),
        ({"ratelimit": '"default";r=0;t=30'}, 30.0),
        ({"RateLimit": '"minute"; r=0; t=20, "a,day;r=9;t=1";t=50;r=0, "hour";r=5;t=900'}, 50.0),
        ({"ratelimit": '"default";r=7;t=30'}, None),
        ({"ratelimit": '"default";r=0'}, None),
        ({"ratelimit": '"default";r=0;t=1.5'}, None),
        ({}, None),
    ],
)
def test_retry_after_reads_every_form(headers: Mapping[str, str], expected_s: float | None) -> None:
    """Seconds, decimals, milliseconds, all three HTTP dates, epochs and durations give the same kind of answer."""
    assert retry_after_s(headers, NOW) == expected_s


@pytest.mark.parametrize(
    "text",
    [
        "-5",
        "+5",
        "nan",
        "inf",
        "",
        " ",
        "²",
        "٣",
        "1e3",
        "soon",
        "5, 10",
        "5;10",
        "Sun, 31 Feb 2026 12:00:00 GMT",
        "Sun, 01 Foo 2026 12:00:00 GMT",
        "Sun, 01 Mar 2026 25:00:00 GMT",
        "Sun, 01 Mar 2026 12:00:00 CET",
        "2026-03-01",
    ],
)
def test_retry_after_says_nothing_on_garbage(text: str) -> None:
    """A value that is no number and no HTTP date is None, never a guess."""
    assert retry_after_s({"retry-after": text}, NOW) is None


def test_retry_after_measures_a_date_by_the_services_own_clock() -> None:
    """With a `Date` header, a skew between the two clocks does not change the wait."""
    headers = {"date": "Sun, 01 Mar 2026 09:00:00 GMT", "retry-after": "Sun, 01 Mar 2026 09:00:20 GMT"}
    assert retry_after_s(headers, NOW) == 20.0
    assert retry_after_s(headers, None) == 20.0


def test_retry_after_without_any_clock_reads_durations_only() -> None:
    """Without our time and without `Date`, a moment says nothing while a duration still does."""
    assert retry_after_s({"retry-after": "Sun, 01 Mar 2026 09:00:20 GMT"}, None) is None
    assert retry_after_s({"x-ratelimit-reset": str(NOW_EPOCH)}, None) is None
    assert retry_after_s({"retry-after": "9"}, None) == 9.0


def test_retry_after_takes_a_local_or_naive_now() -> None:
    """A `now` in another zone is the same moment, and one without a zone is taken as UTC."""
    headers = {"retry-after": "Sun, 01 Mar 2026 12:01:30 GMT"}
    assert retry_after_s(headers, NOW.astimezone(timezone(timedelta(hours=5)))) == 90.0
    assert retry_after_s(headers, NOW.replace(tzinfo=None)) == 90.0


@pytest.mark.parametrize(("remaining", "expected_s"), [("0", 60.0), (None, 60.0), ("4811", None)])
def test_retry_after_reset_counts_only_for_a_used_up_limit(remaining: str | None, expected_s: float | None) -> None:
    """GitHub sends the reset with every response: it is a wait only while no calls remain."""
    headers = {"x-ratelimit-reset": str(NOW_EPOCH + 60)}
    if remaining is not None:
        headers["x-ratelimit-remaining"] = remaining
    assert retry_after_s(headers, NOW) == expected_s


def test_retry_after_beats_the_reset() -> None:
    """What the service says in so many words counts before the end of its window."""
    headers = {"retry-after": "5", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW_EPOCH + 3600)}
    assert retry_after_s(headers, NOW) == 5.0


@pytest.mark.parametrize("text", ["31536000000", "9" * 30, "9" * 400])
def test_retry_after_keeps_huge_waits_usable(text: str) -> None:
    """An absurd wait stays a number that can be added to a date."""
    wait_s = retry_after_s({"retry-after": text}, NOW)
    assert wait_s is not None
    assert wait_s <= WAIT_MAX_S
    assert NOW + timedelta(seconds=wait_s) > NOW


HEADER_NAMES = st.sampled_from(
    [
        "retry-after",
        "Retry-After",
        "retry-after-ms",
        "date",
        "x-ratelimit-reset",
        "x-ratelimit-reset-after",
        "x-ratelimit-remaining",
        "ratelimit-reset",
        "ratelimit-remaining",
        "ratelimit",
    ]
)
HEADER_TEXTS = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT", fullmatch=True),
    st.from_regex(r"[A-Z][a-z]{5,8}, [0-9]{2}-(Jan|Feb|Dec)-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT", fullmatch=True),
    st.from_regex(r"[A-Z][a-z]{2} (Jan|Feb) [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}", fullmatch=True),
    st.from_regex(r'("[^"]{0,9}"(; ?[rt]=[0-9]{1,20}){0,3},? ?){1,4}', fullmatch=True),
    st.integers().map(str),
    st.floats().map(str),
)
MOMENTS = st.one_of(st.none(), st.datetimes(), st.datetimes(timezones=st.just(UTC)))


@given(headers=st.dictionaries(HEADER_NAMES, HEADER_TEXTS, max_size=5), now=MOMENTS)
def test_retry_after_never_raises_and_stays_finite(headers: dict[str, str], now: datetime | None) -> None:
    """Whatever a service sends, the answer is None or a finite wait that is not negative."""
    wait_s = retry_after_s(headers, now)
    assert wait_s is None or (math.isfinite(wait_s) and 0.0 <= wait_s <= WAIT_MAX_S)
