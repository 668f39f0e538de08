"""Tokens of an outside issuer open what their role may, and no forgery does, however it is made."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from prunella.core.clock import ManualClock
from prunella.core.errors import SecretError
from prunella.core.services import Issuing
from prunella.egress import Egress, EgressPolicy
from prunella.testing import FaultyServer, words
from prunella.web.auth import Role
from prunella.web.issuers import JwtIssuer
from prunella.web.problems import Problem

pytestmark = pytest.mark.anyio

EC = ECKey.generate_key("P-256", {"kid": "ec"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
STRANGER = ECKey.generate_key("P-256", {"kid": "ec"})
SHARED = "a shared secret of thirty-two bytes and more"
ISSUER = "https://project.supabase.example/auth/v1"


@pytest.fixture
def world() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        publish(server, EC, RSA)
        yield server


def publish(server: FaultyServer, *keys: ECKey | RSAKey, **more: Any) -> None:
    """Publish keys as issuers do."""
    listed = [key.as_dict(private=False) for key in keys]
    server.script("/jwks", [words.json(200, {"keys": [{**one, **more} for one in listed]})])


def asked(server: FaultyServer) -> int:
    """Return how often the keys were asked for."""
    return sum(request.path == "/jwks" for request in server.ledger.requests)


def by_hand(clock: ManualClock, secret: bytes) -> str:
    """Sign with HS256 and whatever bytes, as an attacker does who needs no library."""
    said = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "ec"}, claims(clock))]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in said)
    signature = hmac.digest(secret, text, "sha256")
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    out = Egress(EgressPolicy(allow_hosts=frozenset({"127.0.0.1"}), allow_http=True))
    yield out
    await out.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issuer(world: FaultyServer, egress: Egress, clock: ManualClock) -> JwtIssuer:
    return JwtIssuer(Issuing(issuer=ISSUER, audience="authenticated", jwks_url=f"{world.url}/jwks"), egress, clock)


def claims(clock: ManualClock, **changed: Any) -> dict[str, Any]:
    """Return what a good token says; None leaves a claim out."""
    now = int(clock.now().timestamp())
    said = {
        "iss": ISSUER,
        "aud": "authenticated",
        "sub": "user-7",
        "iat": now,
        "exp": now + 3600,
        "role": "authenticated",  # Supabase's own, a role of PostgreSQL
        "app_metadata": {"prunella_role": "operations"},
        **changed,
    }
    return {name: value for name, value in said.items() if value is not None}


def token(clock: ManualClock, key: Any = EC, alg: str = "ES256", kid: str | None = "ec", **changed: Any) -> str:
    """Return a signed token."""
    header = {"alg": alg} | ({"kid": kid} if kid is not None else {})
    return jwt.encode(header, claims(clock, **changed), key, algorithms=[alg])


@pytest.mark.parametrize(("key", "alg", "kid"), [(EC, "ES256", "ec"), (RSA, "RS256", "rsa")])
async def test_good_token_opens(issuer: JwtIssuer, clock: ManualClock, key: Any, alg: str, kid: str) -> None:
    """Its subject is who asks, its own claim the role, its end the end."""
    caller = await issuer.read(token(clock, key, alg, kid))
    assert caller is not None
    assert (caller.name, caller.role) == ("user-7", Role.OPERATIONS)
    assert caller.until == clock.now().replace(microsecond=0) + timedelta(hours=1)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "anon"},
        {"aud": None},
        {"sub": None},
        {"exp": None},
        {"exp": 1},
        {"exp": "tomorrow"},
        {"nbf": 99_999_999_999},
        {"app_metadata": None},
        {"app_metadata": {}},
        {"app_metadata": {"prunella_role": "ROOT"}},
        {"app_metadata": {"prunella_role": ["ADMIN"]}},
        {"app_metadata": "ADMIN"},
        {"app_metadata": None, "user_metadata": {"prunella_role": "ADMIN"}},
        {"app_metadata": None, "role": "ADMIN"},
    ],
)
async def test_token_with_a_wrong_claim_opens_nothing(
    issuer: JwtIssuer, clock: ManualClock, changed: dict[str, Any]
) -> None:
    """Issuer, audience, subject, end and role all have to be there and right."""
    assert await issuer.read(token(clock, **changed)) is None


async def test_forged_tokens_open_nothing(issuer: JwtIssuer, clock: ManualClock) -> None:
    """Unsigned, signed by a stranger, by the public key as a secret, or under another key's name."""
    good = token(clock)
    head, body, signature = good.split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    forged = [
        f"{none}.{body}.",
        f"{none}.{body}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body[:-2]}.{signature}",
        token(clock, STRANGER),
        by_hand(clock, EC.as_pem(private=False)),
        token(clock, RSA, "RS256", "ec"),
        token(clock, kid="unknown"),
        token(clock, kid=None),  # two keys are published: which one?
        "",
        "a.b.c",
        "." * 100_000,
    ]
    for one in forged:
        assert await issuer.read(one) is None, one[:80]
    assert await issuer.read(good) is not None


async def test_embedded_key_is_not_believed(issuer: JwtIssuer, clock: ManualClock) -> None:
    """A token that brings its own key (jwk, jku) is still checked by the published ones."""
    header = {"alg": "ES256", "kid": "ec", "jwk": STRANGER.as_dict(private=False)}
    assert await issuer.read(jwt.encode(header, claims(clock), STRANGER)) is None


async def test_new_key_is_fetched_but_not_at_every_unknown_name(
    issuer: JwtIssuer, clock: ManualClock, world: FaultyServer
) -> None:
    """A rotation is noticed after half a minute at most; a flood of unknown names asks once."""
    assert await issuer.read(token(clock)) is not None
    new = ECKey.generate_key("P-256", {"kid": "new"})
    publish(world, new)
    for number in range(50):
        assert await issuer.read(token(clock, STRANGER, kid=f"unknown-{number}")) is None
    assert asked(world) == 1
    clock.advance(31)
    assert await issuer.read(token(clock, new, kid="new")) is not None
    assert await issuer.read(token(clock)) is None  # withdrawn
    assert asked(world) == 2


async def test_known_keys_count_while_the_issuer_is_away(
    issuer: JwtIssuer, clock: ManualClock, world: FaultyServer
) -> None:
    """An outage of the issuer signs nobody out; who never got keys says so instead of blaming the token."""
    assert await issuer.read(token(clock)) is not None
    world.up = False
    clock.advance(700)
    assert await issuer.read(token(clock)) is not None


async def test_unreachable_issuer_is_named(issuer: JwtIssuer, clock: ManualClock, world: FaultyServer) -> None:
    """Without any key: 503, and a flood of requests asks it once in five seconds, not each time."""
    world.up = False
    for _ in range(20):
        with pytest.raises(Problem) as caught:
            await issuer.read(token(clock))
        assert caught.value.status == 503
    world.up = True
    with pytest.raises(Problem):
        await issuer.read(token(clock))
    assert asked(world) == 1
    clock.advance(5)
    assert await issuer.read(token(clock)) is not None
    assert asked(world) == 2


async def test_tokens_that_come_at_once_wait_for_the_keys(
    issuer: JwtIssuer, clock: ManualClock, world: FaultyServer
) -> None:
    """Right after the start, nobody with a good token is refused because another one's request asks for the keys."""
    callers = await asyncio.gather(*(issuer.read(token(clock)) for _ in range(10)))
    assert [caller.name for caller in callers if caller is not None] == ["user-7"] * 10
    assert asked(world) == 1


@pytest.mark.parametrize("kid", [[], {}, ["ec"], 5, True])
async def test_key_id_of_a_wrong_kind_opens_nothing(issuer: JwtIssuer, clock: ManualClock, kid: object) -> None:
    """It is read before anybody vouches for it, and is no fault of ours."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", "kid": kid}).encode()).rstrip(b"=").decode()
    assert await issuer.read(token(clock)) is not None
    assert await issuer.read(f"{header}.{token(clock).split('.', 1)[1]}") is None


@pytest.mark.parametrize("sub", ["ada\0", "ada\nrole: ADMIN", "\x1b[2J"])
async def test_name_that_no_audit_can_hold_is_nobody(issuer: JwtIssuer, clock: ManualClock, sub: str) -> None:
    """Who asks stands in the audit: control characters in it would forge lines, or hold a change up."""
    assert await issuer.read(token(clock, sub=sub)) is None


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # the library warns, and takes them
async def test_weak_and_private_keys_are_left_out(issuer: JwtIssuer, clock: ManualClock, world: FaultyServer) -> None:
    """RSA below 2048 bits can be broken (RFC 7518 section 3.3), and what is published signs nothing any more."""
    weak = RSAKey.generate_key(1024, {"kid": "weak"})
    told = ECKey.generate_key("P-256", {"kid": "told"})
    numbered = {**EC.as_dict(private=False), "kid": 7}
    keys = [weak.as_dict(private=False), told.as_dict(private=True), numbered, EC.as_dict(private=False)]
    world.script("/jwks", [words.json(200, {"keys": keys})])
    assert await issuer.read(token(clock, weak, "RS256", "weak")) is None
    assert await issuer.read(token(clock, told, kid="told")) is None
    assert await issuer.read(token(clock, kid="7")) is None
    assert await issuer.read(token(clock)) is not None


async def test_published_secret_and_encryption_keys_are_left_out(
    issuer: JwtIssuer, clock: ManualClock, world: FaultyServer
) -> None:
    """Only public keys for signatures count, whatever else stands in the document."""
    secret = OctKey.import_key(SHARED).as_dict() | {"kid": "oct"}
    usable = EC.as_dict(private=False)
    world.script("/jwks", [words.json(200, {"keys": ["nonsense", secret, {"kty": "EC", "kid": "half"}, usable]})])
    assert await issuer.read(token(clock)) is not None
    assert await issuer.read(token(clock, OctKey.import_key(SHARED), "HS256", "oct")) is None
    publish(world, EC, use="enc")
    clock.advance(601)
    assert await issuer.read(token(clock)) is not None  # no usable key in it: the known ones go on
    assert asked(world) == 2


@pytest.mark.parametrize(
    "secret", [SecretError("secret://jwt: there is none"), "", "too short", EC.as_pem(private=False).decode()]
)
async def test_secret_that_can_not_be_used_is_named(
    egress: Egress, clock: ManualClock, secret: str | SecretError
) -> None:
    """A missing, empty, short or public secret opens to nobody, and is our fault, which is said."""

    async def reveal() -> str:
        if isinstance(secret, SecretError):
            raise secret
        return secret

    issuing = Issuing(issuer=ISSUER, audience="authenticated", algorithms=("HS256",))
    with pytest.raises(Problem) as caught:
        await JwtIssuer(issuing, egress, clock, reveal).read(token(clock, OctKey.import_key(SHARED), "HS256"))
    assert (caught.value.status, "auth.jwt.secret" in caught.value.detail) == (503, True)
    assert "secret://jwt" not in caught.value.detail


async def test_shared_secret_signs_hs256_alone(egress: Egress, clock: ManualClock) -> None:
    """Where a secret is shared, only HS256 counts, and only with this secret."""

    async def reveal() -> str:
        return SHARED

    issuing = Issuing(issuer=ISSUER, audience="authenticated", algorithms=("HS256",))
    issuer = JwtIssuer(issuing, egress, clock, reveal)
    assert await issuer.read(token(clock, OctKey.import_key(SHARED), "HS256")) is not None
    assert await issuer.read(token(clock, OctKey.import_key(SHARED + "!"), "HS256")) is None
    assert await issuer.read(token(clock)) is None
