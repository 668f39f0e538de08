"""Retry settings check themselves, waits stay within their bounds, and only what may pass by itself is repeated."""

from __future__ import annotations

import asyncio
import builtins
import http
import math
import socket
import urllib.error
from collections.abc import Callable
from email.message import Message
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prunella as pr
from guard.conftest import ManualTime
from prunella.core import errors
from prunella.core.clock import Rng
from prunella.guard.retry import (
    DISPATCH,
    DNS,
    INTERACTIVE,
    RECOVERY,
    Retry,
    blames_the_service,
    worth_another,
)

NEARLY_ONE = math.nextafter(1.0, 0.0)


class Chance(Rng):
    """Chance that always says the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


class HTTPError(Exception):
    """An error with a status, as clients raise it."""

    def __init__(self, status: int) -> None:
        self.status_code = status
        super().__init__(status)


def answered(status: int) -> httpx2.HTTPStatusError:
    """Return the error of a real client for a response of this status."""
    response = httpx2.Response(status, request=httpx2.Request("GET", "http://localhost/"))
    return httpx2.HTTPStatusError(f"{status}", request=response.request, response=response)


# Waits ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected_s"),
    [
        ({}, [1, 2, 4, 8, 10, 10]),
        ({"base_s": 0.5, "factor": 3}, [0.5, 1.5, 4.5, 10, 10, 10]),
        ({"factor": 1}, [1, 1, 1, 1, 1, 1]),
        ({"steps": "linear", "base_s": 3}, [3, 6, 9, 10, 10, 10]),
        ({"steps": "constant", "base_s": 3}, [3, 3, 3, 3, 3, 3]),
        ({"steps": (1, 5, 20)}, [1, 5, 10, 10, 10, 10]),
        ({"steps": [0.0, 7.5]}, [0, 7.5, 7.5, 7.5, 7.5, 7.5]),
        ({"steps": lambda failed: failed * 1.5}, [1.5, 3, 4.5, 6, 7.5, 9]),
        ({"base_s": 0}, [0, 0, 0, 0, 0, 0]),
        ({"cap_s": 0}, [0, 0, 0, 0, 0, 0]),
    ],
)
def test_waits_without_jitter_are_the_steps(settings: dict[str, Any], expected_s: list[float]) -> None:
    """Exponential, linear, constant, given or computed: each as written, none above the cap."""
    retry = Retry(jitter="none", **settings)
    assert [retry.wait_s(failed, 0.0, Rng()) for failed in range(1, 7)] == expected_s


@pytest.mark.parametrize(("jitter", "least"), [("equal", 0.5), ("full", 0.0), ("none", 1.0)])
@pytest.mark.parametrize("steps", ["exponential", "linear", "constant", (1.0, 2.0), lambda failed: 3.0])
def test_jitter_keeps_to_its_share_of_the_step(jitter: Any, least: float, steps: Any) -> None:
    """Equal waits half to all of a step (document B), full nothing to all of it, none all of it."""
    whole, spread = Retry(jitter="none", steps=steps), Retry(jitter=jitter, steps=steps)
    for failed in (1, 2, 5):
        step_s = whole.wait_s(failed, 0.0, Rng())
        assert spread.wait_s(failed, 0.0, Chance(0.0)) == pytest.approx(least * step_s)
        assert spread.wait_s(failed, 0.0, Chance(NEARLY_ONE)) == pytest.approx(step_s)


@pytest.mark.parametrize(
    ("last_s", "least_s", "most_s"), [(0.0, 1.0, 3.0), (1.0, 1.0, 3.0), (2.0, 1.0, 6.0), (8.0, 1.0, 10.0)]
)
def test_decorrelated_waits_reach_three_times_the_last(last_s: float, least_s: float, most_s: float) -> None:
    """From the base to three times the last wait, up to the cap; the first wait is spread already."""
    retry = Retry(jitter="decorrelated")
    assert retry.wait_s(1, last_s, Chance(0.0)) == least_s
    assert retry.wait_s(1, last_s, Chance(NEARLY_ONE)) == pytest.approx(most_s)


def test_decorrelated_wait_keeps_below_a_cap_that_is_below_the_base() -> None:
    """The cap is the last word."""
    retry = Retry(jitter="decorrelated", base_s=5.0, cap_s=2.0)
    assert {retry.wait_s(failed, 9.0, Rng(failed)) for failed in range(1, 50)} == {2.0}


@given(
    st.sampled_from(["equal", "full", "decorrelated", "none"]),
    st.sampled_from(["exponential", "linear", "constant", (0.0, 1e300), lambda failed: 10.0**failed if failed < 300 else 10**failed]),
    st.floats(0, 1e300),
    st.floats(0, 1e300),
    st.floats(1, 1e10),
    st.sampled_from([1, 2, 3, 1000, 3000, 10**6]),
    st.floats(0, 1e300),
    st.integers(),
)  # fmt: skip
def test_no_wait_overflows_or_leaves_its_bounds(
    jitter: Any, steps: Any, base_s: float, cap_s: float, factor: float, failed: int, last_s: float, seed: int
) -> None:
    """For attempt 3,000 or a million, with figures of any size, a wait is a number from 0 to the cap."""
    if callable(steps):
        failed = min(failed, 3000)
    retry = Retry(jitter=jitter, steps=steps, base_s=base_s, cap_s=cap_s, factor=factor)
    assert 0.0 <= retry.wait_s(failed, min(last_s, cap_s), Rng(seed)) <= cap_s


@pytest.mark.parametrize(
    "steps", [lambda _: -5.0, lambda _: math.nan, lambda _: -math.inf], ids=["negative", "nan", "inf"]
)
def test_function_that_names_no_wait_means_none(steps: Callable[[int], float]) -> None:
    """A computed wait that is negative or no number is no wait, and no error in place of the real one."""
    assert Retry(steps=steps, jitter="none").wait_s(1, 0.0, Rng()) == 0.0


def test_waits_of_callers_spread() -> None:
    """Ten callers that fail together do not come back together."""
    for jitter in ("equal", "full", "decorrelated"):
        retry = Retry(jitter=jitter)
        assert len({retry.wait_s(1, 0.0, Rng(seed)) for seed in range(10)}) == 10


# What is worth another call -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [HTTPError, answered], ids=["look-alike", "httpx2"])
@pytest.mark.parametrize("status", range(400, 600))
def test_client_errors_are_not_repeated(make: Callable[[int], Exception], status: int) -> None:
    """Of 4xx only 408, 425 and 429 may pass by themselves; every 5xx may."""
    assert Retry().wants(make(status)) is (status >= 500 or status in (408, 425, 429))


def test_status_of_a_cause_counts() -> None:
    """An error of the caller's own that was raised from a 404 is a 404."""
    wrapped = RuntimeError("no such customer")
    wrapped.__cause__ = answered(404)
    assert not Retry().wants(wrapped)


BUGS = [
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NameError,
    ZeroDivisionError,
    AssertionError,
    ImportError,
    SyntaxError,
]
PASSING = [
    OSError,
    ConnectionResetError,
    TimeoutError,
    RuntimeError,
    ValueError,
    socket.gaierror,
    EOFError,
    ExceptionGroup,
]


@pytest.mark.parametrize("kind", BUGS)
def test_own_bugs_are_not_repeated(kind: type[Exception]) -> None:
    """They fail the same way again; who wants them repeated names them."""
    assert not Retry().wants(kind("bug"))
    assert Retry(on=kind).wants(kind("bug"))


@pytest.mark.parametrize("kind", PASSING)
def test_other_errors_are_repeated(kind: type[Exception]) -> None:
    """What is neither a client error nor a bug may pass by itself."""
    error = kind("down", [OSError()]) if kind is ExceptionGroup else kind("down")
    assert Retry().wants(error)


ENDS = [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]


@pytest.mark.parametrize("kind", ENDS)
def test_what_ends_a_program_is_never_repeated(kind: type[BaseException]) -> None:
    """Not by default, not when everything is named, and not by a predicate."""
    for retry in (Retry(), Retry(on=BaseException), Retry(on=kind), Retry(on=lambda _: True)):
        assert not retry.wants(kind())


REFUSALS = [
    errors.CircuitOpen("open", retry_after_s=1.0),
    errors.RateLimited("late", retry_after_s=1.0),
    errors.LoadShed("full"),
    errors.DeadlineExceeded("over"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_refusals_of_our_own_end_it(error: Exception) -> None:
    """Asking a guard again brings nothing, whatever `on` says."""
    assert not Retry().wants(error)
    assert not Retry(on=Exception).wants(error)


@pytest.mark.parametrize("error", [errors.AttemptTimeout("slow"), errors.BadResponse("HTML")])
def test_verdicts_on_the_service_are_repeated(error: Exception) -> None:
    """An attempt that took too long or brought the wrong thing may go better."""
    assert Retry().wants(error)


def test_bad_response_of_a_client_error_is_not_repeated() -> None:
    """Its status counts as any other."""
    assert not Retry().wants(errors.BadResponse("no", status=422))


@pytest.mark.parametrize(
    "on", [OSError, (KeyError, OSError), lambda error: "down" in str(error)], ids=["type", "types", "predicate"]
)
def test_only_what_is_named_is_repeated(on: Any) -> None:
    """A type with what is below it, several types, or a predicate."""
    retry = Retry(on=on)
    assert retry.wants(ConnectionResetError("down"))
    assert not retry.wants(ValueError("wrong"))


def test_what_is_excluded_is_not_repeated_whatever_else_is_said() -> None:
    """`not_on` outranks `on` and the default."""
    assert not Retry(not_on=OSError).wants(OSError())
    assert not Retry(on=OSError, not_on=ConnectionResetError).wants(ConnectionResetError())
    assert Retry(on=OSError, not_on=ConnectionResetError).wants(ConnectionAbortedError())
    assert not Retry(on=Exception, not_on=lambda error: error.args == (1,)).wants(ValueError(1))


def test_every_error_of_python_is_decided() -> None:
    """No built-in exception makes the decision fail."""
    for kind in vars(builtins).values():
        if isinstance(kind, type) and issubclass(kind, BaseException):
            error = kind.__new__(kind, "about", [OSError()])
            assert Retry().wants(error) in (True, False)


@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        (OSError("down"), True),
        (TimeoutError(), True),
        (HTTPError(500), True),
        (HTTPError(503), True),
        (HTTPError(408), True),
        (HTTPError(404), False),
        (HTTPError(400), False),
        (HTTPError(429), False),
        (HTTPError(301), False),
        (errors.BadResponse("HTML", status=200), True),
        (errors.BadResponse("HTML", status=404), False),
    ],
)
def test_service_is_blamed_for_what_it_did(error: Exception, blamed: bool) -> None:
    """No answer, a timeout, 5xx and a success that is none speak against it; an answer that says no does not."""
    assert blames_the_service(error) is blamed


def test_default_is_open_to_all() -> None:
    """The default condition can be asked by itself, for predicates that add to it."""
    retry = Retry(on=lambda error: worth_another(error) or isinstance(error, KeyError))
    assert [retry.wants(error) for error in (KeyError(), OSError(), TypeError())] == [True, True, False]


# Profiles of the documents --------------------------------------------------------------------------------------------


def slept(retry: Retry, error: Exception, clock: ManualTime) -> list[float]:
    """Return the waits of a call that fails again and again."""

    @pr.policy("crm", retry=retry, max_inline_wait_s=1e6)
    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        call()
    return clock.slept


def test_dns_profile_has_document_as_figures(clock: ManualTime) -> None:
    """2, 4, 8 and 16 s after a temporary failure of name resolution."""
    assert slept(DNS, socket.gaierror(socket.EAI_AGAIN, "try again"), clock) == [2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "unknown"), OSError("down")])
def test_dns_profile_is_for_names_only(error: Exception, clock: ManualTime) -> None:
    """A name that does not exist, and every other error, is not repeated."""
    assert slept(DNS, error, clock) == []


def test_dns_profile_knows_a_clients_error() -> None:
    """The failure of name resolution below a client's own error counts."""
    wrapped = httpx2.ConnectError("no address")
    wrapped.__cause__ = socket.gaierror(socket.EAI_AGAIN, "try again")
    assert DNS.wants(wrapped)


@pytest.mark.parametrize(("chance", "waits_s"), [(0.0, [0.25, 0.5]), (NEARLY_ONE, [0.5, 1.0])])
def test_recovery_profile_has_document_bs_figures(chance: float, waits_s: list[float], clock: ManualTime) -> None:
    """Three attempts; 500 ms and 1 s, times 0.5 to 1.0; at most 10 s."""
    clock.chance = chance
    assert slept(RECOVERY, OSError("down"), clock) == pytest.approx(waits_s)
    assert RECOVERY.wait_s(3, 0.0, Chance(NEARLY_ONE)) == pytest.approx(2.0)
    assert RECOVERY.wait_s(100, 0.0, Chance(NEARLY_ONE)) == pytest.approx(10.0)


@pytest.mark.parametrize(("profile", "cap_s"), [(DISPATCH, 10.0), (INTERACTIVE, 8.0)])
def test_dispatch_and_interactive_have_the_figures_of_documents_c_and_e(
    profile: Retry, cap_s: float, clock: ManualTime
) -> None:
    """Three attempts, 1 s doubling, at most 10 s (C) or 8 s (E); client errors are never repeated."""
    assert slept(profile, OSError("down"), clock) == [1.0, 2.0]
    assert [profile.wait_s(failed, 0.0, Rng()) for failed in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, 8.0, cap_s]
    assert not profile.wants(HTTPError(404))


def test_urllib_error_is_decided_by_its_code() -> None:
    """The standard library's own client is understood too."""
    found = {
        code: Retry().wants(urllib.error.HTTPError("http://localhost", code, "", Message(), None))
        for code in (404, 429, 503)
    }
    assert found == {404: False, 429: True, 503: True}


def test_status_may_be_an_enum() -> None:
    """`http.HTTPStatus.NOT_FOUND` is a 404."""
    assert not Retry().wants(HTTPError(http.HTTPStatus.NOT_FOUND))


# Settings -------------------------------------------------------------------------------------------------------------


async def _asynchronous(*_: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"attempts": 0}, "attempts must be an int >= 1 (1 makes no second call), got 0"),
        ({"attempts": 2.5}, "attempts must be an int >= 1 (1 makes no second call), got 2.5"),
        ({"attempts": True}, "attempts must be an int >= 1 (1 makes no second call), got True"),
        ({"attempts": math.inf}, "attempts must be an int >= 1 (1 makes no second call), got inf"),
        ({"base_s": -1}, "base_s must be seconds >= 0, got -1"),
        ({"base_s": math.nan}, "base_s must be seconds >= 0, got nan"),
        ({"base_s": "1"}, "base_s must be seconds >= 0, got '1'"),
        ({"cap_s": math.inf}, "cap_s must be seconds >= 0, got inf"),
        ({"cap_s": None}, "cap_s must be seconds >= 0, got None"),
        ({"factor": 0.5}, "factor must be a number >= 1, got 0.5"),
        ({"jitter": "half"}, "jitter must be one of equal, full, decorrelated, none, got 'half'"),
        ({"jitter": True}, "jitter must be one of equal, full, decorrelated, none, got True"),
        ({"on": OSError()}, "on must be an exception type, a tuple of them, a predicate (not an async one), or None, got OSError()"),
        ({"on": [OSError]}, "on must be an exception type, a tuple of them, a predicate (not an async one), or None, got [<class 'OSError'>]"),
        ({"on": (OSError, int)}, "on must be an exception type, a tuple of them, a predicate (not an async one), or None, got (<class 'OSError'>, <class 'int'>)"),
        ({"not_on": int}, "not_on must be an exception type, a tuple of them, a predicate (not an async one), or None, got <class 'int'>"),
        ({"on_result": 3}, "on_result must be a function (not an async one), or None, got 3"),
        ({"on_retry": "log"}, "on_retry must be a function (not an async one), or None, got 'log'"),
    ],
)  # fmt: skip
def test_misuse_is_refused_with_what_is_allowed(wrong: dict[str, Any], message: str) -> None:
    """Settings that can't work are refused where they are declared, in words that say what to write."""
    with pytest.raises(ValueError, match=r".") as caught:
        Retry(**wrong)
    assert str(caught.value) == f"Retry: {message}"


@pytest.mark.parametrize("steps", ["fibonacci", (), [], (1, -1), (1, math.nan), ("1",), {1, 2}, None, 3, _asynchronous])
def test_steps_that_are_none_are_refused(steps: Any) -> None:
    """A name that is not known, no waits at all, a wait that is none."""
    with pytest.raises(
        ValueError,
        match=r"^Retry: steps must be one of exponential, linear, constant, a sequence of seconds, or a function",
    ):
        Retry(steps=steps)


@pytest.mark.parametrize("name", ["on", "not_on", "on_result", "on_retry"])
def test_asynchronous_functions_are_refused(name: str) -> None:
    """Nobody would await them, and what they return is always true."""
    wrong: dict[str, Any] = {name: _asynchronous}
    with pytest.raises(ValueError, match=f"^Retry: {name} must be .*not an async one"):
        Retry(**wrong)


def test_settings_are_values() -> None:
    """Two of the same figures are equal, and none can be changed afterwards."""
    assert Retry(attempts=4) == Retry(attempts=4) != Retry()
    with pytest.raises(AttributeError):
        Retry().attempts = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        Retry(4)  # type: ignore[call-arg]
