"""Commands about services: their gates and rates, and what a person may do to one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from prunella.cli import world
from prunella.cli.printing import Dry, Json, Reason, example, print_json, say, would
from prunella.core.errors import PrunellaError

cli = typer.Typer(invoke_without_command=True)

OneService = Annotated[str, typer.Argument(metavar="SERVICE", help="Its name in prunella.yaml.")]
_NEEDS = {"enable": "disabled", "resume": "paused"}
_BECOMES = {"enable": "closed", "resume": "closed", "disable": "disabled", "pause": "paused"}


@cli.callback(epilog=example("prunella services", 'prunella services pause crm --reason "release"'))
def services(context: typer.Context, as_json: Json = False) -> None:
    """List services with their gates; with a command: act on one."""
    if context.invoked_subcommand is None:
        _list(as_json)


@cli.command("list", epilog=example("prunella services list --json"))
def list_services(as_json: Json = False) -> None:
    """List services with their gates, as `prunella services` does."""
    _list(as_json)


def _list(as_json: bool) -> None:
    answer = world.call("GET", "/api/v1/services")
    if as_json:
        print_json(answer)
        return
    for one in answer["items"]:
        pace = f"{one['rate']['per_s']:g}/s" if one["rate"] else ""
        say(f"{one['name']:<20} {one['gate']['state']:<10} {pace:<8} {one['gate']['reason'] or ''}".rstrip(), hang=41)
    if not answer["items"]:
        print("no services; write some below services: in prunella.yaml")


def _command(act: str, words: str) -> None:
    @cli.command(act, help=words, epilog=example(f"prunella services {act} crm"))
    def command(service: OneService, reason: Reason = "", dry_run: Dry = False, as_json: Json = False) -> None:
        change(service, act, reason, dry_run, as_json)


_command("enable", "Let calls to a disabled service pass again.")
_command("disable", "Send nothing more to a service.")
_command("pause", "Hold a service until you resume it.")
_command("resume", "End your pause of a service.")
_command("probe", "Ask a service now whether it is well.")


def change(service: str, act: str, reason: str, dry_run: bool, as_json: bool) -> None:
    """Act on a service, or say what that would do."""
    if dry_run:
        would(_would(service, act), as_json)
        return
    answer = world.call("POST", world.at("services", service, act), {"reason": reason})
    if as_json:
        print_json(answer)
    else:
        print(f"{service}: {answer['gate']['state']}")


def found(service: str) -> dict[str, Any]:
    """Return a service as the engine knows it."""
    known = {one["name"]: one for one in world.call("GET", "/api/v1/services")["items"]}
    if service not in known:
        raise PrunellaError(f"there is no service {service!r}; known: {', '.join(known) or 'none'}")
    one: dict[str, Any] = known[service]
    return one


def _would(service: str, act: str) -> str:
    """Say what an act would do, or refuse it as the engine would."""
    from prunella.core.states import GATE

    state = found(service)["gate"]["state"]
    if act == "probe":
        if world.settings().services[service].health is None:
            raise PrunellaError(f"service {service} has no health address to probe; set services.{service}.health")
        return f"ask {service} whether it is well (its gate is {state})"
    if act in _NEEDS and state != _NEEDS[act]:
        raise PrunellaError(f"service {service} is {state}; {act} needs {_NEEDS[act]}")
    GATE.check(state, _BECOMES[act])
    return f"{act} {service}: from {state} to {_BECOMES[act]}, as {world.person()}"
