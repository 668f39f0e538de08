"""Commands about incidents: list and explain them, and what a person may do to one."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from prunella.cli import world
from prunella.cli.printing import Cursor, Dry, Json, Limit, Reason, Since, example, more, print_json, say, would
from prunella.cli.streams import legible
from prunella.core.errors import PrunellaError

cli = typer.Typer(invoke_without_command=True)
acts = typer.Typer()

_PASTED_MAX = 1024 * 1024
"""Characters that are read of a paste; a failure keeps 16 kB of them."""
_BECOMES = {"suppress": "suppressed", "escalate": "escalated", "resolve": "resolved"}

OneIncident = Annotated[str, typer.Argument(metavar="INCIDENT", help="Its id, as `prunella incidents` shows it.")]


@cli.callback(epilog=example("prunella incidents --state open_any --service crm", "prunella incidents show INCIDENT"))
def incidents(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only this state; open_any for everything unresolved.")] = None,
    service: Annotated[str | None, typer.Option(help="Only this service.")] = None,
    procedure: Annotated[str | None, typer.Option(help="Only this procedure's.")] = None,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    severity: Annotated[str | None, typer.Option(help="Only this severity.")] = None,
    since: Since = None,
    q: Annotated[str | None, typer.Option("--q", help="Letters within the title.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List incidents, newest first; with a command: show one."""
    if context.invoked_subcommand is not None:
        return
    filters = {"state": state, "service": service, "procedure": procedure, "category": category, "severity": severity}
    filters |= {"since": world.moment(since), "q": q, "cursor": cursor}
    query = {name: value for name, value in filters.items() if value} | {"limit": limit}
    answer = world.call("GET", "/api/v1/incidents", query=query)
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        print(f"{one['id']}  {one['state']:<17} {one['count']:>6}x  {one['service'] or ''}".rstrip())
        say(one["title"], indent=4)
        say(one["held_reason"] or one["action_taken"], indent=4)
    if not answer["items"]:
        print("no incidents")
    more(answer)


@cli.command(epilog=example("prunella incidents show INCIDENT --json"))
def show(incident: OneIncident, as_json: Json = False) -> None:
    """Tell an incident's story: what it is, why, and what was done."""
    tell(incident, as_json)


def tell(incident: str, as_json: bool) -> None:
    """Print an incident's story."""
    from prunella.cli.explain import tell_story

    story = world.call("GET", world.at("incidents", incident))
    if as_json:
        print(json.dumps(story, indent=2, ensure_ascii=False))
        return
    for line in tell_story(story).splitlines():
        say(line.lstrip(), indent=len(line) - len(line.lstrip()), hang=9)


@acts.command(
    epilog=example(
        "prunella explain INCIDENT",
        'prunella explain "429 Too Many Requests" --service stripe --status 429',
        "pbpaste | prunella explain -",
    )
)
def explain(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT",
            help="An incident's id, or the text of an error; - reads a traceback or a raw HTTP response.",
        ),
    ],
    service: Annotated[str, typer.Option(help="For a text: the service it came from.")] = "unnamed",
    status: Annotated[int | None, typer.Option(help="For a text: the HTTP status.", min=100, max=599)] = None,
    code: Annotated[str | None, typer.Option(help="For a text: the service's own code.")] = None,
    as_json: Json = False,
) -> None:
    """Say what an incident is, why, and what was done; or diagnose a text without any engine."""
    from prunella.cli.explain import diagnose_text, is_incident_id

    subject = legible(sys.stdin.read(_PASTED_MAX)) if subject == "-" else subject
    if is_incident_id(subject):
        tell(subject.strip().lower(), as_json)
        return
    diagnosis = diagnose_text(subject, service=service, status=status, code=code)
    if as_json:
        print_json(diagnosis)
        return
    for name, value in diagnosis.items():
        if value not in (None, []):
            say(f"{name:<13} {'; '.join(value) if isinstance(value, list) else value}", hang=14)


@acts.command(epilog=example("prunella scan --window-minutes 60", "prunella scan --dry-run"))
def scan(
    window_minutes: Annotated[float, typer.Option(min=0.1, max=44_640, help="How far back to look.")] = 15,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many incidents to take.")] = 50,
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Look again at what rests, now."""
    if dry_run:
        found = world.call("GET", "/api/v1/incidents", query={"state": "open_any", "limit": limit})["items"]
        would(f"look again at what is due of {len(found)} open incidents", as_json)
        return
    answer = world.call("POST", world.SCAN, {"mode": "scan", "window_minutes": window_minutes, "limit": limit})
    if as_json:
        print_json(answer)
        return
    print(
        f"{answer['processed_count']} looked at: {answer['resolved_count']} resolved, "
        f"{answer['pending_count']} pending, {answer['disabled_count']} disabled"
    )
    for event in answer["events"]:
        told = f"{event['status']:<9} {event['service_name']:<16} {event['category']:<11} {event['action_taken']}"
        say(told, indent=2)


@acts.command(epilog=example('prunella retry INCIDENT --reason "the password was renewed"'))
def retry(incident: OneIncident, reason: Reason = "", dry_run: Dry = False, as_json: Json = False) -> None:
    """Let the machine try an incident again, from the beginning: after a person put right what stood in its way."""
    answer = _act(incident, "retry", reason, dry_run, as_json)
    if answer is not None:
        say(f"{answer['title']}: {answer['state']}; look at it with: prunella explain {incident}")


@acts.command(epilog=example('prunella suppress INCIDENT --reason "known, fixed on Monday"'))
def suppress(incident: OneIncident, reason: Reason = "", dry_run: Dry = False, as_json: Json = False) -> None:
    """Leave an incident alone: nothing is tried and nobody is told until somebody retries it."""
    answer = _act(incident, "suppress", reason, dry_run, as_json)
    if answer is not None:
        say(f"{answer['title']}: {answer['state']}; lift it with: prunella retry {incident}")


@acts.command(epilog=example('prunella escalate INCIDENT --reason "finance decides"'))
def escalate(incident: OneIncident, reason: Reason = "", dry_run: Dry = False, as_json: Json = False) -> None:
    """Make an incident a person's: the machine tries nothing more."""
    answer = _act(incident, "escalate", reason, dry_run, as_json)
    if answer is not None:
        say(f"{answer['title']}: {answer['state']}; hand it back with: prunella retry {incident}")


@acts.command(epilog=example('prunella resolve INCIDENT --reason "the customer was called, and ordered anew"'))
def resolve(incident: OneIncident, reason: Reason = "", dry_run: Dry = False, as_json: Json = False) -> None:
    """Say that an incident is over, where nothing but a person can tell; of a request, replay or cancel it first."""
    answer = _act(incident, "resolve", reason, dry_run, as_json)
    if answer is not None:
        say(f"{answer['title']}: {answer['state']}; should it come back, a new incident begins")


@acts.command(epilog=example("prunella ack INCIDENT", "prunella ack NOTIFICATION"))
def ack(
    subject: Annotated[str, typer.Argument(metavar="ID", help="Of an incident, or of a notification.")],
    reason: Reason = "",
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Say that you have seen an incident or a notification, and look after it."""
    if world.exists(world.at("incidents", subject)):
        answer = _act(subject, "ack", reason, dry_run, as_json)
        if answer is not None:
            say(f"{answer['title']}: acknowledged by {answer['acknowledged_by']}")
        return
    if dry_run:
        waiting = world.call("GET", "/api/v1/notifications", query={"limit": 500})["items"]
        if subject not in (one["notification_id"] for one in waiting):
            raise PrunellaError(f"no incident and no notification that waits has the id {subject!r}")
        would(f"acknowledge notification {subject} as {world.person()}", as_json)
        return
    answer = world.call("POST", world.at("self-healing", "notifications", subject, "acknowledge"))
    if as_json:
        print_json(answer)
    else:
        print(f"acknowledged by {answer['acknowledged_by']}")


def _act(incident: str, act: str, reason: str, dry_run: bool, as_json: bool) -> dict[str, Any] | None:
    """Do something to an incident; None where everything that is to be said was said."""
    if dry_run:
        _would_act(world.call("GET", world.at("incidents", incident)), act, as_json)
        return None
    answer: dict[str, Any] = world.call("POST", world.at("incidents", incident, act), {"reason": reason})
    if as_json:
        print_json(answer)
        return None
    return answer


def _would_act(found: dict[str, Any], act: str, as_json: bool) -> None:
    """Say what an act would do, or refuse it as the engine would."""
    from prunella.core.states import INCIDENT

    if found["state"] == "resolved":
        raise PrunellaError(f"incident {found['id']} is resolved; {act} needs an open one")
    if act == "retry" and found["state"] == "healing":
        raise PrunellaError(f"incident {found['id']} is being healed right now; wait for the outcome")
    if act in _BECOMES:
        INCIDENT.check(found["state"], _BECOMES[act])
    if act == "resolve":
        _must_be_over(found)
    would(f"{act} {found['title']} (now {found['state']}) as {world.person()}", as_json)


def _must_be_over(found: dict[str, Any]) -> None:
    """Refuse to resolve what a check looks at itself, and what a request is left of."""
    incident = found["id"]
    if not found["procedure"].startswith("recover."):
        raise PrunellaError(f"incident {incident} is resolved when procedure {found['procedure']} finds it well")
    for state in ("waiting", "running", "dead"):
        query = {"incident": incident, "state": state, "limit": 1}
        if world.call("GET", "/api/v1/operations", query=query)["items"]:
            raise PrunellaError(
                f"incident {incident} has requests that are {state}; replay or cancel first what is listed by: "
                f"prunella operations --incident {incident}"
            )
