"""Whether a request was signed by who knows a secret: Standard Webhooks, hexadecimal HMACs, plain tokens.

Over the raw body, before anybody parses it. Every secret is tried, whichever fits, in a time that does not tell which.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

WINDOW_S: Final = 300.0
"""How far a signed moment may be from now, on either side (Standard Webhooks, "Verifying webhook authenticity")."""
GRAFANA_MOMENT: Final = "x-grafana-alerting-timestamp"
TOKEN_HEADER: Final = "x-prunella-token"  # noqa: S105, its name
_KEY_BYTES: Final = (24, 64)
_MOMENT: Final = re.compile(r"[0-9]{1,12}")
_NOBODY: Final = "a secret that nobody has"


def is_genuine(kind: str, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Tell whether one who knows one of `secrets` sent this.

    Args:
        kind: as in the configuration; unknown ones are never genuine.
        headers: with names in lower case.
        body: as it came, byte for byte.
    """
    check = _CHECKS.get(kind)
    if check is None or not secrets:
        _hex_fits("x", [_NOBODY], body)  # so that a name nobody has takes as long
        return False
    return check(secrets, headers, body, now)


def key_of(secret: str) -> bytes | None:
    """Return the key in a secret of Standard Webhooks (`whsec_` and base64), None where it is none."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if _KEY_BYTES[0] <= len(key) <= _KEY_BYTES[1] else None


def _standard(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Check `webhook-id`, `webhook-timestamp` and `webhook-signature`, which may hold several, with blanks between."""
    message, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    shown = [one.partition(",")[2] for one in headers.get("webhook-signature", "").split()[:10] if one[:3] == "v1,"]
    signed = f"{message}.{moment}.".encode("utf-8", "replace") + body
    fitting = 0
    for secret in secrets:
        made = hmac.new(key_of(secret) or _NOBODY.encode(), signed, hashlib.sha256).digest()
        right = base64.b64encode(made)
        known = key_of(secret) is not None
        fitting += sum(hmac.compare_digest(right, one.encode("utf-8", "replace")) and known for one in shown)
    return bool(message and fitting) and _is_near(moment, now)


def _sentry(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    return _hex_fits(headers.get("sentry-hook-signature", ""), secrets, body)


def _github(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    scheme, _, shown = headers.get("x-hub-signature-256", "").partition("=")
    return _hex_fits(shown, secrets, body) and scheme == "sha256"


def _grafana(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Check Grafana's signature, with its moment where it is set to send one; without a signature, its token."""
    shown = headers.get("x-grafana-alerting-signature")
    if shown is None:
        return _token(secrets, headers, body, now)
    moment = headers.get(GRAFANA_MOMENT)
    if moment is None:
        return _hex_fits(shown, secrets, body)
    signed = moment.encode("utf-8", "replace") + b":" + body
    return _hex_fits(shown, secrets, signed) and _is_near(moment, now)


def _token(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Check a token: `Authorization: Bearer`, the password of `Authorization: Basic`, or `X-Prunella-Token`."""
    shown = _shown_token(headers).encode("utf-8", "replace")
    return sum(hmac.compare_digest(shown, secret.encode()) for secret in secrets) > 0


_CHECKS: Final = {
    "standard_webhooks": _standard,
    "sentry": _sentry,
    "github": _github,
    "grafana": _grafana,
    "alertmanager": _token,
    "cloudevents": _token,
    "token": _token,
}


def _shown_token(headers: Mapping[str, str]) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return headers.get(TOKEN_HEADER, "")
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _hex_fits(shown: str, secrets: Sequence[str], signed: bytes) -> bool:
    right = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return sum(hmac.compare_digest(shown.strip().lower().encode("utf-8", "replace"), one.encode()) for one in right) > 0


def _is_near(moment: str, now: datetime) -> bool:
    return bool(_MOMENT.fullmatch(moment)) and abs(int(moment) - now.timestamp()) <= WINDOW_S
