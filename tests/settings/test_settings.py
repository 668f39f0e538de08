"""The configuration as a whole: the file, the environment over it, nothing ignored in silence, no secret shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunella.core.advice import Allowance
from prunella.core.errors import ConfigError
from prunella.core.records import Severity
from prunella.core.redact import Secret
from prunella.core.retention import Retention
from prunella.core.services import DisableAfter, GateLimits, Health, OAuth, SecretRef, Service
from prunella.engine.notices import Route, Routes, Tier
from prunella.settings import AdvisorSettings, ChannelSettings, Settings, json_schema, load

EXAMPLE = """\
# yaml-language-server: $schema=./prunella.schema.json
service:
  database_url: sqlite:///prunella.db
  listen: 127.0.0.1:8123
  public_url: http://127.0.0.1:8123/
  environment: production
  ingest_tokens: ["${PRUNELLA_INGEST_TOKEN}"]
  migrate: manual
  metrics_public: false
  plugins: [shop.healing]

egress:
  allow_hosts: ["n8n.internal:5678"]
  allow_http: false

services:
  hubspot:
    base_url: https://api.hubapi.example
    hosts: [api.hubapi.example]
    health: {path: "/contacts?limit=1", every: 120s, timeout: 10s, status_page: https://status.hubspot.example}
    rate: {initial_per_s: 5}
    oauth:
      token_url: https://api.hubapi.example/oauth/v1/token
      client_id: ${HUBSPOT_CLIENT_ID}
      client_secret: secret://hubspot/client_secret
      scopes: [contacts.read]
      per_user: false
      reuse_s: 90
      access_token: ${HUBSPOT_TOKEN}
    gate: {failures: 5, successes: 2, open: 60s}
    disable_after: {auth: 3, network: {count: 9, within: 60m}, data: 5, unknown: never}
    enable_again: by_probe
    validate: graphql
    honours_idempotency_key: true
    timeout: 500ms
    calls_max: 4
    classify:
      - {when: {status: 477}, kind: network.server, retry_after: 24h}
      - {when: {code: [E1, 5010], message: "try later"}, kind: rate_limit.window}
  crm:
    headers: {X-Version: "7", Authorization: "Token ${CRM_TOKEN}"}
    bearer: ${CRM_TOKEN}

databases:
  shop: {url: "${SHOP_DATABASE_URL}", schema: public}
limits: {targets_max: 500}
windows: [{name: night, cron: "0 2 * * SUN", for: 2h}]
procedures:
  stale:
    database: shop
    check: {freshness: {table: products, column: synced_at, older_than: 4h}}
    remedy: {webhook: {url: "https://n8n.example/webhook/{source}", bearer: "${CRM_TOKEN}"}}
    every: 15m
  hide:
    database: shop
    check: {rows: {table: products, where: {stock: 0, price: {lt: 5, ne: null}, kind: [a, b]}, older_than: {at: 1m}}}
    remedy: {set: {visible: false, batch: 100}, then: push}
    cron: "0 3 * * *"
    limits: {waves: [1, 2]}
entities:
  order:
    database: shop
    table: orders
    key: id
    status: status
    since: updated_at
    transitions: {NEW: [PAID, 7], PAID: [SENT]}
    stuck: {NEW: {after: 30m, remedy: nudge}}
    give_up: {after_attempts: 2, remedy: cancel}
known_issues: {packs: [builtin]}
advisor: {enabled: false}

notify:
  channels:
    ops-slack: {slack: secret://slack/webhook}
    ops-teams: {teams: "${TEAMS_URL}"}
    hook: {webhook: {url: "${HOOK_URL}", secret: secret://hook/key}}
    mail: {email: {to: [ops@example.com], smtp: "${SMTP_URL}"}}
    pager: {apprise: "${PAGER_URL}"}
  rules:
    - {severity: [HIGH, CRITICAL], to: [ops-slack, mail], escalate: {after: 15m, to: [pager]}}
    - {severity: [LOW, MEDIUM], to: [hook], digest: 10m}
    - {severity: [CRITICAL], to: [pager]}

inbound: {alerts: {kind: alertmanager, secrets: [secret://inbound/alerts], service: hubspot}}

auth: {jwt: {issuer: https://id.example, audience: prunella, jwks_url: https://id.example/keys}}
"""
ENVIRON = {
    "PATH": "/usr/bin",
    "PRUNELLA_INGEST_TOKEN": "ingest-abcdef-1",
    "PRUNELLA_SECRET_KEY": "key-abcdef-2",
    "HUBSPOT_CLIENT_ID": "client-17",
    "HUBSPOT_TOKEN": "seed-abcdef-3",
    "CRM_TOKEN": "crm-abcdef-4",
    "SHOP_DATABASE_URL": "postgresql://shop:shop-abcdef-8@db/shop",
    "TEAMS_URL": "https://teams.example/abcdef-5",
    "HOOK_URL": "https://hook.example/abcdef-6",
    "PAGER_URL": "pagerduty://abcdef-9",
    "SMTP_URL": "smtps://robot:mail-abcdef-10@mail.example",
}
SECRETS = [
    value.removeprefix("postgresql://shop:").removesuffix("@db/shop") for value in ENVIRON.values() if "abcdef" in value
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str, environ: Mapping[str, str] | None = None) -> Settings:
    path = Path("prunella.yaml")
    path.write_text(text)
    return load(path, environ or {})


def test_settings_keep_what_is_over_for_as_long_as_they_say(home: Path) -> None:
    """Each kind has its own time and its own default; too short is refused with what is allowed."""
    day_s = 86_400.0
    assert loaded("").retention == Retention(
        operations_s=30 * day_s, incidents_s=90 * day_s, notifications_s=30 * day_s, audit_s=365 * day_s
    )
    given = loaded("service: {retention: {operations: 7d, audit: 730d}}").retention
    assert given == Retention(operations_s=7 * day_s, audit_s=730 * day_s)
    with pytest.raises(ConfigError, match=r"service\.retention\.incidents: '1d' is out of range; at least 7d"):
        loaded("service: {retention: {incidents: 1d}}")


def test_settings_read_the_example_into_records(home: Path) -> None:
    """Every section that works arrives where the engine looks for it, in seconds and opened references."""
    read = loaded(EXAMPLE, ENVIRON)
    hubspot = read.services["hubspot"]
    assert hubspot == Service(
        name="hubspot",
        base_url="https://api.hubapi.example",
        hosts=frozenset({"api.hubapi.example"}),
        health=Health(
            path="/contacts?limit=1", every_s=120.0, timeout_s=10.0, status_page="https://status.hubspot.example"
        ),
        oauth=OAuth(
            token_url="https://api.hubapi.example/oauth/v1/token",
            client_id="client-17",
            client_secret=SecretRef("hubspot/client_secret"),
            scopes=("contacts.read",),
            reuse_s=90.0,
        ),
        gate=GateLimits(failures=5, successes=2, open_s=60.0),
        disable_after=DisableAfter(auth=3, network=9, network_within_s=3600.0, data=5, unknown=None),
        enable_again="by_probe",
        validate="graphql",
        honours_idempotency_key=True,
        calls_max=4,
        rate_per_s=5.0,
        timeout_s=0.5,
        rules=(
            {"when": {"status": 477}, "kind": "network.server", "retry_after": 86_400.0},
            {"when": {"code": ["E1", 5010], "message": "try later"}, "kind": "rate_limit.window"},
        ),
    )
    assert read.services["crm"].bearer == Secret("crm-abcdef-4")
    assert read.services["crm"].headers == {
        "X-Version": Secret("7"),
        "Authorization": Secret("Token crm-abcdef-4"),
    }
    assert read.seeds == {"hubspot": (Secret("seed-abcdef-3"), None)}
    assert read.egress.allow_hosts == frozenset({"n8n.internal:5678"})
    assert (read.listen, read.public_url, read.migrate) == (("127.0.0.1", 8123), "http://127.0.0.1:8123", "manual")
    assert read.plugins == ("shop.healing",)


def test_settings_route_messages_to_channels(home: Path) -> None:
    """Each kind of channel, rules with tiers, and their digests arrive as they stand in the file."""
    read = loaded(EXAMPLE, ENVIRON)
    assert read.channels == {
        "ops-slack": ChannelSettings(kind="slack", url=SecretRef("slack/webhook")),
        "ops-teams": ChannelSettings(kind="teams", url=Secret("https://teams.example/abcdef-5")),
        "hook": ChannelSettings(
            kind="webhook", url=Secret("https://hook.example/abcdef-6"), secret=SecretRef("hook/key")
        ),
        "mail": ChannelSettings(kind="email", url=Secret(ENVIRON["SMTP_URL"]), to=("ops@example.com",)),
        "pager": ChannelSettings(kind="apprise", url=Secret("pagerduty://abcdef-9")),
    }
    grave = frozenset({Severity.HIGH, Severity.CRITICAL})
    assert read.routes == Routes(
        (
            Route(grave, ("ops-slack", "mail"), tiers=(Tier(900.0, ("pager",)),)),
            Route(frozenset({Severity.LOW, Severity.MEDIUM}), ("hook",), 600.0),
            Route(frozenset({Severity.CRITICAL}), ("pager",)),
        )
    )


ADVISOR = (
    "advisor: {enabled: true, base_url: https://model.example/v1/, model: small, api_key: '${MODEL_KEY}', "
    "deadline: 2s, calls_per_day: 50, tokens_per_day: 90000}"
)


def test_settings_open_an_advisor_that_is_switched_on(home: Path) -> None:
    """Endpoint, model, key and limits arrive; what is not given has document B's limits."""
    read = loaded(ADVISOR, {"MODEL_KEY": "key-abcdef-9"})
    assert read.advisor == AdvisorSettings(
        base_url="https://model.example/v1",
        model="small",
        api_key=Secret("key-abcdef-9"),
        deadline_s=2.0,
        allowance=Allowance(calls=50, tokens=90_000),
    )
    assert Secret("key-abcdef-9") in read.secrets
    assert read.warnings == ()
    short = "advisor: {enabled: true, base_url: https://model.example/v1, model: small, api_key: secret://model/key}"
    assert loaded(short).advisor == AdvisorSettings(
        base_url="https://model.example/v1", model="small", api_key=SecretRef("model/key")
    )


@pytest.mark.parametrize(
    "text",
    ["", "advisor:", "advisor: {enabled: false}", ADVISOR.replace("true", "false"), ADVISOR.replace("true", "")],
    ids=["absent", "empty", "off", "off with everything", "not said"],
)
def test_settings_have_no_advisor_unless_it_is_switched_on(text: str, home: Path) -> None:
    """It is off by default, and while it is off its key need not be set."""
    assert loaded(text).advisor is None


def test_settings_have_a_default_for_everything() -> None:
    """No file and no environment is a usable production configuration on loopback."""
    assert load(None, {}) == Settings()
    assert Settings().public_url == "http://127.0.0.1:8123"
    assert not Settings().development


@pytest.mark.parametrize("text", ["", "service:\nservices:\nnotify:\n", "services: {}\nnotify: {channels: , rules: }"])
def test_settings_take_empty_for_not_given(text: str, home: Path) -> None:
    """Sections whose content is commented out have their defaults."""
    assert loaded(text) == Settings()


def test_settings_empty_service_is_a_service_with_defaults(home: Path) -> None:
    """A service may consist of its name; an empty line in it is no value."""
    assert loaded("services:\n  crm:\n  erp: {disable_after: {auth: , network: never}}").services == {
        "crm": Service(name="crm"),
        "erp": Service(name="erp", disable_after=DisableAfter(network=None)),
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("500ms", 0.5), ("1.5s", 1.5), ("10s", 10.0), ("100ms", 0.1)],
)
def test_settings_read_durations(text: str, seconds: float, home: Path) -> None:
    """Both ends of the range are allowed, and fractions are."""
    assert loaded(f"services: {{crm: {{timeout: {text}}}}}").services["crm"].timeout_s == seconds


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800.0), ("4h", 14_400.0), ("7d", 604_800.0)])
def test_settings_read_long_durations(text: str, seconds: float, home: Path) -> None:
    """Minutes, hours and days are read, too."""
    assert loaded(f"services: {{crm: {{gate: {{open: {text}}}}}}}").services["crm"].gate.open_s == seconds


def test_settings_put_the_environment_over_the_file(home: Path) -> None:
    """PRUNELLA_ variables win, the ingest token joins those of the file, and nothing stands there twice."""
    environ = {
        "PRUNELLA_DATABASE_URL": "postgresql://me:pass-abcdef@db/prunella",
        "PRUNELLA_LISTEN": "[::1]:9000",
        "PRUNELLA_ENVIRONMENT": "development",
        "PRUNELLA_INGEST_TOKEN": "token-one",
        "PRUNELLA_CONFIG": "prunella.yaml",
        "PRUNELLA_TEST_DATABASE_URL": "postgresql://elsewhere",
        "TWO": "token-two",
    }
    read = loaded("service: {database_url: 'mysql://x', listen: 5, ingest_tokens: ['${TWO}']}", environ)
    assert read.database_url == "postgresql://me:pass-abcdef@db/prunella"
    assert (read.listen, read.public_url) == (("::1", 9000), "http://[::1]:9000")
    assert read.development
    assert read.ingest_tokens == (Secret("token-two"), Secret("token-one"))
    assert read.warnings == ()
    assert load(None, {"PRUNELLA_INGEST_TOKEN": "one"}).ingest_tokens == (Secret("one"),)
    twice = loaded("service: {ingest_tokens: ['${PRUNELLA_INGEST_TOKEN}']}", {"PRUNELLA_INGEST_TOKEN": "one"})
    assert twice.ingest_tokens == (Secret("one"),)


def test_settings_read_secrets_from_files(home: Path) -> None:
    """NAME_FILE names a file that holds the value, as containers and systemd hand over secrets; NAME itself wins."""
    (home / "url").write_text("postgresql://me:pass-abcdef@db/x\n")
    (home / "key").write_text("key-abcdef\n")
    environ = {
        "PRUNELLA_DATABASE_URL_FILE": str(home / "url"),
        "PRUNELLA_SECRET_KEY_FILE": str(home / "key"),
        "PRUNELLA_INGEST_TOKEN_FILE": str(home / "key"),
        "CRM_FILE": str(home / "key"),
        "PRUNELLA_LISTEN": "127.0.0.1:1",
        "PRUNELLA_LISTEN_FILE": str(home / "key"),
    }
    read = loaded("services: {crm: {bearer: '${CRM}'}}", environ)
    assert read.database_url == "postgresql://me:pass-abcdef@db/x"
    assert (read.secret_key, read.ingest_tokens) == (Secret("key-abcdef"), (Secret("key-abcdef"),))
    assert read.services["crm"].bearer == Secret("key-abcdef")
    assert (read.listen, read.warnings) == (("127.0.0.1", 1), ())
    assert {Secret("pass-abcdef"), Secret("key-abcdef")} <= set(read.secrets)
    with pytest.raises(ConfigError, match="the environment variable CRM is not set"):
        loaded("services: {crm: {bearer: '${CRM}'}}", {"CRM_FILE": str(home / "nowhere")})


def test_settings_take_a_way_past_a_pooler(home: Path) -> None:
    """It may come from file or environment, its password is kept from logs, and it is where tables are made."""
    environ = {"PRUNELLA_DATABASE_URL": "postgresql://me@pool/x", "WAY": "postgresql://me:pass-abcdef@db/x"}
    read = loaded("service: {direct_url: '${WAY}', stop_within: 90s}", environ)
    assert read.direct_url == read.migrate_url == "postgresql://me:pass-abcdef@db/x"
    assert Secret("pass-abcdef") in read.secrets
    assert (read.stop_within_s, loaded("", environ).stop_within_s) == (90, 25)
    assert loaded("", environ).migrate_url == "postgresql://me@pool/x"
    with pytest.raises(ConfigError, match=r"service.direct_url: goes past a pooler to the same PostgreSQL; it needs"):
        loaded("service: {direct_url: 'postgresql://me@db/x'}")


def test_settings_name_the_variable_that_is_wrong(home: Path) -> None:
    """A mistake in the environment is shown there, without the value."""
    with pytest.raises(ConfigError) as caught:
        load(None, {"PRUNELLA_LISTEN": "hunter2", "PRUNELLA_ENVIRONMENT": "prod"})
    assert caught.value.problems == [
        (
            "PRUNELLA_ENVIRONMENT service.environment: the value of '${PRUNELLA_ENVIRONMENT}' is not one of "
            "production, development"
        ),
        "PRUNELLA_LISTEN service.listen: the value of '${PRUNELLA_LISTEN}' is not host:port; write e.g. 127.0.0.1:8123",
    ]


def test_settings_take_an_empty_variable_for_none(home: Path) -> None:
    """Deployments set variables to nothing; that overrides nothing and opens no reference."""
    assert load(None, {"PRUNELLA_LISTEN": "", "PRUNELLA_SECRET_KEY": ""}) == Settings()
    with pytest.raises(ConfigError, match="the environment variable KEY is not set"):
        loaded("services: {crm: {bearer: '${KEY}'}}", {"KEY": ""})


def test_settings_warn_about_unknown_variables(home: Path) -> None:
    """A misspelt PRUNELLA_ variable is named with its nearest; one that the file refers to is no mistake."""
    environ = {"PRUNELLA_DATABSE_URL": "x", "PRUNELLA_FOO": "https://a.example", "PRUNELLA_Q": "x"}
    assert loaded("services: {crm: {base_url: '${PRUNELLA_FOO}/v1'}}", environ).warnings == (
        "PRUNELLA_DATABSE_URL: unknown variable; did you mean PRUNELLA_DATABASE_URL?",
        (
            "PRUNELLA_Q: unknown variable; known: PRUNELLA_DATABASE_URL, PRUNELLA_DIRECT_URL, PRUNELLA_LISTEN, "
            "PRUNELLA_PUBLIC_URL, PRUNELLA_ENVIRONMENT, PRUNELLA_INGEST_TOKEN, PRUNELLA_SECRET_KEY, PRUNELLA_CONFIG"
        ),
    )


def test_settings_open_references_inside_texts_once(home: Path) -> None:
    """References open in any text and figure; what they bring is not read again."""
    environ = {"HOST": "a.example", "N": "7", "ON": "true", "ODD": "x-${N}"}
    text = """
egress: {allow_http: "${ON}"}
services: {crm: {base_url: "http://${HOST}/v${N}", calls_max: "${N}", bearer: "Key ${ODD}"}}
"""
    crm = loaded(text, environ).services["crm"]
    assert (crm.base_url, crm.calls_max, crm.bearer) == ("http://a.example/v7", 7, Secret("Key x-${N}"))
    assert crm.hosts == frozenset({"a.example"})


def test_settings_send_everything_everywhere_without_rules(home: Path) -> None:
    """Channels without rules hear all severities at once."""
    read = loaded("notify: {channels: {a: {slack: 'secret://a'}, b: {teams: 'secret://b'}}}")
    assert read.routes == Routes((Route(frozenset(Severity), ("a", "b")),))


def test_settings_show_no_secret(home: Path) -> None:
    """Neither the repr nor any warning holds a secret, and all of them are handed to the redactor."""
    read = loaded(EXAMPLE, {**ENVIRON, "PRUNELLA_DATABASE_URL": "postgresql://me:p%40ss-abcdef-7@db/x"})
    shown = repr(read) + "".join(read.warnings)
    assert not [value for value in [*SECRETS, "abcdef"] if value in shown]
    assert {
        *map(Secret, SECRETS),
        Secret("Token crm-abcdef-4"),
        Secret("p@ss-abcdef-7"),
        Secret("mail-abcdef-10"),
    } == set(read.secrets)


def test_settings_warn_about_a_password_in_the_file(home: Path) -> None:
    """A database password in plain text works and is frowned upon, without being shown."""
    read = loaded("service: {database_url: 'postgresql://me:pass-abcdef@db/x'}")
    assert read.warnings == (
        (
            "prunella.yaml:1:25 service.database_url: a password stands here in plain text; "
            "put it into the environment and write ${NAME}"
        ),
    )


# Whatever stands in the file --------------------------------------------------------------------------------------

KEY = "sk_live_51HunterHunterHunter2"
TREE = yaml.safe_load(EXAMPLE)
Way = tuple[str | int, ...]


def ways(value: Any, way: Way = ()) -> Iterator[Way]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in entries:
        yield (*way, name)
        yield from ways(item, (*way, name))


def with_value(tree: Any, way: Way, value: Any) -> Any:
    """Return the tree with another value at `way`; unchanged where the way is gone."""
    if not way:
        return value
    if isinstance(tree, dict):
        return {**tree, way[0]: with_value(tree.get(way[0]), way[1:], value)}
    if isinstance(tree, list):
        return [with_value(item, way[1:], value) if at == way[0] else item for at, item in enumerate(tree)]
    return tree


def outcome(path: Path) -> tuple[str, ...]:
    """Return the messages of a loading, whichever way it ends; any other exception than ConfigError is a bug."""
    try:
        return load(path, ENVIRON).warnings
    except ConfigError as error:
        return tuple(error.problems) or ("an error without a problem",)


def checked(raw: bytes, path: Path) -> tuple[str, ...]:
    path.write_bytes(raw)
    messages = outcome(path)
    placed = re.compile(rf"{re.escape(str(path))}(:\d+:\d+)?[: ]")
    assert [line for line in messages if not placed.match(line)] == []
    assert [secret for secret in SECRETS if secret in "".join(messages)] == []
    return messages


@pytest.mark.slow
@pytest.mark.parametrize("planted", [KEY, [KEY], {"value": KEY}, {KEY: None}, f"bearer:{KEY}"])
def test_settings_never_show_a_key_wherever_it_was_pasted(planted: Any, tmp_path: Path) -> None:
    """A key in any place of the file and in any shape, as a name too, appears in no message."""
    for way in ways(TREE):
        raw = json.dumps(with_value(TREE, way, planted)).encode()
        assert KEY not in "".join(checked(raw, tmp_path / "prunella.yaml")), way


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
YAML_WORDS = st.one_of(
    st.sampled_from(
        [*"[]{}:-!|'\"%@`#?~ \n\té", ": ", "- ", "\n  ", "&a ", "*a", "!!str ", ">-\n", "<<", "---", "..."]
    ),
    st.sampled_from(["service", "services", "crm", "notify", "channels", "rules", "gate", "open", "60", "60s", "null"]),
    st.sampled_from(["${", "${CRM_TOKEN}", "secret://", "\\x", "\\ud800", "\ufeff", "\u2028", "\U0001f600", "1e999"]),
)


@FUZZ
@given(raw=st.one_of(st.binary(), st.text().map(str.encode), st.lists(YAML_WORDS).map(lambda w: "".join(w).encode())))
def test_settings_answer_any_bytes(raw: bytes, tmp_path: Path) -> None:
    """Any file gives settings or a list of mistakes with places, never another exception."""
    checked(raw, tmp_path / "prunella.yaml")


SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12)),
    st.sampled_from(["10s", "0s", "never", "secret://a/b", "${CRM_TOKEN}", "https://a.example", "http://[::1", "HIGH"]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@FUZZ
@given(changes=st.lists(st.tuples(st.sampled_from(list(ways(TREE))), TREES), min_size=1, max_size=4))
def test_settings_answer_any_value_anywhere(changes: list[tuple[Way, Any]], tmp_path: Path) -> None:
    """The example with anything put into any of its places gives settings or mistakes with places."""
    tree = TREE
    for way, value in changes:
        tree = with_value(tree, way, value)
    checked(json.dumps(tree).encode(), tmp_path / "prunella.yaml")


# For editors ------------------------------------------------------------------------------------------------------


def test_schema_describes_every_section_of_the_file() -> None:
    """Editors know all names of the example, those of later versions included, and refuse others."""
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "prunella.yaml"
    assert schema["additionalProperties"] is False
    assert set(yaml.safe_load(EXAMPLE)) == set(schema["properties"])
    assert "null" not in json.dumps(schema)


def test_schema_describes_durations_and_references_as_text() -> None:
    """A duration has a pattern that fits what is accepted, and a secret only fits as a reference."""
    sections = json_schema()["$defs"]
    duration = sections["GateSection"]["properties"]["open"]
    assert duration["type"] == "string"
    assert all(re.search(duration["pattern"], text) for text in ("500ms", "10s", "1.5h", "7d", "${OPEN}"))
    assert not any(re.search(duration["pattern"], text) for text in ("60", "1 hour", "10 s"))
    secret = sections["ServiceSection"]["properties"]["bearer"]["pattern"]
    assert all(re.search(secret, text) for text in ("secret://a", "${KEY}", "Token ${KEY}"))
    assert not re.search(secret, "plain")
    count = sections["ServiceSection"]["properties"]["calls_max"]
    assert (count["type"], count["minimum"], count["maximum"]) == ("integer", 1, 1000)
    assert {"const": "never"} in sections["DisableSection"]["properties"]["network"]["anyOf"]
    assert "network.server" in sections["RuleSection"]["properties"]["kind"]["enum"]
