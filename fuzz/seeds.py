"""Inputs that lead each target to where it does real work: fuzzing begins with them, and the tests run them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _sent(which: int, headers: str, value: Any) -> bytes:
    """Put together a delivery as `cutting.delivered` takes it apart."""
    return bytes([which]) + headers.encode() + b"\0" + _json(value)


_EVENT: Final = {
    "event_id": "e1", "service_name": "acme", "http_status": 401, "error_code": "invalid_token",
    "endpoint": "/v3/contacts/7", "payload": {"recovery_of": "i1"}, "retry_count": 0, "headers": {"Retry-After": "7"},
    "occurred_at": "2026-03-01T11:59:00+01:00", "method": "post",
}  # fmt: skip
_ALERT: Final = {
    "status": "firing",
    "labels": {"alertname": "Down"},
    "startsAt": "2026-03-01T11:00:00Z",
    "fingerprint": "f1",
}
_RUN: Final = {"id": 7, "run_attempt": 1, "conclusion": "failure", "name": "ci", "head_branch": "main"}
_ERROR: Final = {"event_id": "x", "title": "Boom", "exception": {"values": [{"type": "KeyError", "value": "'id'"}]}}
_CLOUD: Final = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "failed", "data": {"error_message": "no"}}
_PRESSED: Final = {
    "type": "block_actions", "user": {"id": "U1"}, "team": {"id": "T1"}, "channel": {"id": "C1"},
    "response_url": "https://evil.example/actions/1", "actions": [{"action_id": "prunella_approve", "value": "n1 d1"}],
}  # fmt: skip
_JWT: Final = b".".join(
    base64.urlsafe_b64encode(_json(one)).rstrip(b"=")
    for one in (
        {"alg": "HS256", "kid": "../../etc/passwd"},
        {"sub": "eve", "exp": 9e9, "iss": "prunella", "role": "ADMIN"},
        "x",
    )
)
_KEYS: Final = {
    "keys": [{"kty": "RSA", "kid": "1", "n": "AQAB", "e": "AQAB"}, {"kty": "EC", "crv": "P-256", "x": "A", "y": "A"}]
}
_PACK: Final = (
    "- id: acme-quota\n  pattern: 'daily quota of \\d{1,9} calls'\n  severity: HIGH\n  title: Quota\n"
    "  kind: rate_limit.quota\n  examples: ['the daily quota of 100 calls']\n  others: ['no quota']\n"
)
_YAML: Final = (
    "services: {crm: {base_url: https://crm.example, oauth: &o {token_url: https://crm.example/t}}}\n"
    "notify: {channels: {ops: {slack: '${FUZZ}'}}}\nservice: {listen: 127.0.0.1:8123}\n"
)
_MESSAGE: Final = (
    b"Order 4711 of ada@example.com could not be sent to https://crm.example/v3 after 30 s (2026-03-01 12:00:05)"
)
SEEDS: Final[Mapping[str, Sequence[bytes]]] = MappingProxyType(
    {
        "templates": (_MESSAGE, b"Column 'colour' of table \"orders\" holds 7% at 10.0.0.1:80"),
        "recognition": (b"daily quota of \\d{1,9} calls\0the daily quota of 100 calls", b"(?:a|b){1,40}[^,]*,\0aaaa,"),
        "responses": (b"application/json\x0012\0" + _json({"ok": False, "error": {"message": "x", "retry_after": 3}}),),
        "events": (_sent(0, "content-type: application/json", _EVENT), _sent(0, "", {"mode": "scan", "limit": 7})),
        "inbound": (
            _sent(0, "webhook-id: m1", {"type": "t", "timestamp": "2026-03-01T11:00:00Z", "data": _EVENT}),
            _sent(1, "", _EVENT),
            _sent(2, "content-type: application/cloudevents+json", _CLOUD),
            _sent(2, "content-type: application/cloudevents-batch+json", [_CLOUD]),
            _sent(2, "ce-specversion: 1.0\nce-id: 1\nce-source: /s\nce-type: t%20x\ncontent-type: text/plain", "no"),
            _sent(3, "", {"alerts": [_ALERT, {**_ALERT, "status": "resolved"}]}),
            _sent(4, "", {"alerts": [_ALERT]}),
            _sent(5, "sentry-hook-resource: error", {"action": "created", "data": {"error": _ERROR}}),
            _sent(5, "sentry-hook-resource: issue", {"action": "resolved", "data": {"issue": {"id": "1"}}}),
            _sent(5, "sentry-hook-resource: metric_alert", {"action": "critical", "data": {"metric_alert": {"id": 1}}}),
            _sent(6, "x-github-event: workflow_run", {"action": "completed", "workflow_run": _RUN}),
            _sent(64 + 6, "", {"id": 1, "data": {"errors": [{"code": 5}]}}),
        ),
        "signatures": (
            _sent(0, "webhook-id: m\nwebhook-timestamp: 1772366400\nwebhook-signature: v1,aGk= v1,aGk=", {}),
            _sent(1, "authorization: Basic YTpi", {}),
            _sent(4, "x-grafana-alerting-signature: 00\nx-grafana-alerting-timestamp: 1772366400", {}),
            _sent(
                6, "x-hub-signature-256: sha256=00\nx-slack-request-timestamp: 1772366400\nx-slack-signature: v0=0", {}
            ),
        ),
        "chat": (b"payload=" + _json(_PRESSED).replace(b" ", b"+").replace(b"&", b"%26"),),
        "tokens": (_JWT, _json(_KEYS)),
        "queries": (
            base64.urlsafe_b64encode(b"2026-03-01T12:00:00+00:00 i1") + b'\0W/"7"\0state\0open_any',
            b"\0*\0since\x002026-03-01T12:00:00",
        ),
        "packs": (_PACK.encode(),),
        "configuration": (_YAML.encode(),),
        "spool": (b'calls\0{"function": "ship", "key": 7}', b"\0[", b"\x80SQLite format 3\0" + bytes(200)),
        "names": (b'a"; DROP TABLE x --', b"it's \\' here"),
        "logs": (b"id\0first\r\nsecond \x1b[31m \xe2\x80\xa8 third",),
        "messages": (b"<!channel> {{7*7}}\0{0.__class__}\0<@U1> @everyone [x](javascript:1)\0https://p.example/i/1",),
        "addresses": (
            b"https://user:pw@[::ffff:169.254.169.254]:80/a?b#c",
            b"http://2130706433/",
            b"https://crm.example:443",
        ),
    }
)
"""By target; those that need none are not here."""
