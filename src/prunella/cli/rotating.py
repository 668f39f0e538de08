"""`prunella rotate-keys`: the last step of changing the deployment's key."""

from __future__ import annotations

from typing import Any

import typer

from prunella.cli import world
from prunella.cli.printing import Dry, example, would
from prunella.core.errors import PrunellaError

cli = typer.Typer()


@cli.command("rotate-keys", epilog=example("prunella rotate-keys --dry-run", "prunella rotate-keys"))
def rotate_keys(dry_run: Dry = False) -> None:
    """Seal everything anew with the first key of PRUNELLA_SECRET_KEY, while workers go on; then the others may go."""
    if dry_run:
        held = _walk(dry=True)
        would(f"seal {held['older']} of {held['looked']} values anew with key {held['key']}")
        return
    done = _walk(dry=False)
    print(f"sealed {done['sealed']} of {done['looked']} values anew with key {done['key']}")
    if done["unreadable"]:
        shown = ", ".join(done["unreadable"][:3])
        fix = "put the key that sealed them behind the others, or store those values anew"
        raise PrunellaError(f"{len(done['unreadable'])} or more rows open with no key: {shown}; {fix}")
    left = _walk(dry=True)["older"]
    if left:
        fix = "give every process the new key first, start it anew, and run this again"
        raise PrunellaError(f"{left} values were sealed with an older key meanwhile; {fix}")
    print("nothing needs an older key any more: it may be taken out of PRUNELLA_SECRET_KEY")


def _walk(*, dry: bool) -> dict[str, Any]:
    """Go through all rows, stretch by stretch; return the sums."""
    total: dict[str, Any] = {"looked": 0, "older": 0, "sealed": 0, "unreadable": []}
    after: list[str] | None = []
    while after is not None:
        found = world.call(
            "POST", world.at("secrets", "rotate"), {"after": after, "dry": dry}, role="ADMIN", within_s=120
        )
        for name in total:
            total[name] += found[name]
        total["key"] = found["key"]
        after = found["next"] or None
    return total
