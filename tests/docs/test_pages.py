"""Every document is true: links lead somewhere, settings load, code runs, commands exist."""

from __future__ import annotations

import pytest

from docs import checks, shells
from docs.pages import ROOT, Page, page, pages
from prunella.core.records import Level
from prunella.core.states import GateState, IncidentState, RunState
from prunella.web.auth import Role

ALL = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)


@ALL
def test_links_lead_somewhere(page: Page) -> None:
    """Every relative link leads to a file of the repository, and to a heading that it has."""
    assert checks.dead_links(page) == []


@ALL
def test_settings_load(page: Page) -> None:
    """What is copied into prunella.yaml loads without a mistake and without a warning; other YAML can be read."""
    assert checks.unreadable(page) == []
    assert checks.wrong_settings(page) == []


@ALL
def test_names_exist(page: Page) -> None:
    """Settings that sentences speak of, and extras that are installed, are there."""
    assert checks.unknown_settings(page) == []
    assert checks.unknown_extras(page) == []


@ALL
def test_code_uses_what_there_is(page: Page) -> None:
    """Names and arguments of ours exist, also in functions that a block only defines."""
    assert checks.wrong_code(page) == []


@ALL
def test_commands_are_taken_as_they_stand(page: Page) -> None:
    """Every command is parsed by the real command line, those in sentences, too."""
    assert shells.wrong_commands(page) == []


@pytest.mark.parametrize("name", ["docs/troubleshooting.md", "docs/procedures.md"])
def test_messages_are_said(name: str) -> None:
    """What a table of symptoms quotes is what prunella says."""
    assert checks.unsaid(page(name)) == []


def test_every_document_can_be_found() -> None:
    """From the list of documents, or from the README, every page is one step away."""
    lists = [page("README.md"), page("docs/README.md")]
    led = {(ROOT / one.name).parent / link.partition("#")[0] for one in lists for link in checks.links(one)}
    found = {one.resolve().relative_to(ROOT).as_posix() for one in led}
    assert [one.name for one in pages() if one.name.startswith("docs/") and one.name not in found] == []


def test_words_are_all_explained() -> None:
    """The page of words has every state, level and role that people can meet."""
    met = [*IncidentState, *GateState, *Level, *Role, *(set(RunState) - {RunState.PLANNED, RunState.RUNNING})]
    assert [one for one in met if f"`{one.value}`" not in page("docs/concepts.md").text] == []


PLANTED = {
    "dead_links": "[a](nowhere.md) [b](#no-heading) [c](../../../etc/hosts)\n# A heading\n[d](#a-heading)",
    "wrong_settings": "```yaml\nservices: {crm: {base_url: https://crm.example, timeout: 5}}\n```",
    "unreadable": "```yaml\n# prometheus.yml\na: [\n```\n```json\n{'a': 1}\n```",
    "wrong_code": "```python\nimport prunella as pr\ndef f():\n    pr.polcy('x')\n    pr.Retry(attempt=3)\n```",
    "wrong_commands": "```console\n$ prunella heal\n$ PATH=. prunella explain\n$ prunella incidents --colour | wc\n```\n`prunella up -x`",
    "unknown_settings": "`service.lisen`, `service.listen`, `services.NAME.gate.open`, `services.crm.gates.open`",
    "unknown_extras": '`pip install "prunella[server,otl]"`',
    "unsaid": "| you see | do |\n|---|---|\n| `nobody ever says this` | wait |",
}
FAULTS = {"dead_links": 3, "wrong_code": 2, "unreadable": 2, "unknown_settings": 2, "wrong_commands": 4}


@pytest.mark.parametrize("check", PLANTED)
def test_faults_are_noticed(check: str) -> None:
    """Each checker finds what is planted, all of it, and nothing on a page that is well."""
    looks = getattr(checks, check, None) or getattr(shells, check)
    assert len(looks(Page("planted.md", PLANTED[check]))) == FAULTS.get(check, 1)
    assert looks(Page("planted.md", "# Well\n\n```console\n$ prunella incidents | wc\n```\n")) == []


def test_part_of_a_file_is_read_where_it_belongs() -> None:
    """A block that belongs to a rule is one; what a page showed before stands around it."""
    text = "```yaml\nnotify: {channels: {a: {slack: secret://a}}, rules: [{severity: [LOW], to: [a]}]}\n```\n"
    part = "<!-- belongs to: notify.rules.0 -->\n```yaml\nescalate: {after: 15m, to: [b]}\n```\n"
    (fault,) = checks.wrong_settings(Page("planted.md", text + part))
    assert "'b' is no channel" in fault
