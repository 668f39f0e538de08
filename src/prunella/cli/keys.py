"""Commands about API keys: make one, see them, end one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from prunella.cli import world
from prunella.cli.printing import Dry, Json, example, print_json, say, would
from prunella.core.clock import SystemClock
from prunella.core.errors import PrunellaError

cli = typer.Typer(invoke_without_command=True)


class KeyRole(StrEnum):
    """What a key may do."""

    INGEST = "INGEST"
    APPLICATION = "APPLICATION"
    VIEWER = "VIEWER"
    OPERATIONS = "OPERATIONS"
    ADMIN = "ADMIN"


@cli.callback(epilog=example("prunella keys", "prunella keys create ci --role INGEST"))
def keys(context: typer.Context, as_json: Json = False) -> None:
    """List keys, the revoked ones, too; with a command: make or revoke one."""
    if context.invoked_subcommand is None:
        _list(as_json)


@cli.command(epilog=example("prunella keys create ci --role INGEST --ttl 90d"))
def create(
    name: Annotated[str, typer.Argument(help="Whose it is; the audit calls it so.")],
    role: Annotated[KeyRole, typer.Option(help="What it may do.")] = KeyRole.INGEST,
    ttl: Annotated[str | None, typer.Option(help="How long it lasts, as 12h or 90d; default: until revoked.")] = None,
    dry_run: Dry = False,
) -> None:
    """Print a new key, and nothing else; it is shown this once."""
    if dry_run:
        world.duration_s(ttl or "1d")
        would(f"make a key for {name} ({role.value}), good {'until revoked' if ttl is None else f'for {ttl}'}")
        return
    now = SystemClock().now().astimezone(UTC)
    expires = (now + timedelta(seconds=world.duration_s(ttl))).isoformat() if ttl is not None else None
    wish = {"name": name, "role": role.value, "expires_at": expires}
    print(world.call("POST", "/api/v1/keys", wish, role="ADMIN")["key"])


@cli.command("list", epilog=example("prunella keys list --json"))
def list_keys(as_json: Json = False) -> None:
    """List keys, the revoked ones, too."""
    _list(as_json)


def _list(as_json: bool) -> None:
    answer = world.call("GET", "/api/v1/keys", role="ADMIN")
    if as_json:
        print_json(answer)
        return
    now = SystemClock().now()
    for one in answer["items"]:
        used = f"used {one['used_at'][:16]}" if one["used_at"] else "never used"
        print(f"{one['id']}  {one['role']:<12} {_state(one, now)}")
        say(f"{one['name']}: {used}", indent=4)
    if not answer["items"]:
        print("no keys; make one with: prunella keys create NAME --role INGEST")


@cli.command(epilog=example("prunella keys revoke KEY_ID"))
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="Its id, as `prunella keys` shows it.")],
    dry_run: Dry = False,
) -> None:
    """End a key at once."""
    if dry_run:
        found = {one["id"]: one for one in world.call("GET", "/api/v1/keys", role="ADMIN")["items"]}.get(key)
        if found is None:
            raise PrunellaError(f"there is no key {key!r}; look with: prunella keys")
        would(f"revoke the key of {found['name']} ({found['role']}), for good")
        return
    answer = world.call("DELETE", world.at("keys", key), role="ADMIN")
    print(f"{answer['name']}: revoked by {answer['revoked_by']}")


def _state(key: dict[str, str | None], now: datetime) -> str:
    if key["revoked_at"]:
        return f"revoked {key['revoked_at'][:10]}"
    if key["expires_at"] is None:
        return "good"
    ended = datetime.fromisoformat(key["expires_at"]) <= now
    return f"{'ended' if ended else 'until'} {key['expires_at'][:16]}"
