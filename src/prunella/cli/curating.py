"""Commands that act on known issues: pair them with remedies, end, open, join and divide them, import and export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from prunella.cli import world
from prunella.cli.known import cli
from prunella.cli.printing import Dry, Json, Reason, example, print_json, say, would
from prunella.cli.streams import legible
from prunella.core.errors import ConfigError, PrunellaError
from prunella.core.issues import MACHINE

__all__ = ["cli"]

Issue = Annotated[str, typer.Argument(metavar="ID", help="Its id, as `prunella known-issues` says.")]
Remedy = Annotated[str, typer.Argument(metavar="REMEDY", help="Its registered name: refresh_auth.")]


@cli.command(epilog=example("prunella known-issues bind crm-1f2e3d4c warm_up --set node=n1 --level L1"))
def bind(
    issue: Issue,
    remedy: Remedy,
    given: Annotated[list[str] | None, typer.Option("--set", help="A value that it is given: name=value.")] = None,
    level: Annotated[str, typer.Option(help="L0 heals, L1 heals and tells, L2 asks, L3 leaves it to you.")] = "L1",
    reason: Reason = "",
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Let a remedy stand by for an issue; open incidents of it are tried with it at once."""
    found = _on_its_own(issue) if dry_run else _issue(issue)
    choice = next((one for one in found["choices"] if one["remedy"] == remedy), None)
    if choice is None:
        known = ", ".join(one["remedy"] for one in found["choices"]) or "none"
        raise PrunellaError(f"there is no remedy {remedy!r} to bind; known: {known}")
    parameters = _values(choice, given or [])
    if dry_run:
        if choice["misfit"]:
            raise PrunellaError(f"{remedy} can do nothing here: {choice['misfit']}")
        would(f"bind {remedy} to {issue} at {level}, given {parameters or 'nothing'}", as_json)
        return
    body = {"remedy": remedy, "parameters": parameters, "level": level, "reason": reason}
    _act(issue, "bind", body, f"{issue}: {remedy} stands by at {level}", as_json)


@cli.command(epilog=example("prunella known-issues unbind crm-1f2e3d4c warm_up"))
def unbind(issue: Issue, remedy: Remedy, reason: Reason = "", dry_run: Dry = False, as_json: Json = False) -> None:
    """Let a remedy stand by for an issue no more; what became of it stays known."""
    if dry_run:
        bound = [one["remedy"] for one in _on_its_own(issue)["remedies"]]
        if remedy not in bound:
            raise PrunellaError(f"{remedy!r} is not bound to {issue}; bound: {', '.join(bound) or 'none'}")
        would(f"unbind {remedy} from {issue}", as_json)
        return
    _act(issue, "unbind", {"remedy": remedy, "reason": reason}, f"{issue}: {remedy} is not tried any more", as_json)


@cli.command(epilog=example('prunella known-issues resolve crm-1f2e3d4c --reason "the vendor put it right"'))
def resolve(issue: Issue, reason: Reason = "", dry_run: Dry = False, as_json: Json = False) -> None:
    """Say that an issue is over; seen again after a day of quiet it counts as a regression."""
    if dry_run:
        found = _on_its_own(issue)
        if found["state"] == "resolved" and found["resolved_by"] != MACHINE:
            raise PrunellaError(f"known issue {issue} is resolved already, by {found['resolved_by']}")
        would(f"resolve {issue} (now {found['state']})", as_json)
        return
    _act(issue, "resolve", {"reason": reason}, f"{issue}: resolved", as_json)


@cli.command(epilog=example("prunella known-issues reopen crm-1f2e3d4c"))
def reopen(issue: Issue, reason: Reason = "", dry_run: Dry = False, as_json: Json = False) -> None:
    """Say that an issue is not over, or wake one that sleeps."""
    if dry_run:
        found = _on_its_own(issue)
        if found["state"] in ("active", "regressed"):
            raise PrunellaError(f"known issue {issue} is {found['state']}; reopen needs one that is not")
        would(f"reopen {issue} (now {found['state']})", as_json)
        return
    _act(issue, "reopen", {"reason": reason}, f"{issue}: active", as_json)


@cli.command(epilog=example("prunella known-issues merge crm-1f2e3d4c crm-5a6b7c8d"))
def merge(
    issue: Issue,
    into: Annotated[str, typer.Argument(metavar="INTO", help="The one that stands for both.")],
    reason: Reason = "",
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Join an issue with another that is the same problem; split takes it back."""
    if dry_run:
        found, target = _on_its_own(issue), _on_its_own(into)
        if found["joined"]:
            raise PrunellaError(
                f"{', '.join(found['joined'])} stands for itself no more but for {issue}; split it first"
            )
        would(f"join {found['id']} with {target['id']}", as_json)
        return
    _act(issue, "merge", {"into": into, "reason": reason}, f"{into} stands for {issue}, too", as_json)


@cli.command(
    epilog=example(
        "prunella known-issues split crm-1f2e3d4c",
        'prunella known-issues split crm-1f2e3d4c --pattern "quota of the trial exceeded"',
    )
)
def split(
    issue: Issue,
    pattern: Annotated[str | None, typer.Option(help="Makes a second issue, which counts where this fits.")] = None,
    title: Annotated[str | None, typer.Option(help="With a pattern: what the second one is called.")] = None,
    reason: Reason = "",
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Take an issue apart from the one that it was joined with; with a pattern: make two of one."""
    if dry_run:
        joined = _issue(issue)["alias_of"]
        if pattern is None and joined is None:
            raise PrunellaError(f"known issue {issue} is joined with none; to make two of it, give --pattern")
        would(f"make a second issue of {issue}" if pattern else f"take {issue} apart from {joined}", as_json)
        return
    sent = {"pattern": pattern, "title": title, "reason": reason}
    body = {name: value for name, value in sent.items() if value}
    done = world.call("POST", world.at("known-issues", issue, "split"), body)
    if as_json:
        print_json(done)
    else:
        say(f"{done['id']}: {done['title']}")


@cli.command("import", epilog=example("prunella known-issues import known.yaml", "prunella known-issues import -"))
def take_in(
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML: a list of {id, pattern ...}; - : standard input.")],
    replace: Annotated[bool, typer.Option("--replace", help="Change issues with the same ids.")] = False,
    dry_run: Dry = False,
    as_json: Json = False,
) -> None:
    """Make the entries of a pack known: all, or none; their remedies ask each time until somebody binds them."""
    from prunella.packs import read_file, read_pack

    pack = read_pack(legible(sys.stdin.read())) if file == "-" else read_file(Path(file))
    if dry_run:
        would(_imported([one.pattern.id for one in pack], replace=replace), as_json)
        return
    from prunella.packs import write_pack

    body = {"text": write_pack(pack), "replace": replace}
    done = world.call("POST", "/api/v1/known-issues/import", body, within_s=60.0)
    if as_json:
        print_json(done)
        return
    told = (("added", "added"), ("changed", "changed"), ("left alone", "alone"))
    print(", ".join(f"{words}: {len(done[name])}" for words, name in told))
    for note in done["notes"]:
        say(note, indent=2)


@cli.command(epilog=example("prunella known-issues export", "prunella known-issues export known.yaml --id crm.lunch"))
def export(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Where to; none: standard output.")] = None,
    chosen: Annotated[list[str] | None, typer.Option("--id", help="Only this one; may stand several times.")] = None,
    as_json: Json = False,
) -> None:
    """Hand known issues out as a pack, learned ones too, that `import` takes elsewhere."""
    query = {"ids": ",".join(chosen)} if chosen else {}
    found = world.call("GET", "/api/v1/known-issues/export", query=query)
    if as_json:
        print_json(found)
    elif file is None:
        print(found["text"], end="")
    else:
        try:
            file.write_text(found["text"], encoding="utf-8")
        except OSError as error:
            raise PrunellaError(f"{file} can't be written: {error.strerror}") from None
        print(f"{found['count']} known issues: {file}")


def _issue(issue: str) -> dict[str, Any]:
    found: dict[str, Any] = world.call("GET", world.at("known-issues", issue))
    return found


def _on_its_own(issue: str) -> dict[str, Any]:
    """Return an issue that may be acted on; refuse one that was joined with another, as the engine does."""
    found = _issue(issue)
    if found["alias_of"]:
        raise PrunellaError(f"known issue {issue} was joined with {found['alias_of']}; act on that, or split them")
    return found


def _act(issue: str, act: str, body: dict[str, Any], words: str, as_json: bool) -> None:
    done = world.call("POST", world.at("known-issues", issue, act), body)
    if as_json:
        print_json(done)
    else:
        print(words)


def _values(choice: dict[str, Any], given: list[str]) -> dict[str, Any]:
    """Read `name=value` by the types that a remedy declares; a name that it does not have is told by the engine."""
    from prunella.remedies.known import value_of

    types = {one["name"]: one["type"] for one in choice["parameters"]}
    found: dict[str, Any] = {}
    for one in given:
        name, sign, text = one.partition("=")
        if not sign or not name:
            raise ConfigError([f"--set {one!r} is no name=value; write --set {next(iter(types), 'name')}=…"])
        found[name] = value_of(types.get(name, ""), text)
    return found


def _imported(ids: list[str], *, replace: bool) -> str:
    """Say what an import would do; refuse it where it would be refused."""
    stand: set[str] = set()
    world.listed("/api/v1/known-issues", {"limit": 500}, each=lambda items: stand.update(one["id"] for one in items))
    taken = sorted(stand.intersection(ids))
    if taken and not replace:
        say(f"known already, and refused unless they say the same: {', '.join(taken)}")
    return f"add {len(ids) - len(taken)} known issues and {'change' if replace else 'compare'} {len(taken)}"
