"""A replay is the original request, once, to the service's own host; a reply is a success only when it says so."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from prunella.core.errors import EgressFailed, EgressRefused, InvalidInput, SecretError
from prunella.core.records import Credential, Request
from prunella.core.redact import Secret
from prunella.core.services import Health, OAuth, SecretRef, Service
from prunella.diagnosis.classify import classify
from prunella.egress import Egress, Reply
from prunella.remedies.contract import Target
from prunella.remedies.http import Probe, Replay, judge, no_reply
from prunella.store.secrets import Vault
from prunella.store.sqlite import SqliteStore
from prunella.testing import FaultyServer, hang
from prunella.testing import words as w

pytestmark = pytest.mark.anyio

JSON = "application/json"
CRM = Service(name="crm", base_url="https://api.example.com")


def reply(body: Any = b"", status: int = 200, content_type: str = JSON, **headers: str) -> Reply:
    """Return what came back; a body that is no bytes is written as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {"content-type": content_type, **headers}, raw, 0.1)


def target(server: FaultyServer, *, method: str = "POST", endpoint: str = "/orders", **service: Any) -> Target:
    """Return a request to replay against the server."""
    return Target(
        service=Service(**{"name": "crm", "base_url": server.url, **service}),
        account="",
        incident_id="incident-1",
        idempotency_key="key-1",
        request=Request(method=method, endpoint=endpoint, payload={"order": 7, "ü": [None, 1.5]}),
    )


# Judging --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "ok"),
    [
        (reply({"ok": True}), True),
        (reply({"id": 7}), True),
        (reply([1, 2]), True),
        (reply(b"null"), True),
        (reply(b"true"), True),
        (reply({}), True),
        (reply(b""), True),
        (reply(b"  \n"), True),
        (reply(b"", 204), True),
        (reply(b"<html>", 204), True),
        (reply(b"", 201), True),
        (reply({"queued": 1}, 202), True),
        (reply(b"everything is fine", content_type="text/plain"), True),
        (reply(b"everything is fine", content_type=""), True),
        (reply({"data": {"x": 1}, "errors": [{"message": "partial"}]}), True),
        (reply({"errors": []}), True),
        (reply({"errors": None, "data": None}), True),
        (reply({"ok": None}), True),
        (reply({"ok": False}), False),
        (reply({"ok": False, "error": "channel_not_found"}), False),
        (reply({"errors": [{"message": "boom"}]}), False),
        (reply({"errors": [{"message": "boom"}], "data": None}), False),
        (reply({"errors": [{"message": "boom"}], "data": {}}), False),
        (reply(b"<!doctype html><h1>Sign in</h1>", content_type="text/html"), False),
        (reply(b"<!doctype html><h1>Sign in</h1>", content_type="text/html; charset=utf-8"), False),
        (reply(b"\n <html></html>"), False),
        (reply({"ok": True}, content_type="text/html"), False),
        (reply(b'{"ok": tru'), False),
        (reply(b'{"ok": "\xff\xfe"}'), False),
        (reply(b"[" * 100_000 + b"]" * 100_000), False),
        (reply({"ok": True}, 199), False),
        (reply({"ok": True}, 301), False),
        (reply({"ok": True}, 304), False),
        (reply({"ok": True}, 400), False),
        (reply({"ok": True}, 503), False),
    ],
)
def test_reply_is_judged_by_what_it_says(answer: Reply, ok: bool) -> None:
    """A 2xx with HTML, a refusal, errors without data or broken JSON is a failure; empty and 204 are fine."""
    outcome = judge(CRM, answer, 3)
    assert outcome.ok is ok
    assert (outcome.status, outcome.token_version) == (answer.status, 3)
    assert (outcome.failure is None) is ok
    assert outcome.detail.startswith(f"HTTP {answer.status}")
    assert outcome.needs_person is None


@pytest.mark.parametrize(
    ("validate", "body", "ok"),
    [
        ("none", b"<html>sign in</html>", True),
        ("none", {"ok": False}, True),
        ("none", {"errors": [1]}, True),
        ("json", {"errors": [1], "data": {"x": 1}}, True),
        ("graphql", {"errors": [1], "data": {"x": 1}}, False),
        ("graphql", {"errors": [1]}, False),
        ("graphql", {"data": {"x": 1}}, True),
    ],
)
def test_service_says_what_its_replies_look_like(validate: str, body: Any, ok: bool) -> None:
    """`validate: none` believes the status; `graphql` refuses partial answers, too."""
    assert judge(replace(CRM, validate=validate), reply(body)).ok is ok


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"code": "card_declined"}, "card_declined"),
        ({"error_code": "E7"}, "E7"),
        ({"code": 40001}, "40001"),
        ({"error": "invalid_grant"}, "invalid_grant"),
        ({"error": {"code": "rate_limited", "type": "x"}}, "rate_limited"),
        ({"error": {"type": "validation_error"}}, "validation_error"),
        ({"type": "api_error", "code": "first"}, "first"),
        ({"code": {"nested": 1}, "error": "second"}, "second"),
        ({"code": True}, None),
        ({"code": "x" * 500}, "x" * 120),
        ({"message": "no code"}, None),
        ({"error": None}, None),
        (["code"], None),
        (b"not json", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_services_own_code_is_taken_from_where_services_put_it(body: Any, code: str | None) -> None:
    """Top level before `error`, code before type; what is no code is none."""
    failure = judge(CRM, reply(body, 500)).failure
    assert failure is not None
    assert failure.code == code


def test_failure_holds_the_evidence_that_diagnosis_needs() -> None:
    """Status, code, text and hints arrive; so the same reply is diagnosed as if it had been reported."""
    failure = judge(CRM, reply({"error": {"code": "rate_limited"}}, 429, **{"retry-after": "7"})).failure
    assert failure is not None
    found = classify(failure)
    assert (found.category.value, found.retry_after_s) == ("rate_limit", 7.0)


def test_secret_in_a_reply_does_not_reach_the_record() -> None:
    """A service that echoes a token gets it taken out."""
    failure = judge(CRM, reply({"error": "bad token xoxb-1234567890-abcdefghijklmnop"}, 401)).failure
    assert "xoxb-1234567890" not in repr(failure)


@pytest.mark.parametrize(
    ("error", "code", "timed_out", "kind"),
    [
        (EgressFailed("no reply within 5 s", exc_type="TimeoutError"), None, True, "network.timeout"),
        (
            EgressFailed("refused", exc_type="ConnectError", errno_name="ECONNREFUSED"),
            "ECONNREFUSED",
            False,
            "network.connection",
        ),
        (
            EgressFailed("unknown name", exc_type="gaierror", errno_name="EAI_NONAME"),
            "EAI_NONAME",
            False,
            "network.dns",
        ),
        (EgressRefused("address 10.0.0.1 is not public"), "config", False, None),
    ],
)
def test_call_without_a_reply_says_what_was_in_the_way(
    error: EgressFailed | EgressRefused, code: str | None, timed_out: bool, kind: str | None
) -> None:
    """A timeout, a refused connection, an unknown name and our own refusal are told apart."""
    outcome = no_reply(CRM, error, 2)
    assert (outcome.ok, outcome.timed_out, outcome.token_version) == (False, timed_out, 2)
    assert outcome.failure is not None
    assert outcome.failure.code == code
    if kind is not None:
        assert classify(outcome.failure).kind == kind


# Replaying ------------------------------------------------------------------------------------------------------------


async def test_replay_sends_the_original_request(
    server: FaultyServer, caller: Egress, vault: Vault, store: SqliteStore
) -> None:
    """Method, path and body unaltered, with the operation's key and the incident's id."""
    outcome = await Replay(caller, vault, store).apply(target(server, method="PATCH", endpoint="/orders/7?x=1"))
    (seen,) = server.ledger.requests
    assert outcome.ok
    assert (seen.method, seen.path, seen.json()) == ("PATCH", "/orders/7", {"order": 7, "ü": [None, 1.5]})
    assert seen.headers["idempotency-key"] == "key-1"
    assert seen.headers["x-prunella-recovery"] == "incident-1"
    assert seen.headers["content-type"] == JSON


async def test_request_without_a_payload_has_no_body(
    server: FaultyServer, caller: Egress, vault: Vault, store: SqliteStore
) -> None:
    """A GET is sent as a GET: no body, no content type."""
    aimed = target(server, method="GET")
    await Replay(caller, vault, store).apply(replace(aimed, request=Request(method="GET", endpoint="/x")))
    (seen,) = server.ledger.requests
    assert (seen.body, "content-type" in seen.headers) == (b"", False)


async def test_repeated_replay_has_no_second_effect(
    server: FaultyServer, caller: Egress, vault: Vault, store: SqliteStore
) -> None:
    """The reply of the first was lost; the second has the same key, so the deed is done once."""
    server.script("/orders", ["lost_reply", "ok"])
    replay = Replay(caller, vault, store)
    first, second = await replay.apply(target(server)), await replay.apply(target(server))
    assert (first.ok, second.ok) == (False, True)
    assert server.ledger.double_effects == 0


async def test_configured_headers_and_bearer_are_opened_when_they_are_used(
    server: FaultyServer, caller: Egress, vault: Vault, store: SqliteStore
) -> None:
    """A plain secret and one from the store arrive; a missing one stops the call before anything is sent."""
    ref = SecretRef("crm/bearer")
    aimed = target(server, headers={"X-Api-Version": Secret("2026-01")}, bearer=ref)
    replay = Replay(caller, vault, store)
    with pytest.raises(SecretError, match="prunella secret set crm/bearer"):
        await replay.apply(aimed)
    assert server.ledger.requests == []
    async with store.transaction() as tx:
        await tx.credentials.put_secret("crm/bearer", vault.sealed(ref, "t0ken-value"), store.clock.now())
    await replay.apply(aimed)
    (seen,) = server.ledger.requests
    assert seen.headers["authorization"] == "Bearer t0ken-value"
    assert seen.headers["x-api-version"] == "2026-01"


async def test_replay_uses_the_accounts_token_and_says_which_version(
    server: FaultyServer, caller: Egress, vault: Vault, store: SqliteStore
) -> None:
    """Two accounts, each with its own token; an account without one is called without."""
    oauth = OAuth(token_url=f"{server.url}/token", client_id="app", per_user=True)
    async with store.transaction() as tx:
        for account, version in (("ada", 3), ("bob", 8)):
            empty = Credential(service="crm", account=account, access_sealed=b"", version=version)
            await tx.credentials.put(replace(empty, access_sealed=vault.seal_access(empty, f"token-of-{account}")))
    replay = Replay(caller, vault, store)
    versions = [
        (await replay.apply(replace(target(server, oauth=oauth), account=account))).token_version
        for account in ("ada", "bob", "eve")
    ]
    assert versions == [3, 8, None]
    sent = [seen.headers.get("authorization") for seen in server.ledger.requests]
    assert sent == ["Bearer token-of-ada", "Bearer token-of-bob", None]


async def test_foreign_address_is_not_called(
    server: FaultyServer, caller: Egress, vault: Vault, store: SqliteStore
) -> None:
    """An endpoint of another host is refused before anything is sent; a redirect to one is not followed."""
    replay = Replay(caller, vault, store)
    with FaultyServer(host="127.0.0.2") as canary:
        with pytest.raises(InvalidInput):
            await replay.apply(target(server, endpoint=f"{canary.url}/orders"))
        server.script("/orders", [w.redirect(f"{canary.url}/orders")])
        outcome = await replay.apply(target(server))
        assert (outcome.ok, outcome.status) == (False, 302)
        assert canary.ledger.requests == []


async def test_slow_service_is_given_up_in_time(
    server: FaultyServer, caller: Egress, vault: Vault, store: SqliteStore
) -> None:
    """The service's own timeout ends the call, and the outcome says that it timed out."""
    server.script("/orders", [hang(5)])
    outcome = await Replay(caller, vault, store).apply(target(server, timeout_s=0.2))
    assert (outcome.ok, outcome.timed_out, outcome.needs_person) == (False, True, None)


@pytest.mark.parametrize("word", ["reset", "cut", "garbage", "bad_json", "bad_utf8", "bad_gzip"])
async def test_broken_reply_is_a_failure_and_nobodys_fault(
    server: FaultyServer, caller: Egress, vault: Vault, store: SqliteStore, word: str
) -> None:
    """Whatever arrives in pieces is a failed try with evidence, not a reason to call a person."""
    server.script("/orders", [word])
    outcome = await Replay(caller, vault, store).apply(target(server))
    assert (outcome.ok, outcome.needs_person) == (False, None)
    assert outcome.failure is not None


# Probing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "ok"), [("ok", True), ("204", True), ("wrong_type", True), ("503", False)])
async def test_probe_asks_the_health_address(
    server: FaultyServer, caller: Egress, vault: Vault, store: SqliteStore, word: str, ok: bool
) -> None:
    """Any 2xx of the health address means well, whatever its body; nothing else is called."""
    server.script("/health", [word])
    probe = Probe(Replay(caller, vault, store))
    outcome = await probe.apply(target(server, health=Health(path="/health")))
    (seen,) = server.ledger.requests
    assert (outcome.ok, seen.method, seen.path, seen.body) == (ok, "GET", "/health", b"")


async def test_probe_takes_a_page_for_well_and_keeps_its_own_timeout(
    server: FaultyServer, caller: Egress, vault: Vault, store: SqliteStore
) -> None:
    """A status page in HTML is an answer; the health check's own limit counts, not that of calls."""
    probe = Probe(Replay(caller, vault, store))
    server.script("/health", [w.html(200, "All systems operational")])
    assert (await probe.apply(target(server, health=Health(path="/health")))).ok
    server.script("/health", [hang(5)])
    aimed = target(server, health=Health(path="/health", timeout_s=0.2), timeout_s=9.0)
    assert (await probe.apply(aimed)).timed_out
