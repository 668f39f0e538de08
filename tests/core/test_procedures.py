"""The figures of the documents are what a procedure has when nobody says otherwise."""

from __future__ import annotations

from prunella.core.procedures import Limits, PluginCheck, Procedure, SetRemedy, Sightings, Window
from prunella.core.records import Level


def test_defaults_are_the_decided_figures() -> None:
    """500 targets, a fifth of the table, waves 1, 2, 4, 8, ten minutes, three attempts; batches of 100; level L0."""
    limits = Limits()
    assert (limits.targets_max, limits.share_max, limits.waves) == (500, 0.20, (1, 2, 4, 8))
    assert (limits.cool_down_s, limits.attempts) == (600.0, 3)
    assert SetRemedy(values={}).batch == 100
    assert Sightings() == Sightings(count=1, apart_s=60.0)
    assert Procedure(name="p", id="p", check=PluginCheck(name="c")).level is Level.L0
    assert Window(name="w", cron="0 2 * * *", lasts_s=60).pause == {"procedures", "notifications"}


def test_address_of_a_database_is_not_shown() -> None:
    """A database's address may hold a password, so no text of the record shows it."""
    from prunella.core.procedures import DatabaseSource
    from prunella.core.redact import Secret

    source = DatabaseSource(name="shop", url=Secret("postgresql://ada:hunter2@db/shop"))
    assert "hunter2" not in repr(source)
