"""`prunella db upgrade --compat`: install the documents' SQL functions in every PostgreSQL database of the user."""

from __future__ import annotations

from collections.abc import Callable

from prunella import plugin
from prunella.app import load_plugins
from prunella.databases import compat
from prunella.databases.handle import Database
from prunella.settings import Settings


async def install_everywhere(settings: Settings, tell: Callable[[str], None]) -> None:
    """Install in each configured database and tell what was done, line by line.

    Raises:
        DatabaseRefused, DatabaseUnavailable: of the first that can't have them; those before it are done.
    """
    load_plugins(settings)  # their remedies may be asked for
    if not settings.databases:
        tell("no databases are configured; nothing to install (databases: in prunella.yaml)")
    for source in settings.databases.values():
        database = Database(source)
        try:
            if database.kind != "postgresql":
                tell(f"database {source.name}: {database.kind} has no SQL functions; nothing to install")
                continue
            entities = [one for one in settings.entities.values() if one.database == source.name]
            done = await compat.install(database, entities, remedies=sorted(plugin.REMEDIES))
            for line in done or ["everything stands as it should"]:
                tell(f"database {source.name}: {line}")
        finally:
            await database.close()
