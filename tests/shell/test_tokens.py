"""Forged tokens at the door of a running server: every one is nobody's, none makes it stumble, none makes it call out."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from shell.conftest import EC, Shell, raw

pytestmark = pytest.mark.slow
_STRANGER = ECKey.generate_key("P-256", {"kid": "ec"})
_NAMES = ("../../etc/passwd", "http://127.0.0.2/jwks", "' OR 1=1 --", "/dev/null", "ec\0", "", "x" * 3000)


def coded(value: object) -> str:
    """Return a value as a part of a token."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def by_hand(shell: Shell, header: dict[str, Any], secret: bytes = b"") -> str:
    """Sign with HS256 and whatever bytes, or not at all."""
    text = f"{coded(header)}.{coded(shell.claims())}"
    return f"{text}.{coded(hmac.digest(secret, text.encode(), 'sha256'))}" if secret else f"{text}."


def forgeries(shell: Shell) -> dict[str, str]:
    """Return tokens that are forged in one point each."""
    now = int(shell.clock.now().timestamp())
    pem = EC.as_pem(private=False)
    changed: dict[str, dict[str, Any]] = {
        "no end": {"exp": None},
        "ended": {"exp": now - 600},
        "end is a word": {"exp": "tomorrow"},
        "not yet": {"nbf": now + 600},
        "other audience": {"aud": "anon"},
        "no audience": {"aud": None},
        "other issuer": {"iss": "https://evil.example"},
        "no issuer": {"iss": None},
        "nobody": {"sub": None},
        "role by oneself": {"app_metadata": None, "user_metadata": {"prunella_role": "ADMIN"}, "role": "ADMIN"},
        "unknown role": {"app_metadata": {"prunella_role": "ROOT"}},
    }
    made = {name: shell.token(**one) for name, one in changed.items()}
    made |= {f"alg {name}": by_hand(shell, {"alg": name, "kid": "ec"}) for name in ("none", "None", "nOnE", "")}
    made |= {"public key as secret": by_hand(shell, {"alg": "HS256", "kid": "ec"}, pem)}
    made |= {"empty secret": by_hand(shell, {"alg": "HS256", "kid": "ec"}, b"secret")}
    made |= {f"key id {name[:20]!r}": shell.token({"kid": name}) for name in _NAMES}
    own = {"jwk": _STRANGER.as_dict(private=False)}
    made |= {"own key": jwt.encode({"alg": "ES256", **own}, shell.claims(), _STRANGER, algorithms=["ES256"])}
    made |= {
        "stranger's key": jwt.encode({"alg": "ES256", "kid": "ec"}, shell.claims(), _STRANGER, algorithms=["ES256"])
    }
    made |= {"signature cut": shell.token()[:-4], "two dots more": shell.token() + "..", "dots": "." * 50}
    return made


def test_good_token_opens_and_no_forgery_does(shell: Shell) -> None:
    """The same token, forged in one point each time: 401, with problem details and a challenge; the good one opens."""
    opened = shell.ask("GET", "/api/v1/incidents", None, headers=bearer(shell.token()))
    assert opened.status_code == 200
    let_in = {}
    for name, token in forgeries(shell).items():
        answer = shell.ask("GET", "/api/v1/incidents", None, headers=bearer(token))
        if (answer.status_code, answer.headers.get("www-authenticate", "")[:6]) not in ((401, "Bearer"), (403, "")):
            let_in[name] = answer.status_code
    assert let_in == {}


def bearer(token: str) -> dict[str, str]:
    """Return a token as it is shown."""
    return {"authorization": f"Bearer {token}"}


def test_unknown_key_ids_make_nobody_ask_the_issuer_each_time(shell: Shell) -> None:
    """A hundred tokens with key ids of their own: the issuer is asked once at most, and the good token goes on."""
    before = sum(one.path == "/jwks" for one in shell.world.ledger.requests)
    for number in range(100):
        assert shell.ask(
            "GET", "/livez/../api/v1/incidents", None, headers=bearer(shell.token({"kid": f"k{number}"}))
        ).status_code in (401, 404)
    assert sum(one.path == "/jwks" for one in shell.world.ledger.requests) - before <= 1
    assert shell.ask("GET", "/api/v1/incidents", None, headers=bearer(shell.token())).status_code == 200


def test_token_of_ten_megabytes_is_cut_off(shell: Shell) -> None:
    """It is refused before it is read whole, and others are answered all the while."""
    host = urlsplit(shell.up.url).netloc
    start = f"GET /api/v1/incidents HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer ".encode()
    told = raw(shell, start + b"a" * 10_000_000 + b"\r\nconnection: close\r\n\r\n")
    assert told == b"" or told.split(b" ")[1] == b"431", told[:200]
    assert shell.is_well()


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("auth: {jwt: {issuer: i, audience: a, secret: '${SHORT}'}}", "32"),
        ("auth: {jwt: {issuer: i, audience: a, jwks_url: 'https://x.example/j', algorithms: [HS256]}}", "public key"),
        ("auth: {jwt: {issuer: i, audience: a, jwks_url: 'https://x.example/j', algorithms: [none]}}", "algorithms"),
        (
            "auth: {jwt: {issuer: i, audience: a, jwks_url: 'https://x.example/j', role_claim: user_metadata.r}}",
            "app_metadata",
        ),
    ],
)
def test_weak_way_in_is_refused_before_anything_starts(shell: Shell, section: str, words: str) -> None:
    """A key of five bytes, a public key as a secret, a role that users write themselves: it says so and does not start."""
    file = shell.up.folder / "weak.yaml"
    file.write_text(section + "\n")
    shell.up.environ["SHORT"] = "abcde"
    told = shell.up.cli("-c", str(file), "config", "check", check=False)
    assert "weak.yaml:1" in told, told
    assert words in told, told
    assert "abcde" not in told
