"""Every mistake in prunella.yaml is named with its place, what is allowed and what to do, and never with a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunella.core.errors import ConfigError
from prunella.settings import load

HUNTER = "hunter2-is-my-password"

BROKEN: list[tuple[str, str, str]] = [
    # what is wrong, the file, the message after the file's name
    (
        "a number as duration",
        "services:\n  hubspot:\n    gate:\n      open: 60\n",
        "4:13 services.hubspot.gate.open: 60 is not a duration; write 60s",
    ),
    (
        "an unreadable duration",
        "services: {crm: {timeout: 1 hour}}",
        "1:27 services.crm.timeout: '1 hour' is not a duration; write e.g. 500ms, 10s, 30m, 4h or 7d",
    ),
    (
        "a duration that is too long",
        "services: {crm: {timeout: 90s}}",
        "1:27 services.crm.timeout: '90s' is out of range; at least 100ms, at most 10s",
    ),
    (
        "a truth as duration",
        "services: {crm: {timeout: true}}",
        "1:27 services.crm.timeout: true is not a duration; write e.g. 500ms, 10s, 30m, 4h or 7d",
    ),
    (
        "a misspelt name",
        "services: {crm: {gate: {opn: 60s}}}",
        "1:25 services.crm.gate.opn: unknown name; did you mean open?; allowed: failures, successes, open",
    ),
    (
        "a name that no other is like",
        "egress: {zzz: 1}",
        "1:10 egress.zzz: unknown name; allowed: allow_hosts, allow_http",
    ),
    (
        "a misspelt name in a service that is called like a section",
        "services: {health: {gate: {opn: 60s}}}",
        "1:28 services.health.gate.opn: unknown name; did you mean open?; allowed: failures, successes, open",
    ),
    (
        "a misspelt name in a list",
        "services: {crm: {classify: [{when: {stauts: 5}, kind: config}]}}",
        (
            "1:37 services.crm.classify[0].when.stauts: unknown name; did you mean status?; "
            "allowed: status, code, exc_type, message"
        ),
    ),
    (
        "a misspelt section",
        "servces: {}",
        (
            "1:1 servces: unknown name; did you mean services?; allowed: service, egress, services, databases, limits, "
            "windows, procedures, entities, known_issues, advisor, notify, auth, inbound"
        ),
    ),
    (
        "a text for a mapping",
        "services: {crm: {gate: 5 failures}}",
        "1:24 services.crm.gate: must be a mapping, not a text; write failures, successes, open below it",
    ),
    (
        "a list for a mapping of names",
        "services: [crm]",
        "1:11 services: must be a mapping, not a list; write name: value",
    ),
    (
        "a text for a list",
        "egress: {allow_hosts: n8n.internal}",
        "1:23 egress.allow_hosts: must be a list, not a text; write [..., ...]",
    ),
    (
        "a list as file",
        "[1, 2]",
        (
            "1:1: must be a mapping, not a list; write service, egress, services, databases, limits, windows, "
            "procedures, entities, known_issues, advisor, notify, auth, inbound below it"
        ),
    ),
    (
        "a number too small",
        "services: {crm: {calls_max: 0}}",
        "1:29 services.crm.calls_max: 0 is too small; at least 1",
    ),
    (
        "a number too large",
        "services: {crm: {calls_max: 1001}}",
        "1:29 services.crm.calls_max: 1001 is too large; at most 1000",
    ),
    (
        "a text as number",
        "services: {crm: {calls_max: five}}",
        "1:29 services.crm.calls_max: 'five' is no whole number; write e.g. 5",
    ),
    (
        "yes as truth",
        "egress: {allow_http: yes}",
        "1:22 egress.allow_http: 'yes' is neither true nor false; write one of them",
    ),
    (
        "a rate of nothing",
        "services: {crm: {rate: {initial_per_s: 0}}}",
        "1:40 services.crm.rate.initial_per_s: 0 is too small; it must be more than 0",
    ),
    (
        "more seconds than a day has",
        "services: {crm: {oauth: {token_url: https://id.example, client_id: a, reuse_s: 86401}}}",
        "1:80 services.crm.oauth.reuse_s: 86401 is too large; at most 86400",
    ),
    (
        "a nearly right word",
        "service: {environment: prodction}",
        "1:24 service.environment: 'prodction' is not one of production, development; did you mean production?",
    ),
    (
        "a severity in small letters",
        "notify: {channels: {ops: {slack: secret://ops}}, rules: [{severity: [high], to: [ops]}]}",
        "1:70 notify.rules[0].severity[0]: 'high' is not one of LOW, MEDIUM, HIGH, CRITICAL; did you mean HIGH?",
    ),
    (
        "nobody to tell",
        "notify: {channels: {ops: {slack: secret://ops}}, rules: [{severity: [HIGH], to: []}]}",
        "1:81 notify.rules[0].to: is empty; name at least one",
    ),
    (
        "a rule for an unknown channel",
        "notify: {channels: {ops-slack: {slack: secret://ops}}, rules: [{severity: [HIGH], to: [ops-slak]}]}",
        "1:88 notify.rules[0].to[0]: 'ops-slak' is no channel; did you mean ops-slack?",
    ),
    (
        "a channel of a name that is taken",
        "notify: {channels: {dashboard: {slack: secret://ops}}}",
        "1:21 notify.channels.dashboard: is the name of a channel that is always there; choose another one",
    ),
    (
        "a channel of two kinds",
        "notify: {channels: {ops: {slack: secret://a, teams: secret://b}}}",
        "1:26 notify.channels.ops: must be of exactly one kind; write one of slack, teams, webhook, email, apprise",
    ),
    (
        "a missing field",
        "services:\n  crm:\n    oauth: {client_id: abc}\n",
        "3:12 services.crm.oauth.token_url: is missing; add it",
    ),
    (
        "an address without scheme",
        "services: {crm: {base_url: api.example.com}}",
        (
            "1:28 services.crm.base_url: 'api.example.com' is no web address; "
            "write https://host/path, without a user or password"
        ),
    ),
    (
        "an address without TLS",
        "services: {crm: {base_url: 'http://n8n.internal:5678'}}",
        (
            "1:28 services.crm.base_url: 'http://n8n.internal:5678' is not called without TLS; "
            "use https, or set egress.allow_http: true"
        ),
    ),
    (
        "a host with scheme",
        "services: {crm: {hosts: ['https://api.example.com']}}",
        (
            "1:26 services.crm.hosts[0]: 'https://api.example.com' is not host or host:port; "
            "write e.g. api.example.com, without https:// and path"
        ),
    ),
    (
        "hosts without the own one",
        "services: {crm: {base_url: 'https://a.example', hosts: [b.example]}}",
        "1:56 services.crm.hosts: lacks the host of base_url; add it, or calls to base_url are refused",
    ),
    (
        "an allowed host with a wildcard",
        "egress: {allow_hosts: ['*.internal']}",
        (
            "1:24 egress.allow_hosts[0]: '*.internal' is no host, host:port or CIDR range; "
            "write e.g. n8n.internal:5678 or 10.1.0.0/16"
        ),
    ),
    (
        "a port alone",
        "service: {listen: 8123}",
        "1:19 service.listen: 8123 is no text; write a text, in quotes where it looks like something else",
    ),
    (
        "a port that does not exist",
        "service: {listen: 'localhost:70000'}",
        "1:19 service.listen: 'localhost:70000' is not host:port; write e.g. 127.0.0.1:8123",
    ),
    (
        "a database of another kind",
        f"service: {{database_url: 'mysql://root:{HUNTER}@db/x'}}",
        (
            "1:25 service.database_url: is no database address; "
            "write sqlite:///prunella.db or postgresql://user:${NAME}@host/database"
        ),
    ),
    (
        "a module with a dash",
        "service: {plugins: [my-shop]}",
        "1:21 service.plugins[0]: 'my-shop' is no Python module; write e.g. shop.healing",
    ),
    (
        "an unknown kind",
        "services: {crm: {classify: [{when: {status: 477}, kind: network.servr}]}}",
        "1:57 services.crm.classify[0].kind: 'network.servr' is no kind; did you mean network.server?",
    ),
    (
        "a rule about everything",
        "services: {crm: {classify: [{when: {}, kind: config}]}}",
        (
            "1:36 services.crm.classify[0].when: names nothing and would fit everything; "
            "give status, code, exc_type or message"
        ),
    ),
    (
        "no HTTP status",
        "services: {crm: {classify: [{when: {status: 4777}, kind: config}]}}",
        (
            "1:45 services.crm.classify[0].when.status: 4777 is no HTTP status from 100 to 599, and no list of them; "
            "write e.g. 477 or [477, 478]"
        ),
    ),
    (
        "nearly never",
        "services: {crm: {disable_after: {auth: nevr}}}",
        (
            "1:40 services.crm.disable_after.auth: 'nevr' is no figure; "
            "write never, a whole number, or for network {count: 9, within: 60m}"
        ),
    ),
    (
        "a probe without health",
        "services: {crm: {enable_again: by_probe}}",
        "1:32 services.crm.enable_again: 'by_probe' needs a probe; add health: {path: /…}",
    ),
    (
        "a cache without an address",
        "services: {crm: {cache: {path: /cache}}}",
        "1:32 services.crm.cache.path: '/cache' needs base_url; add base_url: https://…",
    ),
    (
        "a cache elsewhere",
        "services: {crm: {base_url: https://crm.example, cache: {path: https://cdn.example/all}}}",
        (
            "1:63 services.crm.cache.path: 'https://cdn.example/all' leads to a host that is not the service's own; "
            "allowed: crm.example"
        ),
    ),
    (
        "a cache at no address",
        "services: {crm: {base_url: https://crm.example, cache: {path: 'ftp://crm.example/all'}}}",
        "1:63 services.crm.cache.path: is no web address; write /path, or https://host/path",
    ),
    (
        "a cache without TLS",
        "services: {crm: {base_url: https://crm.example, cache: {path: http://crm.example/all}}}",
        (
            "1:63 services.crm.cache.path: 'http://crm.example/all' is not called without TLS; use https, or set "
            "egress.allow_http: true"
        ),
    ),
    (
        "a method that empties nothing",
        "services: {crm: {base_url: https://crm.example, cache: {path: /all, method: post}}}",
        "1:77 services.crm.cache.method: 'post' is not one of POST, PUT, DELETE, GET; did you mean POST?",
    ),
    (
        "a pack that is none",
        "known_issues: {packs: [bultin]}",
        "1:24 known_issues.packs[0]: 'bultin' is no pack; did you mean builtin?; write builtin, or a YAML file as ./own.yaml",
    ),
    (
        "known after nothing",
        "known_issues: {promote_after: 0}",
        "1:31 known_issues.promote_after: 0 is too small; at least 1",
    ),
    (
        "an occurrence without end",
        "known_issues: {window: 2d}",
        "1:24 known_issues.window: '2d' is out of range; at least 100ms, at most 1d",
    ),
    (
        "health without an address",
        "services: {crm: {health: {path: /health}}}",
        "1:33 services.crm.health.path: '/health' needs base_url; add base_url: https://…",
    ),
    (
        "two ways to identify",
        "services: {crm: {bearer: 'secret://crm/key', oauth: {token_url: 'https://a.example/t', client_id: abc}}}",
        "1:26 services.crm.bearer: stands beside oauth; a call carries one of them, remove the other",
    ),
    (
        "half a seed",
        "services: {crm: {oauth: {token_url: 'https://a.example/t', client_id: abc, refresh_token: '${R}'}}}",
        "1:91 services.crm.oauth.refresh_token: a seed needs both tokens; add access_token: ${NAME}",
    ),
    (
        "an unset variable",
        "services: {crm: {bearer: '${CRM_KEY}'}}",
        "1:26 services.crm.bearer: the environment variable CRM_KEY is not set; set it before prunella starts",
    ),
    (
        "a default in a reference",
        f"services: {{crm: {{bearer: '${{CRM_KEY:-{HUNTER}}}'}}}}",
        "1:26 services.crm.bearer: holds a ${…} that names no variable; write ${NAME} with letters, digits and _ only",
    ),
    (
        "a wrong value from the environment",
        "services: {crm: {calls_max: '${R}'}}",
        "1:29 services.crm.calls_max: the value of '${R}' is no whole number; write e.g. 5",
    ),
    (
        "a plain bearer",
        f"services: {{crm: {{bearer: {HUNTER}}}}}",
        (
            "1:26 services.crm.bearer: a secret stands here in plain text; put it into the environment and write "
            "${CRM_BEARER}, or run: prunella secret set crm/bearer, and write secret://crm/bearer"
        ),
    ),
    (
        "a plain webhook address",
        f"notify: {{channels: {{ops: {{slack: 'https://hooks.example/{HUNTER}'}}}}}}",
        (
            "1:34 notify.channels.ops.slack: a secret stands here in plain text; put it into the environment and write "
            "${OPS_SLACK}, or run: prunella secret set ops/slack, and write secret://ops/slack"
        ),
    ),
    (
        "a plain ingest token",
        f"service: {{ingest_tokens: [{HUNTER}]}}",
        (
            "1:27 service.ingest_tokens[0]: a secret stands here in plain text; "
            "put it into the environment and write ${INGEST_TOKENS}"
        ),
    ),
    (
        "an ingest token from the store",
        "service: {ingest_tokens: ['secret://token']}",
        "1:27 service.ingest_tokens[0]: secret:// is not possible here; write ${NAME} and set it in the environment",
    ),
    (
        "a plain key of an advisor that is off",
        f"advisor: {{enabled: false, api_key: {HUNTER}}}",
        (
            "1:36 advisor.api_key: a secret stands here in plain text; put it into the environment and write "
            "${ADVISOR_API_KEY}, or run: prunella secret set advisor/api_key, and write secret://advisor/api_key"
        ),
    ),
    (
        "an advisor whose key is not set",
        "advisor: {enabled: true, base_url: https://m.example, model: m, api_key: '${NOWHERE}'}",
        ("1:74 advisor.api_key: the environment variable NOWHERE is not set; set it before prunella starts"),
    ),
    (
        "an advisor without a model",
        "advisor: {enabled: true, base_url: https://m.example, api_key: secret://m/key}",
        "1:10 advisor.model: is missing, and enabled is true; add it, or write enabled: false",
    ),
    (
        "an advisor without TLS",
        "advisor: {enabled: true, base_url: http://m.example/v1, model: m, api_key: secret://m/key}",
        (
            "1:36 advisor.base_url: 'http://m.example/v1' is not called without TLS; "
            "use https, or set egress.allow_http: true"
        ),
    ),
    (
        "an advisor with all the time in the world",
        "advisor: {deadline: 1m}",
        "1:21 advisor.deadline: '1m' is out of range; at least 100ms, at most 5s",
    ),
    (
        "an advisor with too few tokens for one question",
        "advisor: {tokens_per_day: 100}",
        "1:27 advisor.tokens_per_day: 100 is too small; at least 10000",
    ),
    (
        "a misspelt name of the advisor",
        "advisor: {modle: m}",
        (
            "1:11 advisor.modle: unknown name; did you mean model?; allowed: enabled, base_url, model, api_key, "
            "deadline, calls_per_day, tokens_per_day"
        ),
    ),
    (
        "a plain secret in a header",
        f"services: {{crm: {{headers: {{X-Api-Key: {HUNTER}}}}}}}",
        (
            "1:39 services.crm.headers.X-Api-Key: a secret stands here in plain text; put it into the environment and "
            "write ${CRM_X_API_KEY}, or run: prunella secret set crm/X-Api-Key, and write secret://crm/X-Api-Key"
        ),
    ),
    (
        "an impossible header",
        "services: {crm: {headers: {'X Y': a}}}",
        "1:28 services.crm.headers.X Y: is no header name (RFC 9110); write e.g. X-Api-Version",
    ),
    (
        "a secret with its space forgotten",
        f"services: {{crm: {{bearer:{HUNTER}}}}}",
        (
            "1:18 services.crm.bearer…: unknown name; allowed: base_url, hosts, health, cache, rate, oauth, bearer, "
            "headers, gate, disable_after, enable_again, validate, honours_idempotency_key, timeout, calls_max, classify"
        ),
    ),
    (
        "a secret one level too deep",
        f"services: {{crm: {{bearer: {{value: {HUNTER}}}}}}}",
        "1:26 services.crm.bearer: must be a reference to a secret, as text; write ${NAME} or secret://NAME",
    ),
    (
        "a secret one level too high",
        f"notify: {{channels: {{ops: {HUNTER}}}}}",
        (
            "1:26 notify.channels.ops: must be a mapping, not a text; "
            "write slack, teams, webhook, email, apprise, fallback, buttons below it"
        ),
    ),
    (
        "a bad name of a stored secret",
        f"services: {{crm: {{bearer: 'secret://{HUNTER} and more'}}}}",
        (
            "1:26 services.crm.bearer: names no stored secret; "
            "write secret://service/name with letters, digits and . _ - only"
        ),
    ),
    (
        "an address with a password",
        f"services: {{crm: {{base_url: 'https://me:{HUNTER}@a.example'}}}}",
        "1:28 services.crm.base_url: is no web address; write https://host/path, without a user or password",
    ),
    (
        "a name that stands twice",
        "egress:\n  allow_http: true\n  allow_http: false\n",
        "3:3 egress.allow_http: stands here a second time; keep one of the two",
    ),
    (
        "a tag",
        f"services: {{crm: {{timeout: !{HUNTER} 5s}}}}",
        "1:27 services.crm.timeout: a tag (!…) stands here; tags are not understood, remove it",
    ),
    (
        "a merge key",
        "services: {a: &a {timeout: 5s}, b: {<<: *a}}",
        "1:37 services.b: merge keys (<<) are not understood; use an alias for a whole value",
    ),
    (
        "a mapping as name",
        "egress: {? {a: b} : c}",
        "1:12 egress: a name here is no plain text; write name: value",
    ),
    (
        "an unknown alias",
        f"services: {{crm: {{bearer: *{HUNTER}}}}}",
        "1:26: is no YAML: found undefined alias …; correct this line or the one above",
    ),
    (
        "an unknown handle",
        f"services: {{crm: {{bearer: !{HUNTER}!x y}}}}",
        "1:26: is no YAML: found undefined tag handle …; correct this line or the one above",
    ),
    (
        "a broken line",
        "services:\n  crm: {a\n",
        "3:1: is no YAML: expected ',' or '}', but got '<stream end>'; correct this line or the one above",
    ),
]


def complaints(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("prunella.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Path("prunella.yaml"), {"R": HUNTER})
    return caught.value.problems


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_problems_say_place_fact_and_next_step(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mistake gives exactly one line, and no line holds the secret that is part of many of these files."""
    found = complaints(text, tmp_path, monkeypatch)
    assert found == [f"prunella.yaml:{message}"]
    assert HUNTER not in "".join(found)


def test_problems_come_all_at_once_in_the_order_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistakes of different kinds, between values of one section too, are reported together."""
    text = """
service: {listen: 5, listen: 6}
services:
  a: {timeout: 5, enable_again: by_person}
  b: {enable_again: by_probe, health: , base_url: https://b.example, hosts: [c.example]}
  c: {tiemout: 5s}
notify: {rules: [{severity: [HIGH], to: [nobody]}]}
"""
    places = [line.split(": ")[0] for line in complaints(text, tmp_path, monkeypatch)]
    assert places == [
        "prunella.yaml:2:19 service.listen",
        "prunella.yaml:2:22 service.listen",
        "prunella.yaml:4:16 services.a.timeout",
        "prunella.yaml:5:21 services.b.enable_again",
        "prunella.yaml:5:77 services.b.hosts",
        "prunella.yaml:6:7 services.c.tiemout",
        "prunella.yaml:7:42 notify.rules[0].to[0]",
    ]


def test_problems_leave_no_value_in_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error carries no cause whose text would show what the file or the environment holds."""
    monkeypatch.chdir(tmp_path)
    Path("prunella.yaml").write_text("services: {crm: {bearer: '${R}', timeout: x}}")
    with pytest.raises(ConfigError) as caught:
        load(Path("prunella.yaml"), {"R": HUNTER})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
