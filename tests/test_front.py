"""The front door shows what it says, loads nothing before it is asked, and nothing from outside at all."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import prunella as pr

SOURCE = Path(pr.__file__)


def fresh(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", pr.__all__)
def test_front_door_has_every_name(name: str) -> None:
    """Each name of `__all__` is there and says what it is for."""
    assert getattr(pr, name).__doc__
    assert name in dir(pr)


def test_front_door_tells_type_checkers_the_same_names() -> None:
    """What is loaded when first used is what type checkers are told about."""
    told = {
        alias.asname
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert told == set(pr.__all__)


def test_front_door_has_no_other_name() -> None:
    """A wrong name is an AttributeError that says so."""
    with pytest.raises(AttributeError, match="module 'prunella' has no attribute 'polcy'"):
        _ = pr.polcy


def test_import_loads_nothing_of_the_library_yet() -> None:
    """Importing prunella brings neither asyncio nor any of its own rooms."""
    loaded = fresh(
        "import sys, prunella; print([name for name in sys.modules if name in ('asyncio', 'prunella.core')])"
    )
    assert loaded.strip() == "[]"


def test_guards_need_nothing_from_outside() -> None:
    """A policy at work has loaded the standard library and prunella, and nothing else."""
    program = (
        "import sys, prunella as pr; pr.policy('x', retry=pr.Retry(), breaker=pr.Breaker()).call(len, 'x'); "
        "print({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names) - {'prunella', '__main__'})"
    )
    assert {one for one in eval(fresh(program)) if not one.startswith(("_", "sitecustomize"))} == set()
