"""Answering plans and throwing switches from the command line, without a running engine."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from cli.conftest import Command
from prunella.core.clock import SystemClock
from prunella.core.records import Approval, Category, Incident, Severity
from prunella.store.sqlite import SqliteStore

PLAN = {
    "procedure": "hide-zero-stock",
    "id": "HEAL_DATA_002",
    "level": "L2",
    "words": "changed 2 rows of products",
    "targets": ["1", "2"],
    "count": 12,
    "share_at_most": 0.2,
    "sql": "UPDATE products SET visible = 0",
    "before": [{"id": 1, "visible": 1}],
    "after": [{"id": 1, "visible": 0}],
    "unknown_until_run": False,
    "digest": "d1",
}


@pytest.fixture
def plan(configured: Path, sqlite_path: Path) -> str:
    """Propose a plan; return its id."""
    clock = SystemClock()
    now = clock.now()
    incident = Incident(
        id="i1", service="shop", account="", fingerprint="f", signal_id="s1", title="t", category=Category.DATA,
        kind="data.validation", confidence=1.0, because="b", advice="a", severity=Severity.MEDIUM, first_seen=now,
        last_seen=now, procedure="hide-zero-stock", resource="products",
    )  # fmt: skip
    proposed = Approval(
        id="a1",
        incident_id="i1",
        procedure="hide-zero-stock",
        plan=PLAN,
        digest="d1",
        created_at=now,
        expires_at=now + timedelta(hours=4),
    )

    async def propose() -> None:
        store = SqliteStore.open_file(sqlite_path, clock)
        async with store.transaction() as tx:
            await tx.incidents.open_or_join(incident)
            await tx.approvals.add([proposed])
        await store.close()

    anyio.run(propose)
    return "a1"


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sit at a terminal and type."""

    def sit(text: str) -> None:
        terminal = io.StringIO(text)
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdin", terminal)

    return sit


def state(command: Command, plan: str) -> str:
    """Return what became of a plan."""
    for name in ("waiting", "approved", "rejected"):
        if plan in command("approvals", "--state", name).out:
            return name
    return "gone"


def test_plan_is_shown_before_it_is_answered(command: Command, plan: str, types: Callable[[str], None]) -> None:
    """Targets, share, sample before and after, SQL and digest stand there; yes lets it go."""
    types("y\n")
    said = command("approve", plan)
    assert said.status == 0
    for words in (
        "changed 2 rows of products",
        "12, at most 20.0% of the table: 1, 2 and 2 more",
        "before    id=1, visible=1",
        "after     id=1, visible=0",
        "UPDATE products SET visible = 0",
        "digest    d1",
        "Carry this out? [y/N]",
    ):
        assert words in said.out
    assert state(command, plan) == "approved"


@pytest.mark.parametrize("typed", ["n\n", "\n", "", "no\n", "yep\n"])
def test_anything_but_yes_leaves_it(command: Command, plan: str, types: Callable[[str], None], typed: str) -> None:
    """Status 1, and the plan waits on."""
    types(typed)
    assert command("approve", plan).status == 1
    assert state(command, plan) == "waiting"


def test_yes_does_not_ask(command: Command, plan: str, types: Callable[[str], None]) -> None:
    """`--yes` is the answer."""
    types("")
    said = command("approve", plan, "--yes")
    assert (said.status, "Carry this out?" in said.out) == (0, False)
    assert state(command, plan) == "approved"


def test_another_digest_is_refused(command: Command, plan: str) -> None:
    """What was seen is not what stands: refused, and the plan waits on."""
    said = command("approve", plan, "--digest", "d0")
    assert (said.status, "(409)" in said.err) == (1, True)
    assert state(command, plan) == "waiting"


def test_rejecting_wants_a_reason(command: Command, plan: str) -> None:
    """Without one nothing happens; with one it stands in the record."""
    assert command("reject", plan).status == 2
    assert command("reject", plan, "--reason", "keep them").status == 0
    (answered,) = json.loads(command("approvals", "--state", "rejected", "--json").out)["items"]
    assert answered["reason"] == "keep them"


def test_unknown_ids_are_said(command: Command, configured: Path) -> None:
    """One line, status 1."""
    for arguments in (
        ["approve", "nobody", "--yes"],
        ["reject", "nobody", "--reason", "r"],
        ["undo", "nobody"],
        ["ack", "nobody"],
        ["run", "nothing"],
        ["pause", "--procedure", "nothing"],
        ["entities", "ship"],
    ):
        said = command(*arguments)
        assert (said.status, "(404)" in said.err) == (1, True), (arguments, said)


def test_empty_lists_say_so(command: Command, configured: Path) -> None:
    """Nothing configured, nothing proposed, nothing told, nothing healed."""
    for arguments, words in (
        (["procedures"], "no procedures"),
        (["approvals"], "no plan is waiting"),
        (["notifications"], "nothing to acknowledge"),
        (["statistics"], "nothing was healed within 7 days"),
    ):
        said = command(*arguments)
        assert (said.status, words in said.out) == (0, True), said
        assert command(*arguments, "--json").out.lstrip().startswith("{")


def test_switch_is_thrown_without_an_engine(command: Command, configured: Path) -> None:
    """It stands in the store, so that whoever starts later rests as well."""
    assert "everything is paused by cli" in command("pause", "--reason", "migration").out
    assert "everything goes on" in command("resume").out
    assert command("resume").status == 1
    assert command("pause", "--service", "crm", "--procedure", "x").status == 2
