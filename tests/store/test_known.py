"""Known issues are found by the same rules whether a row or a shipped pattern is asked, on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from prunella.core.issues import Binding, IssueState, KnownIssue, Origin
from prunella.core.records import Severity
from prunella.store.contract import Store
from prunella.store.known import Asked
from store.making import NOW, SECOND

pytestmark = pytest.mark.anyio

PLAIN = KnownIssue(id="plain", title="Lunch", expression="closed for 100%", created_at=NOW, created_by="ada")
ISSUES = [
    PLAIN,
    replace(PLAIN, id="bound", remedies=(Binding(remedy="warm_up"),), service="crm", last_seen=NOW),
    replace(PLAIN, id="over", state=IssueState.RESOLVED, kind="network.dns", last_seen=NOW + SECOND),
    replace(
        PLAIN, id="loud", severity=Severity.CRITICAL, origin=Origin.LEARNED, means="network.dns", cause="The COOK_"
    ),
    replace(PLAIN, id="joined", alias_of="plain", service="crm", title="Essen für alle"),
]
QUESTIONS: list[dict[str, Any]] = [
    {},
    {"state": "resolved"},
    {"origin": "learned"},
    {"service": "crm"},
    {"severity": "CRITICAL"},
    {"kind": "network.dns"},
    {"has_remedy": True},
    {"has_remedy": False},
    {"q": "cook_"},
    {"q": "100%"},
    {"q": "LUNCH", "service": "crm"},
    {"q": "für"},
    {"seen": True},
    {"seen": False, "service": "crm"},
    {"state": "dormant"},
]


async def test_rows_and_patterns_are_asked_alike(store: Store) -> None:
    """Each question finds in the tables what it fits in memory; between them they tell all of them apart."""
    found = []
    async with store.transaction() as tx:
        await tx.learning.add(ISSUES, NOW)
        for question in QUESTIONS:
            asked = Asked(**question)
            found.append(sorted(await tx.known.ids(asked)))
            assert found[-1] == sorted(one.id for one in ISSUES if asked.fits(one)), question
    assert [len(one) for one in found] == [5, 1, 1, 2, 1, 2, 1, 4, 1, 5, 1, 1, 2, 1, 0]


async def test_newest_and_joined_are_found(store: Store) -> None:
    """What was seen last comes first; what people joined is named, and each service once."""
    async with store.transaction() as tx:
        await tx.learning.add(ISSUES, NOW)
        assert await tx.known.recent(Asked(seen=True), most=9) == ["over", "bound"]
        assert await tx.known.recent(Asked(seen=True), most=1) == ["over"]
        assert await tx.known.joined("plain") == ["joined"]
        assert await tx.known.services() == ["crm"]
