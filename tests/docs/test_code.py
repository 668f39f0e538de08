"""The Python of every page runs as it stands, and prints what the comment beside a print says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages import Page, pages
from prunella.core.clock import HOST
from prunella.plugin import CHECKS, REMEDIES

ELSEWHERE = {"README.md"}
"""Pages whose code calls services that only their own test has: tests/test_readme.py."""
SHOWN = [one for one in pages() if one.blocks("python") and one.name not in ELSEWHERE]


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand in an empty folder, wait for nothing, and forget what was registered."""
    monkeypatch.chdir(tmp_path)
    checks, remedies = set(CHECKS), set(REMEDIES)
    try:
        with HOST.replaced(sleep=lambda _: None):
            yield
    finally:
        for name in set(CHECKS) - checks:
            del CHECKS[name]
        for name in set(REMEDIES) - remedies:
            del REMEDIES[name]


def run(page: Page) -> list[str]:
    """Run a page's code from top to bottom; return what it promises to print. Programs that it starts are left out."""
    commands = "\n".join(block.text for block in page.blocks("console"))
    names, said = {"__name__": "page"}, list[str]()
    for block in page.blocks("python"):
        if not block.file or f"python {block.file}" not in commands:
            exec(compile(block.text, page.name, "exec"), names)
            said += re.findall(r"^ *print\(.*\)  # (.+)$", block.text, re.MULTILINE)
    return said


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_code_runs(page: Page, alone: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing raises, and what is printed is what stands beside it."""
    said = run(page)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in said if line not in printed] == [], printed


@pytest.mark.parametrize("text", ["raise ValueError", "print(1)  # 2"])
def test_code_that_is_wrong_is_noticed(text: str, alone: None, capsys: pytest.CaptureFixture[str]) -> None:
    """A block that raises fails, and so does one that prints something else."""
    page = Page("planted.md", f"```python\n{text}\n```\n")
    if text.startswith("raise"):
        with pytest.raises(ValueError):  # noqa: PT011 - the planted one
            run(page)
    else:
        assert run(page) == ["2"]
        assert capsys.readouterr().out.splitlines() == ["1"]
