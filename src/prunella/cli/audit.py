"""Commands about the audit: whether it is as it was written."""

from __future__ import annotations

from typing import Annotated

import typer

from prunella.cli import world
from prunella.cli.printing import Json, example, print_json

cli = typer.Typer(help="Check the audit trail.", no_args_is_help=True)
_WITHIN_S = 600.0  # a million entries take some 20 s


@cli.callback()
def audit() -> None:
    """Keep `verify` a command of its own, also while it is the only one."""


@cli.command(epilog=example("prunella audit verify", "prunella audit verify --json"))
def verify(
    noted: Annotated[
        str | None, typer.Option(help="A seal as it was noted before, NUMBER:DIGEST; shows a chain made anew.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare every entry with its seal; exit code 1 names the first that is broken."""
    query = {"noted": noted} if noted else None
    found = world.call("GET", "/api/v1/audit/verify", query=query, within_s=_WITHIN_S)
    if as_json:
        print_json(found)
    elif found["ok"]:
        print(f"the audit is as it was written: {found['entries']} entries under {found['seals']} seals")
        print(f"forgotten by retention: {found['forgotten']} seals; not sealed yet: {found['unsealed']} entries")
        if found["noted"]:
            print(f"note for the next time: {found['noted']}")
    else:
        print(f"seal {found['broken']['seal']} is broken: {found['broken']['why']}")
    if not found["ok"]:
        raise typer.Exit(1)
