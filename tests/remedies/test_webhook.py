"""A workflow is started by one POST under one key, at the configured host, whatever stands in the facts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from prunella.core.clock import SystemClock
from prunella.core.errors import ConfigError, InvalidInput
from prunella.core.findings import Finding
from prunella.core.procedures import WebhookRemedy
from prunella.core.redact import Secret
from prunella.core.services import SecretRef
from prunella.egress import Egress, EgressPolicy
from prunella.remedies.contract import Assignment
from prunella.remedies.webhook import Webhook, address
from prunella.store.secrets import Keys, Vault, generate_key
from prunella.store.sqlite import SqliteStore
from prunella.testing import FaultyServer
from prunella.testing import words as w

pytestmark = pytest.mark.anyio


def finding(**facts: Any) -> Finding:
    """Return a finding with these facts."""
    return Finding(key="shopify", issue="SYNC_FAILED", message="…", facts=facts)


class Out:
    """A store and a way out over real sockets."""

    def __init__(self, store: SqliteStore) -> None:
        self.egress = Egress(EgressPolicy(allow_hosts=frozenset({"127.0.0.1"}), allow_http=True))
        self.vault = Vault(store, Keys.parse(generate_key()))


def webhook(url: str, out: Out, bearer: Any = None) -> Webhook:
    """Return the remedy."""
    source = WebhookRemedy(url=url, bearer=bearer)
    return Webhook(source, procedure="HEAL_SYNC_001", caller=out.egress, vault=out.vault)


def assignment(**facts: Any) -> Assignment:
    """Return an assignment for a finding with these facts."""
    return Assignment(
        run_id="run-1", incident_id="incident-1", attempt=1, idempotency_key="key-1", finding=finding(**facts)
    )


@pytest.fixture
async def out(sqlite_path: Path, anyio_backend: str) -> AsyncIterator[Out]:
    """Return what a remedy needs to call out; closed after the test."""
    store = SqliteStore.open_file(sqlite_path, SystemClock())
    opened = Out(store)
    yield opened
    await opened.egress.close()
    await store.close()


async def test_workflow_is_started_once_under_its_key(out: Out) -> None:
    """The POST carries bearer, key and what it is about; a 2xx is done."""
    with FaultyServer() as server:
        remedy = webhook(f"{server.url}/webhook/{{source}}", out, Secret("n8n-key"))
        (outcome,) = await remedy.apply([assignment(source="a b/c", table="t")])
        (request,) = server.ledger.requests
    assert (outcome.ok, outcome.status) == (True, 200)
    assert request.method == "POST"
    assert request.path == "/webhook/a%20b%2Fc"
    assert request.headers["authorization"] == "Bearer n8n-key"
    assert request.headers["idempotency-key"] == "key-1"
    assert request.json() == {
        "procedure": "HEAL_SYNC_001",
        "key": "shopify",
        "facts": {"source": "a b/c", "table": "t"},
        "incident_id": "incident-1",
    }


async def test_refusal_is_a_failure_with_its_evidence(out: Out) -> None:
    """A status beyond 2xx, no reply, a missing fact and a missing secret fail with their reasons."""
    with FaultyServer() as server:
        server.script("/webhook/x", [w.status(503)])
        (refused,) = await webhook(f"{server.url}/webhook/x", out).apply([assignment()])
        url = server.url
        (missing,) = await webhook(f"{url}/webhook/{{source}}", out).apply([assignment()])
        (secret,) = await webhook(f"{url}/webhook/y", out, SecretRef("n8n")).apply([assignment()])
    (away,) = await webhook(f"{url}/webhook/x", out).apply([assignment()])
    assert (refused.ok, refused.status) == (False, 503)
    assert refused.failure is not None
    assert "there is no fact 'source'" in missing.detail
    assert "prunella secret set n8n" in secret.detail
    assert (away.ok, away.failure is not None) == (False, True)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("sync-stock", "/webhook/sync-stock/run"),
        ("@evil.example", "/webhook/%40evil.example/run"),
        ("//evil.example/", "/webhook/%2F%2Fevil.example%2F/run"),
        ("a?b#c", "/webhook/a%3Fb%23c/run"),
        ("\r\nHost: x", "/webhook/%0D%0AHost%3A%20x/run"),
        ("{key}", "/webhook/%7Bkey%7D/run"),
        ("ü", "/webhook/%C3%BC/run"),
        (7, "/webhook/7/run"),
    ],
)
def test_fact_in_an_address_is_plain_text(value: Any, path: str) -> None:
    """Whatever a fact holds, it stays one segment of the path at the configured host."""
    assert address("https://n8n.test/webhook/{source}/run", finding(source=value)) == f"https://n8n.test{path}"


@pytest.mark.parametrize("value", ["..", ".", "", None, {"a": 1}, ["a"]])
def test_fact_that_can_not_stand_in_an_address_is_refused(value: Any) -> None:
    """A fact that would climb, or is none, starts nothing."""
    with pytest.raises(InvalidInput):
        address("https://n8n.test/webhook/{source}", finding(source=value))


@pytest.mark.parametrize("place", ["{source.__class__}", "{0}", "{source!r}", "{}", "{unknown}"])
def test_place_names_a_fact_and_nothing_else(place: str) -> None:
    """There is no way from a place in the address to attributes, positions or conversions."""
    with pytest.raises(InvalidInput, match="there is no fact"):
        address(f"https://n8n.test/{place}", finding(source="x"))


@pytest.mark.parametrize("url", ["https://{source}/x", "https://n8n.{key}.test/", "ftp://n8n.test/", "/webhook"])
def test_host_is_configured_and_never_found(url: str) -> None:
    """A host with a place in it, or none, is refused when the remedy is made."""
    with pytest.raises(ConfigError):
        Webhook(WebhookRemedy(url=url), procedure="P", caller=None, vault=None)  # type: ignore[arg-type]


async def test_preview_calls_nothing_and_undo_refuses(out: Out) -> None:
    """A preview says where the POST would go; what was started is not taken back."""
    remedy = webhook("https://n8n.test/webhook/{source}", out)
    assert (await remedy.preview(finding(source="a"))).words == "POST https://n8n.test/webhook/a"
    assert "not taken back" in (await remedy.undo("run-1")).refused["run-1"]
