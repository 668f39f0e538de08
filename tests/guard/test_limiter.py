"""Calls are spaced, the rate follows the answers by document A's figures, and who gives up delays nobody."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prunella as pr
from guard.conftest import ManualTime, manual_time
from prunella.core.errors import RateLimited
from prunella.guard.limiter import AdaptiveLimiter, LiveLimiter, Turn

EXAMPLES = int(os.environ.get("PRUNELLA_EXAMPLES", "100"))

News = list[tuple[float, float, str]]


def live(rate_per_s: float = 10.0, *, news: News | None = None, **limits: Any) -> LiveLimiter:
    """Return a limiter at work; `news` collects its changes."""
    told = news if news is not None else []
    return LiveLimiter("crm", AdaptiveLimiter(rate_per_s=rate_per_s, **limits), lambda *change: told.append(change))


def answers(limiter: LiveLimiter, good: int, bad: int = 0) -> None:
    """Let calls succeed, and after them calls fail."""
    for _ in range(good):
        limiter.succeeded()
    for _ in range(bad):
        limiter.failed(throttled=True, asked_s=None)


def waits(limiter: LiveLimiter, number: int) -> list[float]:
    """Take so many turns and return how long each has to wait."""
    return [limiter.reserve(math.inf)[1] for _ in range(number)]


# Spacing --------------------------------------------------------------------------------------------------------------


def test_calls_are_spaced_by_the_rate(clock: ManualTime) -> None:
    """The first passes at once, each next one a tenth of a second later; idle time saves nothing up."""
    limiter = live(10.0)
    assert waits(limiter, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    clock.passes(100.0)
    assert waits(limiter, 3) == pytest.approx([0.0, 0.1, 0.2])


def test_turn_that_comes_too_late_is_refused(clock: ManualTime) -> None:
    """Beyond the limiter's wait, or the caller's patience, the call is refused with the time it would take."""
    limiter = live(1.0, wait_s=2.0)
    waits(limiter, 3)
    with pytest.raises(
        RateLimited, match=r"^crm: 1 calls per second are allowed and the next turn is in 3.0 s$"
    ) as caught:
        limiter.reserve(math.inf)
    assert caught.value.retry_after_s == 3.0
    clock.passes(1.0)
    with pytest.raises(RateLimited):
        limiter.reserve(1.5)
    assert limiter.reserve(math.inf)[1] == 2.0


def test_refused_call_takes_no_turn(clock: ManualTime) -> None:
    """Those who are refused do not push the others back."""
    limiter = live(1.0, wait_s=0.0)
    limiter.reserve(math.inf)
    for _ in range(10):
        with pytest.raises(RateLimited):
            limiter.reserve(math.inf)
    clock.passes(1.0)
    assert limiter.reserve(math.inf)[1] == 0.0


@pytest.mark.parametrize("order", ["first to last", "last to first", "inside out"])
def test_cancelled_waiters_do_not_delay_the_next_caller(order: str, clock: ManualTime) -> None:
    """Ten who wait give up, in whatever order: the next caller has the next turn."""
    limiter = live(10.0)
    limiter.reserve(math.inf)
    turns = [limiter.reserve(math.inf)[0] for _ in range(10)]
    orders = {"first to last": turns, "last to first": turns[::-1], "inside out": turns[5:] + turns[:5]}
    for turn in orders[order]:
        limiter.hand_back(turn)
    assert waits(limiter, 3) == pytest.approx([0.1, 0.2, 0.3])


def test_turn_handed_back_goes_to_the_next_caller(clock: ManualTime) -> None:
    """A gap in the middle is filled, then the end of the queue follows."""
    limiter = live(10.0)
    turns = [limiter.reserve(math.inf)[0] for _ in range(6)]
    limiter.hand_back(turns[2])
    limiter.hand_back(turns[4])
    limiter.hand_back(turns[4])  # twice does no harm
    assert waits(limiter, 4) == pytest.approx([0.2, 0.4, 0.6, 0.7])


def test_cancelled_tasks_do_not_delay_the_next_caller(clock: ManualTime) -> None:
    """The same through a policy: 50 waiting tasks are cancelled, and the next call waits for one turn only."""
    policy = pr.policy("crm", limiter=AdaptiveLimiter(rate_per_s=10.0))

    @policy
    async def call() -> float:
        return clock.monotonic()

    async def main() -> float:
        tasks = [asyncio.ensure_future(call()) for _ in range(50)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return await call()

    assert clock.run(main()) == pytest.approx(0.1)


@settings(max_examples=EXAMPLES)
@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "take", "take", "give back", "pass"]), st.integers(0, 9)),
        min_size=10,
        max_size=80,
    )
)
def test_turns_keep_their_distance_whatever_happens(ops: list[tuple[str, int]]) -> None:
    """In any order of coming, giving up and time passing no two calls come closer than the rate allows."""
    with manual_time() as clock:
        limiter, gap_s = live(4.0, wait_s=1e6), 0.25
        turns: list[Turn] = []
        for op, number in ops:
            if op == "take":
                turn, wait_s = limiter.reserve(math.inf)
                assert turn.at == pytest.approx(clock.monotonic() + wait_s)
                turns.append(turn)
            elif op == "give back":
                waiting = [turn for turn in turns if turn.at > clock.monotonic()]
                if waiting:
                    limiter.hand_back(waiting[number % len(waiting)])
                    turns.remove(waiting[number % len(waiting)])
            else:
                clock.passes(number * 0.1)
        instants = sorted(turn.at for turn in turns)
        assert all(after - before >= gap_s * 0.99 for before, after in pairwise(instants))
        waiting = [turn for turn in turns if turn.at > clock.monotonic()]
        most_s = gap_s * (2 * len(waiting) + 1)  # a gap that is a little too narrow costs each of them almost two
        assert limiter.reserve(math.inf)[1] <= most_s + 1e-6, "a turn was lost"


def test_threads_share_the_rate(clock: ManualTime) -> None:
    """32 threads that ask at once get 32 different turns."""
    limiter, taken, start = live(100.0), [], threading.Barrier(32)

    def take() -> None:
        start.wait()
        taken.append(limiter.reserve(math.inf)[1])

    threads = [threading.Thread(target=take) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == pytest.approx([number / 100 for number in range(32)])


def test_memory_does_not_grow_with_calls(clock: ManualTime) -> None:
    """Turns that have come are forgotten, and so are old results."""
    limiter = live(100.0)
    for _ in range(5000):
        limiter.reserve(math.inf)
        limiter.succeeded()
        clock.passes(0.02)
    assert len(limiter._turns) <= 2
    assert len(limiter._results) <= 100


# Document A's window --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "bad", "rate"),
    [
        (19, 0, 10.0),  # too few to judge
        (20, 0, 11.0),
        (18, 2, 8.0),
        (19, 1, 10.0),  # 95 % are not below 95 %
        (0, 20, 8.0),
    ],
)
def test_rate_follows_the_share_of_successes(good: int, bad: int, rate: float) -> None:
    """Document A: below 0.95 the rate falls to 0.8 of itself, above 0.99 it grows by a tenth."""
    limiter = live(10.0)
    answers(limiter, good, bad) if bad == 0 else mixed(limiter, good, bad)
    assert limiter.rate_per_s == pytest.approx(rate)


def mixed(limiter: LiveLimiter, good: int, bad: int) -> None:
    """Let calls fail, and after them calls succeed: nothing is judged before the last."""
    answers(limiter, 0, bad)
    answers(limiter, good)


def test_share_of_99_in_100_leaves_the_rate() -> None:
    """Document A: more than 0.99 is asked for; one failure in a hundred is not more."""
    limiter = live(10.0)
    answers(limiter, 0, 1)
    answers(limiter, 99)
    assert limiter.rate_per_s == 10.0


def test_window_holds_the_last_hundred_results() -> None:
    """Document A: the window's size is 100; the rate grows with the very result that pushes the last failure out."""
    limiter, grown_at = live(10.0), 0
    for number in range(1, 301):
        if number in (20, 40, 60, 80, 100):
            limiter.failed(throttled=True, asked_s=None)
        else:
            limiter.succeeded()
        if limiter.rate_per_s != 10.0:
            grown_at = number
            break
    assert (grown_at, limiter.rate_per_s) == (200, 11.0)


def test_rate_stays_between_a_tenth_and_twice_the_start() -> None:
    """Document A: not below initial / 10, not above initial x 2, however long it goes on."""
    limiter = live(10.0)
    answers(limiter, 0, 2000)
    assert limiter.rate_per_s == 1.0
    answers(limiter, 5000)
    assert limiter.rate_per_s == 20.0


def test_each_change_is_told_with_its_reason() -> None:
    """Before, after and why; where a bound holds the rate nothing is told."""
    news: News = []
    limiter = live(10.0, news=news)
    answers(limiter, 0, 20)
    assert news == [(10.0, 8.0, "0 of the last 20 calls succeeded")]
    answers(limiter, 0, 2000)
    assert len(news) == 11
    assert news[-1][:2] == pytest.approx((1.073741824, 1.0))


def test_any_failure_counts_for_document_a() -> None:
    """Its window looks at success only: errors other than 429 slow down too."""
    limiter = live(10.0)
    for _ in range(20):
        limiter.failed(throttled=False, asked_s=None)
    assert limiter.rate_per_s == 8.0


# Silence --------------------------------------------------------------------------------------------------------------


def test_silence_that_was_asked_for_is_kept(clock: ManualTime) -> None:
    """A Retry-After of 7 s: the next turn is in 7 s, the one after it comes a gap later, and a shorter wish shortens nothing."""
    limiter = live(10.0)
    limiter.failed(throttled=True, asked_s=7.0)
    limiter.failed(throttled=True, asked_s=2.0)
    assert waits(limiter, 2) == pytest.approx([7.0, 7.1])


def test_silence_holds_for_those_who_wait_already(clock: ManualTime) -> None:
    """Turns that were given before the service asked for silence are void."""
    limiter = live(10.0)
    turns = [limiter.reserve(math.inf)[0] for _ in range(5)]
    clock.passes(0.15)
    limiter.failed(throttled=True, asked_s=7.0)
    assert [turn.void for turn in turns] == [False, False, True, True, True]
    assert waits(limiter, 1) == [7.0]


def test_nobody_calls_into_the_silence(clock: ManualTime) -> None:
    """20 tasks wait for their turn when the first is answered 429 with Retry-After: 5; none calls before."""
    policy = pr.policy("crm", limiter=AdaptiveLimiter(rate_per_s=10.0), retry=pr.Retry(attempts=2, jitter="none"))
    calls: list[float] = []

    class Throttled(Exception):
        status = 429
        headers = {"Retry-After": "5"}  # noqa: RUF012 - as clients have it

    @policy
    async def call() -> None:
        calls.append(clock.monotonic())
        if len(calls) == 1:
            raise Throttled

    async def main() -> None:
        await asyncio.gather(*(call() for _ in range(20)))

    clock.run(main())
    assert len(calls) == 21
    assert calls[0] == 0.0
    assert min(calls[1:]) >= 5.0


def test_wait_for_a_turn_is_limited_in_all(clock: ManualTime) -> None:
    """A turn that becomes void again and again does not make a call wait longer than `wait_s`."""
    policy = pr.policy("crm", limiter=AdaptiveLimiter(rate_per_s=1.0, wait_s=3.0))

    @policy
    async def call() -> None: ...

    async def main() -> float:
        limiter = policy._core.limiter
        assert limiter is not None
        await call()
        task = asyncio.ensure_future(call())
        for _ in range(8):
            await asyncio.sleep(0.9)
            limiter.failed(throttled=True, asked_s=1.0)
        with pytest.raises(RateLimited):
            await task
        return clock.monotonic()

    clock.run(main())


# AIMD -----------------------------------------------------------------------------------------------------------------


def test_aimd_cuts_once_for_all_that_were_under_way(clock: ManualTime) -> None:
    """Twenty 429 of one second are one message; the next second's is another."""
    news: News = []
    limiter = live(50.0, profile="aimd", news=news)
    answers(limiter, 0, 20)
    assert limiter.rate_per_s == 35.0
    clock.passes(1.0)
    answers(limiter, 0, 1)
    assert limiter.rate_per_s == 24.5
    assert news == [(50.0, 35.0, "the service throttled"), (35.0, 24.5, "the service throttled")]


def test_aimd_takes_no_other_failure_for_a_throttling(clock: ManualTime) -> None:
    """A service that is down is the breaker's affair."""
    limiter = live(50.0, profile="aimd")
    for _ in range(100):
        limiter.failed(throttled=False, asked_s=None)
    assert limiter.rate_per_s == 50.0


def test_aimd_grows_by_a_fiftieth_per_second(clock: ManualTime) -> None:
    """A second of successes at the present rate adds 2 % of the start, not above twice the start."""
    limiter = live(50.0, profile="aimd")
    answers(limiter, 50)
    assert limiter.rate_per_s == pytest.approx(51.0, rel=0.01)
    answers(limiter, 20_000)
    assert limiter.rate_per_s == 100.0


def test_aimd_stays_above_a_tenth_of_the_start(clock: ManualTime) -> None:
    """However long it throttles, a tenth of the start is tried."""
    limiter = live(50.0, profile="aimd")
    for _ in range(100):
        answers(limiter, 0, 1)
        clock.passes(1.0)
    assert limiter.rate_per_s == 5.0


@dataclass
class Server:
    """A service that allows so many calls in any second, and answers 429 to the others."""

    rate: int
    now: Callable[[], float]
    allowed: list[float] = field(default_factory=list)
    seen: list[tuple[float, bool]] = field(default_factory=list)

    def answer(self) -> None:
        now = self.now()
        self.allowed = [at for at in self.allowed if at > now - 1.0]
        good = len(self.allowed) < self.rate
        if good:
            self.allowed.append(now)
        self.seen.append((now, good))
        if not good:
            raise TooMany

    def rejected_share(self, since: float, until: float) -> float:
        answers = [good for at, good in self.seen if since <= at < until]
        return answers.count(False) / len(answers)

    def good_per_s(self, since: float, until: float) -> float:
        return sum(good for at, good in self.seen if since <= at < until) / (until - since)


class TooMany(Exception):
    """429."""

    status = 429


async def use(policy: pr.Policy, server: Server, seconds: float, callers: int) -> None:
    """Have so many callers call again and again, each answer taking 50 ms."""

    @policy
    async def call() -> None:
        await asyncio.sleep(0.05)
        server.answer()

    async def caller() -> None:
        while server.now() < until:
            try:
                await call()
            except TooMany:
                continue
            except RateLimited:
                await asyncio.sleep(1.0)

    until = server.now() + seconds
    await asyncio.gather(*(caller() for _ in range(callers)))


@pytest.mark.parametrize("callers", [5, 40])
def test_aimd_finds_what_the_server_allows(callers: int, clock: ManualTime) -> None:
    """From 50/s to a server of 10/s within 20 s; then at most 5 % are rejected and most of what is allowed is used."""
    policy = pr.policy("crm", limiter=AdaptiveLimiter(rate_per_s=50.0, profile="aimd"))
    server = Server(10, clock.monotonic)
    clock.run(use(policy, server, 60.0, callers))
    assert policy.rate_per_s is not None
    assert 5.0 <= policy.rate_per_s <= 15.0
    assert server.rejected_share(0, 5) > 0.2, "the start was not too fast: the test proves nothing"
    assert server.rejected_share(20, 60) <= 0.05
    assert server.good_per_s(20, 60) >= 7.0


def test_aimd_recovers_to_a_raised_limit(clock: ManualTime) -> None:
    """When the server allows 30/s again, most of it is used within a minute."""
    policy = pr.policy("crm", limiter=AdaptiveLimiter(rate_per_s=50.0, profile="aimd"))
    server = Server(10, clock.monotonic)

    async def main() -> None:
        await use(policy, server, 30.0, 20)
        server.rate = 30
        await use(policy, server, 60.0, 20)

    clock.run(main())
    assert server.good_per_s(70, 90) >= 20.0
    assert server.rejected_share(70, 90) <= 0.05


def test_only_the_throttled_key_slows_down(clock: ManualTime) -> None:
    """Two hosts under one policy: the one that throttles gets slow, the other stays as it was."""
    policy = pr.policy("crm", limiter=AdaptiveLimiter(rate_per_s=50.0, profile="aimd"), key=lambda host: host)

    @policy
    def call(host: str) -> None:
        if host == "slow":
            raise TooMany

    for _ in range(5):
        with pytest.raises(TooMany):
            call("slow")
        call("quick")
        clock.passes(1.0)
    rates = {host: policy.core((host,), {}).limiter for host in ("slow", "quick")}
    assert [limiter.rate_per_s for limiter in rates.values() if limiter is not None] == [
        pytest.approx(50.0 * 0.7**5),
        pytest.approx(50.0, rel=0.01),
    ]


def test_our_own_refusals_are_no_throttling(clock: ManualTime) -> None:
    """`RateLimited` of the limiter itself teaches it nothing."""
    policy = pr.policy("crm", limiter=AdaptiveLimiter(rate_per_s=1.0, wait_s=0.0))

    @policy
    def call() -> None: ...

    call()
    for _ in range(50):
        with pytest.raises(RateLimited):
            call()
    assert policy.rate_per_s == 1.0


# Settings -------------------------------------------------------------------------------------------------------------


def test_new_limits_move_the_rate_into_their_bounds() -> None:
    """A learned rate is kept where the new limits allow it, and moved to their edge where not."""
    limiter = live(50.0)
    limiter.limits = AdaptiveLimiter(rate_per_s=30.0)
    assert limiter.rate_per_s == 50.0
    limiter.limits = AdaptiveLimiter(rate_per_s=5.0)
    assert limiter.rate_per_s == 10.0
    limiter.limits = AdaptiveLimiter(rate_per_s=1000.0)
    assert limiter.rate_per_s == 100.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate_per_s": 0}, "AdaptiveLimiter: rate_per_s must be a number > 0, got 0"),
        ({"rate_per_s": -1}, "AdaptiveLimiter: rate_per_s must be a number > 0, got -1"),
        ({"rate_per_s": math.nan}, "AdaptiveLimiter: rate_per_s must be a number > 0, got nan"),
        ({"rate_per_s": math.inf}, "AdaptiveLimiter: rate_per_s must be a number > 0, got inf"),
        ({"rate_per_s": 1, "profile": "fast"}, "AdaptiveLimiter: profile must be window or aimd, got 'fast'"),
        ({"rate_per_s": 1, "wait_s": -1}, "AdaptiveLimiter: wait_s must be seconds >= 0, got -1"),
    ],
)
def test_misuse_is_refused_with_what_is_allowed(wrong: dict[str, Any], message: str) -> None:
    """A limiter that can't work is refused where it is declared."""
    with pytest.raises(ValueError, match=r".") as caught:
        AdaptiveLimiter(**wrong)
    assert str(caught.value) == message
