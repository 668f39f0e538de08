"""The rules of one guarded call: when it is repeated, how long it waits, what its caller is told."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import prunella as pr
from guard.conftest import START, ManualTime
from prunella.core.events import Event

FAST = pr.Retry(attempts=3, base_s=0.0)
STEADY = pr.Retry(attempts=3, base_s=1.0, factor=2.0, jitter="none")


class Down(Exception):
    """The service's error."""


class Answer(Exception):
    """An HTTP error, by its shape."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status
        self.headers = headers or {}


class Script:
    """Raise or return one word after another; the last repeats."""

    def __init__(self, *words: Any) -> None:
        self.calls = 0
        self._words = words

    def __call__(self, *_: Any, **__: Any) -> Any:
        word = self._words[min(self.calls, len(self._words) - 1)]
        self.calls += 1
        if isinstance(word, BaseException):
            raise word
        return word


def throttled(**headers: str) -> Answer:
    return Answer(429, {name.replace("_", "-"): value for name, value in headers.items()})


def heard(policy: pr.Policy) -> list[Event]:
    """Return a list that fills with the policy's events."""
    events: list[Event] = []
    policy.subscribe(events.append)
    return events


def named(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event.name == name]


# What is repeated -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, HTTPStatus.NOT_FOUND])
def test_client_error_is_not_repeated(status: int, clock: ManualTime) -> None:
    """A 4xx says that the same call will be refused again."""
    service = Script(Answer(status))
    with pytest.raises(Answer):
        pr.policy("crm", retry=FAST).call(service)
    assert service.calls == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_error_is_repeated(status: int, clock: ManualTime) -> None:
    """408, 425, 429 and every 5xx may be over at the next call."""
    service = Script(Answer(status), "ok")
    assert pr.policy("crm", retry=FAST).call(service) == "ok"


@pytest.mark.parametrize("bug", [TypeError(), KeyError(), AttributeError(), ZeroDivisionError(), AssertionError()])
def test_bug_of_the_caller_is_not_repeated(bug: Exception, clock: ManualTime) -> None:
    """A wrong program does not become right by being run again."""
    service = Script(bug)
    with pytest.raises(type(bug)):
        pr.policy("crm", retry=FAST).call(service)
    assert service.calls == 1


@pytest.mark.parametrize("bulkhead", [None, pr.Bulkhead(1)])
def test_on_decides_what_is_repeated(bulkhead: pr.Bulkhead | None, clock: ManualTime) -> None:
    """With `on` only what it names is repeated, client errors too; `not_on` has the last word."""
    policy = pr.policy("crm", retry=pr.Retry(base_s=0, on=(Answer, Down), not_on=Down), bulkhead=bulkhead)
    assert policy.call(Script(Answer(404), "ok")) == "ok"
    for error in (Down(), OSError()):
        service = Script(error)
        with pytest.raises(type(error)):
            policy.call(service)
        assert service.calls == 1


def test_predicate_that_raises_does_not_hide_the_error(clock: ManualTime) -> None:
    """A slip in `on` still shows what went wrong first."""
    error = Down("the reason")
    policy = pr.policy("crm", retry=pr.Retry(on=lambda one: one.status > 500))  # type: ignore[attr-defined]
    with pytest.raises((Down, AttributeError)) as caught:
        policy.call(Script(error))
    assert error in (caught.value, caught.value.__cause__, caught.value.__context__)


def test_refused_result_is_repeated_and_the_last_one_returned(clock: ManualTime) -> None:
    """`on_result` treats a result as a failure; when attempts end the caller gets that result, no error."""
    policy = pr.policy("crm", retry=pr.Retry(attempts=3, base_s=0, on_result=lambda one: one == "pending"))
    service = Script("pending", "done")
    assert (policy.call(service), service.calls) == ("done", 2)
    service = Script("pending")
    assert (policy.call(service), service.calls) == ("pending", 3)


@pytest.mark.parametrize("verdict", [False, Down("no good")])
def test_result_that_validation_refuses_is_a_failure(verdict: Any, clock: ManualTime) -> None:
    """False or an error of `validate` is repeated, counts on the breaker, and reaches the caller in the end."""
    validate = Script(verdict)
    policy = pr.policy("crm", retry=FAST, validate=validate, breaker=pr.Breaker(failures=10))
    with pytest.raises(pr.BadResponse if verdict is False else Down):
        policy.call(Script("<html>"))
    assert (validate.calls, policy.breaker.standing()["failures"]) == (3, 3)


def test_validation_sees_the_result_and_none_is_consent(clock: ManualTime) -> None:
    """A validator that returns nothing has nothing against the result."""
    seen: list[Any] = []
    assert pr.policy("crm", validate=seen.append).call(Script("body")) == "body"
    assert seen == ["body"]


# How long is waited ---------------------------------------------------------------------------------------------------


def test_zero_wait_does_not_sleep(clock: ManualTime) -> None:
    """A sleep of nothing costs fifty microseconds, so it is left out."""
    pr.policy("crm", retry=FAST).call(Script(Down(), Down(), "ok"))
    assert clock.slept == []


@pytest.mark.parametrize(("chance", "waits"), [(0.0, [0.5, 1.0]), (0.5, [0.75, 1.5]), (1.0, [1.0, 2.0])])
def test_equal_jitter_waits_half_to_all_of_the_step(chance: float, waits: list[float], clock: ManualTime) -> None:
    """Document B: delay x (0.5 + rand x 0.5)."""
    clock.chance = chance
    pr.policy("crm", retry=pr.Retry(base_s=1.0, jitter="equal")).call(Script(Down(), Down(), "ok"))
    assert clock.slept == pytest.approx(waits)


@pytest.mark.parametrize("retry_after", ["3", " 7 ", "0.5", "Sun, 01 Mar 2026 12:00:09 GMT"])
def test_wait_that_the_service_asks_for_is_kept(retry_after: str, clock: ManualTime) -> None:
    """Retry-After is honoured to the second, whatever the policy's own steps are."""
    policy = pr.policy("crm", retry=pr.Retry(base_s=0.001, jitter="none"))
    assert policy.call(Script(throttled(retry_after=retry_after), "ok")) == "ok"
    expected_s = 9.0 if "GMT" in retry_after else float(retry_after)
    assert clock.slept == [pytest.approx(expected_s)]


@given(st.floats(0, 10), st.floats(0, 1), st.sampled_from(["equal", "full", "decorrelated", "none"]))
def test_asked_wait_is_never_undercut(asked_s: float, chance: float, jitter: Any) -> None:
    """Jitter may only be added to what the service asked for, and the policy's cap does not cut it."""
    from guard.conftest import manual_time

    with manual_time() as clock:
        clock.chance = chance
        retry = pr.Retry(base_s=0.5, cap_s=1.0, jitter=jitter)
        pr.policy("crm", retry=retry).call(Script(throttled(retry_after=f"{asked_s:.6f}"), "ok"))
        assert clock.monotonic() >= round(asked_s, 6)


@pytest.mark.parametrize("retry_after", ["-5", "nan", "inf", "", "²", "garbage", "3, 4"])
def test_unreadable_wish_falls_back_on_the_own_steps(retry_after: str, clock: ManualTime) -> None:
    """What can't be read is no reason to fail, nor to wait for ever."""
    assert pr.policy("crm", retry=STEADY).call(Script(throttled(retry_after=retry_after), "ok")) == "ok"
    assert clock.slept == [1.0]


@pytest.mark.parametrize(("asked", "asked_s"), [("10.5", 10.5), ("277403", 277403.0), ("9999999999", 9999999999.0)])
@pytest.mark.parametrize("attempts", [1, 3])
def test_longer_wait_than_a_call_can_sit_out_is_retry_later(
    asked: str, asked_s: float, attempts: int, clock: ManualTime
) -> None:
    """Beyond `max_inline_wait_s` nobody waits and nobody asks too early: the caller learns the due time (table T)."""
    service = Script(error := throttled(retry_after=asked))
    with pytest.raises(pr.RetryLater) as caught:
        pr.policy("crm", retry=pr.Retry(attempts=attempts), max_inline_wait_s=10).call(service)
    assert (service.calls, clock.slept) == (1, [])
    assert caught.value.due_at == START + timedelta(seconds=asked_s)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(("asked", "silent_s"), [("1800", 1800.0), ("9999999999", 3600.0)])
def test_one_answer_silences_all_calls_for_an_hour_at_most(asked: str, silent_s: float, clock: ManualTime) -> None:
    """A mistaken Retry-After ends by itself; the call that got it is told the whole wait."""
    policy = pr.policy("crm", limiter=pr.AdaptiveLimiter(rate_per_s=10.0))
    with pytest.raises(pr.RetryLater) as later:
        policy.call(Script(throttled(Retry_After=asked)))
    assert later.value.due_at - START == timedelta(seconds=float(asked))
    with pytest.raises(pr.RateLimited) as limited:
        policy.call(Script("ok"))
    assert limited.value.retry_after_s == silent_s
    clock.passes(silent_s)
    assert policy.call(Script("ok")) == "ok"


def test_asked_wait_at_the_limit_is_waited(clock: ManualTime) -> None:
    """Exactly `max_inline_wait_s` is still waited here."""
    assert pr.policy("crm", retry=FAST, max_inline_wait_s=10).call(Script(throttled(retry_after="10"), "ok")) == "ok"
    assert clock.slept == [10.0]


# Deadlines ------------------------------------------------------------------------------------------------------------


@given(
    limit_s=st.floats(0.1, 20),
    takes_s=st.floats(0, 3),
    base_s=st.floats(0, 5),
    chance=st.floats(0, 1),
    asked=st.none() | st.floats(0, 12),
)
def test_deadline_is_never_overshot_by_waiting(
    limit_s: float, takes_s: float, base_s: float, chance: float, asked: float | None
) -> None:
    """Waits never reach past the deadline, and no attempt begins after it (table L)."""
    from guard.conftest import manual_time

    with manual_time() as clock:
        clock.chance = chance
        begun: list[float] = []

        def work() -> None:
            begun.append(clock.monotonic())
            clock.passes(takes_s)
            raise Answer(503, {} if asked is None else {"Retry-After": f"{asked:.3f}"})

        policy = pr.policy("crm", retry=pr.Retry(attempts=50, base_s=base_s, cap_s=20), deadline_s=limit_s)
        with pytest.raises((Answer, pr.RetryLater, pr.DeadlineExceeded)):
            policy.call(work)
        assert all(instant < limit_s for instant in begun)
        assert clock.monotonic() <= max(limit_s, begun[-1] + takes_s)


def test_deadline_that_ends_a_call_leaves_the_services_error(clock: ManualTime) -> None:
    """The caller gets what the service said, with the reason why it was not asked again."""
    with pytest.raises(Down) as caught:
        pr.policy("crm", retry=pr.Retry(attempts=9, base_s=4, jitter="none"), deadline_s=3).call(Script(Down("x")))
    assert "would come after the deadline" in caught.value.__notes__[0]
    assert clock.slept == []


def test_deadline_holds_for_every_policy_below(clock: ManualTime) -> None:
    """Nested policies have what is left, never more than their own, and `remaining_s` tells it."""
    outer, inner = pr.policy("outer", deadline_s=10), pr.policy("inner", deadline_s=60, attempt_timeout_s=7)
    left: list[float] = []

    @inner
    def query() -> None:
        left.append(pr.remaining_s())

    @outer
    def handle() -> None:
        left.append(pr.remaining_s())
        query()
        clock.passes(6)
        query()

    handle()
    query()
    assert left == [10, 7, 4, 7]
    assert pr.remaining_s() == math.inf


def test_inner_retry_gives_up_in_time_for_the_outer_deadline(clock: ManualTime) -> None:
    """A wait that would end after the outer deadline is not begun by an inner policy."""
    service = Script(Down())
    inner = pr.policy("inner", retry=pr.Retry(attempts=9, base_s=4, jitter="none"))(service)
    with pytest.raises(Down):
        pr.policy("outer", deadline_s=10).call(inner)
    assert (service.calls, clock.slept) == (2, [4])


@pytest.mark.parametrize("part", [{}, {"bulkhead": pr.Bulkhead(1)}, {"deadline_s": 5}, {"breaker": pr.Breaker()}])
def test_call_is_not_begun_when_no_time_is_left(part: dict[str, Any], clock: ManualTime) -> None:
    """Below a deadline that has passed nothing is sent any more."""
    service = Script("ok")
    inner = pr.policy("inner", retry=FAST, **part)(service)

    @pr.policy("outer", deadline_s=1)
    def late() -> None:
        clock.passes(2)
        inner()

    with pytest.raises(pr.DeadlineExceeded):
        late()
    assert service.calls == 0


def test_call_that_was_not_begun_does_not_count_against_the_service(clock: ManualTime) -> None:
    """Impatience above a breaker must not open it: nothing was asked, so nothing failed."""
    inner = pr.policy("inner", breaker=pr.Breaker(failures=1), bulkhead=pr.Bulkhead(1))
    query = inner(Script("ok"))

    @pr.policy("outer", deadline_s=1)
    def late() -> None:
        clock.passes(2)
        query()

    with pytest.raises(pr.DeadlineExceeded):
        late()
    assert inner.breaker.standing()["failures"] == 0
    assert query() == "ok"


def test_end_of_an_attempt_below_is_an_attempt_timeout_above(clock: ManualTime) -> None:
    """An inner policy that runs out of the outer ATTEMPT's time does not end the outer call, which has time left."""
    inner = pr.policy("inner", bulkhead=pr.Bulkhead(1))(Script("ok"))
    calls = Script(None)

    @pr.policy("outer", retry=FAST, attempt_timeout_s=1, deadline_s=10)
    def slow_at_first() -> Any:
        calls()
        if calls.calls == 1:
            clock.passes(2)
        return inner()

    assert slow_at_first() == "ok"
    assert calls.calls == 2


# No multiplication ----------------------------------------------------------------------------------------------------


def _translated(below: Callable[[], Any]) -> Callable[[], Any]:
    def work() -> Any:
        try:
            return below()
        except Exception as error:
            raise Down("translated") from error

    return work


def _implicitly_translated(below: Callable[[], Any]) -> Callable[[], Any]:
    def work() -> Any:
        try:
            return below()
        except Exception:
            raise Down("translated")  # noqa: B904 - that is the case

    return work


def _passed_on(below: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: below()  # noqa: PLW0108 - a frame of its own


@pytest.mark.parametrize("wrap", [_passed_on, _translated, _implicitly_translated])
@pytest.mark.parametrize("part", [{}, {"breaker": pr.Breaker(failures=99)}, {"bulkhead": pr.Bulkhead(9)}])
def test_three_layers_of_three_attempts_make_three_calls(
    wrap: Callable[[Callable[[], Any]], Callable[[], Any]], part: dict[str, Any], clock: ManualTime
) -> None:
    """The innermost layer retries; those above see that it has, through `raise X from error` too (acceptance 5)."""
    service = Script(OSError("down"))
    guarded: Callable[[], Any] = service
    for name in ("inner", "middle", "outer"):
        guarded = wrap(pr.policy(name, retry=FAST, **part)(guarded))
    with pytest.raises((OSError, Down)):
        guarded()
    assert service.calls == 3


def test_result_that_was_refused_below_is_not_multiplied(clock: ManualTime) -> None:
    """The inner policy returned the last answer; the error that the outer function makes of it has been tried."""
    retry = pr.Retry(attempts=3, base_s=0.0, on_result=lambda answer: answer.status_code == 503)
    script = [Answer(503) for _ in range(9)]

    class StatusError(Exception):
        def __init__(self, response: Answer) -> None:
            self.response = response

    @pr.policy("outer", retry=retry)
    def fetch() -> None:
        raise StatusError(pr.policy("inner", retry=retry).call(script.pop))

    with pytest.raises(StatusError):
        fetch()
    assert len(script) == 6


def test_refused_result_that_is_no_answer_is_not_written_on(clock: ManualTime) -> None:
    """Nobody makes an error of it, and its fields are the caller's."""

    class Export:
        pass

    export = Export()
    policy = pr.policy("crm", retry=pr.Retry(attempts=3, base_s=0.0, on_result=lambda _: True))
    assert policy.call(lambda: export) is export
    assert vars(export) == {}


def test_three_layers_do_not_multiply_in_tasks(clock: ManualTime) -> None:
    """The same for asynchronous functions."""
    service = Script(OSError("down"))

    async def query() -> None:
        service()

    guarded = query
    for name in ("inner", "middle", "outer"):
        guarded = pr.policy(name, retry=FAST)(guarded)

    with pytest.raises(OSError, match="down"):
        clock.run(guarded())
    assert service.calls == 3


def test_layers_do_not_multiply_through_a_task_group(clock: ManualTime) -> None:
    """An error that reaches the outer layer inside an ExceptionGroup was tried below all the same."""
    service = Script(OSError("down"))

    @pr.policy("inner", retry=FAST)
    async def query() -> None:
        service()

    @pr.policy("outer", retry=FAST)
    async def handle() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(query())

    with pytest.raises(ExceptionGroup):
        clock.run(handle())
    assert service.calls == 3


def test_nested_blocks_do_not_multiply(clock: ManualTime) -> None:
    """Two loops of attempts in each other make three calls, not nine."""
    inner, outer, service = pr.policy("inner", retry=FAST), pr.policy("outer", retry=FAST), Script(OSError("down"))

    def nested() -> None:
        for attempt in outer.attempts():
            with attempt:
                for again in inner.attempts():
                    with again:
                        service()

    with pytest.raises(OSError, match="down"):
        nested()
    assert service.calls == 3


def test_outer_layer_repeats_what_the_inner_one_would_not(clock: ManualTime) -> None:
    """Only what was tried below is left alone: an error that the inner policy passes on at once is the outer's."""
    service = Script(Down(), Down(), "ok")
    inner = pr.policy("inner", retry=pr.Retry(base_s=0, on=OSError))(service)
    assert pr.policy("outer", retry=FAST).call(inner) == "ok"
    no_retry = pr.policy("inner", breaker=pr.Breaker())(Script(Down(), Down(), "ok"))
    assert pr.policy("outer", retry=FAST).call(no_retry) == "ok"


def test_error_object_shared_by_two_functions_is_repeated_by_both(clock: ManualTime) -> None:
    """A client that raises one cached error from every method is no guard below."""
    error = ConnectionError("closed")
    first, second = Script(error), Script(error)
    policy = pr.policy("crm", retry=FAST)
    for service in (first, second):
        with pytest.raises(ConnectionError):
            policy.call(service)
    assert (first.calls, second.calls) == (3, 3)


@pytest.mark.parametrize("part", [{}, {"bulkhead": pr.Bulkhead(9)}, {"deadline_s": 60}])
def test_attempt_timeout_of_an_inner_policy_stays_what_it_is(part: dict[str, Any], clock: ManualTime) -> None:
    """The outer policy takes no other policy's verdict for its own."""
    error = pr.AttemptTimeout("inner: took too long")
    service = Script(error)
    with pytest.raises(pr.AttemptTimeout) as caught:
        pr.policy("outer", retry=FAST, **part).call(service)
    assert (caught.value, service.calls) == (error, 3)


# Effects that must not happen twice -----------------------------------------------------------------------------------


def _refused_connection() -> OSError:
    return ConnectionRefusedError(111, "connection refused")


@pytest.mark.parametrize("part", [{}, {"breaker": pr.Breaker()}, {"bulkhead": pr.Bulkhead(1)}])
def test_effect_once_is_not_repeated_without_proof(part: dict[str, Any], clock: ManualTime) -> None:
    """A failure that leaves open whether the effect happened ends it (acceptance 7)."""
    for error in (TimeoutError("read"), Answer(503), Down()):
        service = Script(error)
        with pytest.raises(type(error)) as caught:
            pr.policy("crm", retry=FAST, **part)(effect="once")(service)()
        assert service.calls == 1
        assert "may have had its effect" in caught.value.__notes__[0]


def test_effect_once_is_repeated_where_nothing_was_sent(clock: ManualTime) -> None:
    """A connection that was never made carried nothing."""
    service = Script(_refused_connection(), "ok")
    assert pr.policy("crm", retry=FAST)(effect="once")(service)() == "ok"

    def wrapped() -> Any:
        try:
            return again()
        except OSError as error:
            raise Down from error

    again = Script(_refused_connection(), "ok")
    assert pr.policy("crm", retry=FAST)(effect="once")(wrapped)() == "ok"


def test_unrelated_failure_before_is_no_proof_that_nothing_was_sent(clock: ManualTime) -> None:
    """A refused connection to one host says nothing about the call to another that followed."""
    sent = Script(TimeoutError("read"))

    @pr.policy("crm", retry=FAST)(effect="once")
    def pay() -> None:
        try:
            raise _refused_connection()
        except OSError:
            sent()

    with pytest.raises(TimeoutError):
        pay()
    assert sent.calls == 1


def test_idempotency_key_allows_a_repetition(clock: ManualTime) -> None:
    """With a key the receiver tells repetitions apart; it is found by name, by position and by default."""
    policy = pr.policy("crm", retry=FAST)

    def tried(key: Any, *args: Any, **kwargs: Any) -> int:
        service = Script(TimeoutError("read"), "ok")

        @policy(effect="once", idempotency_key=key)
        def push(order: str, token: str | None = None) -> Any:
            return service()

        try:
            push(*args, **kwargs)
        except TimeoutError:
            return service.calls
        return service.calls

    assert tried("order", "o-1") == 2
    assert tried("order", order="o-1") == 2
    assert tried(lambda order, token=None: f"key of {order}", "o-1") == 2
    assert tried("token", "o-1") == 1, "None is no key"
    assert tried("token", "o-1", token="t") == 2


@pytest.mark.parametrize("part", [{}, {"breaker": pr.Breaker()}, {"deadline_s": 5}, {"bulkhead": pr.Bulkhead(1)}])
def test_idempotency_key_that_can_not_be_found_hides_no_failure(part: dict[str, Any], clock: ManualTime) -> None:
    """A key function that fails means no key; the service's error reaches the caller, after one call."""
    service = Script(Down("the reason"))
    policy = pr.policy("crm", retry=FAST, **part)
    guarded = policy(effect="once", idempotency_key=lambda order: order["id"])(service)
    with pytest.raises(Down, match="the reason"):
        guarded({})
    assert service.calls == 1


def test_steps_that_fail_hide_no_failure(clock: ManualTime) -> None:
    """A slip in `steps` still shows what went wrong first."""
    error = Down("the reason")
    with pytest.raises((Down, ZeroDivisionError)) as caught:
        pr.policy("crm", retry=pr.Retry(steps=lambda failed: 1 / 0)).call(Script(error))
    assert error in (caught.value, caught.value.__cause__, caught.value.__context__)


def test_idempotency_key_of_a_generator_is_found(clock: ManualTime) -> None:
    """Names are looked up in the generator's own signature."""
    service = Script(TimeoutError("read"), "ok")

    @pr.policy("crm", retry=FAST)(effect="once", idempotency_key="order")
    def lines(order: str) -> Iterator[Any]:
        yield service()

    assert list(lines("o-1")) == ["ok"]


# What the caller is told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [{}, {"breaker": pr.Breaker()}, {"deadline_s": 60}, {"bulkhead": pr.Bulkhead(1)}])
def test_note_says_attempts_time_and_reason(part: dict[str, Any], clock: ManualTime) -> None:
    """One note per policy, on the very error (acceptance 17)."""

    def work() -> None:
        clock.passes(2)
        raise Down

    with pytest.raises(Down) as caught:
        pr.policy("crm", retry=STEADY, **part).call(work)
    assert caught.value.__notes__ == ["prunella crm: 3 attempts within 9 s; all attempts are used"]


def test_every_policy_leaves_a_note_of_its_own(clock: ManualTime) -> None:
    """Nested policies tell both sides of the story."""
    inner = pr.policy("inner", retry=FAST)(Script(Down()))
    with pytest.raises(Down) as caught:
        pr.policy("outer", retry=FAST).call(inner)
    assert [note.split(";")[0] for note in caught.value.__notes__] == [
        "prunella inner: 3 attempts within 0 s",
        "prunella outer: 1 attempt within 0 s",
    ]


@dataclass(frozen=True)
class Frozen(Exception):
    """An error that lets nobody write on it."""

    code: int = 7


def test_error_that_can_not_be_written_on_reaches_the_caller(clock: ManualTime) -> None:
    """A note is a kindness: where it can't be left, the error counts."""
    error = Frozen()
    with pytest.raises(Frozen) as caught:
        pr.policy("crm", retry=FAST).call(Script(error))
    assert caught.value is error


def test_strange_notes_do_no_harm(clock: ManualTime) -> None:
    """`__notes__` belongs to everybody and may hold anything."""
    for notes in (None, 3, [None, 5]):
        error = Down()
        error.__notes__ = notes  # type: ignore[assignment]
        with pytest.raises(Down):
            pr.policy("crm", retry=FAST).call(Script(error))


def test_refusal_of_a_later_attempt_shows_what_failed_before(clock: ManualTime) -> None:
    """Whoever gets LoadShed for a second attempt can see why there was one."""
    first = Down("the reason")
    policy = pr.policy("crm", retry=pr.Retry(base_s=1, jitter="none"), bulkhead=pr.Bulkhead(1))

    async def fails() -> None:
        raise first

    async def main() -> None:
        failing = asyncio.create_task(policy.acall(fails))
        await asyncio.sleep(0.5)
        slow = asyncio.create_task(policy.acall(asyncio.sleep, 5))
        with pytest.raises(pr.LoadShed) as caught:
            await failing
        assert first in (caught.value.__cause__, caught.value.__context__)
        await slow

    clock.run(main())


def test_on_retry_hears_of_every_retry_before_its_wait(clock: ManualTime) -> None:
    """It gets the failed attempt's number and error; the last failure is none of its business."""
    told: list[tuple[int, str, float]] = []
    retry = pr.Retry(base_s=1, jitter="none", on_retry=lambda n, e: told.append((n, str(e), clock.monotonic())))
    with pytest.raises(Down):
        pr.policy("crm", retry=retry).call(Script(Down("one"), Down("two"), Down("three")))
    assert told == [(1, "one", 0), (2, "two", 1)]


def test_on_retry_that_raises_breaks_no_call(clock: ManualTime, caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged, the call goes on."""
    retry = pr.Retry(base_s=0, on_retry=Mock(side_effect=ValueError("slip")))
    assert pr.policy("crm", retry=retry).call(Script(Down(), "ok")) == "ok"
    assert "on_retry failed" in caplog.text


def test_retry_is_told_with_wait_and_error(clock: ManualTime) -> None:
    """Listeners can show a retry while it waits."""
    policy = pr.policy("crm", retry=STEADY)
    events = heard(policy)
    error = Down()
    policy.call(Script(error, "ok"))
    (event,) = events
    assert event.name == "call.retrying"
    assert event.fields == {"policy": "crm", "attempt": 1, "wait_s": 1.0, "error": error}


def test_giving_up_is_told_with_its_reason(clock: ManualTime) -> None:
    """Attempts, error, reason and time stand in the event."""
    policy = pr.policy("crm", retry=STEADY)
    events = heard(policy)
    with pytest.raises(Down):
        policy.call(Script(error := Down()))
    (event,) = named(events, "call.gave_up")
    assert event.fields == {
        "policy": "crm", "attempts": 3, "reason": "all attempts are used", "error": error, "took_s": 3.0,
    }  # fmt: skip


# Fallback -------------------------------------------------------------------------------------------------------------


def test_fallback_value_stands_in(clock: ManualTime) -> None:
    """After the last attempt, not before; None is a value."""
    service = Script(Down())
    assert pr.policy("crm", retry=FAST, fallback=pr.Fallback(value=None)).call(service) is None
    assert service.calls == 3


def test_fallback_function_gets_the_arguments_it_can_take(clock: ManualTime) -> None:
    """A function with parameters gets the call's own; one without gets none."""
    with_arguments = pr.policy("crm", fallback=lambda one, *, two: (one, two))
    assert with_arguments.call(Script(Down()), 1, two=2) == (1, 2)
    assert pr.policy("crm", fallback=lambda: "cached").call(Script(Down()), 1, two=2) == "cached"


def test_asynchronous_fallback_is_awaited(clock: ManualTime) -> None:
    """Where the call is asynchronous its fallback may be."""

    async def instead() -> str:
        await asyncio.sleep(1)
        return "instead"

    async def fails() -> str:
        raise Down

    assert clock.run(pr.policy("crm", fallback=instead).acall(fails)) == "instead"


def test_fallback_serves_refusals_too(clock: ManualTime) -> None:
    """An open breaker is a failure like any other for the caller."""
    policy = pr.policy("crm", breaker=pr.Breaker(failures=1), fallback=pr.Fallback(value="stand-in"))
    service = Script(Down())
    assert [policy.call(service) for _ in range(3)] == ["stand-in"] * 3
    assert service.calls == 1


def test_error_of_the_fallback_reaches_the_caller(clock: ManualTime) -> None:
    """A stand-in that fails is not retried."""
    fallback = Script(ValueError("no cache"))
    with pytest.raises(ValueError, match="no cache"):
        pr.policy("crm", retry=FAST, fallback=fallback).call(Script(Down()))
    assert fallback.calls == 1


def test_last_good_result_stands_in_for_the_same_arguments(clock: ManualTime) -> None:
    """Other arguments have no last good result and get the value."""
    service = Script("rates of today", "other rates", Down())
    rates = pr.policy("crm", fallback=pr.Fallback(last_good=True, value="none", max_age_s=60))(service)
    assert rates("EUR") == "rates of today"
    assert rates("USD", day=1) == "other rates"
    assert (rates("EUR"), rates("USD", day=1), rates("USD", day=2)) == ("rates of today", "other rates", "none")
    clock.passes(61)
    assert rates("EUR") == "none", "it is too old"


def test_last_good_result_needs_arguments_that_can_be_told_apart(clock: ManualTime) -> None:
    """Where they can't be hashed a call works as ever, it is only not remembered."""

    class Strange:
        def __hash__(self) -> int:
            raise ValueError("no hash")

    policy = pr.policy("crm", fallback=pr.Fallback(last_good=True, value="none"))
    arguments: list[Any] = [[], {}, Strange()]
    for argument in arguments:
        guarded = policy(Script("ok", Down()))
        assert (guarded(argument), guarded(argument)) == ("ok", "none")


def test_degradation_is_told_with_the_features_name(clock: ManualTime) -> None:
    """R05: every degradation is an event, with feature, reason and error."""
    policy = pr.policy("crm", fallback=pr.Fallback(value=0, feature="live rates"))
    events = heard(policy)
    policy.call(Script(error := Down()))
    (event,) = named(events, "call.degraded")
    assert event.fields["feature"] == "live rates"
    assert event.fields["error"] is error


def test_call_without_fallback_degrades_nothing(clock: ManualTime) -> None:
    """The event is for calls that got a substitute."""
    policy = pr.policy("crm", fallback=pr.Fallback(last_good=True))
    events = heard(policy)
    with pytest.raises(Down):
        policy.call(Script(Down()))
    assert named(events, "call.degraded") == []


# Budget ---------------------------------------------------------------------------------------------------------------


def _budgeted(budget: pr.RetryBudget, **parts: Any) -> pr.Policy:
    return pr.policy("crm", retry=pr.Retry(attempts=4, base_s=0), budget=budget, **parts)


@pytest.mark.parametrize("part", [{}, {"breaker": pr.Breaker(failures=10**6)}, {"bulkhead": pr.Bulkhead(1)}])
def test_budget_keeps_an_outage_from_multiplying_the_load(part: dict[str, Any], clock: ManualTime) -> None:
    """Table V: 1,000 calls of up to 4 attempts with a budget of 10 % make about 1,100 calls."""
    service = Script(Down())
    guarded = _budgeted(pr.RetryBudget(0.1, 0.0), **part)(service)
    for _ in range(1000):
        with pytest.raises(Down):
            guarded()
    assert 1090 <= service.calls <= 1100


@pytest.mark.parametrize("part", [{}, {"bulkhead": pr.Bulkhead(1)}])
@given(outcomes=st.lists(st.sampled_from(["ok", "once", "down", "refused"]), min_size=1, max_size=60))
def test_budget_counts_each_call_once(part: dict[str, Any], outcomes: list[str]) -> None:
    """Over ten seconds retries stay within floor + ratio x first attempts, however calls end (acceptance 6)."""
    from guard.conftest import manual_time

    words: dict[str, list[Any]] = {"ok": ["ok"], "once": [Down(), "ok"], "down": [Down()], "refused": [Answer(404)]}
    with manual_time():
        calls = 0
        policy = _budgeted(pr.RetryBudget(0.5, 0.1), **part)
        for outcome in outcomes:
            service = Script(*words[outcome])
            with contextlib.suppress(Down, Answer):
                policy.call(service)
            calls += service.calls
        assert calls - len(outcomes) <= 1 + 0.5 * len(outcomes)


def test_used_up_budget_is_an_event_and_a_reason(clock: ManualTime) -> None:
    """Operators can tell a saved retry from a hopeless one."""
    policy = _budgeted(pr.RetryBudget(0.0, 0.1))
    events = heard(policy)
    policy.call(Script(Down(), "ok"))
    with pytest.raises(Down) as caught:
        policy.call(Script(Down()))
    assert len(named(events, "retry.budget_exhausted")) == 1
    assert "the retry budget is used up" in caught.value.__notes__[0]
    clock.passes(11)
    assert policy.call(Script(Down(), "ok")) == "ok", "ten seconds later there is a place again"


# Breaker and retry ----------------------------------------------------------------------------------------------------


def test_breaker_that_opens_ends_the_retry_at_once(clock: ManualTime) -> None:
    """Table U: five attempts allowed, the first failure opens the breaker: one call, no wait, the service's error."""
    service = Script(Down("why"))
    policy = pr.policy("crm", retry=pr.Retry(attempts=5), breaker=pr.Breaker(failures=1))
    with pytest.raises(Down, match="why") as caught:
        policy.call(service)
    assert (service.calls, clock.slept) == (1, [])
    assert "the breaker opened" in caught.value.__notes__[0]
    with pytest.raises(pr.CircuitOpen):
        policy.call(service)
    assert service.calls == 1


def test_open_breaker_is_not_retried_by_layers_above(clock: ManualTime) -> None:
    """A refusal of a guard below is final for the guards above."""
    inner = pr.policy("inner", breaker=pr.Breaker(failures=1))
    inner.breaker.force_open("maintenance")
    service = Script("ok")
    with pytest.raises(pr.CircuitOpen):
        pr.policy("outer", retry=FAST, breaker=pr.Breaker(failures=1)).call(inner(service))
    assert (service.calls, clock.slept) == (0, [])


def test_refusal_below_does_not_count_above(clock: ManualTime) -> None:
    """Local refusals say nothing about the service (acceptance 13)."""
    outer = pr.policy("outer", breaker=pr.Breaker(failures=1))
    for refusal in (pr.CircuitOpen("x", retry_after_s=1), pr.RateLimited("x", retry_after_s=1), pr.LoadShed("x")):
        with pytest.raises(type(refusal)):
            outer.call(Script(refusal))
    assert outer.breaker.standing()["failures"] == 0


def test_throttling_and_client_errors_do_not_open_the_breaker(clock: ManualTime) -> None:
    """Who answers 4xx is alive; 408 and 5xx count."""
    policy = pr.policy("crm", breaker=pr.Breaker(failures=3))
    for status in (400, 404, 429, 429, 429, 422, 408, 500):
        with pytest.raises(Answer):
            policy.call(Script(Answer(status)))
    assert policy.breaker.standing()["state"] == "closed"
    with pytest.raises(Answer):
        policy.call(Script(Answer(503)))
    assert policy.breaker.standing()["state"] == "open"


def test_breaker_ignores_what_it_is_told_to(clock: ManualTime) -> None:
    """`ignore` names errors that say nothing about the service."""
    policy = pr.policy("crm", breaker=pr.Breaker(failures=1, ignore=(Down,)))
    with pytest.raises(Down):
        policy.call(Script(Down()))
    assert policy.breaker.standing()["state"] == "closed"


def test_opening_notices_a_known_issue(clock: ManualTime) -> None:
    """R04: opening records `circuit_breaker_open` with severity HIGH, once per opening."""
    policy = pr.policy("crm", breaker=pr.Breaker(failures=2))
    events = heard(policy)
    for _ in range(4):
        with pytest.raises((Down, pr.CircuitOpen)):
            policy.call(Script(Down()))
    (event,) = named(events, "issue.noticed")
    assert (event.fields["issue"], event.fields["severity"]) == ("circuit_breaker_open", "HIGH")
