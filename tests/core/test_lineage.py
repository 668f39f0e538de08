"""Where an exception comes from is told by names that stay the same from release to release."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Callable

import aiohttp
import httpx
import httpx2
import psycopg
import pytest
import requests
import sqlalchemy

from prunella.core import lineage


class Late(httpx.ReadTimeout):
    """A class of the application's own, made of one of a library."""


class Failed(Exception):
    """A class of the application's own that is made of nothing."""


OURS = lineage.name_of(Failed).removesuffix("Failed")


def made_of(error: Exception, cause: BaseException) -> Exception:
    """Return `error` as it is after `raise error from cause`."""
    error.__cause__ = cause
    return error


def raised(act: Callable[[], object]) -> Exception:
    """Return the error that `act` raises."""
    try:
        act()
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TimeoutError, "TimeoutError"),
        (asyncio.CancelledError, "asyncio.CancelledError"),
        (json.JSONDecodeError, "json.JSONDecodeError"),
        (queue.Empty, "queue.Empty"),  # of the module _queue, in truth
        (httpx2.ReadTimeout, "httpx2.ReadTimeout"),
        (requests.ConnectionError, "requests.ConnectionError"),
        (aiohttp.ClientConnectorError, "aiohttp.ClientConnectorError"),
        (psycopg.errors.UniqueViolation, "psycopg.UniqueViolation"),
        (sqlalchemy.exc.TimeoutError, "sqlalchemy.TimeoutError"),
        (Failed, f"{OURS}Failed"),
        (type("Gone", (Exception,), {"__module__": "__main__"}), "Gone"),
    ],
)
def test_class_is_named_with_its_package(kind: type, name: str) -> None:
    """So that equal names of two libraries are told apart, and people can read it."""
    assert lineage.name_of(kind) == name


def test_bases_come_nearest_first() -> None:
    """Down to what says nothing any more."""
    assert lineage.bases_of(Late(""))[:3] == ("httpx.ReadTimeout", "httpx.TimeoutException", "httpx.TransportError")
    assert lineage.bases_of(Failed()) == ()
    assert lineage.bases_of(KeyError()) == ("LookupError",)


def test_bases_are_bounded() -> None:
    """A tower of classes is cut."""
    kind: type[Exception] = Failed
    for number in range(50):
        kind = type(f"Floor{number}", (kind,), {})
    assert len(lineage.bases_of(kind())) == lineage.BASES_MAX


def test_causes_come_nearest_first() -> None:
    """What the exception was raised from, without itself."""
    error = made_of(Failed(), made_of(requests.ConnectionError(""), ConnectionResetError()))
    assert lineage.causes_of(error) == ("requests.ConnectionError", "ConnectionResetError")
    assert lineage.causes_of(Failed()) == ()


def test_cause_of_our_own_class_is_named_by_the_library_too() -> None:
    """Nobody knows a class of the application; what it is made of may be known."""
    assert lineage.causes_of(made_of(Failed(), Late(""))) == (f"{OURS}Late", "httpx.ReadTimeout")


def test_members_of_a_group_are_its_causes() -> None:
    """Each member, and what stands behind it."""
    group = ExceptionGroup("both", [made_of(Failed(), KeyError()), ValueError()])
    assert lineage.causes_of(group) == (f"{OURS}Failed", "KeyError", "ValueError")


def test_causes_are_bounded() -> None:
    """A long chain is cut."""
    error: Exception = Failed()
    for _ in range(50):
        error = made_of(Late(""), error)
    assert len(lineage.causes_of(error)) == lineage.CAUSES_MAX


def decode() -> None:
    """Fail in the standard library, below a function of our own."""
    json.loads("no json")


def deeper(depth: int) -> None:
    """Fail below many functions of our own."""
    if depth:
        deeper(depth - 1)
    decode()


def test_frames_are_the_applications_own_innermost_first() -> None:
    """The standard library's and a client's frames are not the place that somebody has to look at."""
    frames = lineage.frames_of(raised(decode))
    assert frames == ("decode", "raised")
    assert lineage.frames_of(raised(lambda: deeper(20))) == ("decode", "deeper", "deeper")
    assert lineage.frames_of(raised(lambda: httpx.Response(500).raise_for_status()))[-1] == "raised"


def test_frames_name_methods_with_their_class() -> None:
    """`send` stands in many classes."""

    class Orders:
        def send(self) -> None:
            raise Failed

    name = "test_frames_name_methods_with_their_class.Orders.send"
    assert lineage.frames_of(raised(Orders().send))[0] == name


def test_error_that_was_never_raised_has_no_frames() -> None:
    """Nothing is invented."""
    assert lineage.frames_of(Failed()) == ()


def test_generated_code_is_no_place_of_the_application() -> None:
    """What has no file can't be looked at."""
    assert lineage.frames_of(raised(lambda: exec("1 / 0")))[0] != "<module>"


def test_lineage_can_tell_classes_apart() -> None:
    """Two classes of one name and two packages are not the same."""
    assert lineage.name_of(sqlalchemy.exc.TimeoutError) != lineage.name_of(TimeoutError)
