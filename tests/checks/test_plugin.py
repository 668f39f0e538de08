"""Checks of users: read-only, within their time, believed only where they return findings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from databases.shop import Shop
from prunella.checks.plugin import Plugin, PluginFailed
from prunella.core.findings import Finding
from prunella.plugin import CheckFunction

pytestmark = pytest.mark.anyio


def plugin(function: Callable[..., Any], shop: Shop | None = None, *, timeout_s: float = 5.0, **options: Any) -> Plugin:
    """Make a check of a function."""
    registered = CheckFunction(name="mine", function=function, timeout_s=timeout_s, schedule={})
    return Plugin(None if shop is None else shop.handle(), registered, **options)


def finding(key: str) -> Finding:
    """Return a finding of one key."""
    return Finding(key=key, issue="ODD", message="odd")


async def refusal(function: Callable[..., Any], **options: Any) -> str:
    """Return why a look fails."""
    with pytest.raises(PluginFailed) as failed:
        await plugin(function, **options).look()
    return str(failed.value)


@pytest.mark.parametrize("sync", [True, False])
async def test_plugin_returns_its_findings(shop: Shop, sync: bool) -> None:
    """Plain and asynchronous functions read the database with named values and find what they find."""
    shop.run("CREATE TABLE t (id integer, odd integer)", "INSERT INTO t VALUES (1, 0), (2, 1), (3, 1)")
    query = "SELECT id FROM t WHERE odd = :odd ORDER BY id"

    def plain(ctx: Any) -> list[Finding]:
        return [finding(str(row["id"])) for row in ctx.database.fetch_all(query, odd=1)]

    async def awaited(ctx: Any) -> Iterator[Finding]:
        rows = await ctx.database.fetch_all(query, odd=1)
        return (finding(str(row["id"])) for row in rows)

    check = plugin(plain if sync else awaited, shop)
    assert [one.key for one in (await check.look()).findings] == ["2", "3"]
    assert [one.key for one in (await check.look("3")).findings] == ["3"]


async def test_plugin_names_no_more_than_the_cap() -> None:
    """The first ones are believed, all are counted."""
    seen = await plugin(lambda ctx: [finding(str(number)) for number in range(9)], cap=4).look()
    assert (len(seen.findings), seen.count) == (4, 9)


async def test_plugin_gets_its_parameters() -> None:
    """What stands in the configuration arrives as keywords."""
    seen = await plugin(lambda ctx, word: [finding(word)], params={"word": "x"}).look()
    assert seen.findings[0].key == "x"


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "returned NoneType None; return a list of prunella.plugin.Finding"),
        (5, "returned int 5"),
        ("all is well", "returned str 'all is well'"),
        ({"key": "1"}, "returned dict"),
        (["1"], "returned str '1' among its findings"),
        ([Finding(key=7, issue="X", message="x")], "a finding with key int 7"),  # type: ignore[arg-type]
        ([Finding(key="", issue="X", message="x")], "a finding with key str ''"),
        ([Finding(key="a", issue="X", message="x")] * 2, "two findings with key str 'a'"),
    ],
)
async def test_plugin_that_returns_nonsense_is_told_so(returned: Any, said: str) -> None:
    """The message names the check, its module and what came back."""
    message = await refusal(lambda ctx: returned)
    assert message.startswith("check mine (checks.test_plugin) ") or "test_plugin) " in message
    assert said in message


async def test_plugin_that_raises_fails_with_its_reason() -> None:
    """The words of its error are told, without secrets; even one that leaves the interpreter stays inside."""

    def broken(ctx: Any) -> None:
        raise ValueError("no such vendor, password=hunter2hunter2")

    def leaving(ctx: Any) -> None:
        raise SystemExit(3)

    async def cancelling(ctx: Any) -> None:
        raise anyio.get_cancelled_exc_class()

    assert "raised ValueError: no such vendor" in await refusal(broken)
    assert "hunter2" not in await refusal(broken)
    assert "raised SystemExit" in await refusal(leaving)
    assert "cancelled itself" in await refusal(cancelling)


async def test_plugin_that_hangs_is_left_behind() -> None:
    """The look ends in time, the function is not called a second time meanwhile, and is again once it came back."""
    go, came = threading.Event(), []

    def hanging(ctx: Any) -> list[Finding]:
        came.append(ctx)
        go.wait(30)
        return []

    check = plugin(hanging, timeout_s=0.05)
    with pytest.raises(PluginFailed, match=r"did not end within 0\.05 s"):
        await check.look()
    with pytest.raises(PluginFailed, match="still hangs in an earlier call"):
        await check.look()
    go.set()
    while not check._left_behind or not check._left_behind.done():
        await anyio.lowlevel.checkpoint()
    assert (await check.look()).findings == ()
    assert len(came) == 2


async def test_plugin_that_does_not_listen_holds_nobody_up() -> None:
    """An asynchronous function that swallows its cancellation is not waited for."""
    release = anyio.Event()

    async def stubborn(ctx: Any) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except BaseException:
                continue

    assert "did not end within 0.05 s" in await refusal(stubborn, timeout_s=0.05)
    release.set()


async def test_plugin_only_reads(shop: Shop) -> None:
    """Neither execute nor a write in a query gets through."""
    shop.run("CREATE TABLE t (id integer)")
    assert "a check only reads" in await refusal(lambda ctx: ctx.database.execute("DELETE FROM t"), shop=shop)
    assert "raised Database" in await refusal(lambda ctx: ctx.database.fetch_all("INSERT INTO t VALUES (1)"), shop=shop)
    assert shop.rows("SELECT count(*) FROM t")[0][0] == 0


async def test_plugin_reads_no_more_rows_than_the_cap(shop: Shop) -> None:
    """A query that brings more is refused with what to do, and is not read to its end."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    endless = endless if shop.kind == "sqlite" else "SELECT generate_series(1, 20000)"
    assert "add LIMIT 10" in await refusal(lambda ctx: ctx.database.fetch_all(endless), shop=shop, cap=10)


async def test_plugin_without_a_database_is_told_what_is_missing() -> None:
    """The procedure names none."""
    assert "set `database:` on it" in await refusal(lambda ctx: ctx.database.fetch_all("SELECT 1"))
