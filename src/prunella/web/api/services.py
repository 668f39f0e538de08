"""/api/v1/services: gates, rates, counters and accounts, and what people do to them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Literal

from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App, sealed_credential
from prunella.core.records import Credential, Gate
from prunella.core.services import Service
from prunella.core.states import GateState
from prunella.engine import people, rate
from prunella.web.access import Acts, Reads, Rules, Seen, Sent, Why
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, Time, from_list, spell_time, unknown
from prunella.web.api.routing import Rooms, tag_of

_COUNTERS = ("failures", "auth", "data", "unknown", "recovery_fail_count")


class CredentialsIn(BaseModel):
    """Tokens as an OAuth provider hands them out."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600}]},
    )

    access_token: Annotated[str, Field(min_length=1, max_length=16_384)]
    refresh_token: Annotated[str, Field(min_length=1, max_length=16_384)] | None = None
    expires_in: Annotated[float, Field(gt=0, le=10 * 366 * 86_400)] | None = None
    account: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] = ""


class CredentialsOut(Out):
    """Where tokens were put."""

    service: str
    account: str
    stored: bool


class GateOut(Out):
    """Whether calls may pass."""

    state: GateState
    reason: str | None = None
    reopen_at: Time | None = None


class RateOut(Out):
    """How fast calls may begin."""

    per_s: float
    initial_per_s: float
    changed_at: Time | None


class CountersOut(Out):
    """What decides about the gate."""

    failures: int = 0
    auth: int = 0
    data: int = 0
    unknown: int = 0
    recovery_fail_count: int = 0


class AccountOut(Out):
    """An account, without its tokens."""

    account: str | None
    expires_at: Time | None
    refreshed_at: Time | None
    needs_person: str | None


class ServiceOut(Out):
    """A service with its gate, rate and counters; tokens are never spelled."""

    name: str
    gate: GateOut
    rate: RateOut | None
    throttled_until: Time | None
    counters: CountersOut
    last_recovery_at: Time | None
    auto_recovery_enabled: bool
    accounts: list[AccountOut]

    @classmethod
    def of(cls, service: Service, gate: Gate | None, accounts: Sequence[Credential]) -> ServiceOut:
        """Spell a service."""
        shut, counters = GateOut(state=GateState.CLOSED), CountersOut()
        if gate is not None:
            shut = GateOut(state=gate.state, reason=gate.reason, reopen_at=spell_time(gate.reopen_at))
            counters = CountersOut(**{counter: getattr(gate, counter) for counter in _COUNTERS})
        return cls(
            name=service.name,
            gate=shut,
            rate=rate_of(service, gate),
            throttled_until=spell_time(gate.throttled_until) if gate else None,
            counters=counters,
            last_recovery_at=spell_time(gate.last_recovery_at) if gate else None,
            auto_recovery_enabled=gate.auto_recovery_enabled if gate else True,
            accounts=[
                AccountOut(
                    account=one.account or None,
                    expires_at=spell_time(one.expires_at),
                    refreshed_at=spell_time(one.refreshed_at),
                    needs_person=one.needs_person,
                )
                for one in accounts
            ],
        )


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/services", tags=["services"])

    @routes.get("", summary="List services by name")
    async def list_services(_: Reads, limit: Limit = PAGE, cursor: Cursor = None) -> Page[ServiceOut]:
        page, next_cursor = from_list(list(app.settings.services.values()), limit, cursor, lambda one: one.name)
        async with app.store.transaction() as tx:
            gates = {gate.service: gate for gate in await tx.gates.all()}
            accounts = {one.name: await tx.credentials.of_service(one.name) for one in page}
        items = [ServiceOut.of(one, gates.get(one.name), accounts[one.name]) for one in page]
        return Page(items=items, next_cursor=next_cursor)

    @routes.get("/{name}", summary="Show a service")
    async def read_service(_: Reads, name: str, answer: Response) -> ServiceOut:
        if name not in app.settings.services:
            raise unknown("service", name)
        async with app.store.transaction() as tx:
            gate, accounts = await tx.gates.read(name), await tx.credentials.of_service(name)
        answer.headers["etag"] = tag_of(gate.version if gate is not None else 0)
        return ServiceOut.of(app.settings.services[name], gate, accounts)

    @routes.post("/{name}/{act}", summary="Disable, enable, pause, resume or probe a service")
    async def act_on_service(
        caller: Acts,
        why: Why,
        seen: Seen,
        name: str,
        act: Literal["disable", "enable", "pause", "resume", "probe"],
        answer: Response,
    ) -> ServiceOut:
        gate = await people.act_on_service(app.parts, name, act, by=caller.name, reason=why.reason, seen=seen.version)
        if gate is None:
            raise unknown("service", name)
        answer.headers["etag"] = tag_of(gate.version)
        async with app.store.transaction() as tx:
            return ServiceOut.of(app.settings.services[name], gate, await tx.credentials.of_service(name))

    @routes.put("/{name}/credentials", summary="Hand over tokens")
    async def put_credentials(
        caller: Rules, given: Annotated[CredentialsIn, Depends(Sent(CredentialsIn))], name: str
    ) -> CredentialsOut:
        if name not in app.settings.services:
            raise unknown("service", name)
        expires = app.parts.clock.now() + timedelta(seconds=given.expires_in) if given.expires_in else None
        sealed = sealed_credential(app.vault, name, given.account, given.access_token, given.refresh_token, expires)
        await people.put_credential(app.parts, sealed, by=caller.name)
        return CredentialsOut(service=name, account=given.account, stored=True)

    return routes


def rate_of(service: Service, gate: Gate | None) -> RateOut | None:
    """Spell how fast our calls to a service may begin; None where only `calls_max` limits them."""
    if service.rate_per_s is None:
        return None
    learned = rate.of(gate, service) if gate is not None else None
    return RateOut(
        per_s=service.rate_per_s if learned is None else round(learned, 4),
        initial_per_s=service.rate_per_s,
        changed_at=spell_time(gate.rate_since) if gate is not None else None,
    )
