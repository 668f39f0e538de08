"""A request is genuine when somebody who knows a secret signed it, and never otherwise."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from prunella.core.signing import WINDOW_S, is_genuine, key_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BODY = b'{"a": 1}'
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()


def standard(secret: str = SECRET, body: bytes = BODY, at: datetime = NOW) -> dict[str, str]:
    """Sign as the library of Standard Webhooks does."""
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", at, body.decode()),
    }


def digest(secret: str, signed: bytes = BODY) -> str:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def stamped(secret: str, at: datetime = NOW) -> dict[str, str]:
    """Sign as Grafana does where it is set to send a moment."""
    moment = str(int(at.timestamp()))
    signed = moment.encode() + b":" + BODY
    return {"x-grafana-alerting-signature": digest(secret, signed), "x-grafana-alerting-timestamp": moment}


def basic(secret: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"prunella:{secret}".encode()).decode()}


Signer = Callable[[str], dict[str, str]]
SIGNERS: dict[str, tuple[str, Signer]] = {
    "standard webhooks": ("standard_webhooks", standard),
    "sentry": ("sentry", lambda secret: {"sentry-hook-signature": digest(secret)}),
    "github": ("github", lambda secret: {"x-hub-signature-256": f"sha256={digest(secret)}"}),
    "grafana, signed": ("grafana", lambda secret: {"x-grafana-alerting-signature": digest(secret)}),
    "grafana, signed with a moment": ("grafana", stamped),
    "grafana, bearer": ("grafana", lambda secret: {"authorization": f"Bearer {secret}"}),
    "alertmanager, bearer": ("alertmanager", lambda secret: {"authorization": f"Bearer {secret}"}),
    "alertmanager, basic": ("alertmanager", basic),
    "cloudevents, bearer": ("cloudevents", lambda secret: {"authorization": f"bearer {secret}"}),
    "token header": ("token", lambda secret: {"x-prunella-token": secret}),
}


@pytest.mark.parametrize("name", SIGNERS)
def test_genuine_with_any_of_the_secrets_and_with_no_other(name: str) -> None:
    """While a secret is replaced both are good; a third one is not, and neither is a list without secrets."""
    kind, sign = SIGNERS[name]
    assert is_genuine(kind, [SECRET], sign(SECRET), BODY, NOW)
    assert is_genuine(kind, [OTHER, SECRET], sign(SECRET), BODY, NOW)
    assert is_genuine(kind, [SECRET, OTHER], sign(SECRET), BODY, NOW)
    assert not is_genuine(kind, [OTHER], sign(SECRET), BODY, NOW)
    assert not is_genuine(kind, [], sign(SECRET), BODY, NOW)


@pytest.mark.parametrize(
    "name", [name for name in SIGNERS if "bearer" not in name and "token" not in name and "basic" not in name]
)
def test_changed_body_is_not_genuine(name: str) -> None:
    """One byte of the body changed, added or taken away, white space too: not genuine."""
    kind, sign = SIGNERS[name]
    headers = sign(SECRET)
    for body in (BODY + b" ", BODY[:-1], b'{"a": 2}', b'{"a":1}', b""):
        assert not is_genuine(kind, [SECRET], headers, body, NOW), body


@pytest.mark.parametrize("name", SIGNERS)
def test_missing_and_empty_headers_are_not_genuine(name: str) -> None:
    """Each header taken away or emptied: not genuine; nothing that is missing counts as right."""
    kind, sign = SIGNERS[name]
    for header in sign(SECRET):
        without = {key: value for key, value in sign(SECRET).items() if key != header}
        assert not is_genuine(kind, [SECRET], without, BODY, NOW), header
        assert not is_genuine(kind, [SECRET], {**without, header: ""}, BODY, NOW), header


@pytest.mark.parametrize(("sign", "kind"), [(standard, "standard_webhooks"), (stamped, "grafana")])
def test_signed_moment_is_good_for_five_minutes(sign: Callable[..., dict[str, str]], kind: str) -> None:
    """300 s in either direction, not one second more."""
    for seconds, good in (
        (0, True),
        (WINDOW_S, True),
        (-WINDOW_S, True),
        (WINDOW_S + 1, False),
        (-WINDOW_S - 1, False),
    ):
        headers = sign(SECRET, at=NOW + timedelta(seconds=seconds))
        assert is_genuine(kind, [SECRET], headers, BODY, NOW) is good, seconds


def test_moment_that_is_no_number_is_not_genuine() -> None:
    """Also where it is signed: a moment is digits."""
    for moment in ("", "now", "-1", "1e9", "١٢٣", "9" * 40):
        signed = f"msg_1.{moment}.".encode() + BODY
        made = base64.b64encode(hmac.new(key_of(SECRET) or b"", signed, hashlib.sha256).digest()).decode()
        headers = {"webhook-id": "msg_1", "webhook-timestamp": moment, "webhook-signature": f"v1,{made}"}
        assert not is_genuine("standard_webhooks", [SECRET], headers, BODY, NOW), moment


def test_several_signatures_need_one_that_fits() -> None:
    """A sender that rotates signs with both; versions that are not ours do not count."""
    mine, other = standard(SECRET)["webhook-signature"], standard(OTHER)["webhook-signature"]
    for shown, good in (
        (f"{other} {mine}", True),
        (f"v1a,xyz {mine}", True),
        (other, False),
        (mine.replace("v1,", "v2,"), False),
        (mine.replace("v1,", ""), False),
    ):
        headers = {**standard(), "webhook-signature": shown}
        assert is_genuine("standard_webhooks", [SECRET], headers, BODY, NOW) is good, shown


def test_unknown_kind_is_never_genuine() -> None:
    """Whatever is shown."""
    assert not is_genuine("", [SECRET], {"authorization": f"Bearer {SECRET}"}, BODY, NOW)
    assert not is_genuine("stripe", [SECRET], standard(), BODY, NOW)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_%%%", "whsec_c2hvcnQ=", "plain words", base64.b64encode(b"x" * 65).decode()]
)
def test_secret_that_is_none_signs_nothing(secret: str) -> None:
    """A secret in a wrong form has no key, and no key in its place makes anything genuine."""
    assert key_of(secret) is None
    for key in (b"", b"a secret that nobody has", secret.encode()):
        made = base64.b64encode(hmac.new(key, b"msg_1.%d." % NOW.timestamp() + BODY, hashlib.sha256).digest()).decode()
        headers = {**standard(), "webhook-signature": f"v1,{made}"}
        assert not is_genuine("standard_webhooks", [secret], headers, BODY, NOW)


@given(
    st.sampled_from(["standard_webhooks", "sentry", "github", "grafana", "alertmanager", "cloudevents", "token"]),
    st.dictionaries(
        st.sampled_from(
            ["authorization", "x-prunella-token", "webhook-id", "webhook-timestamp", "webhook-signature",
             "sentry-hook-signature", "x-hub-signature-256", "x-grafana-alerting-signature", "x-grafana-alerting-timestamp"]
        ),
        st.text(max_size=60),
    ),
    st.binary(max_size=60),
)  # fmt: skip
def test_no_header_makes_the_check_stumble(kind: str, headers: dict[str, str], body: bytes) -> None:
    """Any text in any header: not genuine, and no error gets through."""
    assert not is_genuine(kind, [SECRET], headers, body, NOW)
