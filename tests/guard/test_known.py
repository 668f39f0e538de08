"""What is known is repaired once, the call is tried once more where it may be, and what does not help rests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import weakref
from typing import Any

import pytest
from starlette.exceptions import HTTPException

import prunella as pr
from guard.conftest import ManualTime
from guard.shop import Shop, ask, healing
from guard.test_flow import FAST, Answer, Script, heard, named
from guard.test_forks import with_lock_held
from prunella.core.clock import HOST
from prunella.core.errors import CircuitOpen, RetryLater
from prunella.core.events import Event
from prunella.guard.deadline import remaining_s
from prunella.guard.known import KnownIssues, Recognised, Remedy


class Stale(Exception):
    """What is known, and what a remedy helps against."""


def knowing(remedy: Remedy, *, rest_s: float = 300.0) -> KnownIssues:
    """Return known issues of one kind."""
    found = Recognised("shop.stale", "reload")
    return KnownIssues(lambda error, _: found if isinstance(error, Stale) else None, {"reload": remedy}, rest_s=rest_s)


class Cache:
    """Something that is stale until it was reloaded, and how often each was done."""

    def __init__(self, *, helps: bool = True) -> None:
        self.stale = True
        self.calls = self.reloads = 0
        self._helps = helps

    def read(self, *_: Any) -> str:
        self.calls += 1
        if self.stale:
            raise Stale("stale rates")
        return "fresh"

    async def aread(self, *_: Any) -> str:
        return self.read()

    def reload(self, _: Exception) -> bool:
        self.reloads += 1
        self.stale = not self._helps
        return True

    async def areload(self, error: Exception) -> bool:
        await asyncio.sleep(1)
        return self.reload(error)


def only(known: KnownIssues) -> dict[str, Any]:
    """Return what came of the one remedy at the one issue."""
    (one,) = known.standing()
    return one


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


# Repaired, and tried once more ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [None, FAST], ids=["no retry", "a retry"])
@pytest.mark.parametrize("decorated", [True, False])
def test_known_failure_is_repaired_and_the_call_succeeds(
    retry: pr.Retry | None, decorated: bool, clock: ManualTime
) -> None:
    """After all attempts: the remedy runs once with the failure, then one more attempt; events and counts say so."""
    cache = Cache()
    known = knowing(cache.reload)
    policy = pr.policy("shop", retry=retry, known=known)
    events = heard(policy)
    attempts = retry.attempts if retry is not None else 1
    assert (policy(cache.read)() if decorated else policy.call(cache.read)) == "fresh"
    assert (cache.reloads, cache.calls) == (1, attempts + 1)
    tried, proven = events[-2:]
    assert (tried.name, tried.fields["issue"], tried.fields["remedy"], tried.fields["worked"]) == (
        "remedy.tried", "shop.stale", "reload", True,
    )  # fmt: skip
    assert (proven.name, proven.fields["policy"], proven.fields["issue"]) == ("remedy.proven", "shop", "shop.stale")
    assert only(known) == {
        "issue": "shop.stale", "remedy": "reload", "tried": 1, "verified": 1, "ineffective": 0, "rests_for_s": 0.0,
    }  # fmt: skip
    assert policy.explain()["known"] == known.standing()


@pytest.mark.parametrize("remedy", ["reload", "areload"])
def test_asynchronous_calls_take_remedies_of_both_kinds(remedy: str, clock: ManualTime) -> None:
    """A coroutine is awaited; a plain function is called as it is."""
    cache = Cache()
    policy = pr.policy("shop", known=knowing(getattr(cache, remedy)))
    assert clock.run(policy(cache.aread)()) == "fresh"
    assert (cache.reloads, cache.calls) == (1, 2)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_repeated_blocks_are_repaired(asynchronous: bool, clock: ManualTime) -> None:
    """`for attempt in policy.attempts()` makes the one more attempt, too."""
    cache = Cache()
    policy = pr.policy("shop", retry=FAST, known=knowing(cache.areload if asynchronous else cache.reload))

    def loop() -> list[str]:
        read = []
        for attempt in policy.attempts():
            with attempt:
                read.append(cache.read())
        return read

    async def aloop() -> list[str]:
        read = []
        async for attempt in policy.attempts():
            async with attempt:
                read.append(cache.read())
        return read

    assert (clock.run(aloop()) if asynchronous else loop()) == ["fresh"]
    assert (cache.reloads, cache.calls) == (1, 4)


def test_streams_are_repaired_before_they_begin(clock: ManualTime) -> None:
    """A generator that fails before its first value is opened once more."""
    cache = Cache()

    @pr.policy("shop", known=knowing(cache.reload))
    def rates() -> Any:
        yield cache.read()

    assert list(rates()) == ["fresh"]


def test_threads_are_repaired_within_the_deadline(clock: ManualTime) -> None:
    """With `sync_timeout="thread"` the remedy runs in a thread as the attempts do."""
    cache, ran_in = Cache(), []

    def reload(error: Exception) -> bool:
        ran_in.append(threading.current_thread().name)
        return cache.reload(error)

    policy = pr.policy("shop", known=knowing(reload), sync_timeout="thread", deadline_s=30)
    assert policy.call(cache.read) == "fresh"
    assert ran_in == ["prunella-attempt"]


def test_healed_requests_use_known_issues_of_their_policy() -> None:
    """A component's policy repairs what is known; its own remedy is for the rest."""
    shop = Shop(Stale("stale rates"), 200)
    client, events = healing(shop, retry=None, known=knowing(lambda error: True))
    assert (ask(client).status, shop.calls) == (200, 2)
    assert names(events) == ["remedy.tried", "remedy.proven"]


def test_answer_of_a_framework_is_no_failure_after_a_repair_either() -> None:
    """The repaired request is answered 404 by an exception: it passes, and says nothing about the remedy."""
    outcomes: list[Exception] = [Stale("stale rates"), HTTPException(404)]
    known = knowing(lambda error: True)
    policy = pr.policy("shop", known=known)
    events = heard(policy)

    @pr.self_healing("orders", policy=policy)
    def handler() -> None:
        raise outcomes.pop(0)

    with pytest.raises(HTTPException):
        handler()
    assert names(events) == ["remedy.tried"]
    assert (only(known)["verified"], only(known)["ineffective"]) == (0, 0)


def test_result_that_was_refused_is_looked_at(clock: ManualTime) -> None:
    """`on_result` makes a failure of an answer; the answer stands in what the remedy is given."""
    found = Recognised("shop.stale", "reload")
    answers, given = ["stale", "stale", "fresh"], []

    def reload(error: Exception) -> bool:
        given.append(getattr(error, "result", None))
        return True

    known = KnownIssues(lambda error, service: found, {"reload": reload}, rest_s=1)
    retry = pr.Retry(attempts=2, base_s=0, on_result=lambda answer: answer == "stale")
    assert pr.policy("shop", retry=retry, known=known).call(lambda: answers.pop(0)) == "fresh"
    assert given == ["stale"]


# Not tried again ------------------------------------------------------------------------------------------------------


def test_call_that_may_have_had_its_effect_is_not_repeated(clock: ManualTime) -> None:
    """It is repaired for those who come after; what the caller gets is its own failure, and nothing is proven."""
    cache = Cache()
    known = knowing(cache.reload)
    policy = pr.policy("shop", retry=FAST, known=known)
    with pytest.raises(Stale) as raised:
        policy(effect="once")(cache.read)()
    assert (cache.calls, cache.reloads) == (1, 1)
    assert "reload repaired shop.stale, but it may have had its effect" in raised.value.__notes__[0]
    assert (only(known)["verified"], only(known)["ineffective"]) == (0, 0)
    cache.stale = True
    assert policy(effect="once", idempotency_key=lambda: "key-1")(cache.read)() == "fresh"


def test_unknown_failure_is_left_alone(clock: ManualTime) -> None:
    """Nothing runs, and nothing is counted."""
    cache = Cache()
    known = knowing(cache.reload)
    service = Script(OSError("down"))
    with pytest.raises(OSError, match="down"):
        pr.policy("shop", retry=FAST, known=known).call(service)
    assert (service.calls, cache.reloads, known.standing()) == (3, 0, [])


def test_refusal_of_a_guard_is_no_failure(clock: ManualTime) -> None:
    """An open breaker says nothing that could be repaired."""
    asked: list[Exception] = []
    found = Recognised("any", "reload")

    def recognise(error: Exception, service: str) -> Recognised:
        asked.append(error)
        return found

    known = KnownIssues(recognise, {"reload": lambda _: True}, rest_s=1)
    policy = pr.policy("shop", breaker=pr.Breaker(failures=1), known=known)
    policy.breaker.force_open("maintenance")
    with pytest.raises(CircuitOpen):
        policy.call(lambda: None)
    assert asked == []


def test_breaker_that_opened_is_not_passed(clock: ManualTime) -> None:
    """The failure opened it: the remedy runs, the attempt waits for another call, and the error stays the service's."""
    cache = Cache()
    known = knowing(cache.reload)
    policy = pr.policy("shop", breaker=pr.Breaker(failures=1, open_s=5), known=known)
    with pytest.raises(Stale) as raised:
        policy.call(cache.read)
    assert (cache.calls, cache.reloads, only(known)["ineffective"]) == (1, 1, 0)
    assert "the breaker opened" in raised.value.__notes__[0]
    clock.passes(6)
    assert policy.call(cache.read) == "fresh"


def test_refused_attempt_leaves_the_failure_as_it_is(clock: ManualTime) -> None:
    """No turn is left for another attempt: that is no verdict on the remedy, nor is it the news."""
    cache = Cache()
    known = knowing(cache.reload)
    policy = pr.policy("shop", limiter=pr.AdaptiveLimiter(rate_per_s=0.001, wait_s=0), known=known)
    with pytest.raises(Stale) as raised:
        policy.call(cache.read)
    assert "reload repaired shop.stale, but the guard refused another attempt" in raised.value.__notes__[0]
    assert (only(known)["tried"], only(known)["verified"], only(known)["ineffective"]) == (1, 0, 0)


def test_wait_that_the_service_asked_for_comes_first(clock: ManualTime) -> None:
    """A repair does not shorten it; one that is too long for here is told as ever."""
    service = Script(Answer(429, {"retry-after": "7"}), "ok")
    found = Recognised("limit", "slow_down")
    known = KnownIssues(lambda error, _: found, {"slow_down": lambda _: True}, rest_s=1)
    assert pr.policy("shop", known=known).call(service) == "ok"
    assert clock.slept == [7.0]
    with pytest.raises(RetryLater):
        pr.policy("shop", known=known).call(Script(Answer(429, {"retry-after": "60"}), "ok"))


def test_deadline_is_respected(clock: ManualTime) -> None:
    """No remedy begins after it, one that is under way is ended by it, and it sees how long is left."""
    cache, left = Cache(), []

    async def slow(error: Exception) -> bool:
        left.append(remaining_s())
        await asyncio.sleep(60)
        return cache.reload(error)

    known = knowing(slow)
    with pytest.raises(Stale) as raised:
        clock.run(pr.policy("shop", known=known, deadline_s=5).acall(cache.aread))
    assert (left, cache.reloads, cache.calls, only(known)["ineffective"]) == ([5.0], 0, 1, 1)
    assert "1 attempt within 5 s" in raised.value.__notes__[0]

    def late(_: Any = None) -> None:
        clock.passes(9)
        raise Stale

    with pytest.raises(Stale):
        pr.policy("shop", known=known, deadline_s=5).call(late)
    assert left == [5.0]
    with pytest.raises(Stale):
        clock.run(pr.policy("shop", known=known).acall(cache.aread))
    assert left == [5.0, 30.0]  # as long as a repair may take where nobody set a limit


def test_retry_budget_counts_the_attempt(clock: ManualTime) -> None:
    """It is a retry like any other."""
    cache = Cache()
    budget = pr.RetryBudget(ratio=0.0, floor_per_s=0.001)
    policy = pr.policy("shop", budget=budget, known=knowing(cache.reload))

    def use_up() -> None:
        for _ in range(20):
            cache.stale = True
            policy.call(cache.read)

    with pytest.raises(Stale) as raised:
        use_up()
    assert "the retry budget is used up" in raised.value.__notes__[0]


def test_handover_and_fallback_come_after_the_remedy(clock: ManualTime) -> None:
    """What was repaired needs neither; what was not gets them as ever."""
    helps, does_not = Cache(), Cache(helps=False)
    kept = pr.Fallback(value="kept")
    assert pr.policy("shop", known=knowing(helps.reload), fallback=kept).call(helps.read) == "fresh"
    assert pr.policy("shop", known=knowing(does_not.reload), fallback=kept).call(does_not.read) == "kept"
    assert does_not.calls == 2


# Did not help ---------------------------------------------------------------------------------------------------------


async def _never(error: Exception) -> bool:
    return True


def _breaks(error: Exception) -> bool:
    raise RuntimeError("no access to the cache")


def _stops(error: Exception) -> bool:
    raise StopIteration


@pytest.mark.parametrize(
    ("remedy", "event"),
    [
        (lambda error: False, "remedy.tried"),
        (lambda error: None, "remedy.tried"),
        (lambda error: "yes", "remedy.tried"),
        (_breaks, "remedy.failed"),
        (_stops, "remedy.failed"),
        (_never, "remedy.failed"),
    ],
    ids=["False", "nothing", "a word", "raises", "StopIteration", "asynchronous"],
)
def test_remedy_that_does_not_say_true_brings_no_further_try(
    remedy: Any, event: str, clock: ManualTime, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own trouble is told and never hides the failure."""
    cache, known = Cache(), knowing(remedy)
    policy = pr.policy("shop", known=known)
    events = heard(policy)
    with pytest.raises(Stale):
        policy.call(cache.read)
    assert (cache.calls, names(events)[0], only(known)["ineffective"]) == (1, event, 1)
    assert ("reload failed at shop.stale" in caplog.text) is (event == "remedy.failed")


def test_remedy_that_failed_twice_in_a_row_rests(clock: ManualTime) -> None:
    """The third failure is not treated, and says why; after the rest one more failure is enough."""
    cache = Cache(helps=False)
    known = knowing(cache.reload, rest_s=60)
    policy = pr.policy("shop", known=known)

    def fail() -> str:
        with pytest.raises(Stale) as raised:
            policy.call(cache.read)
        clock.passes(1)
        return str(raised.value.__notes__[0])

    assert fail().endswith("; reload did not help against shop.stale")
    fail()
    assert fail().endswith("; reload rests for 59 s, it did not help against shop.stale")
    assert (cache.reloads, cache.calls, only(known)["rests_for_s"]) == (2, 5, 58.0)
    clock.passes(60)
    fail()
    fail()
    assert cache.reloads == 3


def test_success_in_between_forgives(clock: ManualTime) -> None:
    """Two failures in a row count, not two in all; rest is per issue and remedy."""
    cache = Cache()
    known = knowing(cache.reload, rest_s=60)
    policy = pr.policy("shop", known=known)
    for helps in (False, True, False, True):
        cache.stale, cache._helps = True, helps
        try:
            policy.call(cache.read)
        except Stale:
            assert not helps
        clock.passes(1)
    assert only(known) | {"rests_for_s": 0.0} == only(known)
    assert (only(known)["tried"], only(known)["verified"], only(known)["ineffective"]) == (4, 2, 2)


def test_trouble_with_recognising_is_no_trouble_of_the_call(clock: ManualTime, caplog: Any) -> None:
    """The failure reaches the caller as it is."""

    def broken(error: Exception, service: str) -> Recognised | None:
        raise KeyError(service)

    known = KnownIssues(broken, {}, rest_s=1)
    with pytest.raises(Stale):
        pr.policy("shop", known=known).call(Cache().read)
    assert "a failure of shop could not be looked at" in caplog.text


# Many at once ---------------------------------------------------------------------------------------------------------


def test_many_tasks_are_repaired_once(clock: ManualTime) -> None:
    """A hundred fail for one reason: one repairs, the others wait for it, and all succeed."""
    cache = Cache()
    known = knowing(cache.areload)
    policy = pr.policy("shop", known=known)
    events = heard(policy)

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(policy.acall(cache.aread) for _ in range(100)))

    assert clock.run(all_of_them()) == ["fresh"] * 100
    assert (cache.reloads, cache.calls, only(known)["tried"], only(known)["verified"]) == (1, 200, 1, 1)
    assert (len(named(events, "remedy.tried")), len(named(events, "remedy.proven"))) == (1, 100)


def test_many_threads_are_repaired_once() -> None:
    """Threads wait as tasks do, and one of them repairs."""
    cache, results, count = Cache(), [], 8
    everybody = threading.Barrier(count)

    def read() -> str:
        if cache.stale:
            everybody.wait(10)
            raise Stale
        return "fresh"

    def reload(error: Exception) -> bool:
        HOST.sleep(0.01)
        return cache.reload(error)

    known = knowing(reload)
    policy = pr.policy("shop", known=known)
    threads = [threading.Thread(target=lambda: results.append(policy.call(read))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (results, cache.reloads, only(known)["tried"]) == (["fresh"] * count, 1, 1)


def test_failure_from_before_the_repair_needs_no_other(clock: ManualTime) -> None:
    """A call that began before it and failed after it is tried again as it is."""
    cache = Cache()
    policy = pr.policy("shop", known=knowing(cache.areload))

    async def slow() -> str:
        stale = cache.stale
        await asyncio.sleep(5)
        if stale:
            raise Stale
        return "fresh"

    async def both() -> Any:
        return await asyncio.gather(policy.acall(slow), policy.acall(cache.aread))

    assert clock.run(both()) == ["fresh", "fresh"]
    assert cache.reloads == 1


def test_waiting_for_a_repair_ends_with_the_deadline(clock: ManualTime) -> None:
    """Who has less time than the repair takes fails with its own failure; the repair goes on."""
    cache = Cache()
    known = knowing(cache.areload)
    gave_up_at: list[float] = []
    patient, hurried = pr.policy("patient", known=known), pr.policy("hurried", known=known, deadline_s=0.5)

    async def hurry() -> str:
        try:
            return await hurried.acall(cache.aread)
        finally:
            gave_up_at.append(clock.monotonic())

    async def both() -> Any:
        return await asyncio.gather(patient.acall(cache.aread), hurry(), return_exceptions=True)

    fresh, failed = clock.run(both())
    assert (fresh, type(failed), cache.reloads, gave_up_at) == ("fresh", Stale, 1, [0.5])


def test_repair_that_was_cancelled_says_nothing(clock: ManualTime) -> None:
    """The next one begins anew, nobody waits for ever, and it is not counted against the remedy."""
    cache = Cache()
    known = knowing(cache.areload)
    policy = pr.policy("shop", known=known)

    async def story() -> str:
        first = asyncio.ensure_future(policy.acall(cache.aread))
        await asyncio.sleep(0.5)
        waiting = asyncio.ensure_future(policy.acall(cache.aread))
        await asyncio.sleep(0.1)
        first.cancel()
        with pytest.raises(Stale):
            await waiting
        return await policy.acall(cache.aread)

    assert clock.run(story()) == "fresh"
    assert (only(known)["tried"], only(known)["ineffective"]) == (2, 0)


def test_healing_of_a_healing_never_starts(clock: ManualTime) -> None:
    """A remedy that runs into what it is there for fails at once: it neither waits for itself nor begins anew."""
    cache = Cache(helps=False)

    async def reload(error: Exception) -> bool:
        cache.reloads += 1
        return bool(await policy.acall(cache.aread))

    known = knowing(reload)
    policy = pr.policy("shop", known=known)
    with pytest.raises(Stale):
        clock.run(policy.acall(cache.aread))
    assert (cache.reloads, cache.calls, clock.monotonic()) == (1, 2, 0.0)


def test_repair_that_did_not_hold_is_made_again(clock: ManualTime) -> None:
    """Whose call began before a repair that proved useless is not sent on as if it were repaired."""
    cache = Cache(helps=False)
    known = knowing(cache.reload)
    policy = pr.policy("shop", known=known)

    async def slow() -> str:
        await asyncio.sleep(5)
        cache._helps = True
        return cache.read()

    async def both() -> Any:
        return await asyncio.gather(policy.acall(slow), policy.acall(later), return_exceptions=True)

    async def later() -> str:
        await asyncio.sleep(1)
        return cache.read()

    first, second = clock.run(both())
    assert (first, type(second), cache.reloads) == ("fresh", Stale, 2)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_process_repairs_for_itself() -> None:
    """Whoever held the lock at the fork, and whatever was being repaired: the child begins anew."""
    ours, theirs, parent = Cache(), Cache(), os.getpid()
    begun, released = threading.Event(), threading.Event()

    def reload(error: Exception) -> bool:
        if os.getpid() != parent:
            return theirs.reload(error)
        begun.set()
        released.wait(10)
        return ours.reload(error)

    known = knowing(reload)
    policy = pr.policy("shop", known=known)
    repairing = threading.Thread(target=policy.call, args=(ours.read,))
    repairing.start()
    begun.wait(10)
    try:
        assert with_lock_held(known._lock, lambda: policy.call(theirs.read))
    finally:
        released.set()
        repairing.join(10)
    assert not ours.stale


# Settings, and what is left behind ------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"reload": print}, ["builtin"], True])
def test_anything_else_is_refused(given: Any) -> None:
    """With what to write instead."""
    with pytest.raises(TypeError, match=r"known must be a KnownIssues, got .*; write known=pr\.known_issues\(…\)"):
        pr.policy("shop", known=given)


def test_policy_can_be_taught_while_it_runs(clock: ManualTime) -> None:
    """`update` adds and removes what is known."""
    cache = Cache()
    policy = pr.policy("shop")
    read = policy(cache.read)
    with pytest.raises(Stale):
        read()
    policy.update(known=knowing(cache.reload))
    assert read() == "fresh"
    policy.update(known=None)
    cache.stale = True
    with pytest.raises(Stale):
        read()


@pytest.mark.parametrize("helps", [True, False])
def test_failure_is_let_go_of(helps: bool, clock: ManualTime) -> None:
    """No cycle keeps an error, and what it holds, alive after the call."""

    class Big(Stale):
        """An error whose end is watched."""

    cache, seen = Cache(helps=helps), list[weakref.ref[Exception]]()

    def read() -> str:
        if cache.stale:
            error = Big()
            seen.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error
        return "fresh"

    guarded = pr.policy("shop", known=knowing(cache.reload))(read)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Big):
            guarded()
        assert [one() for one in seen] == [None] * (1 if helps else 2)
    finally:
        gc.enable()
