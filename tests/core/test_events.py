"""Telling what happened reaches everybody and hurts nobody."""

from __future__ import annotations

import ast
import dataclasses
import logging
import re
from pathlib import Path

import pytest

import prunella
from prunella.core.events import EVENTS, Event, Listeners


def test_every_listener_hears_every_event_in_order() -> None:
    """Two listeners hear the same events, each in the order they came, with their fields."""
    listeners, first, second = Listeners(), list[Event](), list[Event]()
    listeners.subscribe(first.append)
    listeners.subscribe(second.append)
    listeners.emit("incident.opened", service="crm")
    listeners.emit("incident.resolved", service="crm", took_s=1.5)
    wanted = [
        Event("incident.opened", {"service": "crm"}),
        Event("incident.resolved", {"service": "crm", "took_s": 1.5}),
    ]
    assert first == wanted
    assert second == wanted


def test_raising_listener_hurts_neither_the_others_nor_the_work(caplog: pytest.LogCaptureFixture) -> None:
    """A listener that raises is logged with the event's name; the next ones and the next events still arrive."""
    listeners, heard = Listeners(), list[str]()

    def broken(event: Event) -> None:
        raise RuntimeError("no disk")

    listeners.subscribe(broken)
    listeners.subscribe(lambda event: heard.append(event.name))
    with caplog.at_level(logging.ERROR):
        listeners.emit("run.started")
        listeners.emit("run.finished")
    assert heard == ["run.started", "run.finished"]
    assert [record.getMessage() for record in caplog.records] == [
        "listener failed on run.started",
        "listener failed on run.finished",
    ]


def test_unsubscribed_listener_hears_nothing_more() -> None:
    """What `subscribe` returns takes that listener away, and only that one."""
    listeners, heard, left = Listeners(), list[Event](), list[Event]()
    stop = listeners.subscribe(heard.append)
    listeners.subscribe(left.append)
    stop()
    listeners.emit("gate.changed")
    assert (len(heard), len(left)) == (0, 1)


def test_listener_may_leave_while_it_listens() -> None:
    """Leaving in the middle of an event keeps that event whole for the others."""
    listeners, heard = Listeners(), list[str]()

    def once(event: Event) -> None:
        stop()

    stop = listeners.subscribe(once)
    listeners.subscribe(lambda event: heard.append(event.name))
    listeners.emit("a.b")
    listeners.emit("c.d")
    assert heard == ["a.b", "c.d"]


def test_nobody_listening_costs_nothing() -> None:
    """Without listeners an event is not even made."""
    Listeners().emit("signal.accepted", field=object())


def test_event_cannot_be_changed() -> None:
    """What happened has happened: a listener cannot rewrite it for the next one."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Event("a.b").name = "c.d"  # type: ignore[misc]


# The table of events --------------------------------------------------------------------------------------------------

SOURCE = Path(prunella.__file__).parent


def told_in(text: str) -> set[str]:
    """Return the names of events in a module: what is emitted or told, and what is logged by name."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        name, on = node.args[0], ast.unparse(node.func.value)
        logged = on == "structlog.get_logger()" and node.func.attr in ("info", "warning", "error")
        if not (logged or node.func.attr in ("emit", "tell")):
            continue
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            found.add(name.value)
    return found


def test_every_event_stands_in_the_table_and_is_told_somewhere() -> None:
    """What is emitted or logged by name is in EVENTS, and nothing stands there that nobody tells; a new one is noticed."""
    told = set().union(*(told_in(path.read_text()) for path in SOURCE.rglob("*.py")))
    assert told == set(EVENTS)
    assert told_in('listeners.emit("a.b", x=1)\nstructlog.get_logger().error("c d")') == {"a.b", "c d"}


def test_names_of_events_have_one_form() -> None:
    """noun.verb, small letters, and each says what it means in one sentence."""
    assert [name for name in EVENTS if not re.fullmatch(r"[a-z]+\.[a-z_]+", name)] == []
    assert [name for name, words in EVENTS.items() if not words.endswith(".")] == []
    assert list(EVENTS) == sorted(EVENTS)


def test_document_shows_the_table() -> None:
    """docs/observability.md tells every event in the words of the table."""
    text = (SOURCE.parents[1] / "docs" / "observability.md").read_text()
    assert dict(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| (.+) \|$", text, re.MULTILINE)) == EVENTS
