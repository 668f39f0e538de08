"""The text of a new prunella.yaml and its .env.example; secrets stand in them as references only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

SQLITE = "sqlite:///prunella.db"
PASSWORD = "PRUNELLA_DATABASE_PASSWORD"  # noqa: S105, a name
SCHEMA = "prunella.schema.json"
ADDRESS = "ops@example.com"


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
    mail: str = ADDRESS
    environment: str = "production"


def configuration(answers: Answers) -> str:
    """Write prunella.yaml."""
    parts = [_head(answers), _services(answers.services), _DATABASES, _notify(answers)]
    return "\n".join(parts)


def _head(answers: Answers) -> str:
    password = "   # its password comes from the environment" if answers.password else ""
    return f"""\
# yaml-language-server: $schema=./{SCHEMA}
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
        lines += ["", "# Of the database, percent-encoded where it holds signs like @ or /", f"{PASSWORD}="]
    return "\n".join(lines) + "\n"
