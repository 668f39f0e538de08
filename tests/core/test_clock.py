"""Ids sort as they were made, and every clock tells time that can be replayed, carried over or trusted."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.clock import AnchoredClock, Clock, Ids, ManualClock, Rng, SystemClock

MOMENT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class JumpingClock(ManualClock):
    """A wall clock that somebody sets forwards and backwards."""

    moment: datetime = MOMENT

    def now(self) -> datetime:
        return self.moment


def test_ids_sort_in_creation_order_within_one_millisecond() -> None:
    """Ten thousand ids of a clock that stands still are all different and sort in the order they were made."""
    ids = Ids(ManualClock(), Rng(1))
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


@given(st.lists(st.integers(-10_000, 10_000), max_size=50))
def test_ids_sort_in_creation_order_whatever_the_clock_does(jumps_ms: list[int]) -> None:
    """A wall clock that is set back does not bring an id before those that were made earlier."""
    clock = JumpingClock()
    ids = Ids(clock, Rng(1))
    made = [ids.new()]
    for jump in jumps_ms:
        clock.moment += timedelta(milliseconds=jump)
        made.append(ids.new())
    assert made == sorted(set(made))


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(0, 2**32),
)
def test_ids_are_valid_version_7_uuids(moment: datetime, seed: int) -> None:
    """RFC 9562 section 5.7: 48 bits of milliseconds, version 7, variant 2; text in lower case."""
    text = Ids(JumpingClock(moment), Rng(seed)).new()
    made = uuid.UUID(text)
    assert (made.version, made.variant, str(made)) == (7, uuid.RFC_4122, text)
    assert made.int >> 80 == int(moment.timestamp() * 1000)


def test_ids_of_two_processes_differ() -> None:
    """Two makers on one clock differ by their chance; the same seed repeats the same ids."""
    clock = ManualClock()
    first, second, again = (Ids(clock, Rng(seed)) for seed in (1, 2, 1))
    made = [first.new() for _ in range(100)]
    assert not set(made) & {second.new() for _ in range(100)}
    assert [again.new() for _ in range(100)] == made


def test_anchored_clock_takes_over_another_machines_time() -> None:
    """After `anchor` the wall time goes on from there, however wrong this machine's own clock is."""
    clock = AnchoredClock()
    there = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    clock.anchor(there)
    assert timedelta(0) <= clock.now() - there < timedelta(seconds=5)


def test_anchored_clock_is_carried_by_the_monotonic_clock() -> None:
    """Between two looks the wall time grows by what the monotonic clock grew, so a jump of the host does not matter."""
    clock = AnchoredClock()
    clock.anchor(MOMENT)
    before_s, before = clock.monotonic(), clock.now()
    after, after_s = clock.now(), clock.monotonic()
    assert timedelta(0) <= after - before <= timedelta(seconds=after_s - before_s, microseconds=2)


@pytest.mark.parametrize("clock", [SystemClock(), AnchoredClock(), ManualClock()], ids=lambda one: type(one).__name__)
def test_every_clock_tells_aware_time_in_utc(clock: Clock) -> None:
    """`now` is aware and in UTC, `monotonic` never goes back."""
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize("clock", [SystemClock(), AnchoredClock()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_sleeping_no_time_keeps_the_turn(clock: Clock, seconds: float) -> None:
    """A wait of nothing or less ends at once, without a turn of the loop."""
    with pytest.raises(StopIteration):
        clock.sleep(seconds).send(None)


@pytest.mark.anyio
async def test_manual_clock_moves_by_sleeping_and_by_hand_only() -> None:
    """A manual clock moves when told, and a negative sleep moves nothing."""
    clock = ManualClock(MOMENT)
    clock.advance(1.5)
    await clock.sleep(2.5)
    await clock.sleep(-9)
    assert (clock.now(), clock.monotonic()) == (MOMENT + timedelta(seconds=4), 4.0)
