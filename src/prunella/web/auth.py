"""Who is asking: ingest tokens for events, short-lived signed tokens with a role for everything else."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fastapi import Request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from prunella.core.redact import Secret
from prunella.store.secrets import Keys
from prunella.web.problems import Problem

COOKIE = "prunella_session"
_ISSUER = "prunella"
_ALGORITHM = "HS256"


class Role(StrEnum):
    """What somebody may do (document D); INGEST may only report events, APPLICATION also hands calls over."""

    INGEST = "INGEST"
    APPLICATION = "APPLICATION"
    VIEWER = "VIEWER"
    OPERATIONS = "OPERATIONS"
    ADMIN = "ADMIN"


_REPORTS = frozenset({Role.INGEST, Role.APPLICATION, Role.OPERATIONS, Role.ADMIN})
_HANDS_OVER = frozenset({Role.APPLICATION})
_READS = frozenset({Role.VIEWER, Role.OPERATIONS, Role.ADMIN})
_ACTS = frozenset({Role.OPERATIONS, Role.ADMIN})
_RULES = frozenset({Role.ADMIN})


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has shown who they are."""

    name: str
    role: Role


class Gatehouse:
    """Check what callers show.

    Args:
        keys: the deployment's keys; tokens are signed with one derived for that purpose alone.
        ingest_tokens: shared secrets that may report events.
    """

    def __init__(self, keys: Keys, ingest_tokens: Sequence[Secret], now: Callable[[], datetime]) -> None:
        self._key = OctKey.import_key(keys.derive("jwt"))
        self._ingest = [token.reveal().encode() for token in ingest_tokens]
        self._now = now

    def mint(self, role: Role, ttl: timedelta, name: str = "cli") -> str:
        """Return a signed token for `role`."""
        issued = self._now()
        claims = {
            "iss": _ISSUER,
            "aud": _ISSUER,
            "sub": name,
            "role": role.value,
            "iat": int(issued.timestamp()),
            "exp": int((issued + ttl).timestamp()),
        }
        return jwt.encode({"alg": _ALGORITHM}, claims, self._key)

    def reports(self, request: Request) -> Caller:
        """Let through who may report events."""
        return self._admit(request, _REPORTS)

    def hands_over(self, request: Request) -> Caller:
        """Let through applications, whose guards hand calls over and share what they learned."""
        return self._admit(request, _HANDS_OVER)

    def reads(self, request: Request) -> Caller:
        """Let through who may look."""
        return self._admit(request, _READS)

    def acts(self, request: Request) -> Caller:
        """Let through who may act on incidents and services."""
        return self._admit(request, _ACTS)

    def rules(self, request: Request) -> Caller:
        """Let through who may change settings and credentials."""
        return self._admit(request, _RULES)

    def _admit(self, request: Request, allowed: frozenset[Role]) -> Caller:
        caller = self.who(request)
        if caller is None:
            raise Problem(
                401,
                "A token is required",
                "send Authorization: Bearer <token> (or X-Internal-Token for events); get one with: prunella token",
                headers={"www-authenticate": 'Bearer realm="prunella"'},
            )
        if caller.role not in allowed:
            names = ", ".join(sorted(allowed))
            raise Problem(403, "Not with this role", f"the role {caller.role} may not do this; allowed: {names}")
        return caller

    def who(self, request: Request) -> Caller | None:
        """Return who asks, None where nothing valid was shown."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        shown = [request.headers.get("x-internal-token", "")]
        if scheme.lower() == "bearer":
            shown.append(bearer.strip())
        for token in filter(None, shown):
            caller = self._ingest_caller(token) or self.signed(token)
            if caller is not None:
                return caller
        cookie = request.cookies.get(COOKIE)
        return self.signed(cookie) if cookie and request.method in ("GET", "HEAD") else None

    def _ingest_caller(self, token: str) -> Caller | None:
        known = [hmac.compare_digest(token.encode(), one) for one in self._ingest]
        return Caller("ingest", Role.INGEST) if any(known) else None

    def signed(self, token: str) -> Caller | None:
        """Return who a signed token stands for, None when it is forged, old or for somebody else."""
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
            rules = jwt.JWTClaimsRegistry(
                now=int(self._now().timestamp()),
                iss={"essential": True, "value": _ISSUER},
                aud={"essential": True, "value": _ISSUER},
                exp={"essential": True},
                sub={"essential": True},
            )
            rules.validate(claims)
            return Caller(str(claims["sub"]), Role(claims.get("role", "")))
        except (JoseError, ValueError, TypeError):  # TypeError: a header whose fields are of the wrong kind
            return None
