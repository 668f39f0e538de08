"""What settings have to be is told from what they must not be, and refused in words that help."""

from __future__ import annotations

import functools
import math
import sys
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.guard.demands import demand, is_count, is_function, is_number, is_positive, is_share

NOT_NUMBERS: list[object] = [None, "1", b"1", True, False, [], math.nan, math.inf, -math.inf, 10**400, 1j]


@dataclass
class Shelf:
    """Something with a setting."""

    books: object


def test_demand_says_what_is_allowed_and_what_was_given() -> None:
    """Subject, setting, what it has to be, and the value; no error where it holds."""
    demand(Shelf(3), "books", True, "an int >= 1")
    with pytest.raises(ValueError, match=r"^Shelf: books must be an int >= 1, got 'three'$"):
        demand(Shelf("three"), "books", False, "an int >= 1")


@pytest.mark.parametrize(
    ("value", "counts"),
    [(1, True), (10**30, True), (0, False), (-1, False), (1.0, False), (True, False), ("1", False), (None, False)],
)
def test_count_is_an_int_from_one_on(value: object, counts: bool) -> None:
    """No bool, no float, no text."""
    assert is_count(value) is counts


@given(st.floats(0, sys.float_info.max) | st.integers(0, 2**1000))
def test_number_is_what_a_float_can_hold(value: float) -> None:
    """Every finite float and every int that becomes one."""
    assert is_number(value)
    assert is_positive(value) is (value > 0)


@pytest.mark.parametrize("value", [*NOT_NUMBERS, Decimal(1), Fraction(1)])
def test_number_is_nothing_else(value: object) -> None:
    """Not NaN, not infinity, no bool, no text, and no int that overflows a float later."""
    assert not is_number(value)
    assert not is_positive(value)
    assert not is_share(value)


def test_number_may_have_a_least() -> None:
    """The least itself is allowed."""
    assert [is_number(value, 1.0) for value in (0.999, 1, 1.0, 2)] == [False, True, True, True]
    assert [is_number(value) for value in (-0.0, 0, -5e-324)] == [True, True, False]


@pytest.mark.parametrize(
    ("value", "share"),
    [(0.0, False), (5e-324, True), (0.5, True), (1, True), (1.0, True), (1.0000001, False), (50, False), (-0.5, False)],
)
def test_share_is_above_nothing_and_at_most_all(value: float, share: bool) -> None:
    """50 for 50 % is refused, and so is a share of nothing."""
    assert is_share(value) is share


async def _asynchronous() -> None: ...


class Plain:
    """An object that can be called."""

    def __call__(self) -> None: ...


class AsyncCallable:
    """An object whose call is asynchronous."""

    async def __call__(self) -> None: ...


@pytest.mark.parametrize("value", [len, int, lambda: None, Plain(), functools.partial(int, "1"), "".join])
def test_function_is_whatever_can_be_called(value: Any) -> None:
    """Functions, methods, types, partials, objects."""
    assert is_function(value)


@pytest.mark.parametrize(
    "value", [None, 3, "len", _asynchronous, AsyncCallable(), functools.partial(_asynchronous)], ids=lambda _: ""
)
def test_function_is_not_asynchronous(value: object) -> None:
    """What an async function returns is always true: as a predicate it would say yes to everything."""
    assert not is_function(value)
