"""Look at everything that may keep prunella from healing, and say how to put it right. Nothing is changed or sent."""

from __future__ import annotations

import asyncio

from prunella import plugin
from prunella.app import load_plugins
from prunella.app.packs import shipped
from prunella.cli import world
from prunella.cli.doctor import channels, configured, databases, sealed, tables
from prunella.cli.doctor.databases import grants
from prunella.cli.doctor.flaw import Flaw, as_rows, error, tell, warning
from prunella.core.errors import ConfigError
from prunella.settings import Settings, functions

__all__ = ["as_rows", "examine", "grants", "tell"]


def examine() -> list[Flaw]:
    """Return what is to be put right, and what is only good to know."""
    try:
        settings = world.settings()
    except ConfigError as wrong:
        return [error("configuration", problem) for problem in wrong.problems]
    found = [warning("configuration", text) for text in settings.warnings]
    found += configured.examine(settings)
    found += _packs(settings)
    return found + asyncio.run(_examine_live(settings))


def _packs(settings: Settings) -> list[Flaw]:
    try:
        shipped(settings)
    except ConfigError as wrong:
        return [error("known issues", problem) for problem in wrong.problems]
    return []


async def _examine_live(settings: Settings) -> list[Flaw]:
    found = await tables.examine(settings)
    if not any(one.is_error or one.about == "tables" for one in found):
        found += await sealed.examine(settings)
    found += await channels.examine(settings)
    try:
        load_plugins(settings)
        declared = functions.declared(settings, plugin.CHECKS)
    except ConfigError as wrong:
        return [*found, *(error("plugins", problem) for problem in wrong.problems)]
    procedures = {**settings.procedures, **declared}
    unknown = functions.unknown_functions(settings, procedures.values(), plugin.CHECKS, plugin.REMEDIES)
    found += [error("functions", problem) for problem in unknown]
    return found + await databases.examine(settings, procedures)
