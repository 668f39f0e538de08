"""Commands about waiting work: see it, and replay, cancel or quarantine one operation, or many after an estimate."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from prunella.cli import world
from prunella.cli.printing import Json, agreed, example, more, print_json, say
from prunella.core.errors import ConfigError

cli = typer.Typer(invoke_without_command=True)
_BULK_S = 600.0
"""How long a person waits: a hundred thousand operations take their time."""


class StateName(StrEnum):
    """The states that an operation can be in."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


class DueName(StrEnum):
    """How waiting operations stand to time."""

    DUE = "due"
    OVERDUE = "overdue"
    LATER = "later"
    RESTING = "resting"


OneId = Annotated[str | None, typer.Argument(metavar="[ID]", help="One operation; without it: all that fit.")]
OfService = Annotated[str | None, typer.Option("--service", help="Only this service.")]
InState = Annotated[StateName | None, typer.Option("--state", help="Only this state; dead is quarantine.")]
OfIncident = Annotated[str | None, typer.Option("--incident", help="Only this incident's.")]
OfAccount = Annotated[str | None, typer.Option("--account", help="Only this account's.")]
Due = Annotated[DueName | None, typer.Option("--due", help="Only what is due, overdue, due later, or resting.")]
WithKey = Annotated[str | None, typer.Option("--idempotency-key", help="Only the one with this key.")]
Everything = Annotated[bool, typer.Option("--all", help="Really all; no other filter but --state.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit.")]
Name = Annotated[str, typer.Option("--name", help="What many are called together, in the audit.")]
Dry = Annotated[bool, typer.Option("--estimate", "--dry-run", help="Show what it would be done to; change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@cli.callback(
    epilog=example(
        "prunella operations --state dead", "prunella operations replay --service crm --state dead --estimate"
    )
)
def operations(
    context: typer.Context,
    service: OfService = None,
    state: InState = None,
    incident: OfIncident = None,
    account: OfAccount = None,
    due: Due = None,
    idempotency_key: WithKey = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on behind a page: its next_cursor.")] = None,
    as_json: Json = False,
) -> None:
    """List waiting work, newest first; with a command: show, replay, cancel or quarantine it."""
    if context.invoked_subcommand is not None:
        return
    query = _filter(service, state, incident, account, due, idempotency_key) | {"limit": limit}
    answer = world.call("GET", "/api/v1/operations", query=query | ({"cursor": cursor} if cursor else {}))
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        print_operation(one)
    if not answer["items"]:
        print("no operations")
    more(answer)


@cli.command(epilog=example("prunella operations show ID"))
def show(operation: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """Show one operation: its payload's structure, its attempts, and what people did to it."""
    found = world.call("GET", world.at("operations", operation))
    if as_json:
        print_json(found)
        return
    print_operation(found)
    print(f"  request   {found['method']} {found['endpoint']}")
    print(f"  payload   {found['payload_shape']}")
    print(f"  key       {found['idempotency_key']}")
    print(f"  incident  {found['incident_id']}")
    if found["not_replayable"]:
        print(f"  not replayable: {found['not_replayable']}")
    for run in found["runs"]:
        print(f"  {run['started_at'][:19]}  try {run['attempt']}: {run['state']} {run['detail']}".rstrip())
    for entry in found["trace"]:
        print(f"  {entry['at'][:19]}  {entry['action']} by {entry['actor']} {entry['reason']}".rstrip())
    print(f"  possible  {', '.join(found['acts']) or 'nothing'}")


def _command(act: str, words: str) -> None:
    @cli.command(act, help=words, epilog=example(f"prunella operations {act} ID --dry-run"))
    def command(
        operation: OneId = None,
        service: OfService = None,
        state: InState = None,
        incident: OfIncident = None,
        account: OfAccount = None,
        due: Due = None,
        idempotency_key: WithKey = None,
        everything: Everything = False,
        reason: Why = "",
        name: Name = "",
        dry_run: Dry = False,
        yes: Yes = False,
        as_json: Json = False,
    ) -> None:
        wanted = _filter(service, state, incident, account, due, idempotency_key)
        if operation is None:
            _many(act, wanted | ({"all": True} if everything else {}), reason, name, dry_run, yes, as_json)
        elif wanted or everything:
            raise typer.BadParameter("name one operation or a filter, not both")
        else:
            _one(act, operation, reason, dry_run, as_json)


_command("replay", "Try one operation again now, or all that fit: those in quarantine, and those that wait.")
_command("cancel", "Give up one operation, or all that fit: it is never sent.")
_command("quarantine", "Keep one operation, or all that fit, from being sent until a person replays it.")


def print_operation(one: dict[str, Any]) -> None:
    """Show an operation in two lines."""
    due = f"due {one['due_at'][:19]}" if one["due_at"] else ""
    print(f"{one['id']}  {one['state']:<10} {one['service']:<16} {one['attempts']} tries  {due}".rstrip())
    if one["last_error"]:
        say(one["last_error"], indent=4)


def _one(act: str, operation: str, reason: str, dry_run: bool, as_json: bool) -> None:
    answer = world.call("POST", world.at("operations", operation, act), {"reason": reason, "dry_run": dry_run})
    if as_json:
        print_json(answer)
        return
    print(f"{act} is possible; nothing was changed" if dry_run else f"{operation}: {answer['state']}")


def _many(act: str, wanted: dict[str, Any], reason: str, name: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Estimate, ask, and do exactly what was estimated."""
    path = world.at("operations", act)
    found = world.call("POST", path, {**wanted, "estimate": True}, within_s=_BULK_S)
    if as_json and (dry_run or not found["count"]):
        print_json(found)
    elif not as_json:
        print_estimate(found)
    if dry_run or not found["count"]:
        return
    if not yes and not sys.stdin.isatty():
        raise ConfigError([f"operations {act}: nobody can be asked here; write --yes, or --estimate to look only"])
    if not yes and not agreed(f"{act} {found['count']} operations?"):
        print("left as they are")
        raise typer.Exit(1)
    body = {**wanted, "made_at": found["made_at"], "digest": found["digest"], "reason": reason}
    answer = world.call("POST", path, {**body, "name": name or f"{act} from the command line"}, within_s=_BULK_S)
    if as_json:
        print_json(answer)
        return
    print(f"{answer['name']}: {answer['done']} done")
    for why, count in answer["left"].items():
        print(f"  {count} left: {why}")


def print_estimate(found: dict[str, Any]) -> None:
    """Show what an act would be done to."""
    print(f"{found['act']}: {found['count']} operations")
    for service, count in found["services"].items():
        print(f"  {service:<20} {count}")
    if found["count"]:
        print(f"  queued from {found['oldest'][:19]} to {found['newest'][:19]} UTC")
    if found["outcome_unknown"]:
        unknown = f"{found['outcome_unknown']} died in mid-call: nobody knows whether they arrived"
        say(f"{unknown}; look before you replay", indent=2)
    for one in found["sample"]:
        print(f"  {one['id']}  {one['state']:<10} {one['service']}  {one['last_error'] or ''}".rstrip())


def _filter(
    service: str | None,
    state: StateName | None,
    incident: str | None,
    account: str | None,
    due: DueName | None,
    idempotency_key: str | None,
) -> dict[str, Any]:
    named = {
        "service": service,
        "state": state.value if state else None,
        "incident": incident,
        "account": account,
        "due": due.value if due else None,
        "idempotency_key": idempotency_key,
    }
    return {word: value for word, value in named.items() if value is not None}
