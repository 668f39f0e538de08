"""Commands about what is kept secret: named secrets, and the OAuth tokens of services."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from prunella.cli import services, world
from prunella.cli.printing import Dry, Json, example, print_json, would
from prunella.core.errors import PrunellaError

secret_cli = typer.Typer(invoke_without_command=True)
credentials_cli = typer.Typer(help="Keep the OAuth tokens of services.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As prunella.yaml names it behind secret://.")]


@secret_cli.callback(epilog=example("prunella secret", "prunella secret set slack/webhook"))
def secrets(context: typer.Context, as_json: Json = False) -> None:
    """List the names of stored secrets; with a command: store or forget one."""
    if context.invoked_subcommand is None:
        _list(as_json)


@secret_cli.command("list", epilog=example("prunella secret list --json"))
def secret_list(as_json: Json = False) -> None:
    """List the names of stored secrets."""
    _list(as_json)


def _list(as_json: bool) -> None:
    answer = world.call("GET", "/api/v1/secrets", role="ADMIN")
    if as_json:
        print_json(answer)
        return
    for name in answer["items"]:
        print(name)


@secret_cli.command("set", epilog=example("prunella secret set slack/webhook < webhook.txt"))
def secret_set(name: Name, dry_run: Dry = False) -> None:
    """Store a secret; its value is read from standard input."""
    if dry_run:
        known = name in world.call("GET", "/api/v1/secrets", role="ADMIN")["items"]
        would(f"store secret://{name}{' in place of the one that is there' if known else ''}")
        return
    value = world.read_secret(f"value of {name}: ")
    world.call("PUT", world.at("secrets", name), {"value": value}, role="ADMIN")
    print(f"stored secret://{name}")


@secret_cli.command("rm", epilog=example("prunella secret rm slack/webhook"))
def secret_rm(name: Name, dry_run: Dry = False) -> None:
    """Forget a secret."""
    if dry_run:
        if name not in world.call("GET", "/api/v1/secrets", role="ADMIN")["items"]:
            raise PrunellaError(f"there is no secret {name!r}; look with: prunella secret list")
        would(f"forget secret://{name}; what refers to it fails from then on")
        return
    world.call("DELETE", world.at("secrets", name), role="ADMIN")
    print(f"forgot secret://{name}")


@credentials_cli.command("set", epilog=example("prunella credentials set crm --expires-in 3600 < tokens.txt"))
def credentials_set(
    service: services.OneService,
    user: Annotated[str, typer.Option(help="The account, where each user has one.")] = "",
    expires_in: Annotated[float | None, typer.Option(help="Seconds until the access token ends.")] = None,
    dry_run: Dry = False,
) -> None:
    """Store a service's tokens: the access token and, on a second line, the refresh token from standard input."""
    account = f" for {user}" if user else ""
    if dry_run:
        services.found(service)
        would(f"store the tokens of {service}{account}, and try anew what waits for them")
        return
    access, refresh = world.read_tokens()
    body: dict[str, Any] = {"access_token": access, "account": user}
    body |= {"refresh_token": refresh} if refresh else {}
    body |= {"expires_in": expires_in} if expires_in else {}
    world.call("PUT", world.at("services", service, "credentials"), body, role="ADMIN")
    print(f"stored the tokens of {service}{account}")
