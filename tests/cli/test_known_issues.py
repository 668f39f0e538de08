"""Known issues at a terminal: patterns are tried, remedies bound, issues ended and joined, packs handed on."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Command
from cli.test_dry_runs import dump
from prunella import plugin
from prunella.core.clock import SystemClock
from prunella.core.issues import KnownIssue
from prunella.engine.learning import entries
from prunella.packs import read_pack
from prunella.store.sqlite import SqliteStore

GOOD = """
- {id: dns-gone, pattern: 'getaddrinfo (ENOTFOUND|EAI_AGAIN)', severity: HIGH, cause: no such name, remedy: wait}
- {id: any-error, pattern: 'error', severity: LOW}
- {id: crm-quota, pattern: 'quota .* exceeded', service: crm, code: Q1, kind: rate_limit.quota}
- {id: over, pattern: 'error', resolved: true}
"""
MESSAGE = "Error: getaddrinfo ENOTFOUND api.crm.test"


@pytest.fixture
def patterns(folder: Path) -> Path:
    """Write a file of good patterns."""
    path = folder / "known.yaml"
    path.write_text(GOOD)
    return path


def test_matches_are_told_with_the_one_that_counts_first(command: Command, patterns: Path) -> None:
    """Place and words of each, cause and remedy, the time it took and the rule that decided."""
    said = command("known-issues", "test", MESSAGE, "--patterns", str(patterns))
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].startswith("2 of 3 patterns match, found in ")
    assert lines[1] == "> dns-gone  HIGH"
    assert "7-28  'getaddrinfo ENOTFOUND'" in lines[2]
    assert "no such name" in said.out
    assert "remedy  wait" in said.out
    assert lines[-1] == "dns-gone counts: loudest first, then the most specific, then by id"


def test_message_may_come_from_standard_input(
    command: Command, patterns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As JSON, too, where whether it can be repaired is said in one word."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(MESSAGE))
    said = command("known-issues", "test", "--patterns", str(patterns), "--json")
    answer = json.loads(said.out)
    assert (said.status, answer["winner"], answer["patterns"]) == (0, "dns-gone", 3)
    assert [one["auto_fix_available"] for one in answer["matches"]] == [True, False]
    assert answer["matches"][0]["spans"] == [{"start": 7, "end": 28, "text": "getaddrinfo ENOTFOUND"}]


@pytest.mark.parametrize(
    ("facts", "matching"),
    [
        ([], 1),
        (["--service", "crm", "--code", "Q1"], 1),
        (["--service", "erp", "--code", "Q1"], 0),
        (["--service", "crm", "--code", "Q1", "--kind", "bug"], 0),
    ],
)
def test_pattern_is_asked_where_it_is_meant(command: Command, patterns: Path, facts: list[str], matching: int) -> None:
    """With a service the failure is that service's; without one the words decide alone."""
    said = command("known-issues", "test", "quota of 5 exceeded", "--patterns", str(patterns), *facts)
    assert said.out.startswith(f"{matching} of 3 patterns match")


def test_refused_patterns_are_named_and_change_the_status(command: Command, folder: Path) -> None:
    """Each with its reason on standard error; the others are tried all the same."""
    path = folder / "known.yaml"
    path.write_text("- {id: evil, pattern: '(a+)+$'}\n- {id: digits, pattern: '\\d\\d'}\n")
    said = command("known-issues", "test", "42", "--patterns", str(path))
    assert said.status == 1
    assert said.out.startswith("1 of 1 patterns match")
    assert "pattern 'evil': a repeat stands inside a repeated group" in said.err
    assert "pattern 'digits' has no row of 3 or more characters" in said.err
    answer = json.loads(command("known-issues", "test", "42", "--patterns", str(path), "--json").out)
    assert [one["id"] for one in answer["refused"]] == ["evil"]
    assert len(answer["warnings"]) == 1


def test_shipped_issues_are_tried_without_a_file(command: Command) -> None:
    """What is known, what to do and where that stands is told at once."""
    said = command("known-issues", "test", "ERROR: cached plan must not change result type")
    assert said.status == 0
    assert "> postgresql.cached-plan-stale  HIGH" in said.out
    assert "advice  Open the connections anew" in said.out
    assert "source  https://" in said.out


def test_secrets_of_the_message_are_not_shown(command: Command, folder: Path) -> None:
    """What is matched is what the engine would have kept."""
    path = folder / "known.yaml"
    path.write_text("- {id: all, pattern: '[^\\n]+'}\n")
    said = command("known-issues", "test", "Authorization: Bearer abcdefgh12345678", "--patterns", str(path))
    assert "abcdefgh12345678" not in said.out
    assert "REDACTED" in said.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["cannot be read"]),
        ("a: [", ["is no YAML"]),
        ("", ["holds nothing"]),
        ("a: 1", ["holds a dict"]),
        ("- 5\n- {id: a}\n", ["entry 1: is an int", "entry 2 (a): pattern: is missing"]),
        (
            "- {id: a, pattern: b, sevrity: LOW}",
            ["entry 1 (a): sevrity: unknown name; did you mean severity?"],
        ),
        ("- {id: a, pattern: b, severity: low}", ["severity: 'low'; did you mean LOW?"]),
        ("- {id: 5, pattern: b, resolved: no thanks}", ["id: 5; write a text", "resolved: 'no thanks'; write true"]),
        ("- {id: a, pattern: b}\n- {id: a, pattern: c}\n", ["entry 2 (a): id: stands in entry 1 already"]),
    ],
)
def test_mistakes_in_the_file_are_all_named(command: Command, folder: Path, text: str | None, words: list[str]) -> None:
    """One line each, with the entry and what to write, and status 2."""
    path = folder / "known.yaml"
    if text is not None:
        path.write_text(text)
    said = command("known-issues", "test", "x", "--patterns", str(path))
    lines = said.err.strip().splitlines()
    assert (said.status, said.out, len(lines)) == (2, "", len(words))
    assert all(word in line for word, line in zip(words, lines, strict=True))


# What people do with known issues ------------------------------------------------------------------------------------

PACK = """
- {id: crm.lunch, pattern: closed for lunch, service: crm, title: Lunch, cause: They eat., advice: Wait until one.}
- {id: crm.noon, pattern: gone to lunch, service: crm, title: Noon}
"""
MODULE = """
from prunella.plugin import remedy


@remedy("warm_up", idempotent=True)
async def warm_up(ctx, failure, *, node: str, times: int = 1, hard: bool = False):
    pass
"""


@pytest.fixture
def stocked(
    command: Command, configured: Path, folder: Path, sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Let two issues be known, and a remedy of the user with typed parameters stand ready; return the pack."""
    path = folder / "known.yaml"
    path.write_text(PACK)
    (folder / "our_remedies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    configured.write_text(configured.read_text().replace("service: {", "service: {plugins: [our_remedies], "))
    asyncio.run(_stored(sqlite_path))
    yield path
    plugin.REMEDIES.pop("warm_up", None)
    sys.modules.pop("our_remedies", None)


async def _stored(path: Path) -> None:
    """Write the entries of the pack down as issues."""
    store = SqliteStore.open_file(path, SystemClock())
    now = store.clock.now()
    found = [one.pattern for one in read_pack(PACK)]
    made = [KnownIssue(id=one.id, **entries.fields_of(one), created_at=now, created_by="ada") for one in found]
    async with store.transaction() as tx:
        await tx.learning.add(made, now)
    await store.close()


def test_remedy_is_bound_with_values_of_its_types(command: Command, stocked: Path, folder: Path) -> None:
    """`--set` is read by what the remedy declares; what it can't be is refused; `show` says what stands by and why."""
    given = ("--set", "node=7", "--set", "times=3", "--set", "hard=true")
    said = command("known-issues", "bind", "crm.lunch", "warm_up", *given)
    assert (said.status, said.out) == (0, "crm.lunch: warm_up stands by at L1\n")
    assert any(
        '"parameters":{"node":"7","times":3,"hard":true}' in line.replace(": ", ":").replace(", ", ",")
        for line in dump(folder)
    )
    told = command("known-issues", "show", "crm.lunch").out
    assert "A machine: warm_up (L1: acts; not tried yet)" in told
    for words in ("warm_up: tried 0, verified 0", "bound by cli:", "pattern   closed for lunch"):
        assert words in told
    refused = command("known-issues", "bind", "crm.noon", "warm_up", "--set", "node=a", "--set", "times=many")
    assert (refused.status, "it must be whole number" in refused.err) == (1, True)
    refused = command("known-issues", "bind", "crm.noon", "warm_up", "--set", "node")
    assert (refused.status, "is no name=value; write --set node=…" in refused.err) == (2, True)
    assert command("known-issues", "unbind", "crm.lunch", "warm_up").out == "crm.lunch: warm_up is not tried any more\n"


def test_issue_is_ended_opened_joined_and_divided(command: Command, stocked: Path) -> None:
    """Each act says how it stands then; what can't be done is refused with status 1."""
    assert command("known-issues", "resolve", "crm.lunch", "--reason", "a cook").out == "crm.lunch: resolved\n"
    assert "is resolved already, by cli:" in command("known-issues", "resolve", "crm.lunch").err
    assert command("known-issues", "merge", "crm.noon", "crm.lunch").out == "crm.lunch stands for crm.noon, too\n"
    told = command("known-issues", "show", "crm.lunch").out
    assert "stands for crm.noon, too" in told
    assert "may be bound: prunella known-issues bind crm.lunch warm_up --set node=…" in told
    assert command("known-issues", "split", "crm.noon").out == "crm.noon: Noon\n"
    said = command("known-issues", "split", "crm.noon", "--pattern", "gone to lunch on a Monday", "--title", "Monday")
    assert (said.status, said.out.endswith(": Monday\n")) == (0, True)


def test_packs_go_out_and_come_in(command: Command, stocked: Path, folder: Path) -> None:
    """To a file; other words under a known id only where that is asked for; mistakes by line; tried dry, nothing is."""
    assert "add 0 known issues and compare 2" in command("known-issues", "import", str(stocked), "--dry-run").out
    out = folder / "out.yaml"
    said = command("known-issues", "export", str(out), "--id", "crm.lunch", "--id", "crm.noon")
    assert said.out == f"2 known issues: {out}\n"
    out.write_text(out.read_text().replace("closed for lunch", "the cook is away"))
    assert "ids crm.lunch; nothing was imported" in command("known-issues", "import", str(out)).err
    assert command("known-issues", "import", str(out), "--replace").out == "added: 0, changed: 1, left alone: 1\n"
    assert any("the cook is away" in line for line in dump(folder))
    out.write_text("- {id: evil, pattern: '(a+)+$'}\n")
    said = command("known-issues", "import", str(out))
    assert (said.status, "out.yaml:1:" in said.err, "repeated group" in said.err) == (2, True, True)


def test_acts_tried_dry_change_nothing(command: Command, stocked: Path, folder: Path) -> None:
    """What would happen is said, what would be refused is refused; not one row is written."""
    before = dump(folder)
    for arguments, words in (
        (["bind", "crm.lunch", "warm_up", "--set", "node=a"], "bind warm_up to crm.lunch at L1"),
        (["resolve", "crm.lunch"], "resolve crm.lunch (now active)"),
    ):
        said = command("known-issues", *arguments, "--dry-run")
        assert (said.status, words in said.out, "nothing was changed" in said.out) == (0, True, True), said
    for arguments, words in (
        (["bind", "crm.lunch", "refresh_auth"], "has no oauth section"),
        (["unbind", "crm.lunch", "warm_up"], "is not bound to crm.lunch"),
        (["reopen", "crm.lunch"], "is active; reopen needs one that is not"),
        (["merge", "crm.lunch", "nobody"], "there is no known issue 'nobody'"),
    ):
        said = command("known-issues", *arguments, "--dry-run")
        assert (said.status, words in said.err) == (1, True), said
    assert dump(folder) == before
    assert command("known-issues", "candidates").out == "no candidates: every failure is known, or none was seen\n"
