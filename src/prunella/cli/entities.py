"""Commands about what is stuck, what healing came to, and what people were told."""

from __future__ import annotations

from typing import Annotated

import typer

from prunella.cli import world
from prunella.cli.printing import Cursor, Json, Limit, example, more, print_json, say

cli = typer.Typer()


@cli.command(epilog=example("prunella entities order"))
def entities(
    entity: Annotated[str, typer.Argument(help="Its name in prunella.yaml, as order.")],
    as_json: Json = False,
) -> None:
    """List what is stuck now, the oldest first."""
    answer = world.call("GET", world.at("entities", entity, "stuck"))
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        print(f"{one['key']!s:<20} {one['status']:<14} {one['stuck_minutes']:>6} min  {one['remedy']}")
    if not answer["items"]:
        print(f"no {entity} is stuck")


@cli.command(epilog=example("prunella statistics --days 30"))
def statistics(
    days: Annotated[int, typer.Option(min=1, max=365, help="How far back.")] = 7,
    as_json: Json = False,
) -> None:
    """Say what healing came to, by issue and action."""
    answer = world.call("GET", "/api/v1/self-healing/statistics", query={"days": days})
    if as_json:
        print_json(answer)
        return
    for one in answer["statistics"]:
        counts = f"{one['successful_recoveries']} healed, {one['failed_recoveries']} failed"
        say(f"{one['issue_type']:<20} {one['recovery_action']:<22} {one['total_cases']:>5} cases: {counts}", hang=44)
    if not answer["statistics"]:
        print(f"nothing was healed within {days} days")


@cli.command(epilog=example("prunella notifications", "prunella notifications --all --json"))
def notifications(
    everything: Annotated[bool, typer.Option("--all", help="What was acknowledged, too.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List what people were told and nobody has acknowledged yet."""
    query = {"all": str(everything).lower(), "limit": limit} | ({"cursor": cursor} if cursor else {})
    answer = world.call("GET", "/api/v1/notifications", query=query)
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        print(f"{one['notification_id']}  {one['severity']:<8} {one['title']}")
        say(one["message"], indent=4)
    if not answer["items"]:
        print("nothing to acknowledge")
    more(answer)
