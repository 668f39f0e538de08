"""Commands about the configuration and prunella's own tables."""

from __future__ import annotations

from typing import Annotated

import typer

from prunella.cli import world
from prunella.cli.printing import Dry, Json, example, many, print_json, say, would

config_cli = typer.Typer(help="Check, show and describe the configuration.", no_args_is_help=True)
db_cli = typer.Typer(help="Look after prunella's own tables.", no_args_is_help=True)


@config_cli.command("check", epilog=example("prunella config check --config prunella.yaml"))
def config_check() -> None:
    """Read the configuration, and the packs of known issues that it names, and name every mistake."""
    from prunella.app.packs import shipped

    settings = world.settings(warn=True)
    shipped(settings)
    sections = (("service", None), ("database", None), ("procedure", None), ("entity", "entities"), ("warning", None))
    counted = [many(len(getattr(settings, more or f"{one}s")), one, more) for one, more in sections]
    print(f"{world.config_name()}: good ({', '.join(counted)})")


@config_cli.command("show", epilog=example("prunella config show --origin"))
def config_show(
    origin: Annotated[bool, typer.Option("--origin", help="Also where each value comes from.")] = False,
    as_json: Json = False,
) -> None:
    """Show the configuration that counts, defaults included; secrets are masked."""
    shown = world.settings().effective()
    if as_json:
        print_json([{"path": one.path, "value": one.value, "origin": one.origin} for one in shown])
        return
    for one in shown:
        say(f"{one.path}: {one.text}" + (f"   # {one.origin}" if origin else ""), hang=4)


@config_cli.command("schema", epilog=example("prunella config schema > prunella.schema.json"))
def config_schema() -> None:
    """Print the JSON Schema of prunella.yaml, for editors."""
    from prunella.settings import json_schema

    print_json(json_schema())


@db_cli.command("current", epilog=example("prunella db current"))
def db_current(as_json: Json = False) -> None:
    """Say at which revision the tables are, and which one this version wants; status 1 where they are behind."""
    from prunella.store import migrations

    found, wanted = migrations.current(world.settings().migrate_url), migrations.head()
    behind = migrations.is_behind(found)
    if as_json:
        print_json({"current": found, "wanted": wanted, "behind": behind})
    else:
        next_step = "; run: prunella db upgrade" if behind else ""
        print(f"tables at revision {found or 'none'}, this version wants {wanted}{next_step}")
    raise typer.Exit(1 if behind else 0)


@db_cli.command("upgrade", epilog=example("prunella db upgrade --dry-run", "prunella db upgrade --compat"))
def db_upgrade(
    compat: Annotated[
        bool, typer.Option("--compat", help="Install SQL functions and views in your PostgreSQL databases, too.")
    ] = False,
    dry_run: Dry = False,
) -> None:
    """Create or change the tables as this version wants them."""
    import asyncio

    from prunella.app import upgrade
    from prunella.store import migrations

    settings = world.settings()
    before = migrations.current(settings.migrate_url)
    if dry_run:
        behind, places = migrations.is_behind(before), ", ".join(settings.databases) or "no database"
        change = f"change the tables from revision {before or 'none'} to {migrations.head()}"
        leave = f"leave the tables at revision {before}"
        would((change if behind else leave) + (f", and install SQL functions in {places}" if compat else ""))
        return
    asyncio.run(upgrade(settings))
    print(f"tables at revision {migrations.current(settings.migrate_url)} (were at {before or 'none'})")
    if compat:
        from prunella.cli.compat import install_everywhere

        asyncio.run(install_everywhere(settings, print))


@db_cli.command("grant", epilog=example("prunella db grant --print > grants.sql"))
def db_grant(
    shown: Annotated[bool, typer.Option("--print", help="Print the SQL; prunella never runs it.")] = False,
    role: Annotated[str, typer.Option(help="What the role is called.")] = "prunella_healer",
    database: Annotated[str | None, typer.Option(help="Only for this database of yours.")] = None,
) -> None:
    """Print the SQL of a role that may do what the configuration asks for, and nothing else."""
    from prunella.cli.doctor import grants

    if not shown:
        raise typer.BadParameter("write --print: grants are printed for you to read and run, never carried out")
    for statements in grants(world.settings(), role, database):
        print(statements)
