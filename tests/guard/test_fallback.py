"""A call that failed for good is answered by what was agreed: the last good result, a function, or a value."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import prunella as pr
from guard.conftest import ManualTime
from prunella.core.errors import CircuitOpen
from prunella.core.events import Event
from prunella.guard.fallback import Fallback


def fetch(*args: Any, **kwargs: Any) -> None:
    """Stand for the guarded function."""


def answer(fallback: Fallback, *args: Any, **kwargs: Any) -> Any:
    """Return what stands in for a call with these arguments."""
    stand_in = fallback.stand_in(fetch, args, kwargs)
    return "nothing stands in" if stand_in is None else stand_in()


# What stands in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, [], "cached"])
def test_any_value_stands_in(value: object) -> None:
    """None is a value as any other."""
    assert answer(Fallback(value=value), 1) == value


def test_function_gets_the_arguments_of_the_call() -> None:
    """Positions and names reach it as they were."""
    assert answer(Fallback(call=lambda a, *, b: (a, b)), 1, b=2) == (1, 2)


def test_function_without_parameters_gets_none() -> None:
    """A plain `lambda: …` fits every call."""
    assert answer(Fallback(call=lambda: "cached"), 1, b=2) == "cached"


def test_function_that_shows_no_parameters_gets_them() -> None:
    """A built-in without a signature is called as the function would have been."""
    assert answer(Fallback(call=max), 1, 5) == 5


def test_last_good_result_comes_first() -> None:
    """It is better than a function, and a function is better than a value."""
    fallback = Fallback(last_good=True, call=lambda *_: "function", value="value")
    assert answer(fallback, 1) == "function"
    fallback.keep(fetch, (1,), {}, "result")
    assert [answer(fallback, 1), answer(fallback, 2)] == ["result", "function"]
    assert answer(Fallback(last_good=True, value="value"), 1) == "value"


def test_nothing_stands_in_for_what_was_never_seen() -> None:
    """With nothing but last good results, the first failure has no substitute."""
    assert answer(Fallback(last_good=True), 1) == "nothing stands in"


# Last good results ----------------------------------------------------------------------------------------------------


def test_result_belongs_to_its_arguments() -> None:
    """Other positions, other names and other functions have results of their own; the order of names does not matter."""
    fallback = Fallback(last_good=True, value="none")
    fallback.keep(fetch, (1,), {"b": 2, "c": 3}, "result")
    assert answer(fallback, 1, c=3, b=2) == "result"
    assert [answer(fallback, 1, b=2), answer(fallback, 2, b=2, c=3), answer(fallback, 1, 2, 3)] == ["none"] * 3
    stand_in = fallback.stand_in(print, (1,), {"b": 2, "c": 3})
    assert stand_in is not None
    assert stand_in() == "none"


def test_last_result_is_the_newest() -> None:
    """Each success takes the place of the one before."""
    fallback = Fallback(last_good=True)
    for result in ("old", "new"):
        fallback.keep(fetch, (1,), {}, result)
    assert answer(fallback, 1) == "new"


def test_good_none_is_a_result() -> None:
    """A call that brought None has a last good result."""
    fallback = Fallback(last_good=True, value="value")
    fallback.keep(fetch, (), {}, None)
    assert answer(fallback) is None


def test_result_that_is_too_old_is_not_used(clock: ManualTime) -> None:
    """Up to `max_age_s` it stands in, then not any more; without a limit it always does."""
    limited, unlimited = Fallback(last_good=True, max_age_s=60.0, value="value"), Fallback(last_good=True)
    for fallback in (limited, unlimited):
        fallback.keep(fetch, (1,), {}, "result")
    clock.passes(60.0)
    assert answer(limited, 1) == "result"
    clock.passes(0.1)
    assert answer(limited, 1) == "value"
    clock.passes(1e6)
    assert answer(unlimited, 1) == "result"


class Unhashable:
    """An argument whose hash is broken."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __hash__(self) -> int:
        raise self._error


@pytest.mark.parametrize(
    "argument",
    [{"a": 1}, [1], Unhashable(TypeError("no")), Unhashable(ValueError("no"))],
    ids=["mapping", "list", "hash of no type", "hash of no value"],
)
def test_arguments_that_cannot_be_told_apart_keep_nothing(argument: object) -> None:
    """They hurt no good call, and they get no result of other arguments."""
    fallback = Fallback(last_good=True, value="value")
    fallback.keep(fetch, (argument,), {}, "result")
    fallback.keep(fetch, (), {"given": argument}, "result")
    assert [answer(fallback, argument), answer(fallback, given=argument)] == ["value", "value"]


def test_memory_is_limited_to_the_last_thousand() -> None:
    """The oldest results make room, a result that was renewed stays."""
    fallback = Fallback(last_good=True, value="value")
    for number in range(1000):
        fallback.keep(fetch, (number,), {}, number)
    fallback.keep(fetch, (0,), {}, "renewed")
    fallback.keep(fetch, (1000,), {}, 1000)
    assert len(fallback._kept._results) == 1000
    assert [answer(fallback, number) for number in (0, 1, 2, 1000)] == ["renewed", "value", 2, 1000]


def test_each_fallback_keeps_for_itself() -> None:
    """Two of the same settings are equal and share no result."""
    first, second = Fallback(last_good=True, value="value"), Fallback(last_good=True, value="value")
    first.keep(fetch, (1,), {}, "result")
    assert first == second
    assert answer(second, 1) == "value"


def test_results_are_freed_with_their_fallback() -> None:
    """What was kept does not outlive the policy."""

    class Result:
        """Something that can be watched."""

    fallback, result = Fallback(last_good=True), Result()
    fallback.keep(fetch, (1,), {}, result)
    watched = weakref.ref(result)
    del fallback, result
    gc.collect()
    assert watched() is None


# Through a policy -----------------------------------------------------------------------------------------------------


def test_degradation_is_told(clock: ManualTime) -> None:
    """The caller gets the substitute, and a listener hears of the feature, the reason and the error."""
    told: list[Event] = []

    @pr.policy("crm", fallback=Fallback(value=[], feature="suggestions"), listeners=[told.append])
    def suggest() -> list[str]:
        raise OSError("down")

    assert suggest() == []
    (event,) = [one for one in told if one.name == "call.degraded"]
    assert (event.fields["policy"], event.fields["feature"]) == ("crm", "suggestions")
    assert isinstance(event.fields["error"], OSError)


def test_last_good_result_stands_in_for_an_open_breaker(clock: ManualTime) -> None:
    """A call that is not even made is answered too."""
    policy = pr.policy("crm", breaker=pr.Breaker(failures=1), fallback=Fallback(last_good=True))

    @policy
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8
    policy.breaker.force_open("an outage")
    assert double(4) == 8
    with pytest.raises(CircuitOpen):
        double(5)


def test_asynchronous_function_stands_in_for_an_asynchronous_call(clock: ManualTime) -> None:
    """What it awaits is awaited."""

    async def cached(number: int) -> str:
        await asyncio.sleep(0.5)
        return f"cached {number}"

    @pr.policy("crm", fallback=cached)
    async def get(number: int) -> str:
        raise OSError("down")

    assert clock.run(get(4)) == "cached 4"


def test_error_of_the_fallback_reaches_the_caller(clock: ManualTime) -> None:
    """A substitute that fails too hides nothing."""

    def broken() -> None:
        raise LookupError("the cache is empty")

    @pr.policy("crm", fallback=broken)
    def get() -> None:
        raise OSError("down")

    with pytest.raises(LookupError, match="the cache is empty"):
        get()


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (Fallback, ValueError, "Fallback: nothing is given to fall back on; set call, value or last_good=True"),
        (
            lambda: Fallback(call="cached"),  # type: ignore[arg-type]
            TypeError,
            "Fallback: call must be a function, got 'cached'; a plain value goes into value=…",
        ),
        (
            lambda: Fallback(value=1, max_age_s=0),
            ValueError,
            "Fallback: max_age_s must be seconds > 0, or None, got 0",
        ),
        (
            lambda: Fallback(value=1, max_age_s=math.nan),
            ValueError,
            "Fallback: max_age_s must be seconds > 0, or None, got nan",
        ),
    ],
)
def test_misuse_is_refused_with_what_to_write(
    make: Callable[[], Fallback], kind: type[Exception], message: str
) -> None:
    """A fallback that has nothing to fall back on is refused where it is declared."""
    with pytest.raises(kind) as caught:
        make()
    assert str(caught.value) == message
