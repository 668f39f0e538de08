"""What was observed is stored once per (source, event id), on both databases."""

from __future__ import annotations

import pytest

from prunella.core.records import Actor, Diagnosis, Failure
from prunella.store.contract import Store
from store.making import NOW, Outside, at, at_once, opened, signal

pytestmark = pytest.mark.anyio

DIAGNOSIS = Diagnosis(
    kind="network.server", confidence=0.95, because="503", retryable=True, actor=Actor.PROVIDER, advice=""
)


async def add(store: Store, *numbers: int, prefix: str = "signal") -> set[str]:
    async with store.transaction() as tx:
        return await tx.signals.add([(signal(number, id=f"{prefix}-{number}"), None, None) for number in numbers])


async def test_signal_is_stored_once_per_source_and_event(store: Store, outside: Outside) -> None:
    """The same event is new once: in a later transaction, in the same one, and within one batch."""
    async with store.transaction() as tx:
        twice = [(signal(1), None, None), (signal(1, id="signal-1b"), None, None)]
        assert len(await tx.signals.add(twice)) == 1
        assert await tx.signals.add([(signal(1, id="signal-1c"), None, None)]) == set()
    assert await add(store, 1, 2, prefix="late") == {"late-2"}
    assert outside("SELECT count(*) FROM signals") == [(2,)]


async def test_signal_of_another_source_is_another_signal(store: Store) -> None:
    """Two senders may use the same event id."""
    async with store.transaction() as tx:
        same = [(signal(1), None, None), (signal(1, id="signal-b", source="billing"), None, None)]
        assert await tx.signals.add(same) == {"signal-1", "signal-b"}


async def test_signals_arriving_at_once_are_stored_once(store: Store, outside: Outside) -> None:
    """Eight senders deliver the same 500 events at the same time, in any order: each is new for one of them."""
    orders = [list(range(500)) if sender % 2 else list(reversed(range(500))) for sender in range(8)]
    new = await at_once(add(store, *order, prefix=f"s{sender}") for sender, order in enumerate(orders))
    assert sorted(int(one.rpartition("-")[2]) for ids in new for one in ids) == list(range(500))
    assert outside("SELECT count(*) FROM signals") == [(500,)]


async def test_signals_known_before_are_found_with_their_incident(store: Store) -> None:
    """A repeated event is answered from what its first delivery brought about."""
    await add(store, 1, 2, 3)
    async with store.transaction() as tx:
        await tx.signals.attach("incident-1", ["signal-1", "signal-3"])
        assert await tx.signals.known("shop", ["event-1", "event-2", "event-9"]) == {
            "event-1": ("incident-1", "signal-1"),
            "event-2": (None, "signal-2"),
        }
        assert await tx.signals.known("billing", ["event-1"]) == {}
        assert await tx.signals.known("shop", []) == {}
        assert await tx.signals.event_ids(["signal-1", "signal-9"]) == {"signal-1": "event-1"}


async def test_signals_evidence_is_read_back_whole(store: Store) -> None:
    """The evidence of a failure comes back as it was recorded; a success has none."""
    failure = Failure(
        service="hubspot",
        status=429,
        code="RATE",
        exc_type="HTTPError",
        message="slow down",
        headers={"Retry-After": "7", "X-Other": "gone"},
        operation="POST /contacts",
        bases=("RequestException", "OSError"),
        causes=("TimeoutError",),
        frames=("send", "main"),
    )
    async with store.transaction() as tx:
        await tx.signals.add([(signal(failure=failure), DIAGNOSIS, {"email": "string"})])
        assert await tx.signals.failure("signal-1") == failure
        with pytest.raises(LookupError, match="signal-9"):
            await tx.signals.failure("signal-9")


async def test_signals_newest_failure_of_an_incident(store: Store) -> None:
    """The newest failure of an incident is found by arrival, successes and strangers aside."""
    await opened(store)
    async with store.transaction() as tx:
        arrived = [
            (signal(1, received_at=at(1)), DIAGNOSIS, {"a": "string"}),
            (signal(2, received_at=at(3)), DIAGNOSIS, {"b": "string"}),
            (signal(3, received_at=at(5), outcome="success", failure=None), None, None),
            (signal(4, received_at=at(9)), DIAGNOSIS, None),
        ]
        await tx.signals.add(arrived)
        assert await tx.signals.last_of("incident-1") is None
        await tx.signals.attach("incident-1", ["signal-1", "signal-2", "signal-3"])
        found = await tx.signals.last_of("incident-1")
    assert found is not None
    assert (found["id"], found["payload_shape"], found["received_at"]) == ("signal-2", {"b": "string"}, at(3))


async def test_signals_are_counted_by_service_category_and_time(store: Store) -> None:
    """Only failures of that service and category count, from the given moment on (inclusive)."""
    async with store.transaction() as tx:
        arrived = [
            (signal(1, received_at=at(-1)), DIAGNOSIS, None),
            (signal(2, received_at=at(0)), DIAGNOSIS, None),
            (signal(3, received_at=at(1)), DIAGNOSIS, None),
            (signal(4, received_at=at(1), service="stripe"), DIAGNOSIS, None),
            (signal(5, received_at=at(1), outcome="success"), DIAGNOSIS, None),
            (signal(6, received_at=at(1)), None, None),
        ]
        await tx.signals.add(arrived)
        assert await tx.signals.count_since("hubspot", "network", NOW) == 2
        assert await tx.signals.count_since("hubspot", "auth", NOW) == 0
