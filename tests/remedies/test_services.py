"""Users' functions reach configured services at their own hosts, with the credentials of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunella.core.errors import InvalidInput
from prunella.core.redact import Secret
from prunella.core.services import Service
from prunella.remedies.services import ConfiguredServices
from prunella.testing import FaultyServer
from remedies.test_webhook import Out, out

pytestmark = pytest.mark.anyio
__all__ = ["Path", "out"]


async def test_call_carries_what_the_service_is_configured_with(out: Out) -> None:
    """Bearer and headers are the configuration's; a function can't put its own in their place."""
    with FaultyServer() as server:
        crm = Service(name="crm", base_url=server.url, bearer=Secret("token-1"), headers={"x-app": Secret("shop")})
        desk = ConfiguredServices({"crm": crm}, out.egress, out.vault)
        theirs = {"authorization": "Bearer stolen", "idempotency-key": "key-1"}
        reply = await desk.request("crm", "POST", "/refunds", json={"order": 7}, headers=theirs, deadline_s=5.0)
        (request,) = server.ledger.requests
    assert reply.status == 200
    assert (request.path, request.json()) == ("/refunds", {"order": 7})
    assert request.headers["authorization"] == "Bearer token-1"
    assert (request.headers["x-app"], request.headers["idempotency-key"]) == ("shop", "key-1")


@pytest.mark.parametrize(
    ("name", "path"), [("erp", "/"), ("crm", "https://elsewhere.test/"), ("crm", "//elsewhere.test")]
)
async def test_nothing_else_is_reached(out: Out, name: str, path: str) -> None:
    """Another name, and an address that leaves the service, are refused before anything is sent."""
    with FaultyServer() as server:
        desk = ConfiguredServices({"crm": Service(name="crm", base_url=server.url)}, out.egress, out.vault)
        if path == "//elsewhere.test":  # it stays below the service, whatever it looks like
            await desk.request(name, "GET", path, json=None, headers={}, deadline_s=5.0)
            assert server.ledger.requests[0].path.endswith("elsewhere.test")
            return
        with pytest.raises(InvalidInput):
            await desk.request(name, "GET", path, json=None, headers={}, deadline_s=5.0)
        assert not server.ledger.requests
