"""Tokens of an outside issuer (OpenID Connect, Supabase Auth): checked by its published keys, or by a shared secret.

Hazards (RFC 8725): the algorithm is pinned by what was configured, never by the token; a public key is never a secret;
an unknown key id may not make us ask the issuer at every request.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from prunella.core.clock import Clock
from prunella.core.errors import EgressError
from prunella.core.services import Issuing
from prunella.egress import Caller as Egress
from prunella.web.auth import Caller, Role
from prunella.web.problems import Problem

_FRESH_S = 600.0
_UNKNOWN_S = 30.0  # an unknown key id asks the issuer at most this often (knowledge: key rotation takes minutes)
_LEEWAY_S = 30  # clocks of two hosts
_KEYS_MAX = 50
_NAME_MAX = 200
_HEADER_MAX = 4096


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
        role = found.upper() if isinstance(found, str) else ""
        return Caller(str(claims["sub"])[:_NAME_MAX], Role(role), until=until) if role in Role.__members__ else None

    async def _key(self, header: Mapping[str, Any]) -> RSAKey | ECKey | OctKey | None:
        if self._reveal is not None:
            return OctKey.import_key(await self._reveal())
        key_id = header.get("kid")
        age_s = self._clock.monotonic() - self._asked_s
        if age_s > _FRESH_S or (key_id not in self._keys and age_s > _UNKNOWN_S):
            await self._ask()
        if isinstance(key_id, str):
            return self._keys.get(key_id)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    async def _ask(self) -> None:
        """Read the issuer's keys; the ones that are known go on counting while it does not answer."""
        self._asked_s = self._clock.monotonic()
        assert self._issuing.jwks_url is not None  # settings demand it where there is no secret
        try:
            reply = await self._egress.request("GET", self._issuing.jwks_url, headers={"accept": "application/json"})
            keys = _public_keys(json.loads(reply.body)) if reply.status == 200 else {}
        except (EgressError, ValueError):
            keys = {}
        if keys:
            self._keys = keys
        elif not self._keys:
            self._asked_s = float("-inf")
            raise Problem(
                503,
                "The issuer's keys can't be read",
                "auth.jwt.jwks_url did not answer with keys; a token of prunella's own still works: prunella token",
                headers={"retry-after": "5"},
            )


def _public_keys(document: Any) -> dict[str, RSAKey | ECKey]:
    """Return the signing keys by their ids; secrets, encryption keys and what can't be read are left out."""
    listed = document.get("keys") if isinstance(document, dict) else None
    found: dict[str, RSAKey | ECKey] = {}
    for one in (listed if isinstance(listed, list) else [])[:_KEYS_MAX]:
        if not isinstance(one, dict) or one.get("kty") not in ("RSA", "EC") or one.get("use", "sig") != "sig":
            continue
        try:
            key = next(iter(KeySet.import_key_set({"keys": [one]}).keys))
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, RSAKey | ECKey):
            found[str(one.get("kid", ""))] = key
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
