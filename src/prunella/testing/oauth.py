"""A token endpoint with rotating refresh tokens (RFC 6749 section 6, RFC 9700 section 4.14.2).

Every refresh brings a new refresh token. The old one presented again means that two hold it: its whole family is
revoked and a person has to consent again. That is what a double refresh costs, and what this place makes visible.
Some providers are lenient for a while, for clients that lost the answer: `reuse_s`.
"""

from __future__ import annotations

import base64
import binascii
import math
import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote_plus

from prunella.testing.ledger import Ledger, Request
from prunella.testing.words import Reply, json_reply


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a client holds."""

    access_token: str
    refresh_token: str


@dataclass(slots=True)
class _Family:
    """The tokens that descend from one consent; `expiry_s` holds its access tokens.

    `spent_s` is when each of its refresh tokens was used first.
    """

    refresh_token: str = ""
    spent_s: dict[str, float] = field(default_factory=dict)
    expiry_s: dict[str, float] = field(default_factory=dict)
    revoked: bool = False

    def revoke(self) -> None:
        self.revoked = True
        self.expiry_s.clear()


class TokenEndpoint:
    """Issue and rotate tokens.

    Attributes:
        refreshes: successful refreshes.
        reuses: refreshes with a token that had been rotated away, and too long ago.
        forgiven: refreshes with one that had been rotated away a moment ago.
        broken: consents lost that way; a person has to sign in again.
        issued: every secret this endpoint knows, the client's among them.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        client_id: str,
        client_secret: str | None,
        expires_in: float,
        delay_s: float,
        reuse_s: float = 0.0,
    ) -> None:
        self._ledger = ledger
        self._client = (client_id, client_secret)
        self._expires_in = expires_in
        self.delay_s = delay_s
        self._reuse_s = reuse_s
        self._families: list[_Family] = []
        self._family_of: dict[str, _Family] = {}
        self.refreshes = 0
        self.reuses = 0
        self.forgiven = 0
        self.broken = 0
        self.issued: set[str] = {client_secret} if client_secret else set()

    def grant(self) -> TokenPair:
        """Return a first pair of tokens, as after a person's consent: one account."""
        with self._ledger.changed:
            family = _Family()
            self._families.append(family)
            return self._issue(family)

    def expire(self) -> None:
        """Let every access token expire now."""
        with self._ledger.changed:
            for family in self._families:
                family.expiry_s.clear()

    def revoke(self) -> None:
        """Withdraw every consent given so far."""
        with self._ledger.changed:
            for family in self._families:
                family.revoke()

    def accepts(self, access_token: str) -> bool:
        """Tell whether this access token is valid now."""
        with self._ledger.changed:
            now_s = time.monotonic()
            return any(now_s < family.expiry_s.get(access_token, 0.0) for family in self._families)

    def perform(self, request: Request, told: Reply | None) -> Reply:
        """Answer a token request; a scripted JSON answer takes the place of the whole exchange."""
        if told is not None:
            return told
        form = {name: values[0] for name, values in parse_qs(request.body.decode("latin-1")).items()}
        if _client_of(request, form) != self._client:
            return _refusal(401, "invalid_client", {"WWW-Authenticate": 'Basic realm="oauth"'})
        if form.get("grant_type") != "refresh_token":
            return _refusal(400, "unsupported_grant_type" if "grant_type" in form else "invalid_request")
        if "refresh_token" not in form:
            return _refusal(400, "invalid_request")
        return self._refresh(form["refresh_token"])

    def _refresh(self, refresh_token: str) -> Reply:
        family = self._family_of.get(refresh_token)
        if family is None:
            return _refusal(400, "invalid_grant")
        now_s = time.monotonic()
        again = refresh_token != family.refresh_token
        if again and now_s - family.spent_s.get(refresh_token, -math.inf) >= self._reuse_s:
            self._punish(family)
        if family.revoked:
            return _refusal(400, "invalid_grant")
        family.spent_s.setdefault(refresh_token, now_s)
        self.forgiven += again
        self.refreshes += 1
        pair = self._issue(family)
        body = {
            "access_token": pair.access_token,
            "token_type": "Bearer",
            "expires_in": self._expires_in,
            "refresh_token": pair.refresh_token,
        }
        return json_reply(200, body, {"Cache-Control": "no-store"})

    def _punish(self, family: _Family) -> None:
        self.reuses += 1
        if not family.revoked:
            self.broken += 1
            family.revoke()

    def _issue(self, family: _Family) -> TokenPair:
        pair = TokenPair(f"at-{secrets.token_urlsafe(24)}", f"rt-{secrets.token_urlsafe(24)}")
        family.refresh_token = pair.refresh_token
        family.expiry_s[pair.access_token] = time.monotonic() + self._expires_in
        self._family_of[pair.refresh_token] = family
        self.issued |= {pair.access_token, pair.refresh_token}
        self._ledger.changed.notify_all()
        return pair


def bearer_of(request: Request) -> str:
    """Return the access token that a request presents (RFC 6750 section 2.1), empty if none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _client_of(request: Request, form: dict[str, str]) -> tuple[str | None, str | None]:
    # RFC 6749 section 2.3.1: in a Basic header, both parts are form-encoded first.
    scheme, _, packed = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id"), form.get("client_secret")
    try:
        client_id, _, client_secret = base64.b64decode(packed, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    return unquote_plus(client_id), unquote_plus(client_secret)


def _refusal(status: int, error: str, headers: dict[str, str] | None = None) -> Reply:
    return json_reply(status, {"error": error}, {"Cache-Control": "no-store", **(headers or {})})
