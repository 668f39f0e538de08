"""Commands about the ways to people: how they do, and whether they work."""

from __future__ import annotations

from typing import Annotated

import typer

from prunella.cli import world
from prunella.cli.printing import Dry, Json, example, print_json, would
from prunella.core.errors import PrunellaError

cli = typer.Typer(help="See how channels do, and send a test message.", no_args_is_help=True)
_TEST_S = 60.0
_CHANNELS_MAX = 500
_HEARTBEAT = "heartbeat"  # listed with the channels, but nobody reads what is sent there


@cli.command(epilog=example("prunella notify channels", "prunella notify channels --json"))
def channels(as_json: Json = False) -> None:
    """List the channels of prunella.yaml, and whether what is sent to them arrives."""
    answer = world.call("GET", "/api/v1/channels", query={"limit": _CHANNELS_MAX})
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        waiting = f"  {one['waiting']} waiting" if one["waiting"] else ""
        last = f"last success {one['last_success_at'][:19]}" if one["last_success_at"] else "nothing arrived yet"
        print(f"{one['name']:<24} {one['kind']:<10} {one['state']:<8} {last}{waiting}")
        if one["failing_since"]:
            print(f"{'':24} failing since {one['failing_since'][:19]}, {one['failures']} tries: {one['last_error']}")
    if not answer["items"]:
        print("no channels; write some below notify: in prunella.yaml")


@cli.command("test", epilog=example("prunella notify test ops"))
def try_out(
    channel: Annotated[str, typer.Argument(help="Its name in prunella.yaml.")],
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Send a test message to a channel, at once."""
    if dry_run:
        would(f"send a test message to {channel} ({_kind(channel)})", as_json)
        return
    answer = world.call("POST", world.at("channels", channel, "test"), {}, within_s=_TEST_S)
    if as_json:
        print_json(answer)
        return
    remark = f"; {answer['remark']}" if answer["remark"] else ""
    print(f"{channel}: the test message arrived{remark}")


def _kind(channel: str) -> str:
    found: dict[str, str] = {one["name"]: one["kind"] for one in world.call("GET", "/api/v1/channels")["items"]}
    kinds = {name: kind for name, kind in found.items() if kind != _HEARTBEAT}
    if channel not in kinds:
        raise PrunellaError(f"there is no channel {channel!r}; channels: {', '.join(kinds) or 'none'}")
    return kinds[channel]
