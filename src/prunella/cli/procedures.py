"""Commands about procedures: see, run, pause and undo them, and answer their plans."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from prunella.cli import services, world
from prunella.cli.printing import (
    Cursor,
    Dry,
    Json,
    Limit,
    Reason,
    agreed,
    duration,
    example,
    many,
    more,
    print_json,
    say,
    would,
)
from prunella.core.errors import ConfigError, PrunellaError

cli = typer.Typer()

_FIGURES = ("found", "healed", "failed", "resolved", "escalated")

_RUN_S = 600.0
"""How long a person waits for a run: thousands of rows take their time."""


class ApprovalStateName(StrEnum):
    """The states that a plan can be in."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CLOSED = "closed"


@cli.command(epilog=example("prunella procedures", "prunella procedures --json"))
def procedures(as_json: Json = False) -> None:
    """List procedures, and what prunella does by itself, with their schedules and what their last run came to."""
    answer = world.call("GET", "/api/v1/procedures")
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        paused = f"  paused by {one['paused_by']}" if one["paused_by"] else ""
        print(f"{one['name']:<28} {one['level']}  {_schedule(one['schedule']):<16} {one['runs']:>6} runs{paused}")
        say(f"{one['check']} -> {one['remedy'] or 'a person'}; last: {_result(one['last_result'])}", indent=4)
    if not answer["items"]:
        print("no procedures; write some below procedures: or entities: in prunella.yaml")
    for one in answer["rounds"]:
        schedule = _schedule(one["schedule"])
        print(f"{one['name']:<28} --  {schedule:<16} {one['runs']:>6} runs")
        say(f"last: {_result(one['last_result'])}", indent=4)


@cli.command(epilog=example("prunella run hide-zero-stock --dry-run"))
def run(
    procedure: Annotated[str, typer.Argument(metavar="PROCEDURE", help="Its name, as `prunella procedures` shows it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; nothing is written.")] = False,
    as_json: Json = False,
) -> None:
    """Run a procedure now, or show what it would do."""
    path = world.at("procedures", procedure, "run")
    answer = world.call("POST", path, {"dry_run": dry_run}, within_s=_RUN_S)
    if as_json:
        print_json(answer)
        return
    verdict, waiting = answer["verdict"] or {"answer": "run", "reason": ""}, answer["waiting"]
    print(f"{procedure}: {_figures(answer) or '0 found'}")
    if verdict["answer"] != "run" and answer["plan"] and verdict["reason"] not in waiting.values():
        print(f"  {verdict['answer']}: {verdict['reason']}")
    for key, why in waiting.items():
        say(f"{key}: {why}", indent=2)
    for one in answer["runs"]:
        detail = f": {one['detail']}" if one["detail"] else ""
        print(f"  {one['id']}  {one['resource']}: {one['remedy']} {one['state']}{detail}")
    if dry_run and answer["plan"]:
        print_plan(answer["plan"])
    elif verdict["answer"] == "propose":
        print("  read the plan and answer it: prunella approvals")


@cli.command(epilog=example("prunella approvals", "prunella approvals --state rejected --json"))
def approvals(
    state: Annotated[ApprovalStateName | None, typer.Option(help="Only this state; default: waiting.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List plans that wait for an answer, or were answered."""
    wanted = (state or ApprovalStateName.WAITING).value
    query = {"state": wanted, "limit": limit} | ({"cursor": cursor} if cursor else {})
    answer = world.call("GET", "/api/v1/approvals", query=query)
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        print(f"{one['id']}  {one['state']:<10} until {one['expires_at'][:16]}  {one['procedure']}")
        say(f"{one['plan']['words']} ({many(one['plan']['count'], 'target')})", indent=4)
    if not answer["items"]:
        print(f"no plan is {wanted}")
    more(answer)


@cli.command(epilog=example("prunella approve PLAN", "prunella approve PLAN --digest DIGEST"))
def approve(
    approval: Annotated[str, typer.Argument(metavar="PLAN", help="Its id, as `prunella approvals` shows it.")],
    digest: Annotated[str | None, typer.Option(help="Only this plan, as you have seen it.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Dry = False,
) -> None:
    """Show a plan, ask, and let it be carried out."""
    found = world.call("GET", world.at("approvals", approval))
    print_plan(found["plan"])
    if dry_run:
        _must_wait(found, digest)
        would(f"let this plan be carried out, approved by {world.person()}")
        return
    if not (yes or digest or sys.stdin.isatty()):
        raise ConfigError(["approve: nobody can be asked here; write --yes, or --digest with the plan you have seen"])
    if not yes and sys.stdin.isatty() and found["state"] == "waiting" and not agreed("Carry this out?"):
        print("left as it is")
        raise typer.Exit(1)
    body = {"digest": digest or found["digest"]}
    answer = world.call("POST", world.at("approvals", approval, "approve"), body)
    print(f"{answer['procedure']}: {answer['state']}; it runs at once, and only if nothing has changed")


@cli.command(epilog=example('prunella reject PLAN --reason "not on a Friday"'))
def reject(
    approval: Annotated[str, typer.Argument(metavar="PLAN", help="Its id, as `prunella approvals` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the audit.")],
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Refuse a plan; what it was about becomes a person's."""
    if dry_run:
        found = world.call("GET", world.at("approvals", approval))
        _must_wait(found, None)
        would(f"refuse the plan of {found['procedure']}, and leave it to people, as {world.person()}", as_json)
        return
    answer = world.call("POST", world.at("approvals", approval, "reject"), {"reason": reason})
    if as_json:
        print_json(answer)
    else:
        print(f"{answer['procedure']}: {answer['state']}")


@cli.command(epilog=example("prunella undo RUN --dry-run"))
def undo(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Its id, as `prunella run` and `explain` show it.")],
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Put back what a run changed or deleted, where it still is as the run left it."""
    if dry_run:
        would(_would_undo(world.call("GET", world.at("runs", run_id))), as_json)
        return
    answer = world.call("POST", world.at("runs", run_id, "undo"), within_s=_RUN_S)
    if as_json:
        print_json(answer)
        raise typer.Exit(1 if answer["refused"] else 0)
    print(f"{answer['restored']} rows put back, {len(answer['refused'])} refused")
    for key, why in answer["refused"].items():
        print(f"  {key}: {why}")
    if answer["refused"]:
        raise typer.Exit(1)


@cli.command(epilog=example('prunella pause --reason "migration"', "prunella pause --service crm"))
def pause(
    service: Annotated[str | None, typer.Option(help="Only this service.")] = None,
    procedure: Annotated[str | None, typer.Option(help="Only this procedure.")] = None,
    reason: Reason = "",
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Let nothing begin (the kill switch), or nothing of one service or procedure, until it is resumed."""
    _switch("pause", service, procedure, reason, dry_run, as_json)


@cli.command(epilog=example("prunella resume", "prunella resume --procedure hide-zero-stock"))
def resume(
    service: Annotated[str | None, typer.Option(help="Only this service.")] = None,
    procedure: Annotated[str | None, typer.Option(help="Only this procedure.")] = None,
    reason: Reason = "",
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """End a pause, and look at everything that it held back."""
    _switch("resume", service, procedure, reason, dry_run, as_json)


def print_plan(plan: dict[str, Any]) -> None:
    """Show a plan as people read it: what, to how many, a sample before and after, the SQL, the digest."""
    say(f"{plan['procedure']} ({plan['id']}, level {plan['level']}): {plan['words']}")
    share = "" if plan["share_at_most"] is None else f", at most {plan['share_at_most']:.1%} of the table"
    say(indent=2, hang=10, line=f"targets   {plan['count']}{share}: {', '.join(plan['targets'][:10])}{_more(plan, 10)}")
    for number, row in enumerate(plan["before"]):
        say(indent=2, hang=10, line=f"before    {_row(row)}")
        if number < len(plan["after"]):
            say(indent=2, hang=10, line=f"after     {_row(plan['after'][number])}")
    if plan["unknown_until_run"]:
        say("after     known only once it ran", indent=2)
    if plan["sql"]:
        say(indent=2, hang=10, line=f"SQL       {plan['sql']}")
    say(indent=2, hang=10, line=f"digest    {plan['digest']}")


def _switch(act: str, service: str | None, procedure: str | None, reason: str, dry_run: bool, as_json: bool) -> None:
    if service is not None and procedure is not None:
        raise typer.BadParameter("name a service or a procedure, not both")
    if service is not None:
        services.change(service, act, reason, dry_run, as_json)
        return
    if dry_run:
        would(_would_switch(act, procedure), as_json)
        return
    path = world.at("procedures", procedure, act) if procedure is not None else world.at(act)
    answer = world.call("POST", path, {"reason": reason})
    if as_json:
        print_json(answer)
    elif procedure is not None:
        print(f"{procedure}: {'paused' if answer['paused_by'] else 'goes on'}")
    else:
        print(f"everything is paused by {answer['by']}" if answer["paused"] else "everything goes on")


def _would_switch(act: str, procedure: str | None) -> str:
    """Say what a pause or its end would do, or refuse it as the engine would."""
    if procedure is None:
        paused = world.call("GET", "/api/v1/pause")["paused"]
    else:
        known = {one["name"]: one for one in world.call("GET", "/api/v1/procedures")["items"]}
        if procedure not in known:
            raise PrunellaError(f"there is no procedure {procedure!r}; known: {', '.join(known) or 'none'}")
        paused = known[procedure]["paused_by"]
    if act == "resume" and not paused:
        raise PrunellaError(f"{procedure or 'nothing as a whole'} is not paused; resume needs something that is")
    return f"{act} {procedure or 'everything'} as {world.person()}"


def _must_wait(approval: dict[str, Any], digest: str | None) -> None:
    """Refuse an answer as the engine would."""
    if approval["state"] != "waiting":
        raise PrunellaError(f"approval {approval['id']} is {approval['state']}; only one that waits can be answered")
    if digest not in (None, approval["digest"]):
        raise PrunellaError(f"approval {approval['id']} is for the plan {approval['digest']}, not for {digest}")


def _would_undo(found: dict[str, Any]) -> str:
    if found["state"] in ("planned", "running"):
        raise PrunellaError(f"run {found['id']} is under way; wait for its end")
    if found["state"] == "undone":
        raise PrunellaError(f"run {found['id']} was undone before")
    return f"put back what {found['remedy']} changed in {found['resource'] or 'nothing'} ({found['rows']} rows)"


def _schedule(schedule: dict[str, Any]) -> str:
    return f"every {duration(schedule['every_s'])}" if schedule["every_s"] is not None else str(schedule["cron"])


def _result(result: dict[str, Any] | None) -> str:
    """Say what a run came to: its figures, why it held back or failed, who asked, how long it took."""
    if not result:
        return "has not run yet"
    known = {*_FIGURES, "held", "error", "by", "took_s"}
    told = [_figures(result), result.get("error") and f"failed: {result['error']}"]
    told.append(result.get("held") if result.get("found") else None)  # with nothing found there is nothing to hold
    told += [f"{name} {value}" for name, value in result.items() if name not in known]
    asked = [f"by {result['by']}"] if "by" in result else []
    asked += [f"{result['took_s']:g} s"] if "took_s" in result else []
    return "; ".join(filter(None, told)) + (f" ({', '.join(asked)})" if asked else "")


def _figures(result: dict[str, Any]) -> str:
    """Name what was found, even nothing, and the figures that are not 0."""
    shown = [name for name in _FIGURES if result.get(name) or (name == "found" and name in result)]
    return ", ".join(f"{result[name]} {name}" for name in shown)


def _row(row: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in row.items())


def _more(plan: dict[str, Any], shown: int) -> str:
    return f" and {plan['count'] - shown} more" if plan["count"] > shown else ""
