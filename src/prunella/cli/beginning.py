"""`prunella init`: four questions, and a commented prunella.yaml that passes `config check`.

Secrets are written as references only, and nothing that is there is ever overwritten.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from prunella.core.errors import ConfigError

AUTHS = ("none", "bearer", "oauth")
PLACES = ("none", "slack", "teams", "email", "webhook")
ENVIRONMENTS = ("development", "production")
SQLITE = "sqlite:///prunella.db"
_PASSWORD = "PRUNELLA_DATABASE_PASSWORD"  # noqa: S105, a name
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SCHEMA = "prunella.schema.json"
_ADDRESS = "ops@example.com"

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A service to begin with."""

    name: str
    base_url: str
    auth: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What somebody answered; the defaults begin at once on one machine.

    Args:
        database: an address without a password; where one was given, a reference to it stands there.
        password: the database needs one.
        place: where people are told; `mail` whom mail goes to.
    """

    services: tuple[Wish, ...] = ()
    database: str = SQLITE
    password: bool = False
    place: str = "none"
    mail: str = _ADDRESS
    environment: str = "production"


def begin(path: Path, *, ask: bool, dry_run: bool) -> None:
    """Ask, write the files beside each other, and say what comes next.

    Raises:
        ConfigError: the file is there already, or an answer is none.
    """
    if path.exists():
        raise ConfigError([f"{path}: is there already; nothing was written, name another one with --config"])
    answers = ask_all(sys.stdin.readline) if ask else Answers()
    text = configuration(answers)
    must_pass(text, path)
    if dry_run:
        print(text, end="")
        print(f"would write this to {path}; nothing was changed", file=sys.stderr)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, text)
    _write(path.with_name(".env.example"), variables(answers))
    _write(path.with_name(_SCHEMA), _schema())
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
    return urlunsplit(parts._replace(netloc=f"{user}:${{{_PASSWORD}}}@{host}")), True


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
    return kind, rest or _ADDRESS


def read_environment(text: str) -> str:
    """Read the fourth answer; its first letters do."""
    found = [one for one in ENVIRONMENTS if text and one.startswith(text.lower())]
    if text and len(found) != 1:
        raise ConfigError([f"environment: {text!r} is none of {', '.join(ENVIRONMENTS)}"])
    return found[0] if found else "production"


# Files ----------------------------------------------------------------------------------------------------------------


def configuration(answers: Answers) -> str:
    """Write prunella.yaml."""
    parts = [_head(answers), _services(answers.services), _DATABASES, _notify(answers)]
    return "\n".join(parts)


def _head(answers: Answers) -> str:
    password = "   # its password comes from the environment" if answers.password else ""
    return f"""\
# yaml-language-server: $schema=./{_SCHEMA}
# What prunella looks after. Check it with: prunella config check
# Durations: 500ms, 10s, 30m, 4h, 7d. Secrets are references only: ${{ENV_NAME}}, or secret://name, which
# `prunella secret set NAME` keeps encrypted. Every name: docs/reference/settings.md

service:                          # prunella itself
  database_url: {_quoted(answers.database)}{password}
  listen: 127.0.0.1:8123          # only this machine; put a proxy with TLS in front before you open it
  # public_url: https://prunella.example.com   # for links in messages
  environment: {answers.environment}{" " * (15 - len(answers.environment))}# development may force failures
  # Who reports events shows PRUNELLA_INGEST_TOKEN, or a key: prunella keys create NAME --role INGEST

# egress:
#   allow_hosts: ["n8n.internal:5678"]         # private hosts that may be called
"""


def _services(services: Sequence[Wish]) -> str:
    if not services:
        return f"# services:\n{_commented(_service_text(_EXAMPLE))}"
    return "services:\n" + "".join(map(_service_text, services))


def _service_text(one: Wish) -> str:
    lines = [f"  {one.name}:", f"    base_url: {_quoted(one.base_url)}"]
    if one.auth == "bearer":
        lines.append(f"    bearer: secret://{one.name}/token          # prunella secret set {one.name}/token")
    if one.auth == "oauth":
        lines += [
            "    oauth:                                 # refreshed before it ends, once for all workers",
            f"      token_url: {_quoted(one.base_url + '/oauth/token')}   # look it up",
            f"      client_id: {one.name}-client             # no secret; look it up",
            f"      client_secret: secret://{one.name}/client_secret",
            f"      # its tokens: prunella credentials set {one.name}",
        ]
    lines += [
        "    # health: {path: /health, every: 60s}  # asked to see whether it is well again",
        "    # rate: {initial_per_s: 5}             # learned from there",
    ]
    return "\n".join(lines) + "\n"


def _notify(answers: Answers) -> str:
    stored = "   # prunella secret set"
    channels = {
        "slack": f"  channels:\n    ops: {{slack: secret://slack/webhook}}{stored} slack/webhook\n",
        "teams": f"  channels:\n    ops: {{teams: secret://teams/webhook}}{stored} teams/webhook\n",
        "email": (
            "  channels:\n    ops:\n      email:\n"
            f"        to: [{_quoted(answers.mail)}]\n        smtp: secret://smtp/url{stored} smtp/url\n"
        ),
        "webhook": (
            "  channels:\n    ops:\n      webhook:\n"
            f"        url: secret://webhook/url{stored} webhook/url\n"
            f"        secret: secret://webhook/secret{stored} webhook/secret (whsec_…)\n"
        ),
    }
    if answers.place == "none":
        none = "# notify:                         # until then the dashboard is where people are told\n"
        return none + _commented(channels["slack"] + _RULES)
    return f"notify:\n{channels[answers.place]}{_RULES}"


_RULES = """\
  rules:
    - {severity: [HIGH, CRITICAL], to: [ops]}
    - {severity: [LOW, MEDIUM], to: [ops], digest: 10m}
"""
_EXAMPLE = Wish(name="crm", base_url="https://api.crm.example", auth="bearer")
_DATABASES = """\
# databases:                      # yours, to look for what is stuck, stale or orphaned in them
#   shop: {url: "${SHOP_DATABASE_URL}"}
# procedures:
#   stale-stock:
#     database: shop
#     check: {freshness: {table: stock, column: synced_at, older_than: 4h}}
#     remedy: manual_intervention
#     every: 15m
"""


def _commented(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def variables(answers: Answers) -> str:
    """Write .env.example: what prunella reads of the environment, without a value that is secret."""
    key = "needed on PostgreSQL" if answers.database != SQLITE else "on SQLite a key file is made where this is empty"
    lines = [
        "# Copy to .env, fill in, and load it: set -a; . ./.env; set +a",
        "",
        f"# Seals what is stored; {key}. Make one: openssl rand -base64 32",
        "PRUNELLA_SECRET_KEY=",
        "",
        "# What programs show to report events. Make one: openssl rand -hex 24",
        "PRUNELLA_INGEST_TOKEN=",
    ]
    if answers.password:
        lines += ["", "# Of the database, percent-encoded where it holds signs like @ or /", f"{_PASSWORD}="]
    return "\n".join(lines) + "\n"


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
        load(trial, {_PASSWORD: "x"})


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
