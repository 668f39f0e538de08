"""How long a service asks us to wait, in every form that services use to say it.

It never raises and never guesses: what cannot be read is None. Limits on long waits are for the caller to set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

WAIT_MAX_S: Final = 1e11
"""Some 3,000 years: a longer wait is cut to this, so that adding it to a date never overflows."""

_NUMBER: Final = re.compile(r"(?:\d{1,400}(?:\.\d{0,40})?|\.\d{1,40})", re.ASCII)
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES: Final = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        rf"[a-z]{{3}}, (?P<day>\d\d) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME} (?:GMT|UTC)",
        rf"[a-z]{{6,9}}, (?P<day>\d\d)-(?P<month>[a-z]{{3}})-(?P<year>\d\d) {_TIME} (?:GMT|UTC)",
        rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)
"""RFC 9110 section 5.6.7: IMF-fixdate, RFC 850, asctime."""
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_QUOTED: Final = re.compile(r'"[^"]*"')
_LEFT: Final = re.compile(r";\s*r=(?P<n>\d{1,15})(?![\d.])", re.ASCII)
_RESETS: Final = re.compile(r";\s*t=(?P<s>\d{1,15})(?![\d.])", re.ASCII)
_FIELD_MAX: Final = 1_000
"""draft-ietf-httpapi-ratelimit-headers-10 section 4: `"policy";r=0;t=30`, several with commas between."""
_EPOCH_S, _EPOCH_MS = 1e9, 1e11
"""From 1e9 on a reset is a moment (2001 and later) and no longer a duration; from 1e11 on it counts milliseconds."""


def retry_after_s(headers: Mapping[str, str], now: datetime | None) -> float | None:
    """Return the seconds that a response asks to wait, None where it says nothing readable; a past date is 0.0.

    Args:
        headers: of the response, names in any case.
        now: our own time. A moment is measured against the response's own `Date` where it has one, because the two
            clocks may differ. With None and without `Date` a moment says nothing.

    Read in this order: retry-after-ms, Retry-After (RFC 9110 section 10.2.3), then the resets of a used-up limit, last
    those of the RateLimit field.
    A reset counts only while the remaining calls are 0 or not told: GitHub sends it on every response.
    """
    known = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    for wait_s in _waits(known, _moment(known.get("date", ""), now) or _aware(now)):
        if wait_s is not None:
            return min(max(wait_s, 0.0), WAIT_MAX_S)
    return None


def _waits(known: Mapping[str, str], here: datetime | None) -> Iterator[float | None]:
    milliseconds = _number(known.get("retry-after-ms", ""))
    yield None if milliseconds is None else milliseconds / 1000
    yield _number(known.get("retry-after", ""))
    yield _until(_moment(known.get("retry-after", ""), here), here)
    if not _number(known.get("x-ratelimit-remaining", known.get("ratelimit-remaining", ""))):
        yield _number(known.get("x-ratelimit-reset-after", ""))
        yield _reset(known.get("x-ratelimit-reset", ""), here)
        yield _reset(known.get("ratelimit-reset", ""), here)
    yield _window(known.get("ratelimit", ""))


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _reset(text: str, here: datetime | None) -> float | None:
    value = _number(text)
    if value is None or value < _EPOCH_S:
        return value
    if here is None:
        return None
    return (value / 1000 if value >= _EPOCH_MS else value) - here.timestamp()


def _window(text: str) -> float | None:
    """Return the longest wait that a limit of the RateLimit field asks for which is used up."""
    waits_s = [
        float(reset["s"])
        for limit in _QUOTED.sub("", text[:_FIELD_MAX]).split(",")
        if (left := _LEFT.search(limit)) and (reset := _RESETS.search(limit)) and not int(left["n"])
    ]
    return max(waits_s, default=None)


def _until(moment: datetime | None, here: datetime | None) -> float | None:
    return None if moment is None or here is None else (moment - here).total_seconds()


def _moment(text: str, near: datetime | None) -> datetime | None:
    """Read an HTTP date; `near` settles the century of a two-digit year."""
    for pattern in _DATES:
        match = pattern.fullmatch(text)
        if match is not None:
            return _date(match, near)
    return None


def _date(match: re.Match[str], near: datetime | None) -> datetime | None:
    day, hour, minute, second = (int(match[part]) for part in ("day", "hour", "minute", "second"))
    month = match["month"].lower()
    if month not in _MONTHS:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year = _full_year(year, near)
    try:
        return datetime(year, _MONTHS.index(month) + 1, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None


def _full_year(short: int, near: datetime | None) -> int:
    """Follow RFC 9110: a year that would lie more than 50 years ahead belongs to the past century."""
    this_year = near.year if near is not None else 2000
    year = this_year // 100 * 100 + short
    return year - 100 if year > this_year + 50 else year


def _aware(now: datetime | None) -> datetime | None:
    return now.replace(tzinfo=UTC) if now is not None and now.tzinfo is None else now
