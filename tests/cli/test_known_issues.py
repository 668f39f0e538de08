"""A message is tried on patterns from a file: what fits, where, which counts, and what is wrong with the patterns."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from cli.conftest import Command

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
