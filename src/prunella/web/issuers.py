"""Tokens of an outside issuer (OpenID Connect, Supabase Auth): checked by its published keys, or by a shared secret.

Hazards (RFC 8725): the algorithm is pinned by what was configured, never by the token; a public key is never a secret;
an unknown key id may not make us ask the issuer at every request.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from prunella.core.clock import Clock
from prunella.core.errors import EgressError, SecretError
from prunella.core.services import Issuing
from prunella.egress import Caller as Egress
from prunella.web.auth import Caller, Role
from prunella.web.problems import Problem

_FRESH_S = 600.0
_UNKNOWN_S = 30.0  # an unknown key id asks the issuer at most this often (knowledge: key rotation takes minutes)
_AGAIN_S = 5.0  # an issuer that gave no keys yet is left alone for as long
_LEEWAY_S = 30  # clocks of two hosts
_KEYS_MAX = 50
_NAME_MAX = 200
_HEADER_MAX = 4096
_RSA_BITS = 2048  # RFC 7518 section 3.3
_SECRET_BYTES = 32  # RFC 7518 section 3.2


class JwtIssuer:
    """Read tokens of one issuer.

    Args:
        reveal: opens the shared secret; asked at each token, so that a changed one counts at once.
    """

    def __init__(
        self, issuing: Issuing, egress: Egress, clock: Clock, reveal: Callable[[], Awaitable[str]] | None = None
    ) -> None:
        self._issuing = issuing
        self._egress = egress
        self._clock = clock
        self._reveal = reveal
        self._keys: dict[str, RSAKey | ECKey] = {}
        self._asked_s = float("-inf")
        self._asking = asyncio.Lock()

    async def read(self, token: str) -> Caller | None:
        """Return who a token stands for; None where it is none of theirs, or is no good."""
        header = _header(token)
        if header.get("alg") not in self._issuing.algorithms:
            return None
        key = await self._key(header)
        if key is None:
            return None
        try:
            claims = jwt.decode(token, key, algorithms=list(self._issuing.algorithms)).claims
            rules = jwt.JWTClaimsRegistry(
                now=int(self._clock.now().timestamp()),
                leeway=_LEEWAY_S,
                iss={"essential": True, "value": self._issuing.issuer},
                aud={"essential": True, "value": self._issuing.audience},
                exp={"essential": True},
                sub={"essential": True},
            )
            rules.validate(claims)
            until = datetime.fromtimestamp(int(claims["exp"]), self._clock.now().tzinfo)
            return self._caller(claims, until)
        except (JoseError, ValueError, TypeError, OverflowError, OSError):
            return None

    def _caller(self, claims: Mapping[str, Any], until: datetime) -> Caller | None:
        """Return who the claims name; None where they name no role of ours."""
        found: Any = claims
        for step in self._issuing.role_claim.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
        role, name = found.upper() if isinstance(found, str) else "", str(claims["sub"])[:_NAME_MAX]
        if role not in Role.__members__ or not name.isprintable():  # it stands in the audit
            return None
        return Caller(name, Role(role), until=until, shown="issuer")

    async def _key(self, header: Mapping[str, Any]) -> RSAKey | ECKey | OctKey | None:
        if self._reveal is not None:
            return await _shared(self._reveal)
        key_id = header.get("kid")
        if not isinstance(key_id, str | None):
            return None
        age_s = self._clock.monotonic() - self._asked_s
        if age_s >= _FRESH_S or (self._known(key_id) is None and age_s >= _UNKNOWN_S):
            self._asked_s = self._clock.monotonic()  # nobody else asks meanwhile
            async with self._asking:
                await self._ask()
        elif self._known(key_id) is None:
            async with self._asking:  # somebody may be asking just now
                pass
        if not self._keys:
            raise _unreadable("auth.jwt.jwks_url did not answer with keys")
        return self._known(key_id)

    def _known(self, key_id: str | None) -> RSAKey | ECKey | None:
        """Return the key of an id; the only one there is, where a token names none."""
        if key_id is not None:
            return self._keys.get(key_id)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    async def _ask(self) -> None:
        """Read the issuer's keys; the ones that are known go on counting while it does not answer."""
        assert self._issuing.jwks_url is not None  # settings demand it where there is no secret
        try:
            reply = await self._egress.request("GET", self._issuing.jwks_url, headers={"accept": "application/json"})
            keys = _public_keys(json.loads(reply.body)) if reply.status == 200 else {}
        except (EgressError, ValueError, RecursionError):
            keys = {}
        self._keys = keys or self._keys
        if not self._keys:
            self._asked_s = self._clock.monotonic() - _UNKNOWN_S + _AGAIN_S


async def _shared(reveal: Callable[[], Awaitable[str]]) -> OctKey:
    """Return the secret that tokens are signed with; a public key, or too short a one, is none."""
    why = f"auth.jwt.secret can't be opened, or is none of at least {_SECRET_BYTES} bytes"
    try:
        secret = (await reveal()).encode()
        if len(secret) < _SECRET_BYTES:
            raise _unreadable(why)
        return OctKey.import_key(secret)
    except (SecretError, ValueError):
        raise _unreadable(why) from None


def _unreadable(why: str) -> Problem:
    words = f"{why}; a token of prunella's own still works: prunella token"
    return Problem(503, "The issuer's keys can't be read", words, headers={"retry-after": str(round(_AGAIN_S))})


def _public_keys(document: Any) -> dict[str, RSAKey | ECKey]:
    """Return the signing keys by their ids; secrets, private, weak and encryption keys are left out."""
    listed = document.get("keys") if isinstance(document, dict) else None
    found: dict[str, RSAKey | ECKey] = {}
    for one in (listed if isinstance(listed, list) else [])[:_KEYS_MAX]:
        if not isinstance(one, dict) or one.get("kty") not in ("RSA", "EC") or one.get("use", "sig") != "sig":
            continue
        if "d" in one or not isinstance(one.get("kid", ""), str):  # what is published signs nothing any more
            continue
        try:
            key = next(iter(KeySet.import_key_set({"keys": [one]}).keys))
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, ECKey) or (isinstance(key, RSAKey) and key.public_key.key_size >= _RSA_BITS):
            found[one.get("kid", "")] = key
    return found


def _header(token: str) -> Mapping[str, Any]:
    """Read a token's header, which nobody vouches for yet."""
    encoded = token.partition(".")[0]
    if len(encoded) > _HEADER_MAX or token.count(".") != 2:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
