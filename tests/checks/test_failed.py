"""Fresh errors in a log, one finding per source, with the last one's words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from databases.shop import Shop
from prunella.checks.failed import NO_SOURCE, Failed
from prunella.core.procedures import ErrorsCheck

pytestmark = pytest.mark.anyio


def logs(shop: Shop, *rows: tuple[str | None, str, str, float]) -> None:
    """Make the log with rows of (source, status, message, age in seconds)."""
    shop.run("CREATE TABLE logs (source varchar(50), status text, words text, at MOMENT)")
    for source, status, words, age in rows:
        named = "NULL" if source is None else f"'{source}'"
        shop.run(f"INSERT INTO logs VALUES ({named}, '{status}', '{words}', {shop.past(age)})")


def check(shop: Shop, cap: int = 500, **spec: Any) -> Failed:
    """Return the check of the documents."""
    told = {"table": "logs", "where": {"status": "error"}, "by": "source", "message": "words", "at": "at", **spec}
    return Failed(shop.handle(), ErrorsCheck(**told), cap=cap)


async def test_failed_groups_by_source_and_shows_the_last_error(shop: Shop) -> None:
    """Two sources failed; what is older than the window or lies ahead does not count."""
    logs(
        shop,
        ("tlx", "error", "first", 900),
        ("tlx", "error", "second", 300),
        ("tlx", "ok", "fine", 600),
        ("bc", "error", "broken", 1000),
        ("old", "error", "long ago", 1900),
        ("ahead", "error", "not yet", -3600),
    )
    seen = await check(shop).look()
    assert [(one.key, one.facts["last_error"], one.facts["count"]) for one in seen.findings] == [
        ("tlx", "second", 2),
        ("bc", "broken", 1),
    ]
    assert seen.count == 2


async def test_failed_looks_at_one_source(shop: Shop) -> None:
    """The look for verification sees that source only; errors without a source have a key too."""
    logs(shop, ("tlx", "error", "x", 9), ("bc", "error", "y", 9), (None, "error", "z", 9))
    for only in ("bc", NO_SOURCE):
        assert [one.key for one in (await check(shop).look(only)).findings] == [only]
    assert (await check(shop).look("elsewhere")).findings == ()


async def test_failed_forgets_errors_before_a_good_row(shop: Shop) -> None:
    """A newer good row of the same source proves that it works again; another source's proves nothing."""
    logs(shop, ("tlx", "error", "x", 900), ("tlx", "ok", "", 600), ("bc", "error", "y", 900), ("bc", "ok", "", 1200))
    assert [one.key for one in (await check(shop, good={"status": "ok"}).look()).findings] == ["bc"]


async def test_failed_counts_only_errors_after_a_mark(shop: Shop) -> None:
    """After the act only newer errors are news."""
    logs(shop, ("tlx", "error", "x", 900), ("bc", "error", "y", 30))
    now = (await check(shop).look()).at
    assert [one.key for one in (await check(shop).look(after=now - timedelta(seconds=60))).findings] == ["bc"]


async def test_failed_shows_no_secret_and_no_endless_message(shop: Shop) -> None:
    """The error's words are scrubbed and cut before anybody sees them."""
    logs(shop, ("tlx", "error", "password=hunter2hunter2 " + "x" * 5000, 9))
    (found,) = (await check(shop).look()).findings
    assert "hunter2" not in str(found)
    assert len(found.facts["last_error"]) <= 300


async def test_failed_names_no_more_sources_than_the_cap(shop: Shop) -> None:
    """Those with the newest errors are named, all are counted."""
    logs(shop, *((f"s{number}", "error", "x", 100 + number) for number in range(8)))
    seen = await check(shop, cap=3).look()
    assert ([one.key for one in seen.findings], seen.count) == (["s0", "s1", "s2"], 8)
