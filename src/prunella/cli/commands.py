"""Every command and its options. Imports of the engine stand inside the commands, so that `--help` stays quick."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from prunella.cli import audit, entities, keys, notify, operations, procedures, world
from prunella.cli.printing import Json, print_json

cli = typer.Typer(
    name="prunella",
    help="Self-healing for services and their integrations.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_cli = typer.Typer(help="Check and describe the configuration.", no_args_is_help=True)
db_cli = typer.Typer(help="Look after prunella's own tables.", no_args_is_help=True)
secret_cli = typer.Typer(help="Keep named secrets for secret://NAME.", no_args_is_help=True)
credentials_cli = typer.Typer(help="Keep the OAuth tokens of services.", no_args_is_help=True)
services_cli = typer.Typer(help="See services; enable, disable, pause, resume or probe one.", no_args_is_help=True)
known_cli = typer.Typer(help="Try the patterns by which known issues are recognised.", no_args_is_help=True)
for group, name in (
    (config_cli, "config"),
    (db_cli, "db"),
    (secret_cli, "secret"),
    (credentials_cli, "credentials"),
    (services_cli, "services"),
    (known_cli, "known-issues"),
    (operations.cli, "operations"),
    (keys.cli, "keys"),
    (notify.cli, "notify"),
    (audit.cli, "audit"),
):
    cli.add_typer(group, name=name)

_PASTED_MAX = 1024 * 1024
"""Characters that are read of a paste; a failure keeps 16 kB of them."""


class RoleName(StrEnum):
    """The roles that a token can have."""

    ADMIN = "ADMIN"
    OPERATIONS = "OPERATIONS"
    VIEWER = "VIEWER"
    APPLICATION = "APPLICATION"


def run(arguments: Sequence[str]) -> None:
    """Take `--config/-c` from wherever it stands, run the command, and end with one clear line on an error."""
    from prunella.core.errors import ConfigError, PrunellaError

    try:
        rest = world.take_config(list(arguments))
        cli(rest, standalone_mode=True)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        raise SystemExit(2) from None
    except PrunellaError as error:
        print(f"prunella: {error}", file=sys.stderr)
        raise SystemExit(1) from None


Database = Annotated[
    str | None, typer.Option("--db", help="Address of the database, in place of the configured one.", metavar="URL")
]


@cli.command()
def up(db: Database = None) -> None:
    """Start the engine, the API and the dashboard in this process."""
    with _ends_on_signals():
        from prunella.cli.up import serve

        serve(world.settings(database_url=db))


@cli.command()
def worker(
    db: Database = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Answer /livez, /readyz and /metrics there.")
    ] = None,
) -> None:
    """Start one more worker beside `prunella up`: it heals and takes no events; as many as wanted, on PostgreSQL."""
    with _ends_on_signals():
        from prunella.cli.up import work

        work(world.settings(database_url=db), listen=None if listen is None else world.listening(listen))


@contextmanager
def _ends_on_signals() -> Iterator[None]:
    """End well and at once when told to stop before anything is under way; as process 1 we would not even hear it."""
    before = {sign: signal.signal(sign, lambda *_: os._exit(0)) for sign in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


@cli.command()
def reconcile(db: Database = None) -> None:
    """Queue everything anew that waits, from the tables: for when the queue's own tables were lost or emptied."""
    from prunella.cli.up import requeue

    print(f"queued {requeue(world.settings(database_url=db))} things that wait")


@cli.command()
def demo(
    seconds: Annotated[float, typer.Option(help="Give up after this many seconds.", min=10, max=600)] = 60,
    port: Annotated[int, typer.Option(help="Port of the dashboard, 0 for any free one.", min=0, max=65535)] = 0,
) -> None:
    """Break a small shop in front of you, and heal it; at a terminal the dashboard stays until Ctrl-C."""
    from prunella.demo import show

    raise SystemExit(show(seconds=seconds, port=port))


@cli.command()
def scan(
    window_minutes: Annotated[float, typer.Option(min=0.1, max=44_640, help="How far back to look.")] = 15,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many incidents to take.")] = 50,
    as_json: Json = False,
) -> None:
    """Look again at what rests, now."""
    body = {"mode": "scan", "window_minutes": window_minutes, "limit": limit}
    answer = world.call("POST", world.SCAN, body)
    if as_json:
        print_json(answer)
        return
    print(
        f"{answer['processed_count']} looked at: {answer['resolved_count']} resolved, "
        f"{answer['pending_count']} pending, {answer['disabled_count']} disabled"
    )
    for event in answer["events"]:
        print(f"  {event['status']:<9} {event['service_name']:<16} {event['category']:<11} {event['action_taken']}")


@cli.command()
def incidents(
    state: Annotated[str | None, typer.Option(help="Only this state; open_any for everything unresolved.")] = None,
    service: Annotated[str | None, typer.Option(help="Only this service.")] = None,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: Json = False,
) -> None:
    """List incidents, newest first."""
    filters = {"state": state, "service": service, "category": category, "limit": limit}
    answer = world.call("GET", "/api/v1/incidents", query={name: value for name, value in filters.items() if value})
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        print(f"{one['id']}  {one['state']:<17} {one['count']:>6}x  {one['title']}")
        print(f"{'':38}{one['held_reason'] or one['action_taken']}")
    if not answer["items"]:
        print("no incidents")


@cli.command()
def explain(
    subject: Annotated[
        str,
        typer.Argument(help="An incident's id, or the text of an error; - reads a traceback or a raw HTTP response."),
    ],
    service: Annotated[str, typer.Option(help="For a text: the service it came from.")] = "unnamed",
    status: Annotated[int | None, typer.Option(help="For a text: the HTTP status.", min=100, max=599)] = None,
    code: Annotated[str | None, typer.Option(help="For a text: the service's own code.")] = None,
    as_json: Json = False,
) -> None:
    """Say what an incident is, why, and what was done; or diagnose a text without any engine."""
    from prunella.cli.explain import diagnose_text, is_incident_id, tell_story

    subject = sys.stdin.read(_PASTED_MAX) if subject == "-" else subject
    if is_incident_id(subject):
        story = world.call("GET", f"/api/v1/incidents/{subject}")
        print(json.dumps(story, indent=2, ensure_ascii=False) if as_json else tell_story(story))
        return
    diagnosis = diagnose_text(subject, service=service, status=status, code=code)
    if as_json:
        print_json(diagnosis)
        return
    for name, value in diagnosis.items():
        if value not in (None, []):
            print(f"{name:<13} {'; '.join(value) if isinstance(value, list) else value}")


@cli.command()
def retry(
    incident: Annotated[str, typer.Argument(help="Its id, as `prunella incidents` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the audit.")] = "",
) -> None:
    """Let the machine try an incident again, from the beginning: after a person put right what stood in its way."""
    answer = world.call("POST", f"/api/v1/incidents/{incident}/retry", {"reason": reason})
    print(f"{answer['title']}: {answer['state']}; look at it with: prunella explain {incident}")


@cli.command()
def token(
    role: Annotated[RoleName, typer.Option(help="What the token may do.")] = RoleName.VIEWER,
    ttl: Annotated[str, typer.Option(help="How long it lasts, as 30m or 12h.")] = "1h",
    link: Annotated[bool, typer.Option(help="Print the dashboard's address with the token.")] = False,
) -> None:
    """Print a signed token, and nothing else."""
    minted = world.mint(role.value, world.duration_s(ttl))
    print(f"{world.settings().public_url}/login?token={minted}" if link else minted)


@config_cli.command("check")
def config_check() -> None:
    """Read the configuration and name every mistake."""
    settings = world.settings(warn=True)
    sections = ("services", "databases", "procedures", "entities", "warnings")
    print(f"{world.config_name()}: good ({', '.join(f'{len(getattr(settings, name))} {name}' for name in sections)})")


@config_cli.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of prunella.yaml, for editors."""
    from prunella.settings import json_schema

    print_json(json_schema())


@db_cli.command("upgrade")
def db_upgrade(
    compat: Annotated[
        bool, typer.Option("--compat", help="Install SQL functions and views in your PostgreSQL databases, too.")
    ] = False,
) -> None:
    """Create or change the tables as this version wants them."""
    import asyncio

    from prunella.app import upgrade
    from prunella.store import migrations

    settings = world.settings()
    before = migrations.current(settings.migrate_url)
    asyncio.run(upgrade(settings))
    print(f"tables at revision {migrations.current(settings.migrate_url)} (were at {before or 'none'})")
    if compat:
        from prunella.cli.compat import install_everywhere

        asyncio.run(install_everywhere(settings, print))


@db_cli.command("grant")
def db_grant(
    shown: Annotated[bool, typer.Option("--print", help="Print the SQL; prunella never runs it.")] = False,
    role: Annotated[str, typer.Option(help="What the role is called.")] = "prunella_healer",
    database: Annotated[str | None, typer.Option(help="Only for this database of yours.")] = None,
) -> None:
    """Print the SQL of a role that may do what the configuration asks for, and nothing else."""
    from prunella.cli.doctor import grants

    if not shown:
        raise typer.BadParameter("write --print: grants are printed for you to read and run, never carried out")
    for statements in grants(world.settings(), role, database):
        print(statements)


@cli.command()
def doctor() -> None:
    """Look for what should be put right: configuration, tables and columns, missing indexes; status 1 if anything."""
    from prunella.cli.doctor import examine
    from prunella.core.errors import ConfigError

    try:
        settings = world.settings(warn=True)
    except ConfigError as error:
        found, known = list(error.problems), list[str]()
    else:
        found, known = examine(settings)
    for finding in (*known, *found):
        print(finding)
    print(f"{len(found)} to put right" if found else f"{world.config_name()}: all is well")
    raise typer.Exit(1 if found else 0)


@secret_cli.command("set")
def secret_set(name: str) -> None:
    """Store a secret; its value is read from standard input."""
    world.call("PUT", f"/api/v1/secrets/{name}", {"value": world.read_secret(f"value of {name}: ")}, role="ADMIN")
    print(f"stored secret://{name}")


@secret_cli.command("list")
def secret_list() -> None:
    """List the names of stored secrets."""
    for name in world.call("GET", "/api/v1/secrets", role="ADMIN")["items"]:
        print(name)


@secret_cli.command("rm")
def secret_rm(name: str) -> None:
    """Forget a secret."""
    world.call("DELETE", f"/api/v1/secrets/{name}", role="ADMIN")
    print(f"forgot secret://{name}")


@credentials_cli.command("set")
def credentials_set(
    service: str,
    user: Annotated[str, typer.Option(help="The account, where each user has one.")] = "",
    expires_in: Annotated[float | None, typer.Option(help="Seconds until the access token ends.")] = None,
) -> None:
    """Store a service's tokens: the access token and, on a second line, the refresh token from standard input."""
    access, refresh = world.read_tokens()
    body: dict[str, Any] = {"access_token": access, "account": user}
    body |= {"refresh_token": refresh} if refresh else {}
    body |= {"expires_in": expires_in} if expires_in else {}
    world.call("PUT", f"/api/v1/services/{service}/credentials", body, role="ADMIN")
    print(f"stored the tokens of {service}{f' for {user}' if user else ''}")


@services_cli.command("list")
def services_list(as_json: Json = False) -> None:
    """List services with their gates."""
    answer = world.call("GET", "/api/v1/services")
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        pace = f"{one['rate']['per_s']:g}/s" if one["rate"] else ""
        print(f"{one['name']:<20} {one['gate']['state']:<10} {pace:<8} {one['gate']['reason'] or ''}".rstrip())


def _service_command(act: str, words: str) -> None:
    @services_cli.command(act, help=words)
    def command(name: str, reason: Annotated[str, typer.Option(help="Why; it stands in the audit.")] = "") -> None:
        answer = world.call("POST", f"/api/v1/services/{name}/{act}", {"reason": reason})
        print(f"{name}: {answer['gate']['state']}")


_service_command("enable", "Let calls to a disabled service pass again.")
_service_command("disable", "Send nothing more to a service.")
_service_command("pause", "Hold a service until you resume it.")
_service_command("resume", "End your pause of a service.")
_service_command("probe", "Ask a service now whether it is well.")


@known_cli.command("test")
def known_issues_test(
    patterns: Annotated[Path, typer.Option(help="YAML: a list of {id, pattern, severity, service, kind, remedy ...}.")],
    message: Annotated[str, typer.Argument(help="The text of an error; - or nothing: standard input.")] = "-",
    service: Annotated[str | None, typer.Option(help="The service that failed; without it all are meant.")] = None,
    code: Annotated[str | None, typer.Option(help="With a service: its own code.")] = None,
    kind: Annotated[str | None, typer.Option(help="What it was diagnosed as, as network.dns.")] = None,
    as_json: Json = False,
) -> None:
    """Say which known issues a message fits, where, and which one counts; status 1 if a pattern is refused."""
    from prunella.cli.known_issues import read_patterns
    from prunella.core.clock import SystemClock
    from prunella.diagnosis.trial import try_out

    known = read_patterns(patterns)
    text = sys.stdin.read() if message == "-" else message
    trial = try_out(text, known, SystemClock(), service=service, code=code, kind=kind)
    if as_json:
        print_json(trial.as_json())
    else:
        print(trial)
        for note in (*trial.refused.values(), *trial.warnings):
            print(note, file=sys.stderr)
    if trial.refused:
        raise typer.Exit(1)


for subject in (procedures, entities):
    cli.registered_commands += subject.cli.registered_commands
