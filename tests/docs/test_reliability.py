"""docs/reliability.md names commands that exist, and for each row a test by which its checker was seen to fail."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache

import pytest

from docs.pages import ROOT, page

NAME = "docs/reliability.md"
ROWS = 18
_NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def sections(text: str) -> dict[int, str]:
    """Return the section of each numbered row."""
    found = re.split(r"^## (\d+)\. .*$", text, flags=re.MULTILINE)[1:]
    return {int(number): words for number, words in zip(found[::2], found[1::2], strict=True)}


def entry(section: str, name: str) -> str:
    """Return what stands under **name:** in a section, over all its lines; an empty text where nothing does."""
    found = re.search(rf"^- \*\*{name}:\*\*(.*?)(?=^- \*\*|^\n|\Z)", section, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


@cache
def found_in(path: str) -> set[str]:
    """Return the tests that pytest finds in a file."""
    if not (ROOT / path).exists() or not re.fullmatch(r"test_\w+\.py", path.rpartition("/")[2]):
        return set()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {one.name for one in functions if one.name.startswith("test_")}


def missing_tests(text: str) -> list[str]:
    """Return the tests that are named and that nobody would run."""
    return [f"{path}::{name}" for path, name in _NODE.findall(text) if name not in found_in(path)]


def wrong_commands(text: str) -> list[str]:
    """Return the commands of make that make does not know."""
    told = dict.fromkeys(re.findall(r"`make ([^`]+)`", text))
    return [one for one in told if not _is_known(one)]


def _is_known(command: str) -> bool:
    words = re.findall(r'[\w-]+="[^"]*"|\S+', command)
    arguments = [word.replace('"', "") for word in words]
    assert all(re.fullmatch(r"[a-z-]+|[A-Z_]+=.*", word) for word in arguments), command
    known = set(re.findall(r"\$\(or \$\((\w+)\)|\$\(if \$\((\w+)\)", (ROOT / "Makefile").read_text()))
    variables = {name for pair in known for name in pair if name}
    if {word.partition("=")[0] for word in arguments if "=" in word} - variables:
        return False
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("number", range(1, ROWS + 1))
def test_row_says_how_to_see_it_again_and_how_it_fails(number: int) -> None:
    """One command, what its checker looks at, and the planted bug on which it was seen to fail."""
    section = sections(page(NAME).text)[number]
    assert re.search(r"`make [^`]+`", entry(section, "Again"))
    assert entry(section, "Looks at")
    assert _NODE.search(entry(section, "Seen to fail"))


def test_commands_and_tests_exist() -> None:
    """Each command is one that make knows, with its variables; each test is one that pytest finds."""
    text = page(NAME).text
    assert wrong_commands(text) == []
    assert missing_tests(text) == []
    assert sorted(sections(text)) == list(range(1, ROWS + 1))


def test_every_row_stands_in_the_table() -> None:
    """The table at the top leads to each section and says of each what was counted and whether it was reached."""
    rows = re.findall(r"^\| \[(\d+)\]\(#[\w-]+\) \|(.*)\|$", page(NAME).text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, ROWS + 1))
    assert [number for number, cells in rows if not all(cell.strip() for cell in cells.split("|"))] == []


def test_what_is_not_there_is_noticed() -> None:
    """A target, a variable, a file, a test that nobody has; a row that says nothing of how it fails."""
    assert wrong_commands("`make nothing` `make soak MINUTES=1` `make soak HOURS=1`") == ["nothing", "soak HOURS=1"]
    planted = (
        "`tests/gone.py::test_a` `tests/docs/pages.py::page` `tests/test_chaos_soak.py::test_planted_leak_is_named`"
    )
    assert missing_tests(planted) == ["tests/gone.py::test_a", "tests/docs/pages.py::page"]
    assert entry("- **Again:** `make soak`,\n  twice\n- **Looks at:**\n", "Again") == "`make soak`,\n  twice"
    assert entry("- **Looks at:**\n\nmore", "Looks at") == ""
