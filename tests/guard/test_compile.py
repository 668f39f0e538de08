"""Everything that can be called is guarded the same way, and what can't is refused where it is declared."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

import prunella as pr
from guard.conftest import ManualTime

pytestmark = pytest.mark.slow  # a thousand small ones: every way to use a policy, with every kind of policy

Body = Callable[[], Any]
Use = Callable[[pr.Policy, Body], Any]
"""Do `body` once under a policy and return what it brought; a coroutine where the way is asynchronous."""

FAST = pr.Retry(attempts=3, base_s=0.0)
LAYERS: dict[str, dict[str, Any]] = {
    "retry": {},
    "breaker": {"breaker": pr.Breaker(failures=10)},
    "budget": {"budget": pr.RetryBudget(floor_per_s=1e6)},
    "limits in time": {"deadline_s": 100.0, "attempt_timeout_s": 50.0},
    "breaker and limits in time": {"breaker": pr.Breaker(failures=10), "deadline_s": 100.0},
    "bulkhead": {"bulkhead": pr.Bulkhead(3)},
    "bulkhead and limiter": {"bulkhead": pr.Bulkhead(3), "limiter": pr.AdaptiveLimiter(rate_per_s=1e6)},
    "limiter": {"limiter": pr.AdaptiveLimiter(rate_per_s=1e6)},
    "worker threads": {"attempt_timeout_s": 50.0, "sync_timeout": "thread"},
    "keys": {"key": lambda *_, **__: "one", "breaker": pr.Breaker(failures=10)},
}
"""Policies that take different ways through the guard and have to treat a call alike."""


class Down(Exception):
    """The service's error."""


# The ways to use a policy ---------------------------------------------------------------------------------------------


def _function(policy: pr.Policy, body: Body) -> Any:
    @policy
    def work() -> Any:
        return body()

    return work()


async def _async_function(policy: pr.Policy, body: Body) -> Any:
    @policy
    async def work() -> Any:
        await asyncio.sleep(0)
        return body()

    return await work()


def _method(policy: pr.Policy, body: Body) -> Any:
    class Client:
        result = None

        @policy
        def work(self) -> Any:
            assert isinstance(self, Client)
            return body()

    return Client().work()


async def _async_method(policy: pr.Policy, body: Body) -> Any:
    class Client:
        @policy
        async def work(self) -> Any:
            assert isinstance(self, Client)
            return body()

    return await Client().work()


def _static_method(policy: pr.Policy, body: Body) -> Any:
    class Client:
        @staticmethod
        @policy
        def work() -> Any:
            return body()

    return Client.work()


def _bound_method(policy: pr.Policy, body: Body) -> Any:
    class Client:
        def work(self) -> Any:
            return body()

    return policy(Client().work)()


def _partial(policy: pr.Policy, body: Body) -> Any:
    return policy(functools.partial(lambda one: one(), body))()


async def _async_partial(policy: pr.Policy, body: Body) -> Any:
    async def work(one: Body) -> Any:
        return one()

    return await policy(functools.partial(work, body))()


class _Callable:
    def __init__(self, body: Body) -> None:
        self.body = body

    def __call__(self) -> Any:
        return self.body()


class _AsyncCallable(_Callable):
    async def __call__(self) -> Any:
        return self.body()


def _object(policy: pr.Policy, body: Body) -> Any:
    return policy(_Callable(body))()


async def _async_object(policy: pr.Policy, body: Body) -> Any:
    return await policy(_AsyncCallable(body))()


async def _partial_of_an_async_object(policy: pr.Policy, body: Body) -> Any:
    return await policy(functools.partial(_AsyncCallable(body)))()


def _mock(policy: pr.Policy, body: Body) -> Any:
    return policy(Mock(side_effect=body))()


async def _async_mock(policy: pr.Policy, body: Body) -> Any:
    return await policy(AsyncMock(side_effect=body))()


def _call(policy: pr.Policy, body: Body) -> Any:
    return policy.call(body)


async def _acall(policy: pr.Policy, body: Body) -> Any:
    async def work() -> Any:
        return body()

    return await policy.acall(work)


async def _acall_of_a_lambda(policy: pr.Policy, body: Body) -> Any:
    async def work() -> Any:
        return body()

    return await policy.acall(lambda: work())  # noqa: PLW0108 - that is the case


def _attempts(policy: pr.Policy, body: Body) -> Any:
    for attempt in policy.attempts():
        with attempt:
            attempt.result = body()
    return attempt.result


async def _async_attempts(policy: pr.Policy, body: Body) -> Any:
    async for attempt in policy.attempts():
        async with attempt:
            attempt.result = body()
    return attempt.result


def _generator(policy: pr.Policy, body: Body) -> Any:
    @policy
    def work() -> Iterator[Any]:
        yield body()

    (item,) = work()
    return item


async def _async_generator(policy: pr.Policy, body: Body) -> Any:
    @policy
    async def work() -> AsyncIterator[Any]:
        yield body()

    (item,) = [item async for item in work()]
    return item


def _generator_object(policy: pr.Policy, body: Body) -> Any:
    class Stream:
        def __call__(self) -> Iterator[Any]:
            yield body()

    (item,) = policy(Stream())()
    return item


WAYS: dict[str, Use] = {
    use.__name__.lstrip("_"): use
    for use in (
        _function, _method, _static_method, _bound_method, _partial, _object, _mock, _call, _attempts, _generator,
        _generator_object, _async_function, _async_method, _async_partial, _async_object, _partial_of_an_async_object,
        _async_mock, _acall, _acall_of_a_lambda, _async_attempts, _async_generator,
    )
}  # fmt: skip


def carried_out(clock: ManualTime, use: Use, policy: pr.Policy, body: Body) -> Any:
    """Use a policy on `body`, in virtual time where the way is asynchronous."""
    outcome = use(policy, body)
    return clock.run(outcome) if inspect.iscoroutine(outcome) else outcome


class Service:
    """Fail so often, then answer; counts how often it was called."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error if self._error is not None else Down(f"failure {self.calls}")
        return "answer"


every_way = pytest.mark.parametrize("use", WAYS.values(), ids=WAYS)
every_policy = pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)


@every_way
@every_policy
def test_guard_tries_again_until_it_succeeds(use: Use, layers: dict[str, Any], clock: ManualTime) -> None:
    """Whatever is guarded and by whichever parts: two failures and an answer make three calls and the answer."""
    service = Service(2)
    assert carried_out(clock, use, pr.policy("crm", retry=FAST, **layers), service) == "answer"
    assert service.calls == 3


@every_way
@every_policy
def test_guard_makes_one_call_of_what_succeeds(use: Use, layers: dict[str, Any], clock: ManualTime) -> None:
    """A call that succeeds is made once, and nobody waits."""
    service = Service(0)
    assert carried_out(clock, use, pr.policy("crm", retry=FAST, **layers), service) == "answer"
    assert (service.calls, clock.slept) == (1, [])


@every_way
@every_policy
def test_guard_raises_the_very_error_of_the_last_attempt(use: Use, layers: dict[str, Any], clock: ManualTime) -> None:
    """The caller gets the object that was raised, no wrapper, after exactly the attempts that were allowed."""
    service = Service(5)
    with pytest.raises(Down) as caught:
        carried_out(clock, use, pr.policy("crm", retry=FAST, **layers), service)
    assert (service.calls, str(caught.value)) == (3, "failure 3")
    assert len(caught.value.__notes__) == 1
    assert "3 attempts" in caught.value.__notes__[0]


@every_way
def test_error_object_that_is_raised_again_and_again_is_retried_each_time(use: Use, clock: ManualTime) -> None:
    """One instance raised by every call (a mock's side_effect) does not pass for a failure tried below."""
    error = Down("always the same")
    policy = pr.policy("crm", retry=FAST)
    for _ in range(3):
        service = Service(5, error)
        with pytest.raises(Down) as caught:
            carried_out(clock, use, policy, service)
        assert (service.calls, caught.value) == (3, error)
        assert len(error.__notes__) == 1


@every_way
@every_policy
def test_waits_are_as_told(use: Use, layers: dict[str, Any], clock: ManualTime) -> None:
    """Without jitter the waits are base, base x factor and so on up to the cap, and nothing else is waited."""
    policy = pr.policy("crm", retry=pr.Retry(attempts=5, base_s=1, factor=3, cap_s=5, jitter="none"), **layers)
    carried_out(clock, use, policy, Service(4))
    assert clock.slept == pytest.approx([1, 3, 5, 5], abs=1e-3)


@every_way
@pytest.mark.parametrize("layers", [{}, {"breaker": pr.Breaker()}, {"bulkhead": pr.Bulkhead(1)}])
@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_wish_to_end_is_never_retried(
    use: Use, layers: dict[str, Any], ending: type[BaseException], clock: ManualTime
) -> None:
    """KeyboardInterrupt and SystemExit pass at once, uncounted, and leave nothing behind."""
    body = Mock(side_effect=ending)
    policy = pr.policy("crm", retry=pr.Retry(on=BaseException), **layers)
    with pytest.raises(ending):
        carried_out(clock, use, policy, body)
    assert body.call_count == 1
    assert policy.explain()["under_way"] in (None, 0)
    assert not layers.get("breaker") or policy.breaker.standing()["failures"] == 0


@pytest.mark.parametrize("use", [_function, _method, _partial, _object, _mock, _call, _attempts])
@every_policy
def test_stop_iteration_reaches_the_caller_as_it_is(use: Use, layers: dict[str, Any], clock: ManualTime) -> None:
    """An error that generators can't raise is raised by the guard, whichever attempt it comes from."""
    service = Service(9, StopIteration("end"))
    with pytest.raises(StopIteration, match="end"):
        carried_out(clock, use, pr.policy("crm", retry=FAST, **layers), service)
    assert service.calls == 3


# What a guarded function is -------------------------------------------------------------------------------------------


def test_guarded_function_keeps_its_name_and_signature() -> None:
    """Frameworks that look at a function see what they would see without the guard."""

    @pr.policy("crm")
    def push(order: int, *, dry: bool = False) -> str:
        """Push an order."""
        return f"{order} {dry}"

    assert (push.__name__, push.__doc__) == ("push", "Push an order.")
    assert list(inspect.signature(push).parameters) == ["order", "dry"]
    assert push(3, dry=True) == "3 True"


@every_policy
def test_guarded_function_is_of_the_same_kind(layers: dict[str, Any]) -> None:
    """Frameworks that ask whether to await a function get the same answer with and without the guard."""
    policy = pr.policy("crm", **layers)

    async def pushed() -> None: ...
    def items() -> Iterator[int]:
        yield 1

    assert inspect.iscoroutinefunction(policy(pushed))
    assert inspect.iscoroutinefunction(policy(_AsyncCallable(bool)))
    assert inspect.isgeneratorfunction(policy(items))
    assert not inspect.iscoroutinefunction(policy(len))


def test_arguments_and_result_pass_untouched() -> None:
    """What is handed in arrives, what is returned comes back, None and falsy results too."""
    policy = pr.policy("crm", breaker=pr.Breaker())
    assert policy.call(lambda *args, **kwargs: (args, kwargs), 1, 2, name="x") == ((1, 2), {"name": "x"})
    results: list[Any] = [None, 0, "", False, []]
    for result in results:
        assert policy.call(lambda one: one, result) is result


@every_policy
def test_failed_call_leaves_nothing_for_the_garbage_collector(layers: dict[str, Any]) -> None:
    """Once its error is dropped, what the function held is free: connections must not wait for a collection."""

    class Connection:
        pass

    held: list[weakref.ref[Connection]] = []

    def work() -> None:
        connection = Connection()
        held.append(weakref.ref(connection))
        raise Down

    guarded = pr.policy("crm", retry=FAST, **layers)(work)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Down):  # pytest.raises would keep the error
            guarded()
        if layers.get("sync_timeout") == "thread":
            return  # the worker thread lets go of its last error when it likes
        assert [one() for one in held] == [None, None, None]
    finally:
        gc.enable()


# Misuse ---------------------------------------------------------------------------------------------------------------


def _refused(target: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        pr.policy("crm")(target)


def test_static_and_class_methods_are_refused_in_the_wrong_order() -> None:
    """The message says where the policy belongs."""
    _refused(staticmethod(len), "staticmethod.*put the policy below @staticmethod")
    _refused(classmethod(repr), "classmethod.*put the policy below @classmethod")
    _refused(property(len), "property.*put the policy below @property")


def test_class_is_refused() -> None:
    """A class is no call to a service; the message says what to guard."""
    _refused(Service, "class Service; guard its methods")


def test_coroutine_object_is_refused() -> None:
    """A call that has begun can't be made again."""

    async def work() -> None: ...

    begun = work()
    _refused(begun, "begun already; guard the function")
    begun.close()


def test_begun_generators_are_refused() -> None:
    """A stream that is open can't be opened again."""

    async def items() -> AsyncIterator[int]:
        yield 1

    _refused((one for one in "abc"), "begun already")
    _refused(items(), "begun already")


@pytest.mark.parametrize("target", [3, "text", object()])
def test_what_is_not_callable_is_refused(target: object) -> None:
    """The message shows what was given."""
    _refused(target, "can't be called; guard a function")


def test_coroutine_handed_to_acall_is_refused() -> None:
    """`acall(fetch(1))` for `acall(fetch, 1)` is refused at once, in words that show the right way."""
    begun: Awaitable[None] = asyncio.sleep(0)

    async def main() -> None:
        with pytest.raises(TypeError, match=r"acall\(function"):
            await pr.policy("crm").acall(begun)  # type: ignore[arg-type]

    asyncio.run(main())
    begun.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_asynchronous_function_handed_to_call_is_refused(layers: dict[str, Any]) -> None:
    """`call` would hand out a coroutine that nobody guards; the message names `acall`, and nothing is left unawaited."""

    async def fetch() -> None: ...

    targets: list[Callable[[], Any]] = [fetch, functools.partial(fetch), lambda: fetch()]  # noqa: PLW0108 - the case
    for target in targets:
        with pytest.raises(TypeError, match="acall"):
            pr.policy("crm", **layers).call(target)
    gc.collect()


@pytest.mark.parametrize("effect", ["twice", "", None])
def test_unknown_effect_is_refused(effect: Any) -> None:
    """The allowed values stand in the message."""
    with pytest.raises(ValueError, match="any or once"):
        pr.policy("crm")(effect=effect)


def test_idempotency_key_that_no_argument_has_is_refused_at_decoration() -> None:
    """A slip in the name must not silently mean that there is no key."""
    with pytest.raises((TypeError, ValueError), match="ordr"):

        @pr.policy("crm")(effect="once", idempotency_key="ordr")
        def push(order: int) -> None: ...


def test_idempotency_key_has_to_be_a_name_or_a_function() -> None:
    """Anything else is refused at decoration, not when the first call fails."""
    with pytest.raises(TypeError, match="idempotency_key"):
        pr.policy("crm")(effect="once", idempotency_key=3)(len)  # type: ignore[call-overload]
