"""Every document is true: links lead somewhere, settings load, code runs, commands exist."""

from __future__ import annotations

import pytest

from docs import checks
from docs.pages import Page, page, pages

ALL = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)


@ALL
def test_links_lead_somewhere(page: Page) -> None:
    assert checks.dead_links(page) == []


@ALL
def test_settings_load(page: Page) -> None:
    assert checks.other_yaml(page) == []
    assert checks.wrong_settings(page) == []


@ALL
def test_code_uses_what_there_is(page: Page) -> None:
    assert checks.wrong_code(page) == []


@ALL
def test_commands_are_taken_as_they_stand(page: Page) -> None:
    assert checks.wrong_commands(page) == []


@pytest.mark.parametrize("name", ["docs/troubleshooting.md", "docs/procedures.md"])
def test_messages_are_said(name: str) -> None:
    """What a table of symptoms quotes is what prunella says."""
    assert checks.unsaid(page(name)) == []
