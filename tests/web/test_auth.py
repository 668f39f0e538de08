"""Nobody gets in with a forged token, and every route has a role that it asks for."""

from __future__ import annotations

import base64
import hmac
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import RSAKey

from prunella.core.clock import ManualClock
from prunella.store.secrets import Keys
from prunella.web.access import Needs, needs_of
from prunella.web.auth import COOKIE, Gatehouse, Role
from prunella.web.openapi import document, operations
from web.conftest import INGEST, KEYS, Web, wired

pytestmark = pytest.mark.anyio

CLOCK = ManualClock()
KEY = KEYS.derive("jwt")
NOBODY = frozenset[Role]()
ANYBODY = None
"""A route that asks for no token at all."""
REPORTS = frozenset({Role.INGEST, Role.APPLICATION, Role.OPERATIONS, Role.ADMIN})
HANDS_OVER = frozenset({Role.APPLICATION})
READS = frozenset({Role.VIEWER, Role.OPERATIONS, Role.ADMIN})
ACTS = frozenset({Role.OPERATIONS, Role.ADMIN})
RULES = frozenset({Role.ADMIN})
SIGNED = ANYBODY
"""A route that no role opens: who may come shows a signature (tests/web/test_inbound.py)."""

GUARDS = (
    "calls", "calls/claim", "calls/renew", "calls/end", "breakers", "breakers/report", "breakers/probe", "rates",
    "rates/learn", "notices",
)  # fmt: skip
ISSUE_ACTS = ("bind", "unbind", "resolve", "reopen", "merge", "split")
ROUTES: dict[tuple[str, str], frozenset[Role] | None] = {
    ("POST", "/integration-self-heal"): REPORTS,
    ("POST", "/api/v1/signals"): REPORTS,
    ("POST", "/api/v1/inbound/{source}"): SIGNED,
    ("GET", "/api/v1/incidents"): READS,
    ("GET", "/api/v1/incidents/{incident_id}"): READS,
    ("POST", "/api/v1/incidents/{incident_id}/{act}"): ACTS,
    ("GET", "/api/v1/operations"): ACTS,
    ("GET", "/api/v1/operations/{operation_id}"): ACTS,
    ("POST", "/api/v1/operations/{operation_id}/{act}"): ACTS,
    ("POST", "/api/v1/operations/{act}"): ACTS,
    ("GET", "/api/v1/services"): READS,
    ("POST", "/api/v1/services/{name}/{act}"): ACTS,
    ("GET", "/api/v1/services/{name}"): READS,
    ("PUT", "/api/v1/services/{name}/credentials"): RULES,
    ("GET", "/api/v1/secrets"): RULES,
    ("POST", "/api/v1/secrets/rotate"): RULES,
    ("PUT", "/api/v1/secrets/{name:path}"): RULES,
    ("DELETE", "/api/v1/secrets/{name:path}"): RULES,
    ("GET", "/api/v1/keys"): RULES,
    ("POST", "/api/v1/keys"): RULES,
    ("DELETE", "/api/v1/keys/{key_id}"): RULES,
    **{("POST", f"/api/v1/guard/{path}"): HANDS_OVER for path in GUARDS},
    ("GET", "/api/v1/self-healing/stuck-orders"): ACTS,
    ("POST", "/api/v1/self-healing/heal/{order_id:path}"): ACTS,
    ("POST", "/api/v1/self-healing/run-cycle"): ACTS,
    ("GET", "/api/v1/self-healing/statistics"): READS,
    ("GET", "/api/v1/self-healing/kpis"): READS,
    ("GET", "/api/v1/self-healing/notifications"): ACTS,
    ("POST", "/api/v1/self-healing/notifications/{notification_id}/acknowledge"): ACTS,
    ("GET", "/api/v1/procedures"): READS,
    ("GET", "/api/v1/procedures/{name}"): READS,
    ("POST", "/api/v1/procedures/{name}/run"): ACTS,
    ("POST", "/api/v1/procedures/{name}/{act}"): ACTS,
    ("GET", "/api/v1/approvals"): ACTS,
    ("GET", "/api/v1/approvals/{approval_id}"): ACTS,
    ("POST", "/api/v1/approvals/{approval_id}/approve"): ACTS,
    ("POST", "/api/v1/approvals/{approval_id}/reject"): ACTS,
    ("GET", "/api/v1/runs"): ACTS,
    ("GET", "/api/v1/runs/{run_id}"): ACTS,
    ("POST", "/api/v1/runs/{run_id}/undo"): ACTS,
    ("GET", "/api/v1/entities"): ACTS,
    ("GET", "/api/v1/entities/{entity}/stuck"): ACTS,
    ("GET", "/api/v1/notifications"): ACTS,
    ("GET", "/api/v1/channels"): READS,
    ("GET", "/api/v1/notifications/{notification_id}/messages"): ACTS,
    ("POST", "/api/v1/notifications/{notification_id}/resend"): ACTS,
    ("POST", "/api/v1/channels/{name}/test"): ACTS,
    ("POST", "/api/v1/inbound-chat/slack/{channel}"): ANYBODY,  # Slack's signature is asked for instead
    ("POST", "/api/v1/notifications/{notification_id}/acknowledge"): ACTS,
    ("GET", "/api/v1/audit"): ACTS,
    ("GET", "/api/v1/audit/verify"): ACTS,
    ("GET", "/api/v1/pause"): READS,
    ("POST", "/api/v1/pause"): ACTS,
    ("POST", "/api/v1/resume"): ACTS,
    ("GET", "/api/v1/overview"): READS,
    ("GET", "/api/v1/metrics/self-healing"): READS,
    ("GET", "/statistics"): READS,
    ("POST", "/api/v1/links"): RULES,
    ("DELETE", "/api/v1/links/{name:path}"): RULES,
    ("GET", "/"): READS,
    ("GET", "/incidents/{incident_id}"): READS,
    ("GET", "/approvals"): ACTS,
    ("GET", "/operations"): ACTS,
    ("GET", "/operations/{operation_id}"): ACTS,
    ("GET", "/approvals/{approval_id}"): ACTS,
    ("POST", "/approvals/{approval_id}/approve"): ACTS,
    ("POST", "/approvals/{approval_id}/reject"): ACTS,
    ("GET", "/services"): READS,
    ("GET", "/services/{name}"): READS,
    ("POST", "/services/{name}/{act}"): ACTS,
    ("POST", "/operations/estimate"): ACTS,
    ("POST", "/operations/many/{act}"): ACTS,
    ("POST", "/operations/{operation_id}/{act}"): ACTS,
    ("GET", "/procedures"): READS,
    ("GET", "/procedures/{name}"): READS,
    ("POST", "/procedures/{name}/dry-run"): ACTS,
    ("POST", "/procedures/{name}/run"): ACTS,
    ("POST", "/procedures/{name}/{act}"): ACTS,
    ("GET", "/known-issues"): READS,
    ("GET", "/known-issues/{issue_id}"): READS,
    ("POST", "/known-issues/{issue_id}/{act}"): ACTS,
    ("POST", "/known-issues/make"): ACTS,
    ("GET", "/api/v1/known-issues"): READS,
    ("GET", "/api/v1/known-issues/candidates"): READS,
    ("GET", "/api/v1/known-issues/export"): READS,
    ("GET", "/api/v1/known-issues/{issue_id}"): READS,
    ("POST", "/api/v1/known-issues"): ACTS,
    ("PATCH", "/api/v1/known-issues/{issue_id}"): ACTS,
    ("POST", "/api/v1/known-issues/import"): ACTS,
    **{("POST", f"/api/v1/known-issues/{{issue_id}}/{act}"): ACTS for act in ISSUE_ACTS},
    ("POST", "/known-issues/try"): ACTS,
    ("GET", "/notifications"): ACTS,
    ("POST", "/notifications/{notification_id}/acknowledge"): ACTS,
    ("POST", "/notifications/{notification_id}/resend"): ACTS,
    ("GET", "/audit"): ACTS,
    ("GET", "/audit/export"): ACTS,
    ("POST", "/audit/check"): ACTS,
    ("GET", "/livez"): ANYBODY,
    ("GET", "/readyz"): ANYBODY,
    ("GET", "/healthz"): ANYBODY,
    ("GET", "/metrics"): ANYBODY,  # on loopback; elsewhere see below
    ("GET", "/openapi.json"): ANYBODY,
    ("HEAD", "/openapi.json"): ANYBODY,
    ("GET", "/login"): ANYBODY,  # shows where to put a token
    ("POST", "/login"): ANYBODY,  # takes a token and says whether it is good
    ("POST", "/logout"): READS,
    ("POST", "/pause"): ACTS,
    ("POST", "/resume"): ACTS,
    ("POST", "/theme"): READS,
    ("GET", "/rates"): READS,
    ("GET", "/live"): READS,
    ("GET", "/incidents"): READS,
    ("GET", "/incidents/many"): ACTS,
    ("POST", "/incidents/many"): ACTS,
    ("POST", "/incidents/{incident_id}/{act}"): ACTS,
    ("POST", "/runs/{run_id}/undo"): ACTS,
    ("GET", "/entities"): ACTS,
    ("GET", "/entities/{entity}"): ACTS,
    ("POST", "/entities/{entity}/heal"): ACTS,
    ("POST", "/entities/{entity}/run"): ACTS,
    ("GET", "/settings"): READS,
    ("POST", "/settings/keys"): RULES,
    ("POST", "/settings/keys/{key_id}/revoke"): RULES,
    ("GET", "/static/{file:path}"): ANYBODY,
}
"""Every route and who may use it. A new route stands here, or the first test below fails."""


def path_of(path: str) -> str:
    """Return an address of a route."""
    act = next((act for noun, act in (("incidents", "ack"), ("operations", "cancel")) if noun in path), "pause")
    values = {"{incident_id}": "nobody", "{act}": act, "{name}": "crm"}
    for name, value in {**values, "{name:path}": "crm/key", "{file:path}": "style.css"}.items():
        path = path.replace(name, value)
    return re.sub(r"{\w+(:path)?}", "nobody", path)


@pytest.fixture(scope="module")
async def house(
    anyio_backend: str, _migrated_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Web]:
    """One prunella for all who are turned away at its doors, each of them a minute after the one before."""
    path = Path(shutil.copy(_migrated_file, tmp_path_factory.mktemp("house") / "prunella.db"))
    async with wired(path) as one:
        yield one


# Roles ----------------------------------------------------------------------------------------------------------------


def declared(api: FastAPI) -> dict[tuple[str, str | None], frozenset[Role] | None]:
    """Return every route of an application, and whom its dependencies let in; None: it asks nobody."""
    return {
        (method, route.path): needs.roles if (needs := dependencies_of(route)) is not None else ANYBODY
        for route in iter_route_contexts(api.routes)
        for method in route.methods or ()
    }


def dependencies_of(route: RouteContext) -> Needs | None:
    dependant = getattr(route, "dependant", None)
    return needs_of(dependant) if dependant is not None else None


async def test_every_route_has_a_declared_role(web: Web) -> None:
    """Each route lets in exactly those of the table: none is added without saying who may use it."""
    assert declared(web.api) == ROUTES


async def test_document_says_whom_each_route_lets_in(web: Web) -> None:
    """The matrix of routes and roles in the OpenAPI document is that of the table; an open route names nobody."""
    found = {(method, path): said.get("x-roles") for method, path, said in operations(web.api.openapi())}
    api = {(method, path): roles for (method, path), roles in ROUTES.items() if not is_page(path)}
    hidden = {("GET", "/healthz"), ("GET", "/openapi.json"), ("HEAD", "/openapi.json")}
    hidden.add(("POST", "/api/v1/inbound-chat/slack/{channel}"))  # Slack's own shape, for Slack alone
    assert found == {
        (method, path.replace(":path}", "}")): None if roles is ANYBODY else sorted(roles)
        for (method, path), roles in api.items()
        if (method, path) not in hidden
    }


def is_page(path: str) -> bool:
    """Tell whether an address is for browsers."""
    return not path.startswith(("/api/", "/integration", "/livez", "/readyz", "/healthz", "/metrics", "/openapi"))


async def test_planted_route_without_a_role_is_noticed(web: Web) -> None:
    """A route that somebody adds without a role is none of the table, in the application and in the document."""

    @web.api.get("/api/v1/planted")
    async def planted() -> None: ...

    assert set(declared(web.api).items()) - set(ROUTES.items()) == {(("GET", "/api/v1/planted"), ANYBODY)}
    found = {path for _, path, said in operations(document(web.api)) if "x-roles" not in said}
    assert found == {"/livez", "/readyz", "/metrics", "/api/v1/inbound/{source}", "/api/v1/planted"}


@pytest.mark.parametrize(("method", "path"), [route for route, roles in ROUTES.items() if roles is not ANYBODY])
async def test_route_lets_in_whom_it_may_and_nobody_else(house: Web, method: str, path: str) -> None:
    """Without a token 401, with another role 403, with a role that may: anything but these two."""
    allowed = ROUTES[method, path]
    assert allowed is not None
    house.clock.advance(60)
    house.app.life.stopping.set()  # so that the stream of /live ends
    nobody = await house.ask(method, path_of(path), json={})
    assert nobody.status_code == 401
    for role in Role:
        answer = await house.ask(method, path_of(path), house.token(role), json={})
        refused = answer.status_code in (401, 403)
        assert refused is (role not in allowed), f"{role}: {answer.status_code} {answer.text}"


@pytest.mark.parametrize(("method", "path"), [route for route, roles in ROUTES.items() if roles is ANYBODY])
async def test_open_route_asks_for_nothing_and_tells_nothing(web: Web, method: str, path: str) -> None:
    """What needs no token answers without one, and says nothing of incidents, hosts or secrets."""
    await web.ask("POST", "/integration-self-heal", INGEST, json=EVENT, headers={"prefer": "respond-async"})
    answer = await web.ask(method, path_of(path))
    may_refuse = path in ("/login", "/readyz", "/healthz") or "inbound" in path  # no worker runs, nobody signed
    assert answer.status_code in (200, 303) or may_refuse
    assert "crm.invalid" not in answer.text
    assert "card 4711" not in answer.text


EVENT = {"event_id": "e-1", "service_name": "crm", "http_status": 503, "error_message": "card 4711 was refused"}


@pytest.mark.parametrize(
    ("listen", "public", "status"),
    [
        (("127.0.0.1", 1), False, 200),
        (("::1", 1), False, 200),
        (("0.0.0.0", 1), False, 401),
        (("0.0.0.0", 1), True, 200),
    ],
)
async def test_metrics_want_a_token_beyond_loopback(
    web: Web, listen: tuple[str, int], public: bool, status: int
) -> None:
    """Decision 16: open on loopback, elsewhere for readers only, unless somebody says that they are public."""
    object.__setattr__(web.app.settings, "listen", listen)
    object.__setattr__(web.app.settings, "metrics_public", public)
    assert (await web.ask("GET", "/metrics")).status_code == status
    assert (await web.ask("GET", "/metrics", web.token(Role.VIEWER))).status_code == 200


async def test_refusal_says_what_to_send(web: Web) -> None:
    """401 names the header and the command, with a challenge (RFC 9110 section 11.6.1); 403 names the roles."""
    nobody = await web.ask("GET", "/api/v1/incidents")
    assert nobody.headers["www-authenticate"] == 'Bearer realm="prunella"'
    assert nobody.headers["content-type"] == "application/problem+json"
    assert "prunella token" in nobody.json()["detail"]
    viewer = await web.ask("GET", "/api/v1/secrets", web.token(Role.VIEWER))
    assert viewer.json()["detail"] == "the role VIEWER may not do this; allowed: ADMIN"


# Forgeries ------------------------------------------------------------------------------------------------------------


def gatehouse(keys: Keys = KEYS) -> Gatehouse:
    return Gatehouse(keys, (), CLOCK.now)


def good(**changed: Any) -> dict[str, Any]:
    """Return the claims of a good token; None takes one away."""
    now = int(CLOCK.now().timestamp())
    claims = {"iss": "prunella", "aud": "prunella", "sub": "ada", "role": "ADMIN", "iat": now, "exp": now + 60}
    return {name: value for name, value in {**claims, **changed}.items() if value is not None}


def signed(claims: dict[str, Any], header: dict[str, Any] | None = None, key: bytes = KEY) -> str:
    """Sign claims as we do, with any header and any key, however short."""
    named = {"alg": "HS256", **(header or {})}
    text = f"{packed(named)}.{packed(claims)}"
    digest = {"HS256": "sha256", "HS512": "sha512"}[named["alg"]]
    return f"{text}.{packed(hmac.new(key, text.encode(), digest).digest())}"


def packed(value: object) -> str:
    """Encode a part of a token."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw(header: object, claims: object = None, signature: str = "") -> str:
    """Return a token that nobody signed."""
    return f"{packed(header)}.{packed(good() if claims is None else claims)}.{signature}"


def by_rsa() -> str:
    key = RSAKey.generate_key(2048)
    header = {"alg": "RS256", "jwk": key.as_dict(private=False)}
    return jwt.encode(header, good(), key, algorithms=["RS256"])


NOW = int(CLOCK.now().timestamp())
FORGED: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "no token": lambda: "hello",
    "two parts": lambda: "a.b",
    "five parts": lambda: "a.b.c.d.e",
    "dots": lambda: "..",
    "alg none": lambda: raw({"alg": "none"}),
    "alg None": lambda: raw({"alg": "None"}),
    "alg none with a signature": lambda: raw({"alg": "none"}, signature=signed(good()).rpartition(".")[2]),
    "alg missing": lambda: raw({}, signature="eA"),
    "alg a list": lambda: raw({"alg": ["HS256"]}, signature="eA"),
    "signature missing": lambda: signed(good()).rpartition(".")[0] + ".",
    "signature of another": lambda: raw({"alg": "HS256"}, signature=signed(good(sub="bob")).rpartition(".")[2]),
    "another key": lambda: signed(good(), key=b"x" * 32),
    "the key itself, not the derived one": lambda: signed(good(), key=b"k" * 32),
    "a key of another purpose": lambda: signed(good(), key=KEYS.derive("seal")),
    "another algorithm with our key": lambda: signed(good(), {"alg": "HS512"}),
    "public key algorithm": by_rsa,
    "expired": lambda: signed(good(exp=NOW - 1)),
    "expired long ago": lambda: signed(good(exp=0)),
    "exp missing": lambda: signed(good(exp=None)),
    "exp a text": lambda: signed(good(exp="tomorrow")),
    "exp a list": lambda: signed(good(exp=[NOW + 60])),
    "not yet valid": lambda: signed(good(nbf=NOW + 3600)),
    "another issuer": lambda: signed(good(iss="evil")),
    "issuer missing": lambda: signed(good(iss=None)),
    "another audience": lambda: signed(good(aud="billing")),
    "audience missing": lambda: signed(good(aud=None)),
    "subject missing": lambda: signed(good(sub=None)),
    "role missing": lambda: signed(good(role=None)),
    "unknown role": lambda: signed(good(role="ROOT")),
    "role in lower case": lambda: signed(good(role="admin")),
    "role a list": lambda: signed(good(role=["ADMIN"])),
    "role an object": lambda: signed(good(role={"ADMIN": 1})),
    "claims a list": lambda: raw({"alg": "HS256"}, [1], "eA"),
    "claims no json": lambda: raw({"alg": "HS256"}, b"{", "eA"),
    "header no json": lambda: raw(b"{", signature="eA"),
    "header a text": lambda: raw("HS256", signature="eA"),
    "header deep": lambda: raw(b"[" * 100_000, signature="eA"),
    "kid a path": lambda: signed(good(), {"kid": "../../../../dev/null"}, b""),
    "kid an injection": lambda: signed(good(), {"kid": "x' UNION SELECT 'a'--"}, b"a"),
    "kid an address": lambda: signed(good(), {"jku": "https://evil.test/jwks.json", "kid": "1"}, b"evil" * 8),
    "own key in the header": lambda: signed(good(), {"jwk": {"kty": "oct", "k": packed(b"evil" * 8)}}, b"evil" * 8),
    "crit a number": lambda: raw({"alg": "HS256", "crit": 5}, signature="eA"),
    "crit a mapping": lambda: raw({"alg": "HS256", "crit": [{}]}, signature="eA"),
    "crit unknown": lambda: raw({"alg": "HS256", "crit": ["x"], "x": 1}, signature="eA"),
    "unencoded payload": lambda: raw({"alg": "HS256", "b64": False, "crit": ["b64"]}, signature="eA"),
    "a megabyte": lambda: "A" * 2**20,
    "a megabyte in three parts": lambda: f"{'A' * 2**19}.{'A' * 2**19}.AAAA",
    "a megabyte of dots": lambda: "." * 2**20,
    "letters of elsewhere": lambda: "é.ü.ß",
    "null bytes": lambda: "\0.\0.\0",
}


@pytest.mark.parametrize("forgery", FORGED)
def test_forged_token_is_nobody(forgery: str) -> None:
    """Whatever is wrong with it: nobody, and no error gets through."""
    assert gatehouse().signed(FORGED[forgery]()) is None


async def test_forged_token_is_refused_over_http(web: Web) -> None:
    """Every forgery is answered with 401 and a challenge, never with a fault of our own."""
    for forgery, made in FORGED.items():
        header = made().replace("\0", "").encode("latin-1")
        answer = await web.client.get("/api/v1/incidents", headers={b"authorization": b"Bearer " + header})
        assert (answer.status_code, "www-authenticate" in answer.headers) == (401, True), forgery


def test_forgeries_are_forged_in_one_point_only() -> None:
    """The claims from which every forgery is made are good themselves, or the table would prove nothing."""
    caller = gatehouse().signed(signed(good()))
    assert caller is not None
    assert (caller.name, caller.role) == ("ada", Role.ADMIN)
    assert gatehouse().signed(signed(good(), {"kid": "any"})) == caller


@given(st.data())
def test_no_changed_letter_leaves_a_token_good(data: st.DataObject) -> None:
    """One letter of header, claims or signature changed: nobody (the last one holds bits that mean nothing)."""
    token = gatehouse().mint(Role.ADMIN, timedelta(minutes=1))
    place = data.draw(st.integers(0, len(token) - 2))
    letter = data.draw(st.sampled_from("ABCXYZabcxyz0189-_.").filter(lambda one: one != token[place]))
    assert gatehouse().signed(token[:place] + letter + token[place + 1 :]) is None


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.binary(max_size=60))
def test_no_header_makes_the_gatehouse_stumble(header: bytes, claims: bytes) -> None:
    """Any bytes in any place are nobody, and no error gets through."""
    assert gatehouse().signed(f"{packed(header)}.{packed(claims)}.eA") is None
    assert gatehouse().signed(header.decode("latin-1")) is None


@given(
    st.dictionaries(
        st.sampled_from(["alg", "crit", "kid", "b64", "typ", "zip", "jwk"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one, max_size=2)),
    )
)
def test_no_header_field_makes_the_gatehouse_stumble(fields: dict[str, Any]) -> None:
    """Header fields of a wrong kind are nobody, too: they are read before the signature is."""
    assert gatehouse().signed(raw({"alg": "HS256", **fields}, signature="eA")) is None


# Good tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
def test_minted_token_stands_for_its_role_until_it_ends(role: Role) -> None:
    """Good to the last second, nobody afterwards."""
    clock = ManualClock()
    house = Gatehouse(KEYS, (), clock.now)
    token = house.mint(role, timedelta(seconds=60), name="ada")
    caller = house.signed(token)
    assert caller is not None
    assert (caller.name, caller.role) == ("ada", role)
    clock.advance(59)
    assert house.signed(token) == caller
    clock.advance(2)
    assert house.signed(token) is None


def test_tokens_of_another_deployment_are_nobody() -> None:
    """Keys differ, so tokens do; a rotated key still opens nothing that the old one signed."""
    token = gatehouse().mint(Role.ADMIN, timedelta(minutes=1))
    assert gatehouse(Keys([b"x" * 32])).signed(token) is None
    assert gatehouse(Keys([b"x" * 32, b"k" * 32])).signed(token) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {INGEST}"}, 422),
        ({"authorization": f"bearer {INGEST}"}, 422),
        ({"authorization": f"BEARER   {INGEST}  "}, 422),
        ({"x-internal-token": INGEST}, 422),
        ({"x-internal-token": INGEST, "authorization": "Bearer wrong"}, 422),
        ({"authorization": f"Basic {INGEST}"}, 401),
        ({"authorization": INGEST}, 401),
        ({"authorization": f"Bearer {INGEST[:-1]}"}, 401),
        ({"authorization": f"Bearer {INGEST}x"}, 401),
        ({"authorization": f"Bearer {INGEST.upper()}"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"x-internal-token": ""}, 401),
        ({"cookie": f"{COOKIE}={INGEST}"}, 401),
    ],
)
async def test_ingest_token_is_shown_in_two_ways(web: Web, headers: dict[str, str], status: int) -> None:
    """As a bearer token or as X-Internal-Token, exactly as configured (an empty event is then a 422)."""
    answer = await web.client.post("/integration-self-heal", json={}, headers=headers)
    assert answer.status_code == status


async def test_deployment_without_ingest_tokens_knows_none(web: Web) -> None:
    """No configured token: neither an empty one nor any other is an ingest token."""
    house = Gatehouse(KEYS, (), web.clock.now)
    assert await house.known("") is None
    assert await house.known("anything") is None


# Pages ----------------------------------------------------------------------------------------------------------------

PAGES = [
    route for route, roles in ROUTES.items() if roles is not ANYBODY and not route[1].startswith(("/api", "/integ"))
]


@pytest.mark.parametrize(("method", "path"), PAGES)
async def test_page_tells_a_browser_how_to_sign_in(house: Web, method: str, path: str) -> None:
    """Who is not signed in reads how to, and nothing else; the page needs no template of its own for that."""
    house.clock.advance(60)
    answer = await house.ask(method, path_of(path), headers={"accept": "text/html"})
    assert (answer.status_code, "<h1>Sign in</h1>" in answer.text) == (401, True)
    assert "prunella token --role" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
