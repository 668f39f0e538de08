"""What settings have to be, refused where they are declared and in words that say what to write instead."""

from __future__ import annotations

import inspect
import sys


def demand(subject: object, name: str, holds: bool, allowed: str) -> None:
    """Raise `ValueError` where the field `name` of `subject` is not what is allowed."""
    if not holds:
        raise ValueError(f"{type(subject).__name__}: {name} must be {allowed}, got {getattr(subject, name)!r}")


def is_count(value: object) -> bool:
    """Tell whether a value is an int >= 1."""
    return type(value) is int and value >= 1


def is_number(value: object, least: float = 0.0) -> bool:
    """Tell whether a value is a number >= `least` that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= sys.float_info.max


def is_positive(value: object) -> bool:
    """Tell whether a value is a finite number > 0."""
    return is_number(value) and bool(value)


def is_share(value: object) -> bool:
    """Tell whether a value is a number > 0 and <= 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def is_function(value: object) -> bool:
    """Tell whether a value can be called and answers at once: what an async function returns is always true."""
    return callable(value) and not any(map(inspect.iscoroutinefunction, (value, type(value).__call__)))
