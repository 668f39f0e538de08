"""What a list can be filtered by is the same in the API, on the pages and on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer.main

from prunella.cli import commands
from prunella.core.states import IncidentState
from prunella.web import filters
from prunella.web.api.operations import BulkIn
from prunella.web.auth import Role
from prunella.web.filters import AuditFilter, IncidentFilter, KnownIssueFilter, OperationFilter, RunFilter
from prunella.web.openapi import operations
from prunella.web.problems import Problem
from web.conftest import Web
from web.person import Person

pytestmark = pytest.mark.anyio

LISTS = {
    "incidents": IncidentFilter,
    "operations": OperationFilter,
    "audit": AuditFilter,
    "runs": RunFilter,
    "known-issues": KnownIssueFilter,
}
COMMANDS = {
    "incidents": ("incidents",),
    "operations": ("operations",),
    "audit": ("events", "tail"),
    "known-issues": ("known-issues",),
}
_OTHERS = {"limit", "cursor", "as_json", "lines", "follow", "help"}


@pytest.mark.parametrize("name", LISTS)
async def test_api_takes_each_filter_and_no_other(web: Web, name: str) -> None:
    """Its parameters are the fields, beside where a page begins and how long it is."""
    (said,) = [
        one for method, path, one in operations(web.api.openapi()) if (method, path) == ("GET", f"/api/v1/{name}")
    ]
    assert {one["name"] for one in said["parameters"]} == {*filters.names(LISTS[name]), "limit", "cursor"}


@pytest.mark.parametrize("name", COMMANDS)
async def test_form_of_a_page_has_each_filter(web: Web, name: str) -> None:
    """Who looks at a page can ask for all that a program can."""
    page = await (await Person.enter(web.client, web.gatehouse, Role.ADMIN)).open(f"/{name}")
    (form,) = [one for one in page.forms if one.method == "get" and one.action == f"/{name}"]
    assert set(form.fields) == set(filters.names(LISTS[name]))


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_an_option_for_each_filter(name: str) -> None:
    """Likewise at a terminal, under the same names."""
    command = typer.main.get_command(commands.cli)
    for word in COMMANDS[name]:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert {one.name for one in command.params} - _OTHERS == set(filters.names(LISTS[name]))


def test_acts_over_many_take_the_filters_of_the_list() -> None:
    """What is shown can be meant."""
    assert set(filters.names(OperationFilter)) < set(BulkIn.model_fields)


def test_form_is_read_by_the_rules_of_the_api() -> None:
    """Blanks are no filter; a moment without a zone is in UTC; a wrong word is named with those that are right."""
    sent = {"state": "open_any", "service": " crm ", "category": " ", "since": "2026-01-31T09:30", "page": "2"}
    chosen = filters.chosen(IncidentFilter, sent)
    assert chosen == {"state": "open_any", "service": "crm", "since": "2026-01-31T09:30"}
    asked = filters.read(IncidentFilter, chosen).asked()
    assert asked["since"] == datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    assert IncidentState.RESOLVED not in asked["state"]
    assert filters.read(AuditFilter, {"since": "2026-01-31"}).since == datetime(2026, 1, 31, tzinfo=UTC)
    for name, wrong in (("state", "broken"), ("since", "yesterday"), ("since", "0001-01-01T00:00:00+10:00")):
        with pytest.raises(Problem) as refused:
            filters.read(IncidentFilter, {name: wrong})
        assert (refused.value.status, refused.value.title) == (422, f"Unknown {name}")
