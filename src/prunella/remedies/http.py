"""Replay an original request, or ask a service whether it is well.

Hazard: a replay is somebody's order, charge or message. It goes to the service's own hosts only, with the body
unaltered and under one idempotency key for ever.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prunella.core.errors import EgressError, EgressFailed
from prunella.core.records import Failure, Request
from prunella.core.services import Service
from prunella.egress import UNSET, Caller, Reply
from prunella.remedies.contract import Outcome, Target
from prunella.store.contract import Store
from prunella.store.secrets import Vault

_HTML = (b"<!doctype html", b"<html")


class Replay:
    """Send the original request again."""

    name = "replay"

    def __init__(self, caller: Caller, vault: Vault, store: Store) -> None:
        self._caller = caller
        self._vault = vault
        self._store = store

    async def apply(self, target: Target) -> Outcome:
        """Make the call once and judge the reply."""
        assert target.request is not None  # a replay is only planned where there is something to replay
        service, request = target.service, target.request
        headers, version = await self._credentials(service, target.account)
        headers |= {"idempotency-key": target.idempotency_key, "x-prunella-recovery": target.incident_id}
        try:
            reply = await self._caller.request(
                request.method,
                service.url(request.endpoint),
                headers=headers,
                json=UNSET if request.payload is None else request.payload,
                deadline_s=service.timeout_s,
            )
        except EgressError as error:
            return no_reply(service, error, version)
        return judge(service, reply, version)

    async def _credentials(self, service: Service, account: str) -> tuple[dict[str, str], int | None]:
        """Return the headers that identify us, and which version of the tokens they carry."""
        headers = {name: await self._vault.reveal(value) for name, value in service.headers.items()}
        if service.bearer is not None:
            headers["authorization"] = f"Bearer {await self._vault.reveal(service.bearer)}"
        if service.oauth is None:
            return headers, None
        async with self._store.transaction() as tx:
            credential = await tx.credentials.read(service.name, account)
        if credential is None:
            return headers, None
        token = self._vault.open_access(credential)
        return headers | {"authorization": f"Bearer {token}"}, credential.version


class Probe:
    """Ask a service's health address; any 2xx means well."""

    name = "probe"

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    async def apply(self, target: Target) -> Outcome:
        """Ask once."""
        health = target.service.health
        assert health is not None  # a probe is only planned where there is an address to ask
        asked = replace(target.service, timeout_s=health.timeout_s, validate="none")
        request = Request(method="GET", endpoint=health.path)
        return await self._replay.apply(replace(target, service=asked, request=request))


def judge(service: Service, reply: Reply, version: int | None = None) -> Outcome:
    """Tell a success from a failure, a 2xx with a failure inside included."""
    if not 200 <= reply.status < 300:
        return _failed(service, reply, version, f"HTTP {reply.status}")
    unexpected = _unexpected(service, reply)
    if unexpected is not None:
        return _failed(service, reply, version, f"HTTP {reply.status}, but {unexpected}")
    return Outcome(ok=True, status=reply.status, detail=f"HTTP {reply.status}", token_version=version)


def no_reply(service: Service, error: EgressError, version: int | None) -> Outcome:
    """Describe a call that brought back nothing."""
    exc_type = error.exc_type if isinstance(error, EgressFailed) else type(error).__name__
    code = error.errno_name if isinstance(error, EgressFailed) else "config"
    return Outcome(
        ok=False,
        detail=str(error),
        failure=Failure(service=service.name, code=code, exc_type=exc_type, message=str(error)),
        timed_out=exc_type == "TimeoutError",
        token_version=version,
    )


def _failed(service: Service, reply: Reply, version: int | None, detail: str) -> Outcome:
    failure = Failure(
        service=service.name, status=reply.status, code=_code(reply), message=reply.text, headers=reply.headers
    )
    return Outcome(ok=False, status=reply.status, detail=detail, failure=failure, token_version=version)


def _unexpected(service: Service, reply: Reply) -> str | None:
    """Say what is wrong with a 2xx body; None when it is what the service promises."""
    if service.validate == "none" or reply.status == 204 or not reply.body.strip():
        return None
    if "html" in reply.headers.get("content-type", "") or reply.body.lstrip()[:14].lower().startswith(_HTML):
        return "the body is HTML"
    try:
        body = reply.json()
    except EgressFailed:
        return "the body is no JSON" if "json" in reply.headers.get("content-type", "") else None
    if not isinstance(body, dict):
        return None
    if body.get("ok") is False:
        return f"ok is false ({str(body.get('error', 'no reason given'))[:80]})"
    if body.get("errors") and (service.validate == "graphql" or not body.get("data")):
        return "it holds errors"
    return None


def _code(reply: Reply) -> str | None:
    """Return the service's own code, from the places where services put it."""
    try:
        body: Any = reply.json()
    except EgressFailed:
        return None
    for place in (body, body.get("error") if isinstance(body, dict) else None):
        if isinstance(place, dict):
            for name in ("code", "error_code", "type", "error"):
                if isinstance(place.get(name), (str, int)) and not isinstance(place.get(name), bool):
                    return str(place[name])[:120]
    return None
