"""A function that raises, hangs or returns nonsense fails with its reason, and what it did in its transaction is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from prunella.core.errors import EgressFailed, InvalidInput
from prunella.core.findings import Finding
from prunella.core.outcomes import Outcome
from prunella.databases.handle import Database
from prunella.egress import Reply
from prunella.remedies.contract import Assignment
from prunella.remedies.entities import EntityRemedy
from prunella.remedies.plugin import PluginRemedy
from remedies.test_entities import ORDER, function, seen, shop
from users import rows, run

pytestmark = pytest.mark.anyio
__all__ = ["shop"]


def assignment(**finding: Any) -> Assignment:
    """Return an assignment that is about no row."""
    found = Finding(**{"key": "k", "issue": "I", "message": "m", **finding})
    return Assignment(run_id="run-1", incident_id="incident-1", attempt=2, idempotency_key="key-1", finding=found)


async def outcome_of(body: Any, **how: Any) -> Outcome:
    """Call a function that has neither database nor services."""
    (outcome,) = await PluginRemedy(function(body, **how)).apply([assignment()])
    return outcome


# What may come of a call ----------------------------------------------------------------------------------------------


async def raises(ctx: Any, row: Any) -> Outcome:
    raise ValueError("no stock at Authorization: Bearer abcdef0123456789abcdef")


def raises_in_thread(ctx: Any, row: Any) -> Outcome:
    raise ValueError("no stock")


async def asks_wrongly(ctx: Any, row: Any) -> Outcome:
    raise OperationalError("SELECT nothing FROM nowhere", {}, ValueError("no such table: nowhere"))


async def leaves(ctx: Any, row: Any) -> Outcome:
    raise SystemExit(3)


async def cancels(ctx: Any, row: Any) -> Outcome:
    raise asyncio.CancelledError


async def nonsense(ctx: Any, row: Any) -> Any:
    return {"ok": True}


async def nothing(ctx: Any, row: Any) -> None:
    return None


def nothing_in_thread(ctx: Any, row: Any) -> None:
    return None


def hands_back(ctx: Any, row: Any) -> Any:
    return nothing(ctx, row)


async def takes_nothing() -> None:
    return None


async def skips(ctx: Any, row: Any) -> Outcome:
    ctx.log("looked at 3 vendors")
    ctx.log("none is open")
    return Outcome.skip("no vendor")


@pytest.mark.parametrize(
    ("body", "ok", "words"),
    [
        (raises, False, "reassign_vendor raised ValueError: no stock at"),
        (raises_in_thread, False, "reassign_vendor raised ValueError: no stock"),
        (asks_wrongly, False, "reassign_vendor raised ValueError: no such table: nowhere"),
        (leaves, False, "reassign_vendor raised SystemExit: 3"),
        (cancels, False, "reassign_vendor cancelled itself"),
        (nonsense, False, "reassign_vendor returned dict; a remedy returns Outcome.changed"),
        (takes_nothing, False, "reassign_vendor raised TypeError"),
        (nothing, True, ""),
        (nothing_in_thread, True, ""),
        (hands_back, True, ""),
        (skips, True, "no vendor; looked at 3 vendors; none is open"),
    ],
)
async def test_whatever_a_function_does_there_is_an_outcome(body: Any, ok: bool, words: str) -> None:
    """None is done; an exception, nonsense and a way out are failures with their reason, without secrets."""
    outcome = await outcome_of(body)
    assert outcome.ok is ok
    assert outcome.detail.startswith(words)
    assert "abcdef" not in outcome.detail
    assert "sqlalche.me" not in outcome.detail and "[SQL" not in outcome.detail


async def test_function_that_hangs_is_left_behind() -> None:
    """A function that does not end, and does not even listen to being cancelled, fails in its time."""
    release, deaf = asyncio.Event(), []

    async def hangs(ctx: Any, row: Any) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                deaf.append(True)

    outcome = await outcome_of(hangs, timeout_s=0.05)
    assert (outcome.ok, outcome.timed_out) == (False, True)
    assert outcome.detail == "reassign_vendor did not end within 0.05 s"
    assert (await outcome_of(nothing)).ok
    release.set()


async def test_thread_that_hangs_is_left_behind(shop: Database) -> None:
    """A thread that can't be ended fails in its time, and its transaction is rolled back and closed to it."""
    release, refused = threading.Event(), asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def hangs(ctx: Any, row: Any) -> None:
        try:
            ctx.database.execute("UPDATE orders SET vendor = 77 WHERE id = :id", id=row["id"])
            release.wait(30)
            ctx.database.execute("UPDATE orders SET vendor = 78 WHERE id = :id", id=row["id"])
        except Exception as error:
            loop.call_soon_threadsafe(refused.set_result, str(error))

    remedy = EntityRemedy(shop, ORDER, function(hangs, timeout_s=0.3))
    (outcome,) = await remedy.apply(await seen(shop, 1))
    assert (outcome.ok, outcome.timed_out) == (False, True)
    release.set()
    assert "the transaction of this run is over" in await refused
    assert await rows(shop, "SELECT count(*) FROM orders WHERE vendor > 70") == [(0,)]


# What a function may use ----------------------------------------------------------------------------------------------


async def test_function_learns_of_its_attempt() -> None:
    """It gets key, attempt, incident, the time that is left, its parameters, and the facts of a finding without row."""
    told: dict[str, Any] = {}

    async def body(ctx: Any, row: Mapping[str, Any], *, depth: int) -> None:
        told.update(key=ctx.idempotency_key, attempt=ctx.attempt, incident=ctx.incident_id, row=dict(row), depth=depth)
        assert 0 < ctx.deadline <= 5.0
        with pytest.raises(TypeError):
            row["x"] = 1  # type: ignore[index]

    (outcome,) = await PluginRemedy(function(body), params={"depth": 3}).apply([assignment(facts={"source": "a"})])
    assert outcome.ok, outcome.detail
    assert told == {
        "key": "key-1",
        "attempt": 2,
        "incident": "incident-1",
        "row": {"source": "a", "key": "k", "keys": ()},
        "depth": 3,
    }


@pytest.mark.parametrize("threaded", [False, True])
async def test_statements_of_a_function_are_of_its_run(shop: Database, threaded: bool) -> None:
    """What a function writes is committed with what it wants changed, whether it awaits or runs in a thread."""

    async def awaits(ctx: Any, row: Any) -> Outcome:
        found = await ctx.database.fetch_all("SELECT max(vendor) AS most FROM orders WHERE id < :n", n=9)
        assert await ctx.database.execute("UPDATE orders SET vendor = 50 WHERE id = 20") == 1
        return Outcome.changed(vendor=found[0]["most"] + 40)

    def runs(ctx: Any, row: Any) -> Outcome:
        found = ctx.database.fetch_all("SELECT max(vendor) AS most FROM orders WHERE id < :n", n=9)
        assert ctx.database.execute("UPDATE orders SET vendor = 50 WHERE id = 20") == 1
        return Outcome.changed(vendor=found[0]["most"] + 40)

    (outcome,) = await EntityRemedy(shop, ORDER, function(runs if threaded else awaits)).apply(await seen(shop, 1))
    assert (outcome.ok, outcome.touched) == (True, 1), outcome.detail
    assert await rows(shop, "SELECT id, vendor FROM orders WHERE vendor > 40 ORDER BY id") == [(1, 42), (20, 50)]


@pytest.mark.parametrize("end", ["raises", "fails", "is late", "is refused"])
async def test_statements_of_a_run_that_fails_are_rolled_back(shop: Database, end: str) -> None:
    """Where the function fails, its row moved on, or its change is unlawful, nothing that it wrote stays."""

    async def body(ctx: Any, row: Any) -> Outcome:
        await ctx.database.execute("UPDATE orders SET vendor = 50 WHERE id = 20")
        if end == "raises":
            raise ValueError(end)
        if end == "fails":
            return Outcome.failed(end)
        return Outcome.changed(status="SHIPPED" if end == "is refused" else "PENDING")

    wave = await seen(shop, 1)
    if end == "is late":
        await run(shop, "UPDATE orders SET status = 'CANCELLED' WHERE id = 1")
    (outcome,) = await EntityRemedy(shop, ORDER, function(body)).apply(wave)
    assert outcome.touched == 0
    assert outcome.skipped is (end == "is late")
    assert await rows(shop, "SELECT count(*) FROM orders WHERE vendor = 50") == [(0,)]


async def test_statement_that_fails_does_not_take_the_others_with_it(shop: Database) -> None:
    """A function may catch what the database refused and go on; the rest is committed."""

    async def body(ctx: Any, row: Any) -> None:
        await ctx.database.execute("UPDATE orders SET vendor = 50 WHERE id = 20")
        with pytest.raises(Exception, match="nowhere"):
            await ctx.database.execute("UPDATE nowhere SET vendor = 51")

    (outcome,) = await EntityRemedy(shop, ORDER, function(body)).apply(await seen(shop, 1))
    assert outcome.ok, outcome.detail
    assert await rows(shop, "SELECT id FROM orders WHERE vendor = 50") == [(20,)]


async def test_many_functions_use_the_database_at_once(shop: Database) -> None:
    """A wave whose functions all hold a transaction ends, on a file with one writer too."""

    async def body(ctx: Any, row: Any) -> Outcome:
        await ctx.database.fetch_all("SELECT 1 AS one")
        return Outcome.changed(vendor=60)

    outcomes = await EntityRemedy(shop, ORDER, function(body)).apply(await seen(shop, *range(1, 21)))
    assert [one.touched for one in outcomes] == [1] * 20, outcomes


class Desk:
    """Two configured services, of which one is asked."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def request(self, service: str, method: str, path: str, **how: Any) -> Reply:
        if service != "crm":
            raise InvalidInput(f"services.{service}: not configured")
        self.calls.append((method, path, how["json"], how["headers"]))
        assert 0 < how["deadline_s"] <= 5.0
        return Reply(201, {}, b'{"id": 7}', 0.0)


@pytest.mark.parametrize("threaded", [False, True])
async def test_function_calls_configured_services_under_its_key(threaded: bool) -> None:
    """`ctx.egress` reaches services by name, with the key of the attempt; another name is refused."""
    desk = Desk()

    async def awaits(ctx: Any, row: Any) -> Outcome:
        reply = await ctx.egress.request("crm", "POST", "/refunds", json={"order": 7})
        return Outcome.done(f"refund {reply.json()['id']}")

    def runs(ctx: Any, row: Any) -> Outcome:
        reply = ctx.egress.request("crm", "POST", "/refunds", json={"order": 7})
        return Outcome.done(f"refund {reply.json()['id']}")

    async def astray(ctx: Any, row: Any) -> None:
        await ctx.egress.request("elsewhere", "GET", "/")

    (outcome,) = await PluginRemedy(function(runs if threaded else awaits), services=desk).apply([assignment()])
    assert outcome.detail == "refund 7"
    ((method, path, body, headers),) = desk.calls
    assert (method, path, body) == ("POST", "/refunds", {"order": 7})
    assert headers == {"idempotency-key": "key-1", "x-prunella-recovery": "incident-1"}
    (refused,) = await PluginRemedy(function(astray), services=desk).apply([assignment()])
    assert refused.detail == "reassign_vendor raised InvalidInput: services.elsewhere: not configured"


class Silent(Desk):
    """A service that gives no reply: it is down, or its reply was lost, or it takes too long."""

    def __init__(self, *, sent: bool, hangs: bool = False) -> None:
        super().__init__()
        self._sent, self._hangs = sent, hangs

    async def request(self, service: str, method: str, path: str, **how: Any) -> Reply:
        if self._hangs:
            await asyncio.Event().wait()
        raise EgressFailed("crm gave no reply", exc_type="ReadError", sent=self._sent)


@pytest.mark.parametrize(
    ("desk", "method", "unanswered"),
    [
        (Silent(sent=True), "POST", True),
        (Silent(sent=True, hangs=True), "POST", True),
        (Silent(sent=False), "POST", False),
        (Silent(sent=True), "GET", False),
        (Desk(), "POST", False),
    ],
)
@pytest.mark.parametrize("threaded", [False, True])
async def test_attempt_whose_call_may_have_had_its_effect_says_so(
    desk: Desk, method: str, unanswered: bool, threaded: bool
) -> None:
    """Sent, no reply: nobody knows. Nothing sent, only read, or answered and then given up: that is a failure."""

    async def awaits(ctx: Any, row: Any) -> Outcome:
        await ctx.egress.request("crm", method, "/refunds", json={})
        return Outcome.failed("the answer says no")

    def runs(ctx: Any, row: Any) -> Outcome:
        ctx.egress.request("crm", method, "/refunds", json={})
        return Outcome.failed("the answer says no")

    remedy = PluginRemedy(function(runs if threaded else awaits, timeout_s=0.2), services=desk)
    (outcome,) = await remedy.apply([assignment()])
    assert (outcome.ok, outcome.unanswered) == (False, unanswered)


@pytest.mark.parametrize(("use", "words"), [("database", "set `database:`"), ("egress", "add one under services:")])
async def test_what_is_not_there_is_named(use: str, words: str) -> None:
    """A function that reaches for what its procedure has not got is told what to configure."""

    async def body(ctx: Any, row: Any) -> None:
        if use == "database":
            await ctx.database.fetch_all("SELECT 1")
        else:
            await ctx.egress.request("crm", "GET", "/")

    assert words in (await outcome_of(body)).detail


async def test_listener_of_batches_is_a_function_too(shop: Database) -> None:
    """Under `then:` a function hears of rows, at once or one by one, and changes none."""
    heard: list[Any] = []

    async def push(ctx: Any, found: Any) -> None:
        heard.append(found)

    async def changes(ctx: Any, row: Any) -> Outcome:
        return Outcome.changed(vendor=1)

    some = [{"id": 1}, {"id": 2}]
    assert (await PluginRemedy(function(push, per="batch")).told(assignment(), some)).ok
    assert (await PluginRemedy(function(push)).told(assignment(), some)).ok
    assert heard == [some, *some]
    refused = await PluginRemedy(function(changes), database=shop).told(assignment(), some)
    assert "what stands under `then:` changes no rows" in refused.detail


async def test_each_telling_has_a_key_of_its_own(shop: Database) -> None:
    """A receiver that honours keys takes every batch of one attempt, and knows a batch that comes again."""
    keys: list[str] = []

    async def push(ctx: Any, found: Any) -> None:
        keys.append(ctx.idempotency_key)

    remedy = PluginRemedy(function(push, per="batch"))
    for some in ([{"id": 1}], [{"id": 2}], [{"id": 1}]):
        await remedy.told(assignment(), some)
    await PluginRemedy(function(push)).told(assignment(), [{"id": 3}, {"id": 4}])
    first, second, again, *single = keys
    assert first == again
    assert len({first, second, *single}) == 4
