"""The audit in a browser without scripts: filtered, page by page, and taken home whole."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from prunella.core.records import AuditEntry
from prunella.engine import seals, trail
from prunella.web.auth import Role
from prunella.web.pages import audit
from web.conftest import Web
from web.person import Person

pytestmark = pytest.mark.anyio


async def happened(web: Web, count: int, **changed: str) -> list[AuditEntry]:
    """Let things happen, one a second."""
    made = []
    for number in range(count):
        words = {
            "action": "gate.pause",
            "target": f"crm-{number}",
            "reason": f"because {number}",
            "by": "bob",
            **changed,
        }
        made.append(
            trail.entry(web.app.parts, words["action"], words["target"], reason=words["reason"], by=words["by"])
        )
        web.clock.advance(1)
    async with web.app.store.transaction() as tx:
        await tx.audit.add(made)
    return made


async def test_filters_and_pages_meet_every_entry_once(web: Web) -> None:
    """Who, what (whole or the beginning), target and since; the cursor goes on where the page ended."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    await happened(web, 120)
    web.clock.advance(600)
    later = web.clock.now()
    await happened(web, 2, action="gate.enabled", by="eve")
    assert "by eve" not in (await ada.open("/audit?actor=bob")).words
    assert (await ada.open("/audit?action=gate.")).words.count("because") == 100
    assert (await ada.open("/audit?action=gate.enabled")).words.count("because") == 2
    assert (await ada.open("/audit?action=gate")).words.count("because") == 0
    assert (await ada.open(f"/audit?since={later:%Y-%m-%dT%H:%M:%S}&action=gate.")).words.count("because") == 2
    assert (await ada.open("/audit?target=crm-7")).words.count("because") == 1
    first = await ada.open("/audit?actor=bob")
    (older,) = [link for link in first.links if "before=" in link]
    second = await ada.open(older)
    assert first.words.count("because") + second.words.count("because") == 120
    assert not [link for link in second.links if "before=" in link]
    assert (await ada.open("/audit?since=yesterday")).status == 422


async def test_export_is_whole_and_no_formula(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """CSV and JSON lines hold what the filter shows, whatever their number, up to the limit; cells never calculate."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    made = await happened(web, 30)
    await happened(web, 1, reason='=HYPERLINK("http://evil","x")', by="mallory")
    monkeypatch.setattr(audit, "_PAGE", 7)
    answer = await ada.request("GET", "/audit/export?actor=bob")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == [one.id for one in reversed(made)]
    planted = list(csv.DictReader(io.StringIO((await ada.request("GET", "/audit/export?actor=mallory")).text)))
    assert planted[0]["reason"].startswith("'=")
    lines = (await ada.request("GET", "/audit/export?actor=bob&format=jsonl")).text.splitlines()
    assert [json.loads(line)["reason"] for line in lines] == [one.reason for one in reversed(made)]
    monkeypatch.setattr(audit, "EXPORT_MAX", 10)
    assert len((await ada.request("GET", "/audit/export?actor=bob&format=jsonl")).text.splitlines()) == 10
    assert (await ada.open("/audit/export?format=xml")).status == 422
    soon = (web.clock.now() + timedelta(days=1)).date()
    assert len((await ada.request("GET", f"/audit/export?since={soon}")).text.splitlines()) == 1


async def test_page_tells_how_the_chain_of_seals_stands(web: Web, sqlite_path: Path) -> None:
    """Not compared, whole up to which seal, broken where; compared by whom and when, as the audit has it."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    await happened(web, 3)
    assert "Nobody has compared" in (await ada.open("/audit")).words
    assert "Nothing is sealed yet" in (await ada.open("/audit")).words
    web.clock.advance(60)
    await seals.seal(web.app.parts)
    done = await ada.fill(await ada.open("/audit"), "/audit/check")
    assert "The audit is as it was written. 4 entries were compared." in done.words
    assert "whole 4 entries as they were written, up to seal 1, compared now by ada" in done.words
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as file:  # as who owns the file can
        for (trigger,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {trigger}")
        file.execute("DELETE FROM audit WHERE target = 'crm-1'")
    broken = await ada.fill(done, "/audit/check")
    assert "The audit is broken at seal 1" in broken.words
    assert "broken seal 1 is broken: 3 entries stand under it, where there were 4, found now by ada" in broken.words
    assert "Compare now" not in (await ada.open("/audit?before=z")).words
