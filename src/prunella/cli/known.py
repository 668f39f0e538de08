"""Commands about known issues: see them, and try the patterns by which they are recognised."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from prunella.cli import world
from prunella.cli.printing import Cursor, Json, Limit, example, more, print_json, say
from prunella.cli.streams import legible

cli = typer.Typer(invoke_without_command=True)


@cli.callback(epilog=example("prunella known-issues", "prunella known-issues test --patterns known.yaml"))
def known_issues(
    context: typer.Context,
    service: Annotated[str | None, typer.Option(help="Only those of this service: stripe.")] = None,
    severity: Annotated[str | None, typer.Option(help="Only those of this severity: LOW to CRITICAL.")] = None,
    q: Annotated[str | None, typer.Option(help="Letters within id, title, cause or pattern.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List what is recognised, with its cause and what helps; with a command: try patterns."""
    if context.invoked_subcommand is not None:
        return
    sent = {"service": service, "severity": severity, "q": q, "cursor": cursor}
    query = {"limit": limit} | {name: value for name, value in sent.items() if value}
    answer = world.call("GET", "/api/v1/known-issues", query=query)
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        say(f"{one['id']}  {one['severity']}  {one['title']}")
        say(one["cause"], indent=4)
        say(f"{one['advice']} {'A machine: ' + one['remedy'] if one['remedy'] else ''}".rstrip(), indent=4)
    if not answer["items"]:
        print("no known issues")
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
