"""Notifications in a browser without scripts: what nobody has acknowledged stands first, and how far each came."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from prunella.core.records import Notification, Severity
from prunella.web.auth import Role
from prunella.web.pages import notifications
from web.conftest import Web
from web.person import Person

pytestmark = pytest.mark.anyio


async def told(web: Web, number: int, **mail: object) -> str:
    """Put a notice on the dashboard and on its way to a channel; return its id."""
    now = web.clock.now()
    common = {
        "key": f"notice-{number}",
        "kind": "MANUAL_INTERVENTION_REQUIRED",
        "severity": Severity.HIGH,
        "title": f"Order {number} needs <b>a person</b>",
        "facts": (("Order", str(number)),),
        "incident_id": None,
        "link": None,
        "created_at": now + timedelta(seconds=number),
    }
    shown = Notification(id=f"n-{number}", channel="dashboard", state="sent", next_at=None, **common)  # type: ignore[arg-type]
    sent = Notification(id=f"m-{number}", channel="mail", next_at=now + timedelta(minutes=5), **common, **mail)  # type: ignore[arg-type]
    async with web.app.store.transaction() as tx:
        await tx.outbox.add([shown, sent])
    return shown.id


async def test_person_acknowledges_once(web: Web) -> None:
    """Unacknowledged first; a second acknowledgement is explained; hostile text is text; it stands in the audit."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    assert "Nobody has to look at anything" in (await ada.open("/notifications")).words
    first = await told(web, 1, attempts=2, last_error="550 no such mailbox")
    await told(web, 2)
    page = await ada.open("/notifications")
    assert "&lt;b&gt;a person&lt;/b&gt;" in page.html
    assert "550 no such mailbox" in page.words
    assert "in 5 min" in page.words
    done = await ada.fill(page, f"{first}/acknowledge")
    assert "Acknowledged: Order 1 needs" in done.words
    assert "Order 1 needs" not in done.words.partition("Acknowledged: Order 1 needs")[2]
    everything = await ada.open("/notifications?all=yes")
    assert "acknowledged by ada" in everything.words
    twice = await ada.fill(page, f"{first}/acknowledge")
    assert (twice.status, "was acknowledged by ada" in twice.words) == (409, True)
    async with web.app.store.transaction() as tx:
        (latest, *_) = await tx.audit.list(most=9, actor="ada")
    assert latest.action == "notification.ack"


async def test_person_sends_once_more(web: Web) -> None:
    """What failed for good goes out again under the person's name; what is on its way already is explained."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    first = await told(web, 1, state="dead", attempts=9, last_error="550 no such mailbox")
    page = await ada.open("/notifications")
    again = await ada.fill(page, f"{first}/resend")
    assert "On its way once more, to mail." in again.words
    twice = await ada.fill(page, f"{first}/resend")
    assert (twice.status, "is on its way already" in twice.words) == (409, True)
    async with web.app.store.transaction() as tx:
        (latest, *_) = await tx.audit.list(most=9, actor="ada")
    assert latest.action == "notification.resent"


async def test_list_is_filtered_and_walked_as_the_api_does(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """By type and severity, page by page; every notice once; an unknown severity is refused with those that are."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    monkeypatch.setattr(notifications, "_ROWS", 2)
    for number in range(5):
        await told(web, number)
    seen, path = [], "/notifications?severity=HIGH&type=MANUAL_INTERVENTION_REQUIRED"
    for _ in range(3):
        page = await ada.open(path)
        seen += re.findall(r"Order (\d) needs", page.words)
        path = next((link for link in page.links if "cursor=" in link), "")
    assert (seen, path) == (["4", "3", "2", "1", "0"], "")
    assert "None of this kind." in (await ada.open("/notifications?severity=LOW")).words
    assert (await ada.open("/notifications?severity=loud")).status == 422
