"""Commands that look on: how things stand, what happens, and everything that was written down, for other tools."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from prunella.cli import world
from prunella.cli.printing import Json, Since, coloured, duration, example, many, print_json, say
from prunella.core.errors import ConfigError

acts = typer.Typer()
events_cli = typer.Typer(help="Follow what happens.", no_args_is_help=True)

_EVERY_S = 0.5
_SEEN_MAX = 5_000


class Kept(StrEnum):
    """What can be exported."""

    INCIDENTS = "incidents"
    AUDIT = "audit"
    RUNS = "runs"


class Shape(StrEnum):
    """How it is written."""

    JSONL = "jsonl"
    CSV = "csv"


@acts.command(epilog=example("prunella status", "prunella status --json"))
def status(as_json: Json = False) -> None:
    """Say how things stand: what is open, what waits for a person, what was healed within 24 hours."""
    answer = world.call("GET", "/api/v1/overview")
    if as_json:
        print_json(answer)
        return
    if answer["paused"]:
        say(coloured(f"everything is paused by {answer['paused_by']}; go on with: prunella resume", "yellow"))
    waiting = f", {many(answer['needs_person'], 'waits', 'wait')} for a person" if answer["needs_person"] else ""
    print(f"{many(answer['active'], 'open incident')}{waiting}")
    day = answer["last_24h"]
    healed = f"{day['recovered']} recovered"
    if answer["mttr_p50_s"] is not None:
        healed += f", half of them within {duration(round(answer['mttr_p50_s'], 1))}"
    print(f"last 24 h: {day['opened']} opened, {healed}")
    for category, tally in answer["by_category"].items():
        if tally["opened"]:
            print(f"  {category:<12} {tally['opened']:>6}")
    for gate in answer["gates"]:
        reason = f": {gate['reason']}" if gate["reason"] else ""
        say(coloured(f"{gate['service']} is {gate['state']}", "red") + reason)
    if answer["approvals"]:
        print(f"{many(answer['approvals'], 'plan waits', 'plans wait')} for an answer: prunella approvals")


@events_cli.command(epilog=example("prunella events tail", "prunella events tail --lines 100 --no-follow --json"))
def tail(
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=500, help="How many earlier ones to begin with.")
    ] = 10,
    follow: Annotated[bool, typer.Option(help="Go on until Ctrl-C.")] = True,
    actor: Annotated[str | None, typer.Option(help="Only what this person or program did.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this: gate.pause, or gate. for all that begin so.")] = None,
    target: Annotated[str | None, typer.Option(help="Only about this service, procedure or thing.")] = None,
    incident: Annotated[str | None, typer.Option(help="Only this incident's.")] = None,
    since: Since = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Show the audit as it is written: who did what, to what, and why."""
    filters = {"actor": actor, "action": action, "target": target, "incident": incident, "since": world.moment(since)}
    query = {name: value for name, value in filters.items() if value is not None}
    told: dict[str, None] = {}
    if not follow:
        _tell(world.call("GET", "/api/v1/audit", query=query | {"limit": max(lines, 1)})["items"], told, as_json, lines)
        return
    try:
        _follow(query, told, lines, as_json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _follow(query: dict[str, Any], told: dict[str, None], lines: int, as_json: bool) -> None:
    """Ask the engine again and again; one that is restarted meanwhile is waited for."""
    _tell(world.ask_engine("/api/v1/audit", query | {"limit": 500})["items"], told, as_json, lines)
    while True:
        time.sleep(_EVERY_S)
        with suppress(world.NoEngine, TimeoutError):
            _tell(world.ask_engine("/api/v1/audit", query | {"limit": 200})["items"], told, as_json, None)


def _tell(newest: list[dict[str, Any]], told: dict[str, None], as_json: bool, most: int | None) -> None:
    """Print entries that were not told yet, in the order they happened; of the first ones the last `most`."""
    fresh = [one for one in reversed(newest) if one["id"] not in told]
    told.update(dict.fromkeys(one["id"] for one in fresh))
    for old in list(told)[: max(len(told) - _SEEN_MAX, 0)]:
        del told[old]
    for one in fresh if most is None else fresh[len(fresh) - min(most, len(fresh)) :]:
        _print_entry(one, as_json)
    sys.stdout.flush()


def _print_entry(one: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(one, ensure_ascii=False))
        return
    by = "" if one["actor"] == "prunella" else f" by {one['actor']}"
    why = f": {one['reason']}" if one["reason"] else ""
    say(f"{one['at'][:19]}  {one['action']:<22} {one['target']}{by}{why}", hang=21)


@acts.command(
    epilog=example(
        "prunella export incidents --out incidents.jsonl", "prunella export audit --format csv --since 7d > audit.csv"
    )
)
def export(
    what: Annotated[Kept, typer.Argument(metavar="incidents|audit|runs", help="What to write out.")],
    shape: Annotated[Shape, typer.Option("--format", help="One JSON object per line, or a table.")] = Shape.JSONL,
    since: Since = None,
    out: Annotated[Path | None, typer.Option(help="A new file; without it standard output.")] = None,
) -> None:
    """Write incidents, the audit or runs for other tools, newest first, to the last one."""
    from prunella.cli.exporting import Writer

    query = {"limit": 500} | ({"since": world.moment(since)} if since else {})
    try:
        with nullcontext(sys.stdout) if out is None else out.open("x", encoding="utf-8", newline="") as file:
            writer = Writer(file, table=shape is Shape.CSV)
            world.listed(world.at(what.value), query, each=writer.write)
    except FileExistsError:
        raise ConfigError([f"--out: {out} is there already; nothing was written, name a new file"]) from None
    except OSError as error:
        if out is None:
            raise
        raise ConfigError([f"--out: {out} can't be written ({error.strerror})"]) from None
    print(f"{writer.count} rows of {what.value} written{'' if out is None else f' to {out}'}", file=sys.stderr)
