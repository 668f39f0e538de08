"""Commands about one-time links: how a person is let into the dashboard, and turned out."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import quote

import typer

from prunella.cli import world
from prunella.cli.printing import Dry, Json, example, print_json, would

cli = typer.Typer(help="Let people into the dashboard, once each, and turn them out.", no_args_is_help=True)


class LinkRole(StrEnum):
    """What a person may do who comes in by a link."""

    VIEWER = "VIEWER"
    OPERATIONS = "OPERATIONS"
    ADMIN = "ADMIN"


@cli.command(epilog=example("prunella links create --role OPERATIONS --name ada"))
def create(
    name: Annotated[str, typer.Option(help="Whose it is; the audit calls them so.")],
    role: Annotated[LinkRole, typer.Option(help="What they may do.")] = LinkRole.VIEWER,
    ttl: Annotated[str, typer.Option(help="How long the link waits to be opened, as 30m or 24h.")] = "24h",
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Print a link that opens the dashboard once for one person, and nothing else; it is shown this once."""
    life_s = world.duration_s(ttl)
    if dry_run:
        would(f"make a link for {name} ({role.value}) that is good once within {ttl}", as_json)
        return
    wish = {"name": name, "role": role.value, "ttl_s": life_s}
    answer = world.call("POST", "/api/v1/links", wish, role="ADMIN")
    if as_json:
        print_json(answer)
    else:
        print(answer["address"])


@cli.command(epilog=example("prunella links revoke ada"))
def revoke(
    name: Annotated[str, typer.Argument(help="Whose; as the audit calls them.")],
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """End a person's sessions, and links that they have not opened yet."""
    if dry_run:
        would(f"end every session of {name}, and every link that was not opened yet", as_json)
        return
    answer = world.call("DELETE", f"/api/v1/links/{quote(name, safe='')}", role="ADMIN")
    if as_json:
        print_json(answer)
    else:
        print(f"{name}: {answer['sessions']} sessions and {answer['links']} links ended")
