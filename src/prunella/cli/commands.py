"""Every command and where it stands. Imports of the engine stand inside the commands, so that `--help` stays quick."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from prunella import __version__
from prunella.cli import (
    audit,
    configuration,
    curating,
    effects,
    entities,
    incidents,
    keeping,
    keys,
    links,
    notify,
    operations,
    procedures,
    rotating,
    services,
    streams,
    watching,
    world,
)
from prunella.cli.printing import Dry, Json, example, print_json, would

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # newer versions of Typer carry a click of their own
_ENDS = (
    "Status: 0 all is well; 1 refused, failed, or something to put right; 2 wrong usage or configuration; "
    "130 interrupted. Each command takes --config PATH (-c), before or after it; NO_COLOR is heeded."
)
_LASTING = ("up", "worker")

cli = typer.Typer(
    name="prunella",
    help="Self-healing for services and their integrations.",
    epilog=_ENDS,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group, name in (
    (incidents.cli, "incidents"),
    (services.cli, "services"),
    (operations.cli, "operations"),
    (curating.cli, "known-issues"),
    (watching.events_cli, "events"),
    (configuration.config_cli, "config"),
    (configuration.db_cli, "db"),
    (keeping.secret_cli, "secret"),
    (keeping.credentials_cli, "credentials"),
    (keys.cli, "keys"),
    (links.cli, "links"),
    (notify.cli, "notify"),
    (audit.cli, "audit"),
):
    cli.add_typer(group, name=name)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"prunella {__version__}")
        raise typer.Exit


@cli.callback()
def _begin(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


class RoleName(StrEnum):
    """The roles that a token can have."""

    ADMIN = "ADMIN"
    OPERATIONS = "OPERATIONS"
    VIEWER = "VIEWER"
    APPLICATION = "APPLICATION"


def run(arguments: Sequence[str]) -> None:
    """Take `--config/-c` from wherever it stands, run the command, and end with one clear line on an error."""
    from prunella.core.errors import ConfigError, PrunellaError

    streams.prepare()
    try:
        arguments = [streams.legible(one) for one in world.take_config(list(arguments))]
        status = cli(arguments, prog_name="prunella", standalone_mode=False)
        sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        raise SystemExit(2) from None
    except PrunellaError as error:
        print(f"prunella: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except _UsageError as error:
        print(_misused(error), file=sys.stderr)
        raise SystemExit(2) from None
    except typer.Abort:
        print("prunella: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if arguments[:1] and arguments[0] in _LASTING:
            raise  # into the log of who keeps it running
        streams.leave_stdout()
        if not isinstance(error, OSError) or error.errno != errno.EPIPE:  # `| head` has read enough
            print(f"prunella: {_unforeseen(error)}", file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(status if isinstance(status, int) else 0)


def _unforeseen(error: Exception) -> str:
    """Say in a line what nobody foresaw: of the system with its place, of our own with where it happened."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'standard output'}: {error.strerror}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    return f"a fault of its own, or an answer of another version: {type(error).__name__} at {place}; please report it"


def _misused(error: Exception) -> str:
    """Say what was wrong with the words that were typed, and where to read on."""
    told: str = getattr(error, "format_message")()  # noqa: B009, the class is Typer's own
    context = getattr(error, "ctx", None)
    if context is None or "\n" in told:  # a group without a command shows its whole help
        return told
    return f"prunella: {told.rstrip('.')}; see: {context.command_path} --help"


Database = Annotated[
    str | None, typer.Option("--db", help="Address of the database, in place of the configured one.", metavar="URL")
]


@cli.command(epilog=example("prunella up", "prunella up --db postgresql://prunella@db/prunella"))
def up(db: Database = None) -> None:
    """Start the engine, the API and the dashboard in this process."""
    with _ends_on_signals():
        from prunella.cli.up import serve

        serve(world.settings(database_url=db))


@cli.command(epilog=example("prunella worker", "prunella worker --listen 127.0.0.1:8124"))
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


@cli.command(
    epilog=example(
        "prunella init", "prunella init --yes", "printf 'crm https://crm.example\\n\\n\\n\\n' | prunella init"
    )
)
def init(
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; take what begins at once on this machine.")] = False,
    dry_run: Dry = False,
) -> None:
    """Ask four questions, or none, and write a commented prunella.yaml; nothing is ever overwritten."""
    from prunella.cli.beginning import begin

    begin(world.config_path() or Path("prunella.yaml"), ask=not yes, dry_run=dry_run)


@cli.command(epilog=example("prunella doctor", "prunella doctor --json"))
def doctor(as_json: Json = False) -> None:
    """Look for what should be put right, with the fix for each; status 1 if there is an error, 0 on warnings alone."""
    from prunella.cli.doctor import as_rows, examine, tell

    found = examine()
    wrong = sum(one.is_error for one in found)
    if as_json:
        print_json({"config": world.config_name(), "errors": wrong, "findings": as_rows(found)})
    else:
        tell(found, world.config_name())
    raise typer.Exit(1 if wrong else 0)


@cli.command(epilog=example("prunella reconcile --dry-run"))
def reconcile(db: Database = None, dry_run: Dry = False) -> None:
    """Queue everything anew that waits, from the tables: for when the queue's own tables were lost or emptied."""
    from prunella.cli.up import must_have_room, requeue

    settings = world.settings(database_url=db)
    if dry_run:
        must_have_room(settings)
        would("queue anew every open incident, waiting operation and message, and each procedure")
        return
    print(f"queued {requeue(settings)} things that wait")


@cli.command(epilog=example("prunella demo", "prunella demo --port 8200"))
def demo(
    seconds: Annotated[float, typer.Option(help="Give up after this many seconds.", min=10, max=600)] = 60,
    port: Annotated[int, typer.Option(help="Port of the dashboard, 0 for any free one.", min=0, max=65535)] = 0,
) -> None:
    """Break a small shop in front of you, and heal it; at a terminal the dashboard stays until Ctrl-C."""
    from prunella.demo import show

    raise typer.Exit(show(seconds=seconds, port=port))


@cli.command(epilog=example("prunella token --role ADMIN --ttl 30m", "prunella token --link"))
def token(
    role: Annotated[RoleName, typer.Option(help="What the token may do.")] = RoleName.VIEWER,
    ttl: Annotated[str, typer.Option(help="How long it lasts, as 30m or 12h.")] = "1h",
    link: Annotated[bool, typer.Option(help="Print the dashboard's address with the token.")] = False,
) -> None:
    """Print a signed token of yours, and nothing else."""
    minted = world.mint(role.value, world.duration_s(ttl))
    print(f"{world.settings().public_url}/login?token={minted}" if link else minted)


for subject in (incidents.acts, procedures.cli, entities.cli, effects.cli, watching.acts, rotating.cli):
    cli.registered_commands += subject.registered_commands
