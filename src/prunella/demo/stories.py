"""Seven failures of a shop's morning, each with the end that is told beforehand."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prunella.core.clock import Clock
from prunella.demo.screen import Screen
from prunella.demo.shop import INGEST_TOKEN, Answer, Shop, get, post

SOLD_OUT, SOLD_OUT_NEXT = "Lapsang", "Matcha"
_LOOKS, _LOOK_S = 100, 0.1
_WINDOW_S = 1.1
"""A little more than `known_issues.window` in the demo's prunella.yaml."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a story plays: the shop that breaks, the prunella that heals, the screen that shows.

    Args:
        token: what the shopkeeper may act with.
    """

    shop: Shop
    prunella: str
    token: str
    screen: Screen
    clock: Clock

    async def fail(
        self, service: str, path: str, payload: Mapping[str, Any], event_id: str | None = None
    ) -> dict[str, Any]:
        """Let the shop's integration call its third party, fail, and report to prunella; return prunella's answer."""
        reply = await self.shop.call(f"/{service}{path}", payload)
        self.screen.line("failed", service, f"POST {path}: HTTP {reply.status} {_first_line(reply)}")
        event = {
            "event_id": event_id or f"demo-{service}",
            "service_name": service,
            "http_status": reply.status,
            "error_code": _code(reply),
            "error_message": reply.body,
            "headers": dict(reply.headers),
            "endpoint": path,
            "payload": payload,
            "retry_count": 0,
        }
        return await self.report({name: value for name, value in event.items() if value is not None})

    async def report(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Post to prunella as an integration does."""
        url = f"{self.prunella}/integration-self-heal"
        answer = await post(url, event, {"authorization": f"Bearer {INGEST_TOKEN}"})
        body: dict[str, Any] = json.loads(answer.body)
        return body

    async def quote(self, number: int) -> dict[str, Any]:
        """Ask the price service for a quote, and report how it failed."""
        return await self.fail("prices", "/quotes", {"tea": "Assam", "order": number}, event_id=f"prices-{number}")

    async def known_issue(self, service: str) -> dict[str, Any]:
        """Return the known issue of a service, once it was learned."""
        found: list[dict[str, Any]] = []
        while not found:
            await self.clock.sleep(_LOOK_S)
            page = await get(f"{self.prunella}/api/v1/known-issues?service={service}&origin=learned", self.token)
            found = page["items"]
        return found[0]

    async def record_of(self, issue_id: str, remedy: str) -> dict[str, Any]:
        """Return what became of a remedy at an issue, once something did: it counts when it has lasted."""
        record: dict[str, Any] = {"tried": 0}
        while not record["tried"]:
            await self.clock.sleep(_LOOK_S)
            shown = await get(f"{self.prunella}/api/v1/known-issues/{issue_id}", self.token)
            record = next(one for one in shown["remedies"] if one["remedy"] == remedy)
        return record

    async def act(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a person does by a click or a command."""
        answer = await post(f"{self.prunella}{path}", body, {"authorization": f"Bearer {self.token}"})
        done: dict[str, Any] = json.loads(answer.body)
        return done

    async def plan(self, product: str) -> dict[str, Any]:
        """Sell a product out and let prunella look; return the plan that it proposes."""
        self.shop.sell_out(product)
        self.screen.line("failed", "shop", f"{product} is sold out, and still on sale")
        waiting: list[dict[str, Any]] = []
        while not waiting:  # right after a repair the procedure cools down
            await self.clock.sleep(_LOOK_S)
            await self.act("/api/v1/procedures/hide-sold-out/run", {})
            waiting = (await get(f"{self.prunella}/api/v1/approvals?state=waiting", self.token))["items"]
        plan = waiting[0]
        self.screen.line("asks", "shop", f"{plan['plan']['words']}; nothing is written before a person says yes")
        return plan


@dataclass(frozen=True, slots=True)
class Ending:
    """How a story ended."""

    service: str
    failed_with: str
    done: str
    as_told: bool


Story = Callable[[Stage], Awaitable[Ending]]


async def expired_token(stage: Stage) -> Ending:
    """The CRM's token has expired: refresh it once, and send the contact again."""
    answer = await stage.fail("crm", "/contacts", {"name": "Ada", "newsletter": True})
    good = answer["status"] == "resolved" and answer["category"] == "auth" and stage.shop.oauth.refreshes == 1
    return Ending("crm", "HTTP 401, expired token", "token refreshed once, contact sent", good)


async def too_many_requests(stage: Stage) -> Ending:
    """The carrier asks for two seconds of silence: keep it, then send the parcel."""
    answer = await stage.fail("shipping", "/parcels", {"order": 4711, "weight_kg": 1.2})
    good = answer["status"] == "resolved" and answer["category"] == "rate_limit" and not stage.shop.server.ledger.early
    return Ending("shipping", "HTTP 429, Retry-After 2", "waited as asked, parcel sent", good)


async def maintenance(stage: Stage) -> Ending:
    """The warehouse is down: three tries are not enough, the scan finds it back."""
    first = await stage.fail("warehouse", "/pick-lists", {"order": 4711, "lines": 3})
    stage.screen.line("does", "warehouse", "rests; the maintenance ends; the scan looks again")
    scan = await stage.report({"mode": "scan"})
    good = first["status"] == "pending" and first["category"] == "network" and scan["resolved_count"] == 1
    return Ending("warehouse", "HTTP 503, maintenance", "3 tries, then healed by the scan", good)


async def invalid_data(stage: Stage) -> Ending:
    """Billing refuses a record: no retry, a person repairs it, and its success closes the case."""
    first = await stage.fail("billing", "/invoices", {"vat_id": "12", "total": 99.9})
    stage.screen.line("does", "billing", "no retry: a person corrects the VAT id and sends it again")
    sent = await stage.shop.call("/billing/invoices", {"vat_id": "123456789", "total": 99.9})
    await stage.report(
        {"event_id": "demo-billing-2", "service_name": "billing", "endpoint": "/invoices", "outcome": "success"}
    )
    again = await stage.report({"event_id": "demo-billing", "service_name": "billing", "error_message": "see above"})
    good = (first["status"], first["category"], sent.status, again["status"]) == ("pending", "data", 200, "resolved")
    return Ending("billing", "HTTP 422, validation", "not retried; healed when corrected", good)


async def something_unknown(stage: Stage) -> Ending:
    """The label printer says something nobody knows: one careful retry."""
    answer = await stage.fail("labels", "/labels", {"order": 4711})
    good = answer["status"] == "resolved" and answer["category"] == "unknown"
    return Ending("labels", "HTTP 418, unknown", "one retry after a second", good)


async def sold_out(stage: Stage) -> Ending:
    """A tea is sold out and still on sale: prunella proposes to hide it, and the shopkeeper says yes."""
    plan = await stage.plan(SOLD_OUT)
    await stage.act(f"/api/v1/approvals/{plan['id']}/approve", {"digest": plan["digest"]})
    for _ in range(_LOOKS):
        if not stage.shop.is_on_sale(SOLD_OUT):
            break
        await stage.clock.sleep(_LOOK_S)
    return Ending(
        "shop", "sold out, still on sale", "proposed; hidden once approved", not stage.shop.is_on_sale(SOLD_OUT)
    )


async def becomes_known(stage: Stage) -> Ending:
    """The price service says something new, three times; then it is known, and the fourth time heals by itself."""
    for number in range(1, 4):
        await stage.quote(number)
        await stage.clock.sleep(_WINDOW_S)
    stage.screen.line(
        "does", "prices", "nothing that prunella knows of helps; the shopkeeper empties the cache by hand"
    )
    await stage.shop.call("/prices/cache", {"by": "the shopkeeper"})
    await stage.shop.call("/prices/quotes", {"tea": "Assam", "order": 3})
    await stage.report(
        {"event_id": "prices-well", "service_name": "prices", "endpoint": "/quotes", "outcome": "success"}
    )
    issue = await stage.known_issue("prices")
    stage.screen.line("learned", "prices", f"known issue {issue['id']}: {issue['title'][:60]}")
    stage.screen.line("does", "prices", f"a person binds: prunella known-issues bind {issue['id']} invalidate_cache")
    await stage.act(f"/api/v1/known-issues/{issue['id']}/bind", {"remedy": "invalidate_cache"})
    fourth = await stage.quote(4)
    record = await stage.record_of(issue["id"], "invalidate_cache")
    stage.screen.line("learned", "prices", f"invalidate_cache: {record['verified']} of {record['tried']} verified")
    healed = (fourth["status"], record["verified"], stage.shop.cache_purges()) == ("resolved", 1, 2)
    return Ending("prices", "HTTP 409, new error, 4 times", "became known; the 4th healed by its remedy", healed)


STORIES: tuple[Story, ...] = (
    expired_token,
    too_many_requests,
    maintenance,
    invalid_data,
    something_unknown,
    sold_out,
    becomes_known,
)


def _code(reply: Answer) -> str | None:
    try:
        error = json.loads(reply.body).get("error")
    except ValueError:
        return None
    code = error.get("code") if isinstance(error, dict) else error
    return code if isinstance(code, str) else None


def _first_line(reply: Answer) -> str:
    return " ".join(reply.body.split())[:60]
