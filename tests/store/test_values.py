"""What goes into a column comes out of it, on both databases."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from prunella.core.records import Failure
from prunella.store.contract import Store
from store.making import NOW, Outside, at, credential, entry, incident, notification, operation, signal

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        NOW.astimezone(timezone(timedelta(hours=5, minutes=45))),
        datetime(2026, 3, 1, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone(-timedelta(hours=12))),
    ],
    ids=str,
)
async def test_times_come_back_as_the_same_moment_in_utc(store: Store, moment: datetime) -> None:
    """Whatever zone a time had, it comes back aware, in UTC and exact to the microsecond."""
    async with store.transaction() as tx:
        await tx.audit.add([entry(at=moment)])
        (found,) = await tx.audit.list(most=1)
    assert found.at == moment
    assert found.at.utcoffset() == timedelta(0)
    assert found.at.microsecond == moment.microsecond


async def test_times_of_different_zones_are_compared_as_moments(store: Store) -> None:
    """A due time given in another zone is due at its moment, not at its digits."""
    early = at(-60).astimezone(timezone(timedelta(hours=14)))
    late = at(60).astimezone(timezone(-timedelta(hours=12)))
    async with store.transaction() as tx:
        await tx.operations.add([operation(1, due_at=early), operation(2, due_at=late)])
        due = await tx.operations.due("incident-1", NOW.astimezone(timezone(timedelta(hours=3))), 10)
    assert [one.id for one in due] == ["operation-1"]


async def test_times_without_a_zone_are_refused(store: Store) -> None:
    """A naive time could mean any moment, so it is not stored."""
    with pytest.raises(ValueError, match="zone"):
        async with store.transaction() as tx:
            await tx.audit.add([entry(at=datetime(2026, 3, 1))])  # noqa: DTZ001, that is the point


TEXTS = {
    "empty": "",
    "unicode": "Größe 中文 🚑 \u202e\u200b e\u0301",
    "quotes": "'; DROP TABLE audit; -- \" \\ %s %(name)s :name {p} $1 ?",
    "lines": "a\r\nb\tc",
    "long": "é" * 1_000_000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_text_comes_back_as_it_was(store: Store, text: str) -> None:
    """Text keeps every character, in columns, in JSON and in questions."""
    details = {text[:1000]: [text, {"deep": text}]}
    async with store.transaction() as tx:
        await tx.audit.add([entry(target=text[:1000], reason=text, details=details)])
        (found,) = await tx.audit.list(most=1, target=text[:1000])
        await tx.signals.add([(signal(event_id=text[:1000]), None, None)])
        known = await tx.signals.known("shop", [text[:1000], "other"])
    assert found == entry(target=text[:1000], reason=text, details=details)
    assert known == {text[:1000]: (None, "signal-1")}


@pytest.mark.parametrize(
    "strange", ["\0", chr(0xD800), chr(0xDCFF)], ids=["NUL", "half a character", "undecodable byte"]
)
async def test_text_that_no_database_takes_is_stored_with_a_replacement(store: Store, strange: str) -> None:
    """NUL and lone surrogates cost one character, never the record: an error message must not get lost for them."""
    text = f"a{strange}b"
    async with store.transaction() as tx:
        new = await tx.signals.add([(signal(event_id=text, failure=Failure(service=text, message=text)), None, None)])
        await tx.audit.add([entry(target=text, reason=text, details={text: [text, "\\u0000"]})])
        (found,) = await tx.audit.list(most=1, target=text)
        failure = await tx.signals.failure("signal-1")
        known = await tx.signals.known("shop", [text])
        again = await tx.signals.add([(signal(2, event_id=text), None, None)])
    assert new == {"signal-1"}
    assert again == set()
    (stored,) = known
    assert (stored[0], len(stored), stored[-1]) == ("a", 3, "b")
    assert stored[1] in "\ufffd?"
    assert found == entry(target=stored, reason=stored, details={stored: [stored, "\\u0000"]})
    assert (failure.service, failure.message) == (stored, stored)


JSON: dict[str, Any] = {
    "nothing": None,
    "truth": [True, False],
    "numbers": [0, -1, 1.5, 2**53, 10**30, 1e-9],
    "deep": {"a": {"b": [[], {}, ""]}},
}


async def test_json_comes_back_as_it_was(store: Store) -> None:
    """JSON keeps its types: numbers stay numbers, truth stays truth, null stays null."""
    async with store.transaction() as tx:
        await tx.audit.add([entry(details=JSON)])
        (found,) = await tx.audit.list(most=1)
    assert found.details == JSON
    assert [type(value) for value in found.details["numbers"]] == [int, int, float, int, int, float]


async def test_truth_numbers_and_bytes_come_back_in_their_types(store: Store) -> None:
    """Booleans are booleans (not 0 and 1), floats are exact, bytes are bytes, NULL is None."""
    async with store.transaction() as tx:
        await tx.incidents.open_or_join(incident(forced=True, confidence=0.1 + 0.2))
        found = await tx.incidents.get("incident-1")
        await tx.operations.add([operation(payload_sealed=bytes(range(256)))])
        kept = await tx.operations.get("operation-1")
    assert found == incident(forced=True, confidence=0.1 + 0.2)
    assert (found.forced, found.regressed) == (True, False)
    assert type(found.forced) is bool
    assert kept == operation(payload_sealed=bytes(range(256)))


async def test_every_record_comes_back_equal(store: Store) -> None:
    """A record that is stored and read again is the same record, enumerations and tuples included."""
    async with store.transaction() as tx:
        await tx.outbox.add([notification()])
        await tx.credentials.put(credential())
        gate = await tx.gates.take("hubspot", NOW)
        assert await tx.outbox.list(most=9) == [notification()]
        assert await tx.credentials.read("hubspot", "") == credential()
        await tx.gates.save(replace(gate, reason="5 failures", reopen_at=at(60), openings=3))
        assert await tx.gates.read("hubspot") == replace(
            gate, reason="5 failures", reopen_at=at(60), openings=3, version=gate.version + 1
        )


async def test_batches_of_a_thousand_are_written_at_once(store: Store, outside: Outside) -> None:
    """More rows than one statement may carry are split, all within the one transaction, and in well under a second."""
    began = time.monotonic()
    async with store.transaction() as tx:
        new = await tx.signals.add([(signal(number), None, None) for number in range(1001)])
    assert len(new) == outside("SELECT count(*) FROM signals")[0][0] == 1001
    assert time.monotonic() - began < 5
