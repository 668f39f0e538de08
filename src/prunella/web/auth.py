"""Who is asking: ingest tokens, API keys, own short-lived tokens, tokens of an outside issuer, and sessions.

A header that was sent decides alone: a browser's cookie never stands in for a token that is no good.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from fastapi import Request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from prunella.core.redact import Secret
from prunella.engine.entrances import KEY_PREFIX, digest_of
from prunella.store.contract import Store
from prunella.store.secrets import Keys
from prunella.web.problems import Problem

COOKIE = "prunella_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Where the page came by https: no other host and no path of this one can set it (RFC 6265bis section 4.1.3)."""
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"
_ISSUER = "prunella"
_ALGORITHM = "HS256"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 section 9.2.1)."""
_FIELDS_MAX = 200
_BEHIND_S = 60  # the engine's clock is its database's, and may be a little behind that of who signs
_SEEN_EVERY = timedelta(minutes=1)  # a row is not written for every click


class Role(StrEnum):
    """What somebody may do (document D); INGEST may only report events, APPLICATION also hands calls over."""

    INGEST = "INGEST"
    APPLICATION = "APPLICATION"
    VIEWER = "VIEWER"
    OPERATIONS = "OPERATIONS"
    ADMIN = "ADMIN"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has shown who they are.

    Args:
        csrf: what a form of theirs has to carry; empty where no browser shows a cookie by itself.
        until: when what they showed ends, where it does.
        shown: what they showed; two may bear one name, as two keys do.
        key_id: the API key that they showed.
    """

    name: str
    role: Role
    csrf: str = ""
    until: datetime | None = None
    shown: str = ""
    key_id: str | None = None

    @property
    def identity(self) -> str:
        """Return what tells this caller from every other."""
        return f"{self.role} {self.shown} {self.name}"


class Issuer(Protocol):
    """Somebody else whose tokens count."""

    async def read(self, token: str) -> Caller | None:
        """Return who a token stands for; None where it is none of theirs, or is no good."""
        ...


class Gatehouse:
    """Check what callers show.

    Args:
        keys: the deployment's keys; tokens are signed with one derived for that purpose alone.
        ingest_tokens: shared secrets that may report events.
        store: knows API keys and sessions; None: there are none.
        issuer: whose tokens count beside our own.
        public_url: where browsers reach us, when a proxy in front changes the Host header.
    """

    def __init__(
        self,
        keys: Keys,
        ingest_tokens: Sequence[Secret],
        now: Callable[[], datetime],
        store: Store | None = None,
        issuer: Issuer | None = None,
        public_url: str = "",
    ) -> None:
        self._key = OctKey.import_key(keys.derive("jwt"))
        self._csrf_key = keys.derive("csrf")
        self._ingest = [token.reveal().encode() for token in ingest_tokens]
        self._now = now
        self._store = store
        self._issuer = issuer
        self._public_host = urlsplit(public_url).netloc

    def mint(self, role: Role, ttl: timedelta, name: str = "cli") -> str:
        """Return a signed token for `role`."""
        issued = self._now()
        claims = {
            "iss": _ISSUER,
            "aud": _ISSUER,
            "sub": name,
            "role": role.value,
            "iat": int(issued.timestamp()) - _BEHIND_S,
            "exp": int((issued + ttl).timestamp()),
        }
        return jwt.encode({"alg": _ALGORITHM}, claims, self._key)

    async def admit(self, request: Request, allowed: frozenset[Role]) -> Caller:
        """Return who asks, or answer 401 or 403."""
        caller = await self.who(request)
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
        if caller.csrf and request.method not in SAFE:
            await self._must_be_meant(request, caller.csrf)
        return caller

    async def who(self, request: Request) -> Caller | None:
        """Return who asks, None where nothing valid was shown."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        shown = [request.headers.get("x-internal-token", ""), bearer.strip() if scheme.lower() == "bearer" else ""]
        if not any(shown):
            return await self._of_session(cookie_of(request))
        for token in filter(None, shown):
            if (caller := await self.known(token)) is not None:
                return caller
        return None

    def shows_something(self, request: Request) -> bool:
        """Tell whether a request shows anything at all, good or not."""
        shown = (request.headers.get("authorization"), request.headers.get("x-internal-token"), cookie_of(request))
        return any(shown)

    async def known(self, token: str) -> Caller | None:
        """Return who a token stands for, whichever kind it is; None when it is no good."""
        shown = token.encode("utf-8", "replace")
        fitting = [hmac.compare_digest(shown, one) for one in self._ingest]  # all are compared, whichever it is
        if any(fitting):
            return Caller("ingest", Role.INGEST, shown=f"token {fitting.index(True)}")
        if token.startswith(KEY_PREFIX):
            return await self._of_key(token)
        if (caller := self.signed(token)) is not None or self._issuer is None:
            return caller
        return await self._issuer.read(token)

    def signed(self, token: str) -> Caller | None:
        """Return who one of our own tokens stands for, None when it is forged, old or for somebody else."""
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
            until = datetime.fromtimestamp(int(claims["exp"]), self._now().tzinfo)
            return Caller(str(claims["sub"]), Role(claims.get("role", "")), until=until, shown="token")
        except (JoseError, ValueError, TypeError, OverflowError):  # TypeError: a field of the wrong kind
            return None

    def csrf(self, cookie: str) -> str:
        """Return what the forms of a session carry."""
        return hmac.new(self._csrf_key, cookie.encode("utf-8", "replace"), "sha256").hexdigest()

    async def _must_be_meant(self, request: Request, csrf: str) -> None:
        """Refuse what another site made a browser send: the cookie comes along by itself, the token does not."""
        self.must_be_from_here(request)
        shown = request.headers.get(CSRF_HEADER) or (await form_of(request)).get(CSRF_FIELD, "")
        if not hmac.compare_digest(shown.encode("utf-8", "replace"), csrf.encode()):
            raise _from_elsewhere()

    def must_be_from_here(self, request: Request) -> None:
        """Refuse what a browser says that another site's page sent (RFC 6454 section 7); programs say nothing."""
        origin = request.headers.get("origin")
        if origin is None:
            return
        try:
            host = urlsplit(origin).netloc
        except ValueError:
            raise _from_elsewhere() from None
        if not host or host not in (request.headers.get("host", ""), self._public_host):
            raise _from_elsewhere()

    async def _of_key(self, token: str) -> Caller | None:
        if self._store is None:
            return None
        now, digest = self._now(), digest_of(token)
        async with self._store.transaction() as tx:
            key = await tx.entrances.key(digest)
            if key is None or not key.is_good(now):
                return None
            if key.used_at is None or now - key.used_at > _SEEN_EVERY:
                await tx.entrances.key_used(digest, now)
        return Caller(key.name, Role(key.role), until=key.expires_at, shown=f"key {key.id}", key_id=key.id)

    async def _of_session(self, cookie: str) -> Caller | None:
        if self._store is None or not cookie:
            return None
        now, digest = self._now(), digest_of(cookie)
        async with self._store.transaction() as tx:
            session = await tx.entrances.session(digest, now)
            if session is None:
                return None
            if now - session["seen_at"] > _SEEN_EVERY:
                await tx.entrances.session_seen(digest, now)
        shown = f"session {digest[:16]}"
        return Caller(session["name"], Role(session["role"]), self.csrf(cookie), session["expires_at"], shown)


def cookie_of(request: Request) -> str:
    """Return the session that a browser shows; by https only the cookie that no neighbour can have set."""
    return request.cookies.get(SECURE_COOKIE if request.url.scheme == "https" else COOKIE, "")


def _from_elsewhere() -> Problem:
    why = "the form came from elsewhere, or is older than your sign-in; go back, reload and send it again"
    return Problem(403, "This was not sent from our page", why)


async def form_of(request: Request) -> dict[str, str]:
    """Read the fields of a form; the last one of a name counts."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return {}
    body = (await request.body()).decode("utf-8", "replace")
    try:
        fields = parse_qs(body, keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise Problem(422, "The form has too many fields", f"at most {_FIELDS_MAX} are taken") from None
    return {name: values[-1].replace("\0", "\ufffd") for name, values in fields.items()}  # no database holds nulls
