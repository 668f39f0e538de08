"""How things stand, what happens, and what was written down, from the command line."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import Command
from cli.test_operations import lane
from prunella.cli import watching, world
from prunella.cli.exporting import Writer

__all__ = ["lane"]


def test_status_tells_what_the_overview_tells(command: Command, lane: list[str]) -> None:
    """Open incidents, gates that are shut, and the kill switch; as JSON the same figures."""
    command("services", "pause", "crm", "--reason", "release")
    command("pause", "--reason", "migration")
    told = command("status").out
    assert told.splitlines()[0] == f"everything is paused by {world.person()}; go on with: prunella resume"
    assert "1 open incident" in told
    assert "crm is paused: release" in told
    figures = json.loads(command("status", "--json").out)
    assert (figures["active"], figures["paused_by"]) == (1, world.person())


def test_metrics_tell_what_healing_is_worth(command: Command, lane: list[str]) -> None:
    """Errors, what was fixed, by service; a figure without a case is a dash; as JSON all that the API answers."""
    told = command("metrics", "--days", "30").out
    assert "last 30 days: 0 errors, 0 left to people" in told
    assert "on average: detect 0s, act –, verify –, recover –" in told
    assert "crm                    0 errors (none), – recovered, – each" in told
    assert json.loads(command("metrics", "--service", "crm", "--json").out)["services"]["crm"]["incidents"] == 1
    assert command("metrics", "--days", "0").status == 2


def test_tail_shows_the_last_entries_in_the_order_they_happened(command: Command, configured: Path) -> None:
    """Who did what and why; as JSON one object per line; filters are the API's."""
    for act in ("pause", "resume"):
        command("services", act, "crm", "--reason", f"{act} it")
    lines = command("events", "tail", "--no-follow").out.splitlines()
    assert [line.split()[1] for line in lines] == ["gate.pause", "gate.enabled"]
    assert f"by {world.person()}: pause it" in lines[0]
    (last,) = command("events", "tail", "--no-follow", "-n", "1", "--json").out.splitlines()
    assert json.loads(last)["action"] == "gate.enabled"
    assert command("events", "tail", "--no-follow", "--target", "nobody").out == ""


def test_entry_is_told_once_however_often_it_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what each look brings only what is new is printed, oldest first; the first look is cut to what was asked."""
    told: dict[str, None] = {}
    entries = [
        {
            "id": str(n),
            "at": "2026-01-01T00:00:00+00:00",
            "actor": "prunella",
            "action": f"a{n}",
            "target": "t",
            "reason": "",
        }
        for n in range(6)
    ]
    watching._tell(entries[3::-1], told, as_json=False, most=2)
    watching._tell(entries[5:1:-1], told, as_json=False, most=None)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["a2", "a3", "a4", "a5"]


def test_tail_without_an_engine_says_so(command: Command, configured: Path) -> None:
    """To follow nobody makes no sense: one line with what to start."""
    said = command("events", "tail")
    assert (said.status, "prunella up" in said.err) == (1, True)


def test_export_writes_everything_once(command: Command, lane: list[str], folder: Path) -> None:
    """JSON lines and CSV hold the same rows; a file that is there stays; how many there were is said aside."""
    said = command("export", "incidents")
    (row,) = map(json.loads, said.out.splitlines())
    assert (row["id"], said.err) == ("i1", "1 rows of incidents written\n")
    assert command("export", "incidents", "--format", "csv", "--out", "i.csv").out == ""
    (table,) = csv.DictReader(io.StringIO((folder / "i.csv").read_text()))
    assert (table["id"], set(table)) == ("i1", set(row))
    again = command("export", "incidents", "--out", "i.csv")
    assert (again.status, "is there already" in again.err) == (2, True)
    assert command("export", "incidents", "--since", "2999-01-01").err == "0 rows of incidents written\n"
    assert command("export", "incidents", "--since", "99999d").err == "1 rows of incidents written\n"
    command("pause")
    assert json.loads(command("export", "audit").out.splitlines()[0])["action"] == "pause"
    assert command("export", "runs").status == 0


def test_cell_that_a_spreadsheet_would_run_is_text() -> None:
    """What begins like a formula is quoted; lists become JSON."""
    file = io.StringIO()
    writer = Writer(file, table=True)
    writer.write([{"at": "2026-01-01T00:00:00+00:00", "reason": '=HYPERLINK("http://x")', "tags": [1]}])
    (row,) = csv.DictReader(io.StringIO(file.getvalue()))
    assert (row["reason"], row["tags"], writer.count) == ('\'=HYPERLINK("http://x")', "[1]", 1)


def test_pages_are_read_to_the_last(command: Command, lane: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists longer than a page are followed by their cursor."""
    found: list[str] = []
    world.listed("/api/v1/operations", {"limit": 3}, each=lambda page: found.extend(one["id"] for one in page))
    assert sorted(found) == sorted(lane)


@pytest.mark.slow
def test_followed_entries_arrive_from_a_running_engine(configured: Path, folder: Path) -> None:
    """A real engine, a real tail: what is done meanwhile is shown, and Ctrl-C ends it well."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configured.write_text(configured.read_text().replace("127.0.0.1:1'", f"127.0.0.1:{port}'"))
    prunella = [sys.executable, "-m", "prunella"]
    up = subprocess.Popen([*prunella, "up"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    tail = None
    try:
        assert up.stdout is not None
        assert any("prunella is up" in line for line in up.stdout)
        tail = subprocess.Popen(
            [*prunella, "events", "tail", "--json", "--target", "crm"], stdout=subprocess.PIPE, text=True
        )
        assert tail.stdout is not None
        subprocess.run([*prunella, "services", "pause", "crm"], check=True, capture_output=True)
        assert json.loads(tail.stdout.readline())["action"] == "gate.pause"
        tail.send_signal(2)
        assert tail.wait(10) == 0
    finally:
        for process in (up, tail):
            if process is not None:
                process.terminate()
                process.communicate(timeout=20)
