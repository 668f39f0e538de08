"""The shape of prunella.yaml: sections, names and allowed values.

No defaults stand here: what is not given is None, and the records that the sections become know their own defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from prunella.core.redact import Secret, scrub_tree
from prunella.core.services import SecretSource
from prunella.settings import addresses as at
from prunella.settings import inbound as telling
from prunella.settings import procedures as healing
from prunella.settings import values as of
from prunella.settings.known import KnownIssuesSection
from prunella.settings.notify import NotifySection
from prunella.settings.section import Found, Section
from prunella.settings.source import Loc

_SIGNING_BYTES_MIN = 32

# service, egress --------------------------------------------------------------------------------------------------


class RetentionSection(Section):
    """How long what is over is kept; what is open, waits or is spoken of by something open is kept for ever."""

    operations: Annotated[float, of.Between("1d", "3650d")] | None = Field(
        default=None, description="Operations that are done or cancelled; default 30d."
    )
    incidents: Annotated[float, of.Between("7d", "3650d")] | None = Field(
        default=None, description="Resolved incidents, with signals and runs; default 90d."
    )
    notifications: Annotated[float, of.Between("1d", "3650d")] | None = Field(
        default=None, description="Notifications that were sent; default 30d."
    )
    audit: Annotated[float, of.Between("7d", "3650d")] | None = Field(
        default=None, description="Who did what, and answered plans; default 365d."
    )


class OwnSection(Section):
    """prunella itself."""

    database_url: at.DatabaseAddress | None = None
    direct_url: at.DatabaseAddress | None = Field(
        default=None,
        description="The same database past a transaction pooler: for migrations, and to be woken at once.",
    )
    listen: at.Listen | None = None
    public_url: at.BaseAddress | None = Field(default=None, description="Where links in messages lead.")
    environment: Annotated[Literal["production", "development"], of.EXPANDED] | None = None
    ingest_tokens: list[of.EnvironmentSecret] | None = None
    migrate: Annotated[Literal["auto", "manual"], of.EXPANDED] | None = None
    metrics_public: of.Flag | None = None
    events_per_s: of.Rate | None = Field(
        default=None, description="Events that one token may report per second to one process; twice as many at once."
    )
    requests_per_s: of.Rate | None = Field(
        default=None, description="Other requests of one caller per second to one process; twice as many at once."
    )
    retention: RetentionSection | None = None
    plugins: list[at.Module] | None = Field(
        default=None, description="Python modules with @check and @remedy functions."
    )
    stop_within: Annotated[float, of.Between("1s", "1h")] | None = Field(
        default=None, description="How long what is under way may take once prunella is told to stop."
    )

    def misfits(self) -> Found:
        if self.direct_url is None or (
            at.is_postgres(self.direct_url) and self.database_url is not None and at.is_postgres(self.database_url)
        ):
            return []
        text = "goes past a pooler to the same PostgreSQL; it needs database_url: postgresql://…, too"
        return [(("direct_url",), of.hidden(text))]


class EgressSection(Section):
    """Where prunella may call."""

    allow_hosts: list[at.AllowedHost] | None = Field(default=None, description="Private hosts that may be reached.")
    allow_http: of.Flag | None = None


# services ---------------------------------------------------------------------------------------------------------


class HealthSection(Section):
    """How to ask a service whether it is well."""

    path: of.Text
    every: Annotated[float, of.Between("1s", "1d")] | None = None
    timeout: Annotated[float, of.Between("100ms", "10s")] | None = None
    status_page: at.Address | None = None


class CacheSection(Section):
    """Where a service is told to forget what it keeps (`invalidate_cache`)."""

    path: of.Text = Field(description="Below base_url, or a full address on one of the service's own hosts.")
    method: Annotated[Literal["POST", "PUT", "DELETE", "GET"], of.EXPANDED] | None = None


class RateSection(Section):
    """How fast our calls may begin, over all workers; learned from there (HEAL_RATE_001)."""

    initial_per_s: of.Rate | None = Field(
        default=None, description="x 0.8 on a 429, x 1.1 while all goes well; between a tenth and twice of this."
    )


class OAuthSection(Section):
    """How to refresh a token (RFC 6749 section 6)."""

    token_url: at.Address
    client_id: of.Text
    client_secret: of.SecretText | None = None
    scopes: list[of.Text] | None = None
    per_user: of.Flag | None = Field(default=None, description="One account per user of the event.")
    reuse_s: of.DaySeconds | None = Field(
        default=None,
        description="Seconds for which the provider takes a spent refresh token once more; 0: not at all.",
    )
    access_token: of.EnvironmentSecret | None = Field(
        default=None, description="A seed: counts while the store holds none."
    )
    refresh_token: of.EnvironmentSecret | None = Field(
        default=None, description="A seed: counts while the store holds none."
    )

    def misfits(self) -> Found:
        found: Found = []
        if self.refresh_token is not None and self.access_token is None:
            found.append((("refresh_token",), of.hidden("a seed needs both tokens; add access_token: ${NAME}")))
        if self.per_user and self.access_token is not None:
            text = "a seed belongs to no user; with per_user use: prunella credentials set SERVICE --user USER"
            found.append((("access_token",), of.hidden(text)))
        return found


class GateSection(Section):
    """When calls to a service stop, and when they may pass again."""

    failures: of.Count | None = None
    successes: of.Count | None = None
    open: Annotated[float, of.Between("1s", "7d")] | None = None


class NetworkSection(Section):
    """How many network failures within which time disable a service."""

    count: of.Count | None = None
    within: Annotated[float, of.Between("1s", "31d")] | None = None


class DisableSection(Section):
    """How many failures from outside disable a service, or never."""

    auth: Annotated[of.Count | None, *of.NEVER] = None
    network: Annotated[NetworkSection | None, *of.NEVER] = None
    data: Annotated[of.Count | None, *of.NEVER] = None
    unknown: Annotated[of.Count | None, *of.NEVER] = None


def _status(value: Any) -> Any:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(type(one) is int and 100 <= one <= 599 for one in listed):
        raise of.wrong("is no HTTP status from 100 to 599, and no list of them; write e.g. 477 or [477, 478]")
    return value


def _words(value: Any) -> Any:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(one, int | str) and not isinstance(one, bool) and one != "" for one in listed):
        raise of.wrong("is no text, and no list of texts; write e.g. RATE_LIMITED or [E1, E2]")
    return value


Words = Annotated[Any, PlainValidator(_words), WithJsonSchema({"type": ["string", "integer", "array"]})]


class WhenSection(Section):
    """Which failures a rule is about; everything that is given has to fit."""

    status: Annotated[Any, PlainValidator(_status), WithJsonSchema({"type": ["integer", "array"]})] = None
    code: Words = None
    exc_type: Words = None
    message: of.Text | None = Field(default=None, description="A part of the text, in any case.")

    def misfits(self) -> Found:
        nothing = of.hidden("names nothing and would fit everything; give status, code, exc_type or message")
        return [] if self.given() else [((), nothing)]


class RuleSection(Section):
    """What a failure of this service means; asked before everything that prunella knows itself."""

    when: WhenSection
    kind: at.Kind
    retry_after: Annotated[float, of.Between("0s", "31d")] | None = None


class ServiceSection(Section):
    """A service that prunella looks after."""

    base_url: at.BaseAddress | None = None
    hosts: list[at.Host] | None = Field(
        default=None, description="Where a replay may go; default: the host of base_url."
    )
    health: HealthSection | None = None
    cache: CacheSection | None = None
    rate: RateSection | None = None
    oauth: OAuthSection | None = None
    bearer: of.SecretText | None = None
    headers: dict[at.HeaderName, of.HeaderText] | None = None
    gate: GateSection | None = None
    disable_after: DisableSection | None = None
    enable_again: Annotated[Literal["by_person", "by_probe"], of.EXPANDED] | None = None
    reply: Annotated[Literal["none", "json", "graphql"], of.EXPANDED] | None = Field(default=None, alias="validate")
    honours_idempotency_key: of.Flag | None = None
    timeout: Annotated[float, of.Between("100ms", "10s")] | None = None
    calls_max: of.Count | None = None
    classify: list[RuleSection] | None = None

    def misfits(self) -> Found:
        found: Found = [
            (("headers", name), of.plain_secret(storable=True))
            for name, value in (self.headers or {}).items()
            if isinstance(value, str) and scrub_tree({name: value}) != {name: value}
        ]
        if self.bearer is not None and self.oauth is not None:
            found.append((("bearer",), of.hidden("stands beside oauth; a call carries one of them, remove the other")))
        if self.enable_again == "by_probe" and self.health is None:
            found.append((("enable_again",), of.wrong("needs a probe; add health: {path: /…}")))
        if self.base_url is None and self.health is not None and "://" not in self.health.path:
            found.append((("health", "path"), of.wrong("needs base_url; add base_url: https://…")))
        found += self._cache_elsewhere()
        if self.base_url is not None and self.hosts and at.host_of(self.base_url) not in self.hosts:
            found.append(
                (("hosts",), of.hidden("lacks the host of base_url; add it, or calls to base_url are refused"))
            )
        return found

    def _cache_elsewhere(self) -> Found:
        """Say why nothing will ever be sent to the cache's address."""
        if self.cache is None:
            return []
        if "://" not in self.cache.path:
            needs = of.wrong("needs base_url; add base_url: https://…")
            return [] if self.base_url is not None else [(("cache", "path"), needs)]
        if at.split_address(self.cache.path) is None:
            return [(("cache", "path"), of.hidden("is no web address; write /path, or https://host/path"))]
        own = self.hosts or ([at.host_of(self.base_url)] if self.base_url is not None else [])
        if at.host_of(self.cache.path) in own:
            return []
        listed = ", ".join(sorted(own)) or "none"
        return [(("cache", "path"), of.wrong(f"leads to a host that is not the service's own; allowed: {listed}"))]


# advisor ----------------------------------------------------------------------------------------------------------


class AdvisorSection(Section):
    """Whom to ask for a second opinion; off unless enabled."""

    enabled: of.Flag | None = None
    base_url: at.BaseAddress | None = Field(
        default=None, description="An OpenAI-compatible endpoint, without /chat/completions."
    )
    model: of.Text | None = None
    api_key: of.SecretWhenEnabled | None = None
    deadline: Annotated[float, of.Between("100ms", "5s")] | None = None
    calls_per_day: of.Count | None = None
    tokens_per_day: Annotated[int, Field(ge=10_000, le=10_000_000), of.EXPANDED_SCALAR] | None = None

    def misfits(self) -> Found:
        if not self.enabled:
            return []
        needed = {"base_url": self.base_url, "model": self.model, "api_key": self.api_key}
        absent = of.hidden("is missing, and enabled is true; add it, or write enabled: false")
        return [((name,), absent) for name, value in needed.items() if value is None]


# auth -------------------------------------------------------------------------------------------------------------


class JwtSection(Section):
    """An outside issuer whose tokens count."""

    issuer: of.Text
    audience: of.Text
    jwks_url: at.Address | None = Field(default=None, description="Where its public keys stand.")
    secret: of.SecretText | None = Field(default=None, description="What HS256 tokens are signed with.")
    algorithms: Annotated[list[Literal["ES256", "RS256", "HS256"]], Field(min_length=1)] | None = None
    role_claim: of.Text | None = Field(
        default=None, description="Where ADMIN, OPERATIONS or VIEWER stands; default app_metadata.prunella_role."
    )

    def misfits(self) -> Found:
        found: Found = []
        if (self.jwks_url is None) == (self.secret is None):
            found.append(((), of.hidden("needs jwks_url or secret, and not both")))
        shared = self.algorithms is not None and "HS256" in self.algorithms
        if self.secret is not None and self.algorithms not in (None, ["HS256"]):
            found.append((("algorithms",), of.wrong("must be [HS256] beside secret, which signs nothing else")))
        if self.jwks_url is not None and shared:
            found.append((("algorithms",), of.wrong("can't hold HS256 beside jwks_url: a public key is no secret")))
        if self.role_claim is not None and "user_metadata" in self.role_claim.split("."):
            found.append((("role_claim",), of.wrong("leads where users write themselves; use app_metadata")))
        return found + _short(self.secret)


class SupabaseSection(Section):
    """Tokens of a Supabase project."""

    project: at.BaseAddress = Field(description="https://<project>.supabase.co")
    secret: of.SecretText | None = Field(default=None, description="The JWT secret of a project without signing keys.")

    def misfits(self) -> Found:
        return _short(self.secret)


def _short(secret: SecretSource | None) -> Found:
    """Name a secret that could be guessed (RFC 7518 section 3.2); those in the store are seen when they are used."""
    if not isinstance(secret, Secret) or len(secret.reveal().encode()) >= _SIGNING_BYTES_MIN:
        return []
    text = f"the value is too short to sign with; at least {_SIGNING_BYTES_MIN} bytes, as: openssl rand -hex 32"
    return [(("secret",), of.hidden(text))]


class AuthSection(Section):
    """Who may come in, beside prunella's own tokens, keys and links."""

    jwt: JwtSection | None = None
    supabase: SupabaseSection | None = None

    def misfits(self) -> Found:
        both = self.jwt is not None and self.supabase is not None
        return [((), of.hidden("names two issuers; write jwt or supabase"))] if both else []


# the file ---------------------------------------------------------------------------------------------------------


class File(Section):
    """prunella.yaml; every section may be left out."""

    service: OwnSection | None = None
    egress: EgressSection | None = None
    services: dict[at.Name, ServiceSection] | None = None
    databases: dict[at.Name, healing.DatabaseSection] | None = None
    limits: healing.LimitsSection | None = None
    windows: list[healing.WindowSection] | None = None
    procedures: dict[at.Name, healing.ProcedureSection] | None = None
    entities: dict[at.Name, healing.EntitySection] | None = None
    known_issues: KnownIssuesSection | None = None
    advisor: AdvisorSection | None = None
    notify: NotifySection | None = None
    auth: AuthSection | None = None
    inbound: dict[telling.SenderName, telling.SenderSection] | None = None

    def misfits(self) -> Found:
        return [
            *telling.misfits(self.inbound or {}, self.services or {}),
            *healing.misfits(self.databases or {}, self.procedures or {}, self.entities or {}),
            *healing.windows_named_twice(self.windows or []),
            *self._called_without_tls(),
        ]

    def _called_without_tls(self) -> Found:
        if self.egress is not None and self.egress.allow_http:
            return []
        refused = of.wrong("is not called without TLS; use https, or set egress.allow_http: true")
        called: dict[Loc, str | None] = {
            ("services", name, *loc): address
            for name, service in (self.services or {}).items()
            for loc, address in _addresses(service).items()
        }
        called |= healing.addresses(self.procedures or {})
        if self.advisor is not None and self.advisor.enabled:
            called["advisor", "base_url"] = self.advisor.base_url
        if self.auth is not None and self.auth.jwt is not None:
            called["auth", "jwt", "jwks_url"] = self.auth.jwt.jwks_url
        if self.auth is not None and self.auth.supabase is not None:
            called["auth", "supabase", "project"] = self.auth.supabase.project
        return [
            (loc, refused) for loc, address in called.items() if address is not None and address.startswith("http://")
        ]


def _addresses(service: ServiceSection) -> Mapping[Loc, str | None]:
    token_url = service.oauth.token_url if service.oauth is not None else None
    cache = service.cache.path if service.cache is not None else None
    return {("base_url",): service.base_url, ("oauth", "token_url"): token_url, ("cache", "path"): cache}
