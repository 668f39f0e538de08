"""Who may tell us of failures: read from the file, every mistake at its place, no secret shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from prunella.core.errors import ConfigError
from prunella.core.redact import Secret
from prunella.core.senders import Sender
from prunella.core.services import SecretRef
from prunella.settings import Settings, json_schema, load

GOOD = "whsec_" + base64.b64encode(b"s" * 32).decode()
ENVIRON = {"GOOD": GOOD, "SHORT": "tooshort", "TOKEN": "a-token-that-is-long-enough"}


def read(tmp_path: Path, inbound: str) -> Settings:
    """Read a file with two services and these senders, from its third line on."""
    path = tmp_path / "prunella.yaml"
    path.write_text(f"services: {{crm: {{}}, mail: {{}}}}\ninbound:\n{inbound}")
    return load(path, ENVIRON)


def mistakes(tmp_path: Path, inbound: str) -> list[str]:
    """Return what is wrong, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, inbound)
    return [line.partition("prunella.yaml:")[2] for line in str(caught.value).splitlines() if "prunella.yaml:" in line]


def test_senders_are_read_with_their_secrets_and_services(tmp_path: Path) -> None:
    """What the file says is what the door knows; a service that is meant without a word may be named, too."""
    settings = read(
        tmp_path,
        "  alerts: {kind: alertmanager, secrets: ['${TOKEN}', secret://inbound/alerts], service: crm, services: [mail]}\n"
        "  partner:\n    kind: standard_webhooks\n    secrets: ['${GOOD}']\n    services: [crm]\n"
        "    fields: {error_message: data.reason}\n    failures: [sync.*]\n    successes: [synced]\n    scan: true\n",
    )
    assert settings.senders["alerts"] == Sender(
        name="alerts",
        kind="alertmanager",
        secrets=(Secret(ENVIRON["TOKEN"]), SecretRef("inbound/alerts")),
        service="crm",
        services=frozenset({"crm", "mail"}),
    )
    partner = settings.senders["partner"]
    assert (partner.service, partner.services, partner.scan) == ("", frozenset({"crm"}), True)
    assert (partner.fields, partner.failures) == ({"error_message": "data.reason"}, ("sync.*",))
    assert {ENVIRON["TOKEN"], GOOD} <= {secret.reveal() for secret in settings.secrets}
    assert ENVIRON["TOKEN"] not in repr(settings)


@pytest.mark.parametrize(
    ("inbound", "mistake"),
    [
        (
            "  a: {kind: alertmanagr, secrets: ['${TOKEN}'], service: crm}",
            (
                "3:13 inbound.a.kind: 'alertmanagr' is not one of standard_webhooks, alertmanager, sentry, grafana, github, "
                "cloudevents, token; did you mean alertmanager?"
            ),
        ),
        (
            "  a: {kind: sentry, secrets: [plain-text-secret-1], service: crm}",
            (
                "3:31 inbound.a.secrets[0]: a secret stands here in plain text; put it into the environment and write "
                "${A_SECRETS}, or run: prunella secret set a/secrets, and write secret://a/secrets"
            ),
        ),
        ("  a: {kind: sentry, secrets: [], service: crm}", "3:30 inbound.a.secrets: is empty; name at least one"),
        (
            "  a: {kind: sentry, secrets: ['${SHORT}'], service: crm}",
            "3:31 inbound.a.secrets[0]: the value is too short to be a secret; at least 16 characters",
        ),
        (
            "  a: {kind: standard_webhooks, secrets: ['${TOKEN}'], service: crm}",
            (
                "3:42 inbound.a.secrets[0]: the value is no secret of Standard Webhooks; it is whsec_ and 24 to 64 bytes "
                "in base64"
            ),
        ),
        (
            "  a: {kind: sentry, secrets: ['${TOKEN}']}",
            "3:6 inbound.a: names no service; add service: NAME, or services: [NAME, …]",
        ),
        (
            "  a: {kind: sentry, secrets: ['${TOKEN}'], service: crmm}",
            "3:53 inbound.a.service: 'crmm' is no service; did you mean crm?",
        ),
        (
            "  a: {kind: sentry, secrets: ['${TOKEN}'], services: [crm, stripe]}",
            "3:60 inbound.a.services[1]: 'stripe' is no service; services: crm, mail",
        ),
        (
            "  a: {kind: sentry, secrets: ['${TOKEN}'], service: crm, failures: [x]}",
            (
                "3:68 inbound.a.failures: is for cloudevents, standard_webhooks, token; sentry says itself what failed, "
                "remove it"
            ),
        ),
        (
            "  a: {kind: sentry, secrets: ['${TOKEN}'], service: crm, scan: true}",
            "3:64 inbound.a.scan: is for github, standard_webhooks, token; sentry never asks",
        ),
        (
            "  a: {kind: sentry, secrets: ['${TOKEN}'], service: crm, fields: {mesage: a}}",
            "3:67 inbound.a.fields.mesage: is no fact of an event; did you mean error_message?; allowed: ",
        ),
        (
            "  a: {kind: sentry, secrets: ['${TOKEN}'], service: crm, fields: {event_id: a}}",
            "3:77 inbound.a.fields.event_id: is for token; the others have an id that the signature covers, remove it",
        ),
        (
            "  a: {kind: sentry, secrets: ['${TOKEN}'], service: crm, fields: {error_code: a..b}}",
            (
                "3:79 inbound.a.fields.error_code: 'a..b' is no place in a body; write names with dots between them, e.g. "
                "labels.service or data.errors.0"
            ),
        ),
        (
            "  A/b: {kind: sentry, secrets: ['${TOKEN}'], service: crm}",
            "3:3 inbound.A/b: this name can't stand in an address; write small letters, digits, - and _, at most 64",
        ),
    ],
)
def test_mistake_is_told_at_its_place(inbound: str, mistake: str, tmp_path: Path) -> None:
    """File, line and column, what is wrong, and what to write instead."""
    (found,) = mistakes(tmp_path, inbound)
    assert found.startswith(mistake), found


def test_schema_knows_senders() -> None:
    """Editors propose kinds and facts."""
    section = json_schema()["$defs"]["SenderSection"]
    assert "alertmanager" in section["properties"]["kind"]["enum"]
    assert set(section["required"]) == {"kind", "secrets"}
