"""/api/v1/services: gates, rates, counters and accounts, and what people do to them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App, sealed_credential
from prunella.core.records import Credential, Gate
from prunella.core.services import Service
from prunella.engine import people, rate
from prunella.web.access import Acts, Reads, Rules, Sent, Why
from prunella.web.api.paging import spell_time, unknown


class CredentialsIn(BaseModel):
    """Tokens as an OAuth provider hands them out."""

    model_config = ConfigDict(extra="forbid")

    access_token: Annotated[str, Field(min_length=1, max_length=16_384)]
    refresh_token: Annotated[str, Field(min_length=1, max_length=16_384)] | None = None
    expires_in: Annotated[float, Field(gt=0, le=10 * 366 * 86_400)] | None = None
    account: Annotated[str, Field(max_length=200)] = ""


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/services", tags=["services"])

    @routes.get("")
    async def list_services(_: Reads) -> JSONResponse:
        async with app.store.transaction() as tx:
            gates = {gate.service: gate for gate in await tx.gates.all()}
            accounts = {name: await tx.credentials.of_service(name) for name in app.settings.services}
        services = sorted(app.settings.services.items())
        items = [service_json(one, gates.get(name), accounts[name]) for name, one in services]
        return JSONResponse({"items": items, "next_cursor": None})

    @routes.post("/{name}/{act}")
    async def act_on_service(
        caller: Acts, why: Why, name: str, act: Literal["disable", "enable", "pause", "resume", "probe"]
    ) -> JSONResponse:
        gate = await people.act_on_service(app.parts, name, act, by=caller.name, reason=why.reason)
        if gate is None:
            raise unknown("service", name)
        return JSONResponse(service_json(app.settings.services[name], gate, []))

    @routes.put("/{name}/credentials")
    async def put_credentials(
        caller: Rules, given: Annotated[CredentialsIn, Depends(Sent(CredentialsIn))], name: str
    ) -> JSONResponse:
        if name not in app.settings.services:
            raise unknown("service", name)
        expires = app.parts.clock.now() + timedelta(seconds=given.expires_in) if given.expires_in else None
        sealed = sealed_credential(app.vault, name, given.account, given.access_token, given.refresh_token, expires)
        await people.put_credential(app.parts, sealed, by=caller.name)
        return JSONResponse({"service": name, "account": given.account, "stored": True})

    return routes


def service_json(service: Service, gate: Gate | None, accounts: Sequence[Credential]) -> dict[str, Any]:
    """Spell a service with its gate, rate and counters; tokens are never spelled."""
    shut = {"state": "closed", "reason": None, "reopen_at": None}
    if gate is not None:
        shut = {"state": gate.state.value, "reason": gate.reason, "reopen_at": spell_time(gate.reopen_at)}
    counters = ("failures", "auth", "data", "unknown", "recovery_fail_count")
    return {
        "name": service.name,
        "gate": shut,
        "rate": rate_json(service, gate),
        "throttled_until": spell_time(gate.throttled_until) if gate else None,
        "counters": {counter: getattr(gate, counter) if gate else 0 for counter in counters},
        "last_recovery_at": spell_time(gate.last_recovery_at) if gate else None,
        "auto_recovery_enabled": gate.auto_recovery_enabled if gate else True,
        "accounts": [
            {
                "account": one.account or None,
                "expires_at": spell_time(one.expires_at),
                "refreshed_at": spell_time(one.refreshed_at),
                "needs_person": one.needs_person,
            }
            for one in accounts
        ],
    }


def rate_json(service: Service, gate: Gate | None) -> dict[str, Any] | None:
    """Spell how fast our calls to a service may begin; None where only `calls_max` limits them."""
    if service.rate_per_s is None:
        return None
    learned = rate.of(gate, service) if gate is not None else None
    return {
        "per_s": service.rate_per_s if learned is None else round(learned, 4),
        "initial_per_s": service.rate_per_s,
        "changed_at": spell_time(gate.rate_since) if gate is not None else None,
    }
