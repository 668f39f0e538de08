"""Commands that show known issues: list them, one with its numbers, what may become known; and try patterns."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from prunella.cli import world
from prunella.cli.printing import Cursor, Json, Limit, example, more, print_json, say
from prunella.cli.streams import legible

cli = typer.Typer(invoke_without_command=True)


@cli.callback(
    epilog=example(
        "prunella known-issues --state active --has-remedy", "prunella known-issues bind crm-1f2e3d4c refresh_auth"
    )
)
def known_issues(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="active, resolved, regressed or dormant.")] = None,
    origin: Annotated[str | None, typer.Option(help="learned, pack or person.")] = None,
    service: Annotated[str | None, typer.Option(help="Only those of this service: stripe.")] = None,
    severity: Annotated[str | None, typer.Option(help="Only those of this severity: LOW to CRITICAL.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only those of this kind: auth.expired.")] = None,
    has_remedy: Annotated[
        bool | None, typer.Option("--has-remedy/--no-remedy", help="Only those with a remedy bound, or without.")
    ] = None,
    q: Annotated[str | None, typer.Option(help="Letters within id, title, cause or pattern.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List what is recognised, with its cause and what helps; with a command: act on one, or try patterns."""
    if context.invoked_subcommand is not None:
        return
    sent: dict[str, Any] = {"state": state, "origin": origin, "service": service, "severity": severity, "kind": kind}
    sent |= {"has_remedy": None if has_remedy is None else str(has_remedy).lower(), "q": q, "cursor": cursor}
    query = {"limit": limit} | {name: value for name, value in sent.items() if value}
    answer = world.call("GET", "/api/v1/known-issues", query=query)
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        _line(one)
    if not answer["items"]:
        print("no known issues")
    more(answer)


@cli.command(epilog=example("prunella known-issues show stripe.webhook-signature"))
def show(
    issue: Annotated[str, typer.Argument(metavar="ID", help="Its id, as the list says.")], as_json: Json = False
) -> None:
    """Show one: what it is, how it is recognised, what became of its remedies, and its recent incidents."""
    found = world.call("GET", world.at("known-issues", issue))
    if as_json:
        print_json(found)
        return
    _line(found)
    say(f"pattern   {found['pattern']}", indent=4)
    if found["precision"] is not None:
        say(f"precision {found['precision']:.1%} on {found['tested']} messages of other problems", indent=4)
    joined = [f"joined with {found['alias_of']}"] if found["alias_of"] else []
    for line in [*joined, *(f"stands for {one}, too" for one in found["joined"])]:
        say(line, indent=4)
    for one in found["records"]:
        say(_record(one), indent=4)
        say(one["why"], indent=8)
    for one in found["choices"]:
        if not one["misfit"] and one["remedy"] not in [record["remedy"] for record in found["records"]]:
            wanted = " ".join(f"--set {each['name']}=…" for each in one["parameters"] if each["required"])
            say(f"may be bound: prunella known-issues bind {found['id']} {one['remedy']} {wanted}", indent=4)
    for one in found["incidents"]:
        say(f"{one['last_seen'][:19]}  {one['id']}  {one['state']}  {one['title']}", indent=4)


@cli.command(epilog=example("prunella known-issues candidates --json"))
def candidates(limit: Limit = 50, cursor: Cursor = None, as_json: Json = False) -> None:
    """List patterns that are not known yet, the most frequent first, and why some can't become known by themselves."""
    answer = world.call(
        "GET", "/api/v1/known-issues/candidates", query={"limit": limit} | ({"cursor": cursor} if cursor else {})
    )
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        sure = f"{one['confidence']:.0%} sure"
        say(
            f"{one['occurrences']:>4} x  {one['service']}  {one['kind']}  {one['impact']}  {sure}  {one['environment']}"
        )
        say(one["message"], indent=8)
        if one["refused"]:
            say(f"not by itself: {one['refused']}", indent=8)
    if not answer["items"]:
        print("no candidates: every failure is known, or none was seen")
    more(answer)


@cli.command("test", epilog=example('prunella known-issues test --patterns known.yaml "connection refused"'))
def try_patterns(
    message: Annotated[str, typer.Argument(help="The text of an error; - or nothing: standard input.")] = "-",
    patterns: Annotated[
        Path | None,
        typer.Option(help="YAML: a list of {id, pattern, severity, service ...}; without it what is shipped is tried."),
    ] = None,
    service: Annotated[str | None, typer.Option(help="The service that failed; without it all are meant.")] = None,
    code: Annotated[str | None, typer.Option(help="With a service: its own code.")] = None,
    kind: Annotated[str | None, typer.Option(help="The diagnosed kind, as auth.expired.")] = None,
    as_json: Json = False,
) -> None:
    """Try a message on patterns: which fit, where, how quickly, and which counts; status 1 if any is refused."""
    from prunella.core.clock import SystemClock
    from prunella.diagnosis.packs import builtin
    from prunella.diagnosis.trial import try_out
    from prunella.packs import read_file

    known = [one.pattern for one in (builtin() if patterns is None else read_file(patterns, judged=False))]
    text = legible(sys.stdin.read()) if message == "-" else message
    trial = try_out(text, known, SystemClock(), service=service, code=code, kind=kind)
    if as_json:
        print_json(trial.as_json())
    else:
        print(trial)
        for note in (*trial.refused.values(), *trial.warnings):
            print(note, file=sys.stderr)
    if trial.refused:
        raise typer.Exit(1)


def _line(one: dict[str, Any]) -> None:
    """Print an issue in a few lines: how it stands, why it happens, what helps."""
    seen = f"  seen {one['occurrences']} x, last {one['last_seen'][:19]}" if one["last_seen"] else ""
    say(f"{one['id']}  {one['severity']}  {one['state']}  {one['title']}{seen}")
    say(one["cause"], indent=4)
    machine = ", ".join(_bound(binding) for binding in one["remedies"])
    say(f"{one['advice']} {'A machine: ' + machine if machine else ''}".strip(), indent=4)


def _bound(one: dict[str, Any]) -> str:
    acts = {"L2": "asks", "L3": "left to a person"}.get(one["acts_at"], "acts")
    record = f"{one['verified']} of {one['tried']} verified" if one["tried"] else "not tried yet"
    return f"{one['remedy']} ({one['acts_at']}: {acts}; {record})"


def _record(one: dict[str, Any]) -> str:
    """Say what became of a remedy, with the numbers that decide."""
    lift = f", {one['lift']:+.0%} over waiting" if one["lift"] is not None else ""
    counts = f"tried {one['tried']}, verified {one['verified']}, in vain {one['ineffective']}, undone {one['undone']}"
    return f"{one['remedy']}: {counts}; expected {one['expected']:.0%}, at least {one['lower_bound']:.0%}{lift}"
