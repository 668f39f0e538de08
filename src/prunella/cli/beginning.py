"""`prunella init`: four questions, and a commented prunella.yaml that passes `config check`.

Secrets are written as references only, and nothing that is there is ever overwritten.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from prunella.cli.drafting import ADDRESS, PASSWORD, SCHEMA, SQLITE, Answers, Wish, configuration, variables
from prunella.cli.streams import legible
from prunella.core.errors import ConfigError

AUTHS = ("none", "bearer", "oauth")
PLACES = ("none", "slack", "teams", "email", "webhook")
ENVIRONMENTS = ("development", "production")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

Read = TypeVar("Read")


def begin(path: Path, *, ask: bool, dry_run: bool) -> None:
    """Ask, write the files beside each other, and say what comes next.

    Raises:
        ConfigError: the file is there already, or an answer is none.
    """
    if path.exists():
        raise ConfigError([f"{path}: is there already; nothing was written, name another one with --config"])
    answers = ask_all(lambda: legible(sys.stdin.readline())) if ask else Answers()
    text = configuration(answers)
    must_pass(text, path)
    if dry_run:
        print(text, end="")
        print(f"would write this to {path}; nothing was changed", file=sys.stderr)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            [f"{path.parent}: no folder can be made there ({error.strerror}); name another one"]
        ) from None
    _write(path, text)
    _write(path.with_name(".env.example"), variables(answers))
    _write(path.with_name(SCHEMA), _schema())
    for line in next_steps(answers, path):
        print(line)


# Questions ------------------------------------------------------------------------------------------------------------


def ask_all(read: Callable[[], str]) -> Answers:
    """Ask the four questions; at a terminal a wrong answer is asked for again, from a pipe it ends the command."""
    services = _ask(
        read,
        "1/4  Services to look after first, as NAME URL AUTH, several with commas;\n"
        f"     AUTH is one of {', '.join(AUTHS)}; empty for none yet.\n"
        "     e.g. crm https://api.crm.example bearer",
        read_services,
    )
    database, password = _ask(read, f"2/4  Database: a postgresql://… address; empty for {SQLITE}", read_database)
    place, mail = _ask(
        read, f"3/4  Where to tell people: {', '.join(PLACES)}; email ADDRESS; empty for none", read_place
    )
    environment = _ask(read, f"4/4  Environment: {' or '.join(ENVIRONMENTS)}; empty for production", read_environment)
    return Answers(
        services=services, database=database, password=password, place=place, mail=mail, environment=environment
    )


def _ask(read: Callable[[], str], question: str, understand: Callable[[str], Read]) -> Read:
    while True:
        print(f"{question}\n     > ", end="", flush=True)
        try:
            answer = understand(read().strip())
        except ConfigError as error:
            if not sys.stdin.isatty():
                print()
                raise
            print(f"     {error}")
        else:
            if not sys.stdin.isatty():
                print()
            return answer


def read_services(text: str) -> tuple[Wish, ...]:
    """Read the first answer."""
    found = tuple(_service(part.split()) for part in text.split(",") if part.strip())
    names = [one.name for one in found]
    if len(set(names)) != len(names):
        raise ConfigError(["services: a name stands there twice; each needs its own"])
    return found


def _service(words: Sequence[str]) -> Wish:
    if not 2 <= len(words) <= 3:
        raise ConfigError(
            [f"services: {' '.join(words)!r} is not NAME URL AUTH; write e.g. crm https://api.crm.example"]
        )
    name, base_url, auth = (*words, "none")[:3]
    parts = urlsplit(base_url)
    if not _NAME.fullmatch(name):
        raise ConfigError([f"services: {name!r} is no name; write small letters, digits, _ and -"])
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        raise ConfigError([f"services: the address of {name} is no https:// address without user and password"])
    if auth not in AUTHS:
        raise ConfigError([f"services: {auth!r} is no way to authenticate; one of {', '.join(AUTHS)}"])
    return Wish(name=name, base_url=base_url.rstrip("/"), auth=auth)


def read_database(text: str) -> tuple[str, bool]:
    """Read the second answer: the address, its password taken out, and whether there was one."""
    if text in ("", "sqlite"):
        return SQLITE, False
    if text.startswith("sqlite:///"):
        return text, False
    parts = urlsplit(text)
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname:
        raise ConfigError(["database: no postgresql://user@host/name and no sqlite:///file; write one of them"])
    if parts.password is None:
        return text, False
    host = parts.netloc.rpartition("@")[2]
    user = quote(unquote(parts.username or ""), safe="")
    return urlunsplit(parts._replace(netloc=f"{user}:${{{PASSWORD}}}@{host}")), True


def read_place(text: str) -> tuple[str, str]:
    """Read the third answer: the kind, and for e-mail the address."""
    kind, _, rest = text.partition(" ")
    kind, rest = kind.lower() or "none", rest.strip()
    if kind not in PLACES:
        raise ConfigError([f"where to tell people: {kind!r} is none of {', '.join(PLACES)}"])
    if rest and (kind != "email" or not re.fullmatch(r"[^\s@]+@[^\s@]+", rest)):
        raise ConfigError(
            [f"where to tell people: {rest!r} is no address; addresses of chats are secrets, give them later"]
        )
    return kind, rest or ADDRESS


def read_environment(text: str) -> str:
    """Read the fourth answer; its first letters do."""
    found = [one for one in ENVIRONMENTS if text and one.startswith(text.lower())]
    if text and len(found) != 1:
        raise ConfigError([f"environment: {text!r} is none of {', '.join(ENVIRONMENTS)}"])
    return found[0] if found else "production"


# Files ----------------------------------------------------------------------------------------------------------------


def must_pass(text: str, path: Path) -> None:
    """Read what was written as `config check` does, with something for each variable.

    Raises:
        ConfigError: it would not pass; nothing is written then.
    """
    from tempfile import TemporaryDirectory

    from prunella.settings import load

    with TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        trial.write_text(text, encoding="utf-8")
        load(trial, {PASSWORD: "x"})


def _schema() -> str:
    from prunella.settings import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a new file; one that is there stays as it is."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        print(f"{path} is there already and stays as it is")
    except OSError as error:
        raise ConfigError(
            [f"{path}: can't be written ({error.strerror}); check the folder and its permissions"]
        ) from None
    else:
        print(f"wrote {path}")


def next_steps(answers: Answers, path: Path) -> list[str]:
    """Return what to type next."""
    chosen = "" if path == Path("prunella.yaml") else f" --config {path}"
    stored = [f"{one.name}/token" for one in answers.services if one.auth == "bearer"]
    stored += [f"{one.name}/client_secret" for one in answers.services if one.auth == "oauth"]
    places = {"slack": ["slack/webhook"], "teams": ["teams/webhook"], "email": ["smtp/url"]}
    places["webhook"] = ["webhook/url", "webhook/secret"]
    stored += places.get(answers.place, [])
    steps = [f"prunella secret set {name}{chosen}" for name in stored]
    steps += [f"prunella credentials set {one.name}{chosen}" for one in answers.services if one.auth == "oauth"]
    if answers.database != SQLITE:
        steps.insert(0, "cp .env.example .env   # fill it in, then: set -a; . ./.env; set +a")
    return ["next:", *(f"  {step}" for step in (*steps, f"prunella doctor{chosen}", f"prunella up{chosen}"))]
