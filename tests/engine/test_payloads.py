"""An original request is sealed with its row, comes back unaltered, and is replayed only where it is whole and ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.world import CRM, World, play
from prunella.core.errors import SecretError
from prunella.core.records import Request
from prunella.core.services import Service
from prunella.engine.payloads import not_replayable, open_request, seal_request
from store.making import operation

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_sealed_request_comes_back_unaltered_and_only_in_its_row(sqlite_path: Path) -> None:
    """Seal, store, open: the same request; the ciphertext moved to another row does not open."""

    async def story(world: World) -> None:
        request = Request(method="PUT", endpoint="/x?key=sk_live_0123456789", payload={"ü": [1, None, 2.5]})
        sealed = seal_request(world.parts, "operation-1", request)
        assert b"sk_live" not in sealed
        assert open_request(world.parts, operation(1, method="PUT", payload_sealed=sealed)) == request
        with pytest.raises(SecretError, match="operations:operation-2"):
            open_request(world.parts, operation(2, payload_sealed=sealed))

    play(sqlite_path, story)


def test_any_json_survives_sealing(sqlite_path: Path) -> None:
    """Whatever JSON an integration sent is what is sent again."""

    async def story(world: World) -> None:
        @given(JSON)
        def survives(payload: Any) -> None:
            sealed = seal_request(world.parts, "o", Request(method="POST", endpoint="/x", payload=payload))
            row = operation(1, id="o", payload_sealed=sealed)
            assert open_request(world.parts, row).payload == payload

        survives()

    play(sqlite_path, story)


@pytest.mark.parametrize(
    ("endpoint", "payload", "words"),
    [
        ("/orders", {"a": 1}, None),
        ("https://api.example.com/orders", None, None),
        ("/orders", {"card": "[REDACTED:card:1a2b]"}, "redaction marks"),
        ("/orders", {"a": [{"b": "***"}]}, "redaction marks"),
        ("https://evil.test/orders", {"a": 1}, "host evil.test is not its own"),
        ("https://api.example.com:abc/", {"a": 1}, "is no address"),
        ("https://[::1", {"a": 1}, "is no address"),
        ("https://user:word@api.example.com/", {"a": 1}, "user or password"),
    ],
)
def test_request_that_is_not_whole_or_not_ours_says_why(endpoint: str, payload: Any, words: str | None) -> None:
    """Redaction marks and foreign addresses are named; everything else may be replayed."""
    why = not_replayable(CRM, Request(method="POST", endpoint=endpoint, payload=payload))
    assert (why is None) == (words is None)
    assert words is None or words in (why or "")


def test_reason_never_repeats_a_secret_of_the_address() -> None:
    """An address with a key in it is named without the key: the reason stands in a row and goes to chats."""
    request = Request(method="POST", endpoint="ftp://x.test/?api_key=sk_live_4eC39HqLyjWDarjtT1zdp7dc", payload=None)
    why = not_replayable(Service(name="crm"), request)
    assert why is not None
    assert "4eC39" not in why
