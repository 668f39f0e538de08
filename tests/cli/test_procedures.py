"""Answering plans and throwing switches from the command line, without a running engine."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from cli.conftest import Command
from prunella.cli import procedures, world
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
        (["metrics"], "auto-fixed: 0 incidents (– of those tried and settled)"),
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


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "has not run yet"),
        ({"found": 0, "held": "there is nothing to do", "took_s": 0.04}, "0 found (0.04 s)"),
        (
            {"by": "cli", "held": "level L2: a person approves", "found": 1, "took_s": 0.3, "escalated": 0},
            "1 found; level L2: a person approves (by cli, 0.3 s)",
        ),
        ({"took_s": 0.1, "error": "permission denied"}, "failed: permission denied (0.1 s)"),
        (
            {"resolved": 1, "by": "cli", "found": 2, "healed": 1, "took_s": 2},
            "2 found, 1 healed, 1 resolved (by cli, 2 s)",
        ),
    ],
)
def test_last_result_reads_as_a_sentence(result: dict[str, Any] | None, words: str) -> None:
    """Figures first, then the reason, then who and how long: whatever order the store kept them in."""
    assert procedures._result(result) == words


@pytest.mark.parametrize(("seconds", "words"), [(1800, "30m"), (21_600, "6h"), (90_061, "1d1h1m1s"), (0.5, "0.5s")])
def test_schedules_are_written_as_in_the_file(seconds: float, words: str) -> None:
    """`every: 6h` is shown as every 6h, not in seconds."""
    assert procedures._schedule({"every_s": seconds, "cron": None}) == f"every {words}"


@pytest.mark.parametrize(
    ("waiting", "said"),
    [({"carts": "held"}, "p: 1 found\n  carts: held\n"), ({}, "p: 1 found\n  wait: held\n")],
)
def test_reason_is_said_once(
    monkeypatch: pytest.MonkeyPatch, command: Command, waiting: dict[str, str], said: str
) -> None:
    """The verdict's reason and the thing's are one line where they are the same."""
    answer = {"found": 1, "verdict": {"answer": "wait", "reason": "held"}, "plan": {"words": "w"}, "runs": []}
    monkeypatch.setattr(world, "call", lambda *_, **__: answer | {"waiting": waiting})
    assert command("run", "p").out == said


def test_proposal_names_the_next_command(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """Whoever ran a procedure of level L2 learns where its plan is."""
    answer = {"found": 1, "verdict": {"answer": "propose", "reason": "level L2"}, "plan": {}, "waiting": {}, "runs": []}
    monkeypatch.setattr(world, "call", lambda *_, **__: answer)
    assert command("run", "p").out.splitlines()[-1] == "  read the plan and answer it: prunella approvals"


def test_incident_of_a_person_is_tried_again(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """The command that notices recommend exists; it passes the reason on and says where to look."""
    asked: list[tuple[Any, ...]] = []

    def call(*given: Any) -> dict[str, str]:
        asked.append(given)
        return {"title": "t", "state": "pending"}

    monkeypatch.setattr(world, "call", call)
    said = command("retry", "i1", "--reason", "the vendor is back")
    assert said.out == "t: pending; look at it with: prunella explain i1\n"
    assert asked == [("POST", "/api/v1/incidents/i1/retry", {"reason": "the vendor is back"})]


def test_retry_of_what_nobody_knows_is_refused(command: Command, plan: str) -> None:
    """An unknown id, and an incident whose procedure is gone, are one line and status 1."""
    for incident, words in (("i2", "(404)"), ("i1", "no longer in prunella.yaml")):
        said = command("retry", incident)
        assert (said.status, words in said.err) == (1, True)


# Dry, and by name -----------------------------------------------------------------------------------------------------


def test_answers_can_be_tried_dry(command: Command, plan: str) -> None:
    """The plan is shown and stays as it is; what could not be answered is refused dry, too."""
    said = command("approve", plan, "--dry-run")
    assert (said.status, "would let this plan be carried out, approved by cli:" in said.out) == (0, True)
    assert "changed 2 rows of products" in said.out
    assert "would refuse the plan of hide-zero-stock" in command("reject", plan, "--reason", "no", "--dry-run").out
    assert state(command, plan) == "waiting"
    other = command("approve", plan, "--dry-run", "--digest", "d2")
    assert (other.status, "is for the plan d1, not for d2" in other.err) == (1, True)
    assert command("reject", plan, "--reason", "no").status == 0
    late = command("approve", plan, "--dry-run")
    assert (late.status, "is rejected; only one that waits" in late.err) == (1, True)


@pytest.mark.parametrize("door", ["cli:", ""])
def test_who_proposed_may_not_approve(command: Command, plan: str, sqlite_path: Path, door: str) -> None:
    """Four eyes are two people: the name that typed counts, by whichever door it proposed; the audit names them."""
    me = world.person().removeprefix("cli:")
    with closing(sqlite3.connect(sqlite_path)) as database:
        database.execute("UPDATE approvals SET proposed_by = ?", (f"{door}{me}",))
        database.commit()
    said = command("approve", plan, "--yes")
    assert (said.status, "somebody else has to answer it" in said.err) == (1, True)
    assert state(command, plan) == "waiting"
    told = [json.loads(line) for line in command("events", "tail", "--no-follow", "--json").out.splitlines()]
    assert (told[-1]["action"], told[-1]["actor"]) == ("approval.refused", world.person())


def test_answer_carries_the_name_of_who_typed(command: Command, plan: str) -> None:
    """The plan says who approved it."""
    assert command("approve", plan, "--yes").status == 0
    (answered,) = json.loads(command("approvals", "--state", "approved", "--json").out)["items"]
    assert answered["decided_by"] == world.person()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("running", "is under way; wait for its end"),
        ("undone", "was undone before"),
        ("verified", "would put back what set changed in products (12 rows); nothing was changed"),
    ],
)
def test_undo_can_be_tried_dry(command: Command, monkeypatch: pytest.MonkeyPatch, found: str, words: str) -> None:
    """It names the rows that would come back, and refuses what would be refused."""
    run = {"id": "r1", "state": found, "remedy": "set", "resource": "products", "rows": 12}
    asked: list[str] = []

    def call(method: str, path: str, *_: Any, **__: Any) -> Any:
        asked.append(f"{method} {path}")
        return run

    monkeypatch.setattr(world, "call", call)
    said = command("undo", "r1", "--dry-run")
    assert words in said.out + said.err
    assert asked == ["GET /api/v1/runs/r1"]
