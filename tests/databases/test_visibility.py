"""Nothing seen is told apart from nothing there: row-level security makes a look blind, not healthy."""

from __future__ import annotations

import pytest

from checks.test_stuck import ORDER, orders
from databases.shop import Shop
from prunella.checks.stuck import Stuck

pytestmark = pytest.mark.anyio

SEES_ALL = "CREATE POLICY a ON orders FOR SELECT TO {role} USING (true)"


async def blind(shop: Shop, *statements: str, analysed: bool = True) -> str | None:
    """Return why a role of its own sees nothing of two stuck orders, after some statements about row-level security."""
    orders(shop, (1, "PENDING", 9000), (2, "PENDING", 9000))
    if analysed:
        shop.run("ANALYZE orders")
    url = shop.role("healer", "GRANT SELECT ON orders TO {role}", *statements)
    seen = await Stuck(shop.handle(url=url), ORDER).look()
    assert bool(seen.findings) == (seen.blind is None)
    return seen.blind


RLS = "ALTER TABLE orders ENABLE ROW LEVEL SECURITY"


@pytest.mark.parametrize(
    "statements",
    [
        (),
        (RLS, SEES_ALL),
        (RLS, "CREATE POLICY a ON orders USING (true)"),
        (RLS, "ALTER ROLE {role} BYPASSRLS"),
        (RLS, "CREATE POLICY a ON orders FOR SELECT USING (id = 1)"),
    ],
)
async def test_visibility_of_rows_that_a_policy_shows(pg_shop: Shop, statements: tuple[str, ...]) -> None:
    """Without row-level security, past it, or with a policy that shows some, the look sees."""
    assert await blind(pg_shop, *statements) is None


@pytest.mark.parametrize(
    "statements",
    [
        (RLS,),
        (RLS, "CREATE POLICY a ON orders FOR SELECT TO pg_monitor USING (true)"),
        (RLS, "CREATE POLICY a ON orders FOR UPDATE TO {role} USING (true)"),
        (RLS, "CREATE POLICY a ON orders AS RESTRICTIVE FOR SELECT TO {role} USING (true)"),
    ],
)
async def test_visibility_without_a_policy_is_blindness(pg_shop: Shop, statements: tuple[str, ...]) -> None:
    """No policy lets the role see rows: the reason names table, role and what to give it."""
    reason = await blind(pg_shop, *statements, analysed=False) or ""
    assert reason.startswith("row-level security hides rows of orders from healer_")
    assert "no policy lets it see any" in reason
    assert "FOR SELECT TO healer_" in reason


async def test_visibility_of_a_table_that_only_looks_empty(pg_shop: Shop) -> None:
    """A policy that matches nothing hides what the catalogue knows to be there."""
    reason = await blind(pg_shop, RLS, "CREATE POLICY a ON orders USING (note = current_setting('app.tenant', true))")
    assert "it sees none of about 2" in (reason or "")


async def test_visibility_of_an_empty_table(pg_shop: Shop) -> None:
    """An empty table under row-level security is empty, not hidden."""
    orders(pg_shop)
    url = pg_shop.role("healer", "GRANT SELECT ON orders TO {role}", RLS, SEES_ALL)
    seen = await Stuck(pg_shop.handle(url=url), ORDER).look()
    assert (seen.findings, seen.blind) == ((), None)


async def test_visibility_of_owners(pg_shop: Shop) -> None:
    """An owner is hidden nothing from, unless it is forced."""
    orders(pg_shop, (1, "PENDING", 9000))
    url = pg_shop.role("owner", "ALTER TABLE orders OWNER TO {role}", RLS)
    assert (await Stuck(pg_shop.handle(url=url), ORDER).look()).blind is None
    pg_shop.run("ALTER TABLE orders FORCE ROW LEVEL SECURITY")
    assert (await Stuck(pg_shop.handle(url=url), ORDER).look()).blind is not None
