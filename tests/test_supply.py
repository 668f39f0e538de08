"""What is installed is what is locked: every package by its hash, the bill of materials, the audit, actions by commit."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import sbom
import yaml

import audit

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PIN = "--hash=sha256:" + "0" * 64


def bill(text: str | None = None) -> dict[str, Any]:
    return sbom.bill(text if text is not None else sbom.LOCK.read_text(), PROJECT)


# Locks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_lock_is_hashed(lock: Path) -> None:
    """Each package has one version and the hashes of its files; what is wanted (*.in) has a lock."""
    assert sbom.pinned(lock.read_text())
    assert {one.stem for one in (ROOT / "requirements").glob("*.in")} <= {one.stem for one in LOCKS}


@pytest.mark.parametrize("line", ["httpx==1.0", f"httpx>=1.0 {PIN}", f"-e . {PIN}", "git+https://example.com/x"])
def test_what_is_not_pinned_is_noticed(line: str) -> None:
    """No hash, no version, or no package at all."""
    with pytest.raises(ValueError, match="make lock"):
        sbom.pinned(f"idna==3.1 \\\n    {PIN}\n{line}\n")


def test_make_installs_with_hashes_alone() -> None:
    """No line of the Makefile names a version of a package: they stand in the locks."""
    made = (ROOT / "Makefile").read_text()
    installs = [line for line in made.splitlines() if "pip install" in line and "help" not in line]
    assert installs
    assert [line for line in installs if "--require-hashes" not in line and "--no-deps --editable ." not in line] == []


# The bill of materials ------------------------------------------------------------------------------------------------


def test_bill_names_everything_that_is_locked() -> None:
    """Each package with its version, where it is needed, and the hashes by which it is installed."""
    listed = {one["bom-ref"]: one for one in bill()["components"]}
    lines = re.findall(r"^([\w.-]+)(?:\[.*?\])?==([\w.+!-]+)", sbom.LOCK.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(f"pkg:pypi/{name}@{version}" for name, version in lines)
    for one in listed.values():
        (where,) = one["externalReferences"]
        assert where["hashes"]
        assert all(re.fullmatch("[0-9a-f]{64}", value["content"]) for value in where["hashes"])


def test_bill_is_of_this_project_and_of_nothing_that_moves() -> None:
    """It names our version and what we ask for ourselves; the same lock gives the same text, another one another number."""
    first = bill()
    assert json.dumps(first) == json.dumps(bill())
    assert first["serialNumber"] != bill(f"idna==3.1 {PIN}\n")["serialNumber"]
    assert (first["bomFormat"], first["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", first["serialNumber"])
    assert first["metadata"]["component"]["version"] == PROJECT["version"]
    (ours,) = first["dependencies"]
    asked = {re.split(r"[\[<>=]", one)[0] for one in PROJECT["optional-dependencies"]["server"]}
    assert {one.rpartition("/")[2].partition("@")[0] for one in ours["dependsOn"]} == asked


def test_bill_of_a_spoilt_lock_is_none() -> None:
    """A package without hashes is in no bill: there is none."""
    with pytest.raises(ValueError, match="httpx"):
        bill("httpx==1.0\n")


# The audit ------------------------------------------------------------------------------------------------------------

_IDNA = {"name": "idna", "version": "3.1"}
_FLAW = {"id": "PYSEC-2024-60", "fix_versions": ["3.7"], "aliases": [], "description": ""}


def said(*listed: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(listed), "fixes": []})


@pytest.mark.parametrize(
    ("output", "errors", "status", "words"),
    [
        (said({**_IDNA, "vulns": []}), "", audit.WELL, "1 packages, none"),
        (said({**_IDNA, "vulns": [_FLAW]}), "Found 1", audit.FOUND, "idna 3.1: PYSEC-2024-60; mended in 3.7"),
        (said({**_IDNA, "vulns": [_FLAW]}, {"name": "x", "skip_reason": "y"}), "", audit.FOUND, "PYSEC-2024-60"),
        (said({"name": "idna", "skip_reason": "not found"}), "", audit.NOT_ASKED, "1 of 1 packages"),
        (said(), "", audit.NOT_ASKED, "not audited"),
        ("", "Traceback\nConnectionError: no route\n", audit.NOT_ASKED, "ConnectionError: no route"),
        ("[]", "", audit.NOT_ASKED, "no answer"),
    ],
)
def test_audit_tells_well_from_found_and_from_not_asked(output: str, errors: str, status: int, words: str) -> None:
    """A vulnerability is status 1 and named; silence is never taken for well."""
    answered, told = audit.verdict(output, errors)
    assert answered == status
    assert words in told


def test_audit_without_its_tool_was_not_asked(tmp_path: Path) -> None:
    """A machine without uv, or without an index, says so."""
    assert audit.audit(str(tmp_path / "uv"), sbom.LOCK)[0] == audit.NOT_ASKED


def test_audit_asks_about_every_lock() -> None:
    """None is left out."""
    assert sorted(audit.LOCKS) == sorted(one.name for one in LOCKS)


# The workflow ---------------------------------------------------------------------------------------------------------


def loose(text: str) -> list[str]:
    """Return the actions of a workflow that somebody else could change."""
    used = re.findall(r"uses:\s*(\S+)", text)
    return [one for one in used if not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", one)]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda one: one.name)
def test_actions_are_pinned_by_commit(workflow: Path) -> None:
    """No tag, no branch; no right but to read, no secret, and what is run is a command of this repository."""
    text = workflow.read_text()
    read = yaml.safe_load(text)
    assert loose(text) == []
    assert read["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    runs = [step["run"] for one in read["jobs"].values() for step in one["steps"] if "run" in step]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert [one for one in runs if one != ".ci/run" and not set(one.removeprefix("make ").split()) <= targets] == []


def test_loose_action_is_noticed() -> None:
    """A tag, a branch, a shortened commit."""
    text = "uses: actions/checkout@v4\nuses: a/b@main\nuses: a/b@11bd719\nuses: a/b@" + "1" * 40
    assert loose(text) == ["actions/checkout@v4", "a/b@main", "a/b@11bd719"]


# SECURITY.md ----------------------------------------------------------------------------------------------------------


def missing(text: str) -> list[str]:
    """Return the tests that a page names and that are not there."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    there = {path: (ROOT / path).read_text() if (ROOT / path).exists() else "" for path, _ in named}
    return [f"{path}::{name}" for path, name in named if f"def {name}(" not in there[path]]


def test_threats_name_tests_that_exist() -> None:
    """Each row of the table of threats says which test holds it."""
    text = (ROOT / "SECURITY.md").read_text()
    table = text.partition("## What is defended")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 20
    assert [row for row in rows if "`tests/" not in row.rsplit("|", 2)[1]] == []
    assert missing(text) == []


def test_missing_test_is_noticed() -> None:
    """A file that is gone, a test that has another name."""
    planted = (
        "`tests/test_supply.py::test_missing_test_is_noticed` `tests/gone.py::test_a` `tests/test_supply.py::test_b`"
    )
    assert missing(planted) == ["tests/gone.py::test_a", "tests/test_supply.py::test_b"]


def test_commands_of_make_exist() -> None:
    """What the page tells to type is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = set(re.findall(r"make ([a-z-]+)", (ROOT / "SECURITY.md").read_text()))
    assert {"audit", "sbom", "fuzz", "machines"} <= told <= targets
