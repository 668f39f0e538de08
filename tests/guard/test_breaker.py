"""The breaker does what a slow and simple model of it does, and nothing from an earlier time can move it."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.conftest import ManualTime, manual_time
from prunella.core.clock import HOST, Rng
from prunella.core.errors import CircuitOpen
from prunella.guard.book import Page
from prunella.guard.breaker import Admission, Breaker, LiveBreaker, NoBreaker, Probe, State
from prunella.guard.link import LINK

EXAMPLES = int(os.environ.get("PRUNELLA_EXAMPLES", "300"))

News = list[tuple[State, State, str]]


def live(limits: Breaker, *, lease_s: float | None = None, news: News | None = None) -> LiveBreaker:
    """Return a breaker at work; `news` collects its changes."""
    told = news if news is not None else []
    return LiveBreaker("crm", limits, lambda *change: told.append(change), lease_s or limits.open_s)


def stands(breaker: LiveBreaker) -> State:
    """Return its state; a call, because type checkers think that an attribute stays what it was."""
    return breaker.state


def fail(breaker: LiveBreaker, times: int = 1) -> None:
    """Make calls that fail."""
    for _ in range(times):
        breaker.failed(breaker.enter())


def succeed(breaker: LiveBreaker, times: int = 1) -> None:
    """Make calls that succeed."""
    for _ in range(times):
        breaker.enter().ok()


def refusal(breaker: LiveBreaker) -> CircuitOpen:
    """Return the error with which a call is refused."""
    with pytest.raises(CircuitOpen) as caught:
        breaker.enter()
    return caught.value


# A model to compare with ----------------------------------------------------------------------------------------------


@dataclass
class Tenth:
    """A tenth of the model's window."""

    period: object
    ends_at: float
    ok: int = 0
    failed: int = 0
    slow: int = 0


@dataclass(eq=False)
class Trial:
    """A probe of the model's."""

    ends_at: float


@dataclass
class Model:
    """What a breaker has to do, said slowly: lists instead of counters, nothing shared, nothing remembered."""

    limits: Breaker
    lease_s: float
    state: str = "closed"
    period: object = field(default_factory=object)
    tenths: list[Tenth] = field(default_factory=list)
    streak: int = 0
    openings: int = 0
    proven: int = 0
    trials: list[Trial] = field(default_factory=list)
    reopen_at: float = math.inf
    held: bool = False

    def tenth(self, now: float) -> Tenth:
        window_s = self.limits.window_s if self.limits.by_rate else math.inf
        self.tenths = [one for one in self.tenths if one.ends_at > now - window_s]
        if not self.tenths or self.tenths[-1].ends_at <= now:
            self.tenths.append(Tenth(self.period, now + window_s / 10))
        return self.tenths[-1]

    def enter(self, now: float) -> Tenth | Trial | None:
        if self.state == "closed":
            return self.tenth(now)
        if self.held or now < self.reopen_at:
            return None
        self.state = "half_open"
        self.trials = [one for one in self.trials if one.ends_at > now]
        if len(self.trials) == self.limits.probes:
            return None
        self.trials.append(Trial(now + self.lease_s))
        return self.trials[-1]

    def succeeded(self, call: Tenth | Trial, now: float) -> None:
        if isinstance(call, Tenth):
            call.ok += 1
            if call.period is self.period:
                self.streak = 0
        elif call in self.trials:
            self.trials.remove(call)
            self.proven += 1
            if self.proven == self.limits.successes:
                self.close(now)

    def failed(self, call: Tenth | Trial, now: float) -> None:
        if isinstance(call, Trial):
            if call in self.trials:
                self.open(now)
        elif call.period is self.period and self.state == "closed":
            self.tenth(now).failed += 1
            self.streak += 1
            self.judge(now, 0)

    def slow(self, call: Tenth | Trial, now: float) -> None:
        current = isinstance(call, Tenth) and call.period is self.period and self.state == "closed"
        if current and self.limits.slow_rate is not None:
            self.tenth(now).slow += 1
            self.judge(now, 1)

    def dropped(self, call: Tenth | Trial) -> None:
        if isinstance(call, Trial) and call in self.trials:
            self.trials.remove(call)

    def judge(self, now: float, under_way: int) -> None:
        if not self.limits.by_rate:
            if self.streak >= self.limits.failures:
                self.open(now)
            return
        failed, slow = sum(one.failed for one in self.tenths), sum(one.slow for one in self.tenths)
        calls = sum(one.ok for one in self.tenths) + failed + under_way
        shares = ((failed, self.limits.failure_rate), (slow, self.limits.slow_rate))
        if calls >= self.limits.min_calls and any(
            rate is not None and share * 100 >= round(rate * 100) * calls for share, rate in shares
        ):
            self.open(now)

    def open(self, now: float) -> None:
        self.reopen_at = now + min(self.limits.open_s * 2**self.openings, 600.0)
        self.openings += 1
        self.shut()

    def shut(self) -> None:
        self.state, self.period, self.trials, self.proven = "open", object(), [], 0

    def close(self, now: float) -> None:
        self.state, self.period, self.tenths, self.trials = "closed", object(), [], []
        self.streak = self.openings = self.proven = 0
        self.held = False
        self.tenth(now)

    def hold(self) -> None:
        self.held = True
        self.shut()

    def release(self, now: float) -> None:
        if self.held:
            self.held, self.reopen_at = False, now

    def force_open(self, now: float) -> None:
        self.openings = 0
        self.open(now)


Op = tuple[str, int]


def pairs(drawn: bytes) -> Iterator[tuple[int, int]]:
    """Return the first and second byte, the third and fourth, and so on."""
    return zip(drawn[::2], drawn[1::2], strict=False)


ENDS = ("ok", "fail", "slow", "drop")
KINDS = ("begin", "call ok", "call fail", "fail", "wait") * 3 + (
    *ENDS, "call slow", "hold", "release", "release", "force open", "force closed",
)  # fmt: skip
OPS = st.binary(min_size=60, max_size=120).map(
    lambda drawn: [(KINDS[kind % len(KINDS)], number % 16) for kind, number in pairs(drawn)]
)
"""What happens to a breaker, two bytes for each thing: drawn ten times as fast as a list of pairs."""

IN_A_ROW = Breaker(failures=2, successes=2, open_s=2.0, probes=2)
BY_RATE = Breaker(failure_rate=0.5, min_calls=3, window_s=10.0, open_s=2.0, slow_s=1.0, slow_rate=0.75)


def compare(make: Callable[..., LiveBreaker], limits: Breaker, ops: list[Op], clock: ManualTime) -> None:
    """Do the same with a breaker and with the model, and fail where they differ."""
    breaker, model = make("crm", limits, lambda *_: None, 3.0), Model(limits, 3.0)
    model.tenth(HOST.monotonic())
    calls: list[tuple[Admission, Tenth | Trial]] = []
    for kind, number in ops:
        now = HOST.monotonic()
        if kind == "wait":
            clock.passes(number / 4)  # quarters are exact in floats, so that no boundary is blurred
        elif kind in ENDS:
            if calls:
                settle(breaker, model, kind, *calls.pop(number % len(calls)), now)
        elif kind == "begin" or kind.startswith("call "):
            call = begin(breaker, model, now)
            if call is not None and kind == "begin":
                calls.append(call)
            elif call is not None:
                settle(breaker, model, kind.removeprefix("call "), *call, now)
        else:
            by_hand(breaker, model, kind, now)
        after = HOST.monotonic()
        waits = 0.0 if model.state == "closed" else math.inf if model.held else max(model.reopen_at - after, 0.0)
        assert (breaker.state.value, breaker.open_for_s) == (model.state, waits)
        if model.state == "closed":
            model.tenth(after)
            counts = [sum(getattr(one, name) for one in model.tenths) for name in ("ok", "failed", "slow")]
            standing = breaker.standing()
            assert [standing[name] for name in ("successes", "failures", "slow")] == counts


def begin(breaker: LiveBreaker, model: Model, now: float) -> tuple[Admission, Tenth | Trial] | None:
    expected = model.enter(now)
    if expected is not None:
        return breaker.enter(), expected
    assert (refusal(breaker).retry_after_s is None) is model.held
    return None


def settle(
    breaker: LiveBreaker, model: Model, kind: str, admission: Admission, call: Tenth | Trial, now: float
) -> None:
    if kind == "drop":
        breaker.dropped(admission)
        model.dropped(call)
    elif kind == "fail":
        breaker.failed(admission)
        model.failed(call, now)
    else:
        if kind == "slow":
            breaker.slow(admission)
            model.slow(call, now)
        admission.ok()
        model.succeeded(call, now)


def by_hand(breaker: LiveBreaker, model: Model, kind: str, now: float) -> None:
    if kind == "hold":
        breaker.hold_open("maintenance")
        model.hold()
    elif kind == "release":
        breaker.release()
        model.release(now)
    elif kind == "force open":
        breaker.force_open("a person says so")
        model.force_open(now)
    else:
        breaker.force_closed()
        model.close(now)


@settings(max_examples=EXAMPLES)
@given(st.sampled_from([IN_A_ROW, BY_RATE, Breaker(failures=1, open_s=0.5)]), OPS)
def test_breaker_does_what_the_model_does(limits: Breaker, ops: list[Op]) -> None:
    """Any order of calls, ends, pauses and a person's hand: same state, same counts, same refusals."""
    with manual_time() as clock:
        compare(LiveBreaker, limits, ops, clock)


class CountsOldFailures(LiveBreaker):
    """A breaker whose generations are forgotten."""

    def _counts(self, admission: Admission) -> bool:
        return isinstance(admission, Page) and self.state is State.CLOSED


class CountsOldProbes(LiveBreaker):
    """A breaker that believes a probe whose place was given to another."""

    def probe_succeeded(self, probe: Probe) -> None:
        self._probing.add(probe)
        super().probe_succeeded(probe)


class ForgetsLeases(LiveBreaker):
    """A breaker that waits for a hung probe for ever."""

    def _probe(self, now: float) -> Probe:
        probe = super()._probe(now)
        probe.ends_at = math.inf
        return probe


class LetsEverybodyProbe(LiveBreaker):
    """A breaker without a limit on probes."""

    def _probe(self, now: float) -> Probe:
        self._probing.clear()
        return super()._probe(now)


class JudgesTooLate(LiveBreaker):
    """A breaker that opens one failure after its boundary."""

    def _judge(self, now: float, under_way: int = 0) -> None:
        super()._judge(now, under_way + 1)
        self._streak -= 1


class AddsUpProofs(LiveBreaker):
    """A breaker that counts the successful probes of every try together."""

    def _probe(self, now: float) -> Probe:
        proven = self._proven
        probe = super()._probe(now)
        self._proven = proven
        return probe


class KeepsDoubling(LiveBreaker):
    """A breaker that never forgets how often it opened."""

    def _begin_period(self) -> None:
        super()._begin_period()
        self._openings += 1


@pytest.mark.parametrize(
    "planted",
    [CountsOldFailures, CountsOldProbes, ForgetsLeases, LetsEverybodyProbe, JudgesTooLate, AddsUpProofs, KeepsDoubling],
)
def test_model_finds_planted_bugs(planted: type[LiveBreaker]) -> None:
    """The comparison can fail: each planted bug is found within some hundred runs."""
    rng = Rng(1)
    for _ in range(600):
        ops = [(rng.choice(KINDS), rng.randrange(12)) for _ in range(60)]
        for limits in (IN_A_ROW, BY_RATE):
            with manual_time() as clock:
                try:
                    compare(planted, limits, ops, clock)
                except (AssertionError, pytest.fail.Exception, CircuitOpen):
                    return
    pytest.fail(f"nobody noticed {planted.__name__}")


# Failures in a row ----------------------------------------------------------------------------------------------------


def test_failures_in_a_row_open_it(clock: ManualTime) -> None:
    """The figures of documents C and E: the fifth failure in a row opens, a success in between begins anew."""
    breaker = live(Breaker())
    fail(breaker, 4)
    succeed(breaker)
    fail(breaker, 4)
    assert stands(breaker) is State.CLOSED
    fail(breaker)
    assert stands(breaker) is State.OPEN
    assert breaker.standing()["reason"] == "5 failures in a row"


def test_refusal_says_how_long_and_why(clock: ManualTime) -> None:
    """The error names the resource, the time that is left and what opened it."""
    breaker = live(Breaker(failures=1, open_s=30.0))
    fail(breaker)
    clock.passes(10.0)
    error = refusal(breaker)
    assert str(error) == "crm is open for another 20.0 s: 1 failures in a row"
    assert error.retry_after_s == 20.0


def test_changes_are_told_once_and_in_order(clock: ManualTime) -> None:
    """Closed, open, half open, closed: each change with its reason."""
    news: News = []
    breaker = live(Breaker(failures=1, successes=2, open_s=5.0), news=news)
    fail(breaker)
    clock.passes(5.0)
    succeed(breaker, 2)
    assert [(before.value, after.value) for before, after, _ in news] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    assert [reason for *_, reason in news] == ["1 failures in a row", "the open time is over", "2 probes succeeded"]


def test_listener_may_look_at_the_breaker(clock: ManualTime) -> None:
    """Changes are told outside the lock: who looks at the breaker, or even uses it, does not stop everything."""
    seen: list[object] = []
    breaker = live(Breaker(failures=1))
    breaker._changed = lambda *_: seen.append((breaker.standing()["state"], refusal(breaker).retry_after_s))
    fail(breaker)
    assert seen == [("open", 30.0)]


# Rates ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", range(1, 101))
def test_failure_rate_is_exact(percent: int, clock: ManualTime) -> None:
    """29 of 100 is 29 %, although 0.29 x 100 is less in floats; 28 of 100 is not."""
    limits = Breaker(failure_rate=percent / 100, min_calls=100)
    below, at = live(limits), live(limits)
    succeed(below, 101 - percent)
    fail(below, percent - 1)
    succeed(at, 100 - percent)
    fail(at, percent)
    assert (below.state, at.state) == (State.CLOSED, State.OPEN)


def test_no_rate_is_judged_below_the_fewest_calls(clock: ManualTime) -> None:
    """Nine failures of nine calls prove nothing where ten are asked for."""
    breaker = live(Breaker(failure_rate=0.5, min_calls=10))
    fail(breaker, 9)
    assert stands(breaker) is State.CLOSED
    fail(breaker)
    assert breaker.standing()["reason"] == "10 of 10 calls within 60 s failed"


@pytest.mark.parametrize(("slow", "quick", "opens"), [(5, 5, True), (4, 5, False), (5, 6, False), (10, 0, True)])
def test_slow_rate_counts_the_call_at_hand(slow: int, quick: int, opens: bool, clock: ManualTime) -> None:
    """A slow call is one of the calls that it is a share of: five of ten are half, five of eleven are not."""
    breaker = live(Breaker(slow_s=1.0, slow_rate=0.5, min_calls=10))
    succeed(breaker, quick)
    for _ in range(slow):
        admission = breaker.enter()
        breaker.slow(admission)
        admission.ok()
    assert (stands(breaker) is State.OPEN) is opens
    assert not opens or breaker.reason == f"{slow} of {slow + quick} calls within 60 s were slow"


def test_failures_behind_the_window_are_forgotten(clock: ManualTime) -> None:
    """Failures that lie an hour apart never add up."""
    breaker = live(Breaker(failure_rate=0.5, min_calls=3, window_s=60.0))
    for _ in range(10):
        fail(breaker, 2)
        clock.passes(3600.0)
    assert stands(breaker) is State.CLOSED
    fail(breaker, 3)
    assert stands(breaker) is State.OPEN


def test_cancelled_calls_count_nowhere(clock: ManualTime) -> None:
    """A caller that gives up says nothing about the service."""
    breaker = live(Breaker(failures=1, failure_rate=0.1, min_calls=1))
    for _ in range(50):
        breaker.dropped(breaker.enter())
    standing = breaker.standing()
    assert (standing["state"], standing["successes"], standing["failures"]) == ("closed", 0, 0)


def test_memory_does_not_grow_with_calls(clock: ManualTime) -> None:
    """Days of calls and of short outages leave a handful of pages, and no old probe."""
    breaker = live(Breaker(failures=1, failure_rate=0.9, min_calls=2, window_s=10.0, open_s=1.0))
    for _ in range(300):
        succeed(breaker, 3)
        clock.passes(3.0)
    for _ in range(300):
        breaker.force_open("again")
        clock.passes(2.0)
        breaker.enter()
    assert len(breaker._book._pages) <= 12
    assert len(breaker._probing) <= 1
    assert breaker._news == []


# Generations ----------------------------------------------------------------------------------------------------------


def reopened(breaker: LiveBreaker, clock: ManualTime) -> None:
    """Let a breaker open, and close it by a probe."""
    breaker.force_open("an outage")
    clock.passes(breaker.open_for_s)
    succeed(breaker, breaker.limits.successes)
    assert stands(breaker) is State.CLOSED


@pytest.mark.parametrize("limits", [IN_A_ROW, BY_RATE])
def test_late_results_of_an_old_period_move_nothing(limits: Breaker, clock: ManualTime) -> None:
    """Calls that began before an outage and end after it are no failures, no successes and not slow."""
    breaker = live(limits)
    admissions = [breaker.enter() for _ in range(30)]
    reopened(breaker, clock)
    for admission in admissions[:20]:
        breaker.slow(admission)
        breaker.failed(admission)
    for admission in admissions[20:]:
        admission.ok()
    standing = breaker.standing()
    assert [standing[name] for name in ("state", "successes", "failures", "slow")] == ["closed", 0, 0, 0]


def test_success_that_began_before_opening_does_not_close_it(clock: ManualTime) -> None:
    """It lands while the breaker is open, and again while a probe is out: both times nothing moves."""
    breaker = live(Breaker(failures=1, open_s=5.0))
    first, second = breaker.enter(), breaker.enter()
    fail(breaker)
    first.ok()
    assert stands(breaker) is State.OPEN
    clock.passes(5.0)
    breaker.enter()
    second.ok()
    assert stands(breaker) is State.HALF_OPEN
    refusal(breaker)


def test_late_success_does_not_save_a_streak(clock: ManualTime) -> None:
    """A success of an earlier period does not interrupt the failures of this one."""
    breaker = live(Breaker(failures=2, open_s=5.0))
    old = breaker.enter()
    reopened(breaker, clock)
    fail(breaker)
    old.ok()
    fail(breaker)
    assert stands(breaker) is State.OPEN


# Probes ---------------------------------------------------------------------------------------------------------------


def test_hung_probe_frees_its_place_after_the_lease(clock: ManualTime) -> None:
    """One probe that never returns, then one more per lease; the late result of the first is ignored."""
    breaker = live(Breaker(failures=1, open_s=5.0), lease_s=8.0)
    fail(breaker)
    clock.passes(5.0)
    hung = breaker.enter()
    clock.passes(7.9)
    assert refusal(breaker).retry_after_s == pytest.approx(0.1)
    clock.passes(0.1)
    second = breaker.enter()
    refusal(breaker)
    hung.ok()
    assert stands(breaker) is State.HALF_OPEN
    breaker.failed(hung)
    assert stands(breaker) is State.HALF_OPEN
    second.ok()
    assert stands(breaker) is State.CLOSED


def test_probe_that_failed_in_an_earlier_try_moves_nothing(clock: ManualTime) -> None:
    """Two probes are out, one fails and opens; the other's success counts for no later try."""
    breaker = live(Breaker(failures=1, probes=2, open_s=5.0))
    fail(breaker)
    clock.passes(5.0)
    first, second = breaker.enter(), breaker.enter()
    breaker.failed(first)
    assert stands(breaker) is State.OPEN
    clock.passes(10.0)
    breaker.enter()
    second.ok()
    assert stands(breaker) is State.HALF_OPEN


def test_successful_probes_of_an_earlier_try_prove_nothing(clock: ManualTime) -> None:
    """Two successes in a row are asked for: one before a failed probe and one after it are not two."""
    breaker = live(Breaker(failures=1, successes=2, open_s=5.0))
    fail(breaker)
    clock.passes(5.0)
    succeed(breaker)
    fail(breaker)
    clock.passes(10.0)
    succeed(breaker)
    assert stands(breaker) is State.HALF_OPEN
    succeed(breaker)
    assert stands(breaker) is State.CLOSED


def test_cancelled_probe_frees_its_place_at_once(clock: ManualTime) -> None:
    """The next caller probes, without waiting for a lease and without a longer open time."""
    breaker = live(Breaker(failures=1, open_s=5.0))
    fail(breaker)
    clock.passes(5.0)
    breaker.dropped(breaker.enter())
    succeed(breaker)
    assert stands(breaker) is State.CLOSED


@pytest.mark.parametrize("probes", [1, 3])
def test_no_more_probes_than_allowed_pass_for_32_threads(probes: int, clock: ManualTime) -> None:
    """All ask in the moment in which the open time ends; the others are told how long to wait."""
    breaker = live(Breaker(failures=1, probes=probes, open_s=5.0))
    fail(breaker)
    clock.passes(5.0)
    start, passed, refused = threading.Barrier(32), [], []

    def call() -> None:
        start.wait()
        try:
            passed.append(breaker.enter())
        except CircuitOpen as error:
            refused.append(error.retry_after_s)

    together(call, 32)
    assert (len(passed), len(refused)) == (probes, 32 - probes)
    assert set(refused) == {5.0}


def together(work: Callable[[], None], number: int) -> None:
    """Run `work` in so many threads, with as many switches between them as can be had."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)


def test_calls_of_32_threads_are_all_counted(clock: ManualTime) -> None:
    """No success and no failure is lost, and none counts twice."""
    breaker = live(Breaker(failure_rate=1.0, min_calls=1_000_000))

    def call() -> None:
        for number in range(200):
            if number % 10:
                succeed(breaker)
            else:
                fail(breaker)

    together(call, 32)
    standing = breaker.standing()
    assert (standing["successes"], standing["failures"]) == (32 * 180, 32 * 20)
    assert breaker.successes_seen() == 32 * 180


def test_one_breaker_serves_several_event_loops(clock: ManualTime) -> None:
    """Nothing in it belongs to a loop: what one loop opens is open for the next, and for threads."""
    breaker = live(Breaker(failures=1))

    async def call() -> None:
        fail(breaker)

    asyncio.run(call())
    with pytest.raises(CircuitOpen):
        asyncio.run(call())
    refusal(breaker)


# Open time ------------------------------------------------------------------------------------------------------------


def open_times(limits: Breaker, openings: int, clock: ManualTime) -> list[float]:
    """Return how long a breaker stays open whose probes fail again and again."""
    breaker, times = live(limits), []
    fail(breaker, limits.failures)
    for _ in range(openings):
        times.append(breaker.open_for_s)
        clock.passes(breaker.open_for_s)
        fail(breaker)
    return times


def test_open_time_doubles_up_to_ten_minutes(clock: ManualTime) -> None:
    """30 s, 60 s, 120 s … 600 s; even after a thousand failed probes."""
    times = open_times(Breaker(failures=1, open_s=30.0), 1000, clock)
    assert times[:6] == pytest.approx([30, 60, 120, 240, 480, 600])
    assert max(times) == pytest.approx(600.0)


def test_open_time_that_is_longer_than_ten_minutes_is_kept(clock: ManualTime) -> None:
    """Who asks for an hour gets an hour, each time."""
    assert open_times(Breaker(failures=1, open_s=3600.0), 3, clock) == pytest.approx([3600.0] * 3)


def test_open_times_of_many_processes_differ(clock: ManualTime) -> None:
    """Chance adds up to a tenth, and never takes anything away."""
    times = []
    for number in range(11):
        clock.chance = number / 10
        times += open_times(Breaker(failures=1, open_s=30.0), 1, clock)
    assert times == pytest.approx([30.0 + 0.3 * number for number in range(11)])


def test_open_time_begins_anew_after_closing(clock: ManualTime) -> None:
    """A service that came back is not punished for its last outage."""
    breaker = live(Breaker(failures=1, open_s=30.0))
    fail(breaker)
    clock.passes(30.0)
    fail(breaker)
    assert breaker.open_for_s == 60.0
    clock.passes(60.0)
    succeed(breaker)
    fail(breaker)
    assert breaker.open_for_s == 30.0


def test_wall_clock_is_never_asked(clock: ManualTime) -> None:
    """A wall clock that is set back by an hour, or is broken, delays no probe."""
    breaker = live(Breaker(failures=1, open_s=5.0))

    def broken() -> Any:
        raise AssertionError("the wall clock was read")

    with HOST.replaced(now=broken):
        fail(breaker)
        clock.passes(5.0)
        succeed(breaker)
    assert stands(breaker) is State.CLOSED


# A person's hand ------------------------------------------------------------------------------------------------------


def test_hold_refuses_until_it_is_released(clock: ManualTime) -> None:
    """No time and no late result ends a hold; after it the next call is a probe."""
    breaker = live(Breaker(failures=1, open_s=5.0))
    early = breaker.enter()
    breaker.hold_open("maintenance")
    clock.passes(1e6)
    early.ok()
    error = refusal(breaker)
    assert (str(error), error.retry_after_s) == ("crm is held open: maintenance", None)
    assert breaker.open_for_s == math.inf
    breaker.release()
    assert breaker.open_for_s == 0.0
    probe = breaker.enter()
    assert stands(breaker) is State.HALF_OPEN
    refusal(breaker)
    probe.ok()
    assert stands(breaker) is State.CLOSED


def test_hold_ends_a_probe_that_is_out(clock: ManualTime) -> None:
    """A probe that succeeds during a hold does not lift it."""
    breaker = live(Breaker(failures=1, open_s=5.0))
    fail(breaker)
    clock.passes(5.0)
    probe = breaker.enter()
    breaker.hold_open("maintenance")
    probe.ok()
    assert (breaker.state, breaker.standing()["reason"]) == (State.OPEN, "maintenance")


def test_release_without_a_hold_does_nothing(clock: ManualTime) -> None:
    """It neither closes nor shortens an open time."""
    breaker = live(Breaker(failures=1, open_s=5.0))
    fail(breaker)
    breaker.release()
    assert (breaker.state, breaker.open_for_s) == (State.OPEN, 5.0)


def test_forced_open_lasts_the_configured_time(clock: ManualTime) -> None:
    """A person's opening is never doubled, however often probes failed or it was forced before."""
    breaker = live(Breaker(failures=1, open_s=5.0))
    fail(breaker)
    clock.passes(5.0)
    fail(breaker)
    breaker.force_open("a person says so")
    breaker.force_open("and again")
    assert breaker.open_for_s == 5.0
    assert refusal(breaker).args[0] == "crm is open for another 5.0 s: and again"


def test_forced_closed_forgets_everything(clock: ManualTime) -> None:
    """Hold, counts and growth of the open time are gone."""
    breaker = live(Breaker(failures=2, open_s=5.0))
    fail(breaker)
    breaker.hold_open("maintenance")
    breaker.force_closed()
    fail(breaker)
    assert stands(breaker) is State.CLOSED
    fail(breaker)
    assert breaker.open_for_s == 5.0


# New limits, other processes ------------------------------------------------------------------------------------------


def test_new_limits_keep_state_and_counts(clock: ManualTime) -> None:
    """An update neither closes an open breaker nor forgets the failures of a closed one."""
    breaker = live(Breaker(failures=5, open_s=5.0))
    fail(breaker, 2)
    breaker.adopt(Breaker(failures=3, open_s=7.0), 7.0)
    fail(breaker)
    assert (breaker.state, breaker.open_for_s) == (State.OPEN, 7.0)
    breaker.adopt(Breaker(failures=9, open_s=1.0), 1.0)
    assert (breaker.state, breaker.open_for_s) == (State.OPEN, 7.0)


def test_limits_of_another_kind_begin_a_new_count(clock: ManualTime) -> None:
    """What was counted in a row says nothing about a rate; successes ever seen stay."""
    breaker = live(Breaker(failures=5))
    succeed(breaker, 7)
    fail(breaker, 4)
    breaker.adopt(Breaker(failure_rate=0.5, min_calls=1), 30.0)
    assert breaker.standing()["failures"] == 0
    assert breaker.successes_seen() == 7
    fail(breaker)
    assert stands(breaker) is State.OPEN


class Elsewhere:
    """The other processes: they give the right to probe, keep it, or do not answer."""

    def __init__(self) -> None:
        self.answer: bool | None = False
        self.asked: list[tuple[str, float]] = []

    def may_probe(self, name: str, lease_s: float) -> bool:
        self.asked.append((name, lease_s))
        if self.answer is None:
            raise OSError("the store does not answer")
        return self.answer

    def changed(self, breaker: LiveBreaker, state: State, reason: str) -> None:
        """Hear of a change."""


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """Connect this process with others."""
    others = Elsewhere()
    monkeypatch.setattr(LINK, "state", others)
    return others


def test_only_the_process_that_wins_probes(clock: ManualTime, elsewhere: Elsewhere) -> None:
    """The others stay open and ask again a second later."""
    breaker = live(Breaker(failures=1, open_s=5.0, shared=True))
    fail(breaker)
    clock.passes(5.0)
    assert refusal(breaker).retry_after_s == 1.0
    assert stands(breaker) is State.OPEN
    refusal(breaker)
    assert elsewhere.asked == [("crm", 5.0)]
    clock.passes(1.0)
    elsewhere.answer = True
    succeed(breaker)
    assert stands(breaker) is State.CLOSED


def test_store_that_does_not_answer_keeps_no_probe_back(
    clock: ManualTime, elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error reaches the log and not the caller; this process finds out by itself."""
    breaker = live(Breaker(failures=1, open_s=5.0, shared=True))
    elsewhere.answer = None
    fail(breaker)
    clock.passes(5.0)
    succeed(breaker)
    assert stands(breaker) is State.CLOSED
    assert "shared state could not be asked" in caplog.text


def test_no_breaker_lets_everything_pass_and_counts_successes() -> None:
    """A policy without a breaker knows its successes, for the retry budget."""
    none = NoBreaker()
    for _ in range(10):
        admission = none.enter()
        none.failed(admission)
        none.slow(admission)
        none.dropped(admission)
        admission.ok()
    assert (none.successes_seen(), none.open_for_s) == (10, 0.0)


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"failures": 0}, "Breaker: failures must be an int >= 1, got 0"),
        ({"failures": 2.0}, "Breaker: failures must be an int >= 1, got 2.0"),
        ({"successes": -1}, "Breaker: successes must be an int >= 1, got -1"),
        ({"min_calls": True}, "Breaker: min_calls must be an int >= 1, got True"),
        ({"probes": 0}, "Breaker: probes must be an int >= 1, got 0"),
        ({"window_s": 0}, "Breaker: window_s must be seconds > 0, got 0"),
        ({"open_s": math.nan}, "Breaker: open_s must be seconds > 0, got nan"),
        ({"open_s": math.inf}, "Breaker: open_s must be seconds > 0, got inf"),
        ({"failure_rate": 50}, "Breaker: failure_rate must be a share > 0 and <= 1 (0.5 for half), or None, got 50"),
        ({"failure_rate": 0}, "Breaker: failure_rate must be a share > 0 and <= 1 (0.5 for half), or None, got 0"),
        ({"slow_s": -1, "slow_rate": 0.5}, "Breaker: slow_s must be seconds > 0, or None, got -1"),
        ({"slow_s": 1.0}, "Breaker: slow_rate must be given together with slow_s, got None"),
        ({"slow_rate": 0.5}, "Breaker: slow_rate must be given together with slow_s, got 0.5"),
        ({"probe_lease_s": 0}, "Breaker: probe_lease_s must be seconds > 0, or None, got 0"),
    ],
)
def test_misuse_is_refused_with_what_is_allowed(wrong: dict[str, Any], message: str) -> None:
    """A breaker that can't work is refused where it is declared, in words that say what to write."""
    with pytest.raises(ValueError, match=r".") as caught:
        Breaker(**wrong)
    assert str(caught.value) == message
