"""What a failure shows is found in the known places and nowhere else, in bounded time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.records import Failure
from prunella.diagnosis.evidence import Evidence, flat, in_words


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RATE_LIMIT_EXCEEDED", "ratelimitexceeded"),
        ("rateLimitExceeded", "ratelimitexceeded"),
        ("ThrottlingException", "throttling"),
        ("overloaded_error", "overloaded"),
        ("Error", "error"),
        ("ORA-00942", "ora00942"),
    ],
)
def test_flat_joins_the_notations_of_one_name(name: str, expected: str) -> None:
    """However a service writes a code, it is looked up under one name."""
    assert flat(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AccessTokenExpiredError", "access_token_expired_error"),
        ("INVALID_API_KEY", "invalid_api_key"),
        ("acme.errors.HTTPTimeout", "http_timeout"),
        ("rest-no-route", "rest_no_route"),
        ("Access token invalid.", "access_token_invalid"),
    ],
)
def test_name_is_read_in_words(name: str, expected: str) -> None:
    """Camels, snakes, modules and sentences."""
    assert in_words(name) == expected


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"error": {"type": "card_error", "code": "card_declined"}}', "card_declined"),
        ("{'ok': False, 'error': 'channel_not_found'}", "channel_not_found"),
        ("connect ECONNREFUSED 127.0.0.1:5432", "ECONNREFUSED"),
        ("An error occurred (ThrottlingException) when calling", "ThrottlingException"),
        ("SQLSTATE[23505]: duplicate", "23505"),
        ("[Errno 111] refused", "ECONNREFUSED"),
        ("AADSTS700016: Application was not found", "AADSTS700016"),
        ("ORA-00942: table or view does not exist", "ORA-00942"),
    ],
)
def test_code_is_found_in_known_places(message: str, code: str) -> None:
    """JSON keys, marks of drivers, names of errno."""
    assert code in [found for found, _ in Evidence(Failure(service="acme", message=message)).codes]


def test_code_in_prose_is_none() -> None:
    """A word of a sentence is no code, whatever it is called."""
    text = "The customer wrote that his card was declined and the timeout was long."
    assert Evidence(Failure(service="acme", message=text)).codes == []


def test_only_both_ends_are_read() -> None:
    """An echoed payload in the middle decides nothing."""
    evidence = Evidence(Failure(service="acme", message="a" * 3000 + "MIDDLE" + "b" * 3000))
    assert "middle" not in evidence.text
    assert len(evidence.text) < 2100


@given(st.text(max_size=400), st.none() | st.text(max_size=40), st.none() | st.text(max_size=60))
def test_reading_never_fails(message: str, code: str | None, exc_type: str | None) -> None:
    """Whatever arrives."""
    Evidence(Failure(service="acme", message=message, code=code, exc_type=exc_type))


def classes(**fields: Any) -> list[str]:
    """Return the classes of a failure, the one that says most first."""
    return [name for name, _, _ in Evidence(Failure(service="acme", source="python", **fields)).classes]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"exc_type": "ValueError"}, ["ValueError"]),
        (
            {"exc_type": "httpx.ConnectError", "causes": ("httpcore.ConnectError", "socket.gaierror")},
            ["socket.gaierror", "httpcore.ConnectError", "httpx.ConnectError"],
        ),
        ({"exc_type": "app.Late", "bases": ("httpx.ReadTimeout",)}, ["app.Late", "httpx.ReadTimeout"]),
        ({"exc_type": "urllib.HTTPError", "bases": ("urllib.URLError",), "status": 404}, ["urllib.HTTPError"]),
        ({"exc_type": "httpx.PoolTimeout", "causes": ("TimeoutError",)}, ["httpx.PoolTimeout"]),
        (
            {"exc_type": "app.Failed", "causes": ("httpx.ReadTimeout", "asyncio.CancelledError")},
            ["httpx.ReadTimeout", "app.Failed"],
        ),
        ({"exc_type": "redis.LockError", "causes": ("KeyError",)}, ["redis.LockError"]),
        ({"exc_type": "KeyError"}, ["KeyError"]),
        ({"causes": ("OSError", "OSError")}, ["OSError"]),
        (
            {"exc_type": "x.DBError", "message": "(psycopg.errors.UniqueViolation) no", "causes": ("OSError",)},
            ["OSError", "psycopg.errors.UniqueViolation", "x.DBError"],
        ),
    ],
)
def test_class_that_says_most_comes_first(fields: dict[str, Any], expected: list[str]) -> None:
    """The deepest cause, unless it is only how a library noticed what it says itself; bases come last."""
    assert classes(**fields) == expected


@given(st.lists(st.text(max_size=12), max_size=12), st.text(max_size=12))
def test_any_names_are_read_without_harm(names: list[str], own: str) -> None:
    """Whatever is called a class, and in whatever order."""
    assert len(classes(exc_type=own, causes=tuple(names), bases=tuple(names))) <= 17
