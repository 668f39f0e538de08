"""Commands about API keys: make one, see them, end one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from prunella.cli import world
from prunella.cli.printing import Json, print_json
from prunella.core.clock import SystemClock

cli = typer.Typer(help="Make, list and revoke API keys of programs.", no_args_is_help=True)


class KeyRole(StrEnum):
    """What a key may do."""

    INGEST = "INGEST"
    APPLICATION = "APPLICATION"
    VIEWER = "VIEWER"
    OPERATIONS = "OPERATIONS"
    ADMIN = "ADMIN"


@cli.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is; the audit calls it so.")],
    role: Annotated[KeyRole, typer.Option(help="What it may do.")] = KeyRole.INGEST,
    ttl: Annotated[str | None, typer.Option(help="How long it lasts, as 12h or 90d; default: until revoked.")] = None,
) -> None:
    """Print a new key, and nothing else; it is shown this once."""
    now = SystemClock().now().astimezone(UTC)
    expires = (now + timedelta(seconds=world.duration_s(ttl))).isoformat() if ttl is not None else None
    wish = {"name": name, "role": role.value, "expires_at": expires}
    print(world.call("POST", "/api/v1/keys", wish, role="ADMIN")["key"])


@cli.command("list")
def list_keys(as_json: Json = False) -> None:
    """List keys, the revoked ones, too."""
    answer = world.call("GET", "/api/v1/keys", role="ADMIN")
    if as_json:
        print_json(answer)
        return
    now = SystemClock().now()
    for one in answer["items"]:
        used = f"used {one['used_at'][:16]}" if one["used_at"] else "never used"
        print(f"{one['id']}  {one['role']:<12} {_state(one, now):<22} {used:<21}  {one['name']}")
    if not answer["items"]:
        print("no keys; make one with: prunella keys create NAME --role INGEST")


@cli.command()
def revoke(key: Annotated[str, typer.Argument(help="Its id, as `prunella keys list` shows it.")]) -> None:
    """End a key at once."""
    answer = world.call("DELETE", f"/api/v1/keys/{key}", role="ADMIN")
    print(f"{answer['name']}: revoked by {answer['revoked_by']}")


def _state(key: dict[str, str | None], now: datetime) -> str:
    if key["revoked_at"]:
        return f"revoked {key['revoked_at'][:10]}"
    if key["expires_at"] is None:
        return "good"
    ended = datetime.fromisoformat(key["expires_at"]) <= now
    return f"{'ended' if ended else 'until'} {key['expires_at'][:16]}"
