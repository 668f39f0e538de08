"""Users' modules add checks and remedies by name, and nothing else is needed for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from prunella import plugin
from prunella.core.errors import ConfigError
from prunella.plugin import Finding, Outcome, check, remedy


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    checks, remedies = dict(plugin.CHECKS), dict(plugin.REMEDIES)
    yield
    plugin.CHECKS.clear()
    plugin.CHECKS.update(checks)
    plugin.REMEDIES.clear()
    plugin.REMEDIES.update(remedies)


def test_decorated_functions_are_registered_and_stay_as_they_are() -> None:
    """The decorator gives the function back, so that it can be called and tested like any other."""

    @check("late", every="5m", remedy="remind")
    def late(ctx: object) -> list[Finding]:
        return [Finding(key="1", issue="LATE", message="invoice 1 is late")]

    @remedy("remind", idempotent=True)
    def remind(ctx: object, invoice: object) -> Outcome:
        return Outcome.done("reminded")

    assert late(None)[0].key == "1"
    assert plugin.CHECKS["late"].schedule == {"every": "5m", "remedy": "remind"}
    assert (plugin.REMEDIES["remind"].idempotent, plugin.REMEDIES["remind"].per) == (True, "row")


def test_module_that_is_imported_again_registers_anew() -> None:
    """The same module may register its function again; it is then the newer one that counts."""
    remedy("again")(lambda ctx, row: None)
    newer = remedy("again")(lambda ctx, row: None)
    assert plugin.REMEDIES["again"].function is newer


def test_two_modules_with_one_name_are_refused() -> None:
    """Which of two functions is meant is never a matter of chance."""

    def other(ctx: object, row: object) -> None: ...

    other.__module__ = "elsewhere"
    remedy("twice")(other)
    with pytest.raises(ConfigError, match="the name is taken by elsewhere; choose another one"):
        remedy("twice")(lambda ctx, row: None)


def test_plugins_need_nothing_of_the_engine() -> None:
    """`prunella.plugin` can be imported where only the library is installed."""
    code = "import sys, prunella.plugin; print(any(m.split('.')[0] in ('sqlalchemy', 'pydantic') for m in sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["replay", "wait", "refresh_auth", "manual_intervention"])
def test_name_of_what_prunella_does_itself_is_refused(name: str) -> None:
    """A user's remedy can't be taken for ours; one may take the place of invalidate_cache, which has one to give."""

    def own(ctx: object, failed: object) -> None:
        """Do nothing."""

    with pytest.raises(ConfigError, match="the name is prunella's own; choose another than"):
        plugin.remedy(name)(own)
    assert name not in plugin.REMEDIES
