"""Values go beside the names of secrets in any notation; what is said about a secret stays."""

from __future__ import annotations

import pytest

from prunella.core.redact import scrub
from prunella.core.redact.names import hides, is_denied

VALUE = "s3cr3tV4lue9xQz"


@pytest.mark.parametrize(
    "text",
    [
        "name: DB_PASSWORD\n  value: {}",
        '{{"name": "DB_PASSWORD", "value": "{}"}}',
        '<add key="ApiKey" value="{}"/>',
        '<wsse:Password Type="PasswordText">{}</wsse:Password>',
        'name="client_secret"\r\n\r\n{}\r\n--x',
        '["password"]=>\n  string(15) "{}"',
        'password: Some("{}")',
        "password=&quot;{}&quot;",
        "Pwd={{{}}};Encrypt=yes",
        "ALTER ROLE svc PASSWORD '{}' VALID",
        "the token {} has expired",
        "Got token `{}` which is wrong",
        "('x-api-key', '{}')",
        "verification code is 493021 ({})".replace(" ({})", ""),
        "X-Hub-Signature-256: sha256={}",
        "grant_type=authorization_code&code={}",
        "Passwort: {}",
    ],
)
def test_values_go_beside_names_in_any_notation(text: str) -> None:
    """Entries, attributes, elements, forms, dumps, wrappers, sentences, pairs."""
    scrubbed = scrub(text.format(VALUE))
    assert VALUE not in scrubbed
    assert "493021" not in scrubbed
    assert "[REDACTED:named:" in scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "InvalidToken: Unauthorized https://api.test/me",
        "token: expired yesterday, password: see the handbook",
        'secret "shop-db-credentials-2" not found',
        "password=$DB_PASSWORD token=env.TOKEN secret=secret://shop/db api_key=${KEY} pwd=%(pwd)s",
        "token = self._fetch_token(client_id, scope=scope)",
        "code: 40001, error code=ER_ACCESS_DENIED_ERROR_1045, status code 401",
        '"loc":["body","password"] and fields ["token","state"]',
        "TWILIO_ACCOUNT_SID=AC0123456789abcdef0123456789abcdef",
        "(using password: YES)",
        "auth: basic, auth=none",
        "public_key=abc123def456 host key",
    ],
)
def test_what_is_said_about_a_secret_stays(text: str) -> None:
    """Prose, references, code, codes of errors, lists of fields, public ids."""
    assert scrub(text) == text


@pytest.mark.parametrize("name", ["password", "x-api-key", "clientsecret", "aws_secret_access_key", "db pwd", "otp"])
def test_names_of_secrets_are_known_in_any_notation(name: str) -> None:
    """Joined, snake, kebab or with spaces."""
    assert is_denied(name)
    assert hides(name, "short")


@pytest.mark.parametrize(
    "name", ["compass", "spin", "primary key", "idempotency-key", "tokens", "token_type", "author"]
)
def test_names_that_only_look_alike_are_not(name: str) -> None:
    """A word within a word, and keys that open nothing."""
    assert not is_denied(name)


def test_some_names_hide_only_what_looks_like_a_token() -> None:
    """`auth` often holds a word."""
    assert hides("auth", "c3ZjOmExYjJjM2Q0ZTVmNg==")
    assert not hides("auth", "basic")


@pytest.mark.parametrize("text", ["send Authorization: Bearer <token>", "Authorization: Basic", "authorization=Digest"])
def test_scheme_alone_is_no_secret(text: str) -> None:
    """A message that explains a header stays readable; with a token behind it the token goes."""
    assert scrub(text) == text
    assert "hunter2hunter2" not in scrub("Authorization: Bearer hunter2hunter2")
