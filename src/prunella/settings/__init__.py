"""What the user configured: prunella.yaml and the environment, checked as a whole, every mistake at once.

Never shows a secret, neither in an error nor in a repr, and never ignores anything in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from prunella.core.errors import ConfigError
from prunella.core.issues import Learning
from prunella.core.procedures import DatabaseSource, Entity, Limits, Procedure, Window
from prunella.core.redact import Secret
from prunella.core.retention import Retention
from prunella.core.senders import Sender
from prunella.core.services import Issuing, Service
from prunella.egress import EgressPolicy
from prunella.engine.notices import Routes
from prunella.settings import build, environment, inbound, records, telling
from prunella.settings.addresses import host_and_port
from prunella.settings.build import AdvisorSettings, Seeds
from prunella.settings.known import learning
from prunella.settings.model import EgressSection, File, OwnSection
from prunella.settings.notify import NotifySection
from prunella.settings.problems import problems_of
from prunella.settings.source import Loc, Problem, Source, read
from prunella.settings.telling import Buttons, ChannelSettings, HeartbeatSettings
from prunella.settings.values import Reading, read_variable

if TYPE_CHECKING:
    from prunella.settings.origins import Shown

__all__ = [
    "AdvisorSettings",
    "Buttons",
    "ChannelSettings",
    "HeartbeatSettings",
    "Seeds",
    "Settings",
    "json_schema",
    "load",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One checked configuration.

    Args:
        database_url: `sqlite:///file` or `postgresql://…`; may hold a password, so it is not shown.
        direct_url: the same database past a transaction pooler; None where database_url leads to the server itself.
        listen: host and port; loopback, so that nothing is reachable unless somebody says so.
        public_url: where links in messages lead, without a slash at the end; default: `http://` and `listen`.
        environment: `production`, or `development`, where failures may be forced.
        secret_key: PRUNELLA_SECRET_KEY as it stands in the environment; None where it is not set.
        retention: how long what is over is kept.
        migrate: `auto` brings the tables up to date at the start, `manual` only checks them.
        events_per_s, requests_per_s: what one caller may ask of one process; twice as many at once.
        stop_within_s: for all that is under way when SIGTERM comes; below the 30 s after which Kubernetes kills.
        procedures: those of the file, and one for each entity.
        learning: what is known beforehand, and how quickly something becomes known.
        seeds: service -> access and refresh token for a store that holds none yet.
        secrets: every secret's value in file and environment, for the redactor.
        warnings: what a person should know, in the form of the errors.
    """

    database_url: str = field(default="sqlite:///prunella.db", repr=False)
    direct_url: str | None = field(default=None, repr=False)
    listen: tuple[str, int] = ("127.0.0.1", 8123)
    public_url: str = ""
    environment: str = "production"
    ingest_tokens: tuple[Secret, ...] = ()
    secret_key: Secret | None = None
    migrate: str = "auto"
    metrics_public: bool = False
    events_per_s: float = 1000.0
    requests_per_s: float = 50.0
    retention: Retention = field(default_factory=Retention)
    plugins: tuple[str, ...] = ()
    stop_within_s: float = 25.0
    egress: EgressPolicy = field(default_factory=EgressPolicy)
    services: Mapping[str, Service] = field(default_factory=dict)
    seeds: Seeds = field(default_factory=dict)
    channels: Mapping[str, ChannelSettings] = field(default_factory=dict)
    routes: Routes = field(default_factory=Routes)
    heartbeat: HeartbeatSettings | None = None
    learning: Learning = field(default_factory=Learning)
    advisor: AdvisorSettings | None = None
    issuing: Issuing | None = None
    senders: Mapping[str, Sender] = field(default_factory=dict, repr=False)
    databases: Mapping[str, DatabaseSource] = field(default_factory=dict, repr=False)
    limits: Limits = field(default_factory=Limits, repr=False)
    windows: tuple[Window, ...] = field(default=(), repr=False)
    procedures: Mapping[str, Procedure] = field(default_factory=dict, repr=False)
    entities: Mapping[str, Entity] = field(default_factory=dict, repr=False)
    secrets: tuple[Secret, ...] = ()
    warnings: tuple[str, ...] = ()
    _places: Source = field(default_factory=lambda: Source(""), repr=False, compare=False)
    _environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.public_url:
            host, port = self.listen
            shown = f"[{host}]" if ":" in host else host
            object.__setattr__(self, "public_url", f"http://{shown}:{port}")

    @property
    def migrate_url(self) -> str:
        """Return where the tables are made and changed."""
        return self.direct_url or self.database_url

    @property
    def development(self) -> bool:
        """Tell whether failures may be forced."""
        return self.environment == "development"

    def effective(self) -> list[Shown]:
        """Return every setting as it stands, with where it was written and secrets masked."""
        from prunella.settings.origins import shown  # it looks defaults up in these very records

        return shown(self, self._places, self._environ)

    def problem(self, loc: Loc, text: str) -> str:
        """Write a message about the value at `loc` as loading does: file:line:col path: text."""
        return self._places.problem(loc, text).text


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the configuration; None: there is no file, everything has its default.

    Raises:
        ConfigError: with one line per mistake: file:line:column, path, what is wrong, what is allowed.
    """
    source = read(path) if path is not None else Source("")
    environment.override(source, environ)
    reading = Reading(environ)
    problems = list(source.problems)
    try:
        file = File.model_validate(source.data, context=reading)
    except ValidationError as error:
        problems += problems_of(error, source)
    if problems:
        raise ConfigError([problem.text for problem in sorted(set(problems))])
    return _settings(file, source, reading)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of prunella.yaml, for editors."""
    schema = File.model_json_schema(schema_generator=_Schema)
    return {"$schema": _Schema.schema_dialect, **schema, "title": "prunella.yaml"}


class _Schema(GenerateJsonSchema):
    """Leave out that everything may be null: it may, but no editor should propose it."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def _settings(file: File, source: Source, reading: Reading) -> Settings:
    notify = file.notify or NotifySection()
    key = read_variable(reading.environ, environment.KEY)
    own = _own((file.service or OwnSection()).given())
    addresses = [
        own.get("database_url", ""),
        own.get("direct_url", ""),
        *(one.url for one in (file.databases or {}).values()),
    ]
    passwords = [secret for address in addresses for secret in _password(address)]
    return Settings(
        **own,
        **records.healing(file),
        secret_key=reading.keep(key) if key else None,
        egress=_egress(file.egress or EgressSection()),
        services=build.services(file),
        seeds=build.seeds(file),
        channels=telling.channels(notify),
        routes=telling.routes(notify),
        heartbeat=telling.heartbeat(notify),
        learning=learning(file.known_issues, Path(source.name).parent),
        advisor=build.advisor(file.advisor),
        issuing=build.issuing(file.auth),
        senders=inbound.senders(file.inbound),
        secrets=tuple(dict.fromkeys([*reading.secrets, *passwords])),
        warnings=_warnings(file, source, reading),
        _environ=reading.environ,
        _places=Source(source.name, data=source.data, values=source.values, keys=source.keys),
    )


def _own(given: dict[str, Any]) -> dict[str, Any]:
    """Return the section `service` as Settings hold it."""
    listen = host_and_port(given.get("listen", ""))
    stop_within = {"stop_within_s": given.pop("stop_within")} if "stop_within" in given else {}
    return {
        **given,
        **stop_within,
        **({"listen": listen} if listen is not None else {}),
        "ingest_tokens": tuple(dict.fromkeys(given.get("ingest_tokens", ()))),
        "plugins": tuple(given.get("plugins", ())),
        "retention": build.retention(given.get("retention")),
    }


def _egress(section: EgressSection) -> EgressPolicy:
    return EgressPolicy(allow_hosts=frozenset(section.allow_hosts or ()), allow_http=bool(section.allow_http))


def _password(database_url: str) -> list[Secret]:
    password = urlsplit(database_url).password
    return [Secret(unquote(password))] if password else []


def _warnings(file: File, source: Source, reading: Reading) -> tuple[str, ...]:
    found: list[Problem] = []
    addresses: list[Loc] = [("service", name) for name in ("database_url", "direct_url")]
    addresses += [("databases", name, "url") for name in file.databases or {}]
    for loc in addresses:
        address = source.value(loc)
        if isinstance(address, str) and "${" not in address and _password(address):
            text = "a password stands here in plain text; put it into the environment and write ${NAME}"
            found.append(source.problem(loc, text))
    return (*(problem.text for problem in sorted(found)), *environment.unknown(reading.environ, source.variables))
