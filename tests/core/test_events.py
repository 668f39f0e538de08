"""Telling what happened reaches everybody and hurts nobody."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from prunella.core.events import Event, Listeners


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
