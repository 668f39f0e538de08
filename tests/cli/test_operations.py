"""Waiting work from the command line, without a running engine: the same routes, the same refusals."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from cli.conftest import KEY, Command
from prunella.core.clock import SystemClock
from prunella.core.records import Category, Failure, Incident, Operation, Severity, Signal
from prunella.core.states import OperationState
from prunella.store.secrets import Keys
from prunella.store.sqlite import SqliteStore

CANARY = "canary-4711-swordfish"


@pytest.fixture
def lane(configured: Path, sqlite_path: Path) -> list[str]:
    """Put three operations into quarantine and one into the lane of another service; return the ids."""
    clock = SystemClock()
    now, keys = clock.now(), Keys.parse(KEY)
    incident = Incident(
        id="i1", service="crm", account="", fingerprint="f", signal_id="s1", title="t", category=Category.NETWORK,
        kind="network.server", confidence=1.0, because="b", advice="a", severity=Severity.MEDIUM, first_seen=now,
        last_seen=now,
    )  # fmt: skip
    signal = Signal(
        id="s1", source="shop", event_id="e1", service="crm", occurred_at=now, received_at=now,
        failure=Failure(service="crm", status=503, message="down"),
    )  # fmt: skip
    sealed = json.dumps({"endpoint": "/orders", "payload": {"email": CANARY}}).encode()
    waiting = [
        Operation(
            id=f"o{number}", incident_id="i1", signal_id="s1", service="mail" if number == 3 else "crm", account="",
            method="POST", endpoint="/orders", payload_sealed=keys.seal(sealed, f"operations:o{number}"),
            idempotency_key=f"k{number}", created_at=now, last_error="HTTP 422",
            state=OperationState.WAITING if number == 3 else OperationState.DEAD,
        )
        for number in range(4)
    ]  # fmt: skip

    async def write() -> None:
        store = SqliteStore.open_file(sqlite_path, clock)
        async with store.transaction() as tx:
            await tx.signals.add([(signal, None, None)])
            await tx.incidents.open_or_join(incident)
            await tx.operations.add(waiting)
        await store.close()

    anyio.run(write)
    return [one.id for one in waiting]


def test_list_and_show(command: Command, lane: list[str]) -> None:
    """Filters as the API has them; one is shown by its structure, and says what is possible."""
    listed = command("operations", "--service", "crm", "--state", "dead")
    assert listed.status == 0
    assert [line.split()[0] for line in listed.out.splitlines() if not line.startswith(" ")] == ["o2", "o1", "o0"]
    assert len(json.loads(command("operations", "--json").out)["items"]) == 4
    assert "more: --cursor" in command("operations", "--limit", "2").out
    assert command("operations", "--service", "nobody").out == "no operations\n"
    shown = command("operations", "show", "o0").out
    assert "{'email': 'string'}" in shown
    assert "possible  replay, cancel" in shown
    assert CANARY not in shown + command("operations", "show", "o0", "--json").out
    assert "there is no operation" in command("operations", "show", "nobody").err


def test_one_is_moved_and_a_dry_run_moves_nothing(command: Command, lane: list[str]) -> None:
    """Replay, quarantine, cancel with their reasons; what is not possible ends with status 1 and says why."""
    assert "nothing was changed" in command("operations", "replay", "o0", "--dry-run").out
    assert "possible  replay, cancel" in command("operations", "show", "o0").out
    assert command("operations", "replay", "o0").out == "o0: waiting\n"
    refused = command("operations", "quarantine", "o0")
    assert (refused.status, "a reason is needed" in refused.err) == (1, True)
    assert command("operations", "quarantine", "o0", "--reason", "wrong").out == "o0: dead\n"
    assert json.loads(command("operations", "cancel", "o0", "--reason", "x", "--json").out)["state"] == "cancelled"
    refused = command("operations", "replay", "o0", "--dry-run")
    assert (refused.status, "was cancelled" in refused.err) == (1, True)
    assert command("operations", "replay", "o0", "--service", "crm").status == 2


def test_many_are_estimated_and_then_done(command: Command, lane: list[str]) -> None:
    """An estimate changes nothing; --yes does what was estimated; without a terminal and --yes nothing is done."""
    wanted = ("operations", "replay", "--service", "crm", "--state", "dead")
    estimate = command(*wanted, "--estimate")
    assert estimate.out.startswith("replay: 3 operations\n  crm ")
    assert json.loads(command(*wanted, "--dry-run", "--json").out)["count"] == 3
    refused = command(*wanted)
    assert (refused.status, "--yes" in refused.err) == (2, True)
    assert len(json.loads(command("operations", "--state", "dead", "--json").out)["items"]) == 3
    done = command(*wanted, "--yes", "--name", "after the outage")
    assert done.out.endswith("after the outage: 3 done\n")
    assert command(*wanted, "--yes").out == "replay: 0 operations\n"
    assert "empty filter" in command("operations", "cancel", "--estimate").err
    everything = command("operations", "cancel", "--all", "--yes", "--reason", "closing down", "--json")
    assert json.loads(everything.out)["done"] == 4


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("\n", 3)])
def test_terminal_is_asked(
    command: Command, lane: list[str], monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    """Anything but yes leaves them as they are."""
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    said = command("operations", "cancel", "--state", "dead", "--reason", "old")
    assert said.status == (1 if left else 0)
    assert len(json.loads(command("operations", "--state", "dead", "--json").out)["items"]) == left


def test_services_show_the_rate_that_was_learned(command: Command, configured: Path) -> None:
    """In words and as JSON: what the file says, until more is known; nothing where no rate is set."""
    assert "/s" not in command("services", "list").out
    configured.write_text(configured.read_text().replace(".invalid'}", ".invalid', rate: {initial_per_s: 5}}"))
    assert command("services", "list").out.split() == ["crm", "closed", "5/s"]
    assert command("services", "pause", "crm").status == 0  # which makes its row
    with closing(sqlite3.connect(configured.parent / "prunella.db")) as database:
        database.execute("UPDATE gates SET rate_per_s = 2.5, rate_since = '2026-01-01 00:00:00.000000+00:00'")
        database.commit()
    assert command("services", "list").out.split()[:3] == ["crm", "paused", "2.5/s"]
    (crm,) = json.loads(command("services", "list", "--json").out)["items"]
    assert crm["rate"] == {"per_s": 2.5, "initial_per_s": 5.0, "changed_at": "2026-01-01T00:00:00+00:00"}
