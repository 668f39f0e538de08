"""The error tree is the one that is drawn at its top, and every code names one error."""

from __future__ import annotations

import inspect
import re

import pytest

from prunella.core import errors
from prunella.core.errors import ConfigError, EgressFailed, InvalidInput, PrunellaError

CLASSES = {name: one for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, PrunellaError)}


def drawn(text: str) -> dict[str, str | None]:
    """Read the tree in a docstring: class -> the class above it."""
    above: dict[str, str | None] = {}
    line_of: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = re.match(r"([│ ]*(?:[├└]── )?)([A-Z]\w+)(?:\s{2,}\S.*)?$", line)
        if match is None:
            continue
        depth = len(match[1])
        line_of = [(indent, name) for indent, name in line_of if indent < depth]
        above[match[2]] = line_of[-1][1] if line_of else None
        line_of.append((depth, match[2]))
    return above


def test_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    """Every error class is drawn, below the class it derives from, and nothing is drawn that does not exist."""
    really = {name: one.__mro__[1].__name__ if one is not PrunellaError else None for name, one in CLASSES.items()}
    assert drawn(errors.__doc__ or "") == really


def test_tree_reader_sees_a_planted_mistake() -> None:
    """A class that is drawn elsewhere is noticed."""
    moved = (errors.__doc__ or "").replace("├── DatabaseUnavailable  ", "│   ├── DatabaseUnavailable  ")
    assert drawn(moved)["DatabaseUnavailable"] == "StoreError"


def test_every_code_is_unique_and_stable_in_form() -> None:
    """Each class has a code of its own, `PR` and three digits."""
    codes = [one.__dict__.get("code", "missing") for one in CLASSES.values()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"PR\d{3}", code) for code in codes)


@pytest.mark.parametrize("name", CLASSES)
def test_error_survives_the_code_family_of_its_parent(name: str) -> None:
    """A child's code begins like its parent's, so that documentation groups them."""
    one = CLASSES[name]
    parent = one.__mro__[1]
    if parent is not PrunellaError and one is not PrunellaError:
        assert issubclass(parent, PrunellaError)
        assert one.code[:3] == parent.code[:3]


def test_config_error_shows_every_mistake_at_once() -> None:
    """All problems stand in the message, one per line, and in `problems`."""
    error = ConfigError(["a: wrong", "b: wrong"])
    assert (str(error), error.problems) == ("a: wrong\nb: wrong", ["a: wrong", "b: wrong"])


def test_egress_failed_assumes_that_something_was_sent() -> None:
    """Only a proof makes `sent` False: in doubt the effect may have happened."""
    error = EgressFailed("no reply", exc_type="TimeoutError")
    assert (error.sent, error.errno_name, error.exc_type) == (True, None, "TimeoutError")


def test_invalid_input_points_at_the_whole_by_default() -> None:
    """The empty JSON pointer is the whole document (RFC 6901 section 5)."""
    assert InvalidInput("wrong").pointer == ""
