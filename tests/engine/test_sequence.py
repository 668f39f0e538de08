"""Ordering keys: the same thing of the same account has one, everything else is free."""

from __future__ import annotations

import pytest

from prunella.core.records import Request
from prunella.engine.sequence import key_of


def key(method: str, endpoint: str, account: str = "", ordering_key: str | None = None) -> str:
    return key_of(account, Request(method=method, endpoint=endpoint, ordering_key=ordering_key))


@pytest.mark.parametrize(
    ("method", "endpoint"), [("POST", "/orders"), ("GET", "/orders/7"), ("HEAD", "/"), ("PUT", ""), ("PUT", "/")]
)
def test_request_that_changes_nothing_named_is_free(method: str, endpoint: str) -> None:
    """What makes something new, only reads, or addresses nothing has no key."""
    assert key(method, endpoint) == ""


@pytest.mark.parametrize("other", ["/orders/7/", "/orders/7?notify=1", "https://shop.example/orders/7", "orders/7"])
def test_changes_of_one_thing_share_a_key(other: str) -> None:
    """PUT, PATCH and DELETE of one address go one after another, however it is spelled."""
    assert key("PUT", "/orders/7") == key("patch", other) == key("DELETE", other) != ""


def test_accounts_and_things_are_apart() -> None:
    """Another account's thing of the same address, and another thing, go by themselves."""
    keys = {key("PUT", "/a"), key("PUT", "/b"), key("PUT", "/a", "one"), key("POST", "/a", ordering_key="/a")}
    assert len(keys) == 4


def test_sender_decides_where_it_says_so() -> None:
    """A given key joins what the addresses do not, an empty one frees; neither stands in the key's text."""
    assert key("POST", "/orders", ordering_key="order-7") == key("PUT", "/orders/7", ordering_key="order-7")
    assert key("PUT", "/orders/7", ordering_key="") == ""
    assert "order-7" not in key("POST", "/orders", ordering_key="order-7")
