"""What a guard costs on a good day: added nanoseconds over the bare call, beside peers and a floor, in one process.

Peers are measured where they are installed: `make bench` installs them into an environment of their own.
Rounds are short and their order is drawn anew each time; what is printed is the median of the differences to the
bare call of the same round.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import prunella as pr
from bench.harness import Options, Report, Row, Spread

_ROUNDS, _CALLS = 31, 2000
Sync = Callable[[int], int]
Async = Callable[[int], Awaitable[int]]
Contenders = dict[str, Any]


def plain(number: int) -> int:
    """Do nothing worth guarding."""
    return number


async def aplain(number: int) -> int:
    """Do nothing worth guarding, asynchronously."""
    return number


def floor(function: Sync) -> Sync:
    """Retry as somebody would write it by hand."""

    def guarded(*args: Any, **kwargs: Any) -> int:
        for attempt in range(3):
            try:
                return function(*args, **kwargs)
            except Exception:
                if attempt == 2:
                    raise
                time.sleep(0.1)
        raise AssertionError

    return guarded


def afloor(function: Async) -> Async:
    """Retry as somebody would write it by hand, asynchronously."""

    async def guarded(*args: Any, **kwargs: Any) -> int:
        for attempt in range(3):
            try:
                return await function(*args, **kwargs)
            except Exception:
                if attempt == 2:
                    raise
                await asyncio.sleep(0.1)
        raise AssertionError

    return guarded


def retries() -> Contenders:
    """Retry alone."""
    return {"floor": floor(plain), "prunella": pr.policy("r", retry=pr.Retry())(plain), **_peers(_retry, plain)}


def breakers() -> Contenders:
    """A breaker alone; by rate where there is one."""
    ours = pr.policy("b", breaker=pr.Breaker(failure_rate=0.5))(plain)
    return {"prunella": ours, **_peers(_breaker, plain)}


def fused() -> Contenders:
    """Retry around a breaker."""
    ours = pr.policy("f", retry=pr.Retry(), breaker=pr.Breaker(failure_rate=0.5))(plain)
    return {"prunella": ours, **_peers(_fused, plain)}


def aretries() -> Contenders:
    """Retry alone, asynchronously."""
    return {"floor": afloor(aplain), "prunella": pr.policy("ar", retry=pr.Retry())(aplain), **_peers(_retry, aplain)}


def afused() -> Contenders:
    """Retry around a breaker around a timeout, asynchronously."""
    ours = pr.policy("af", retry=pr.Retry(), breaker=pr.Breaker(failure_rate=0.5), attempt_timeout_s=5.0)(aplain)
    return {"prunella": ours, **_peers(_afused, aplain)}


def everything() -> Contenders:
    """Retry, breaker, bulkhead and deadline."""
    ours = pr.policy(
        "e", retry=pr.Retry(), breaker=pr.Breaker(failure_rate=0.5), bulkhead=pr.Bulkhead(100), deadline_s=20.0
    )(plain)
    return {"prunella": ours, **_peers(_everything, plain)}


def stories() -> Contenders:
    """Retry, breaker and validation: a call that is told as a story."""
    ours = pr.policy("s", retry=pr.Retry(), breaker=pr.Breaker(failure_rate=0.5), validate=lambda _: True)(plain)
    return {"prunella": ours}


def run(options: Options) -> Report:
    """Measure every kind."""
    rows: list[Row] = []
    rounds = options.amount(_ROUNDS)
    for kind, target, ratios in (
        (retries, "sync", {"floor": 1.3, "nopanic": 1.1}),
        (breakers, "sync", {"nopanic": 0.3}),
        (fused, "sync", {"nopanic": 0.3, "tenacity": 1 / 30}),
        (everything, "sync", {"nopanic": 0.5}),
        (stories, "sync", {}),
        (aretries, "async", {"floor": 1.3, "nopanic": 1.1}),
        (afused, "async", {"nopanic": 0.5}),
    ):
        contenders = kind()
        added = _measure(contenders, rounds) if target == "sync" else asyncio.run(_ameasure(contenders, rounds))
        rows += _rows((kind.__doc__ or "").partition(";")[0].rstrip("."), added, ratios)
    return Report(f"guard: added ns of a call that succeeds, median of {rounds} rounds of {_CALLS}", rows, _versions())


def _rows(what: str, added: Mapping[str, list[float]], aims: Mapping[str, float]) -> Iterator[Row]:
    ours = added["prunella"]
    yield Row(what=f"{what}: prunella", unit="ns", ours=Spread.of(ours))
    for name, theirs in added.items():
        if name == "prunella":
            continue
        ratio = statistics.median(ours) / statistics.median(theirs)
        aim = aims.get(name)
        yield Row(
            what=f"{what}: {name}",
            unit="ns",
            floor=Spread.of(theirs),
            ours=Spread.of(ours),
            ratio=Spread(ratio, ratio, ratio),
            target="" if aim is None else f"<= {aim:.3g}",
            met=None if aim is None else ratio <= aim,
        )


def _measure(contenders: Contenders, rounds: int) -> dict[str, list[float]]:
    added: dict[str, list[float]] = {name: [] for name in contenders}
    gc.disable()
    for _ in range(rounds):
        taken = {name: _time(function) for name, function in _shuffled({"bare": plain, **contenders})}
        for name in contenders:
            added[name].append(taken[name] - taken["bare"])
    gc.enable()
    return added


async def _ameasure(contenders: Contenders, rounds: int) -> dict[str, list[float]]:
    added: dict[str, list[float]] = {name: [] for name in contenders}
    gc.disable()
    for _ in range(rounds):
        taken = {name: await _atime(function) for name, function in _shuffled({"bare": aplain, **contenders})}
        for name in contenders:
            added[name].append(taken[name] - taken["bare"])
    gc.enable()
    return added


def _time(function: Sync) -> float:
    begun = time.perf_counter_ns()
    for number in range(_CALLS):
        function(number)
    return (time.perf_counter_ns() - begun) / _CALLS


async def _atime(function: Async) -> float:
    begun = time.perf_counter_ns()
    for number in range(_CALLS):
        await function(number)
    return (time.perf_counter_ns() - begun) / _CALLS


def _shuffled(contenders: Contenders) -> list[tuple[str, Any]]:
    pairs = list(contenders.items())
    random.shuffle(pairs)
    return pairs


def _peers(make: Mapping[str, Callable[[Any], Any]], function: Any) -> Contenders:
    """Return the guarded function of each peer that is installed and does this."""
    made = {}
    for name, build in make.items():
        try:
            made[name] = build(function)
        except ImportError:
            continue
    return made


def _nopanic(function: Any, *parts: str) -> Any:
    import nopanic

    build = {
        "retry": lambda: nopanic.retry(attempts=3),
        "breaker": lambda: nopanic.circuit_breaker(failure_threshold=0.5),
        "timeout": lambda: nopanic.timeout(5.0),
        "bulkhead": lambda: nopanic.bulkhead(100),
        "deadline": lambda: nopanic.deadline(20.0),
    }
    for part in reversed(parts):
        function = build[part]()(function)
    return function


def _tenacity(function: Any) -> Any:
    import tenacity

    return tenacity.retry(stop=tenacity.stop_after_attempt(3))(function)


def _stamina(function: Any) -> Any:
    import stamina

    return stamina.retry(on=Exception, attempts=3)(function)


def _pybreaker(function: Any) -> Any:
    import pybreaker

    return pybreaker.CircuitBreaker(fail_max=5)(function)


def _circuitbreaker(function: Any) -> Any:
    import circuitbreaker

    return circuitbreaker.circuit(failure_threshold=5)(function)


def _purgatory(function: Any) -> Any:
    import purgatory

    return purgatory.SyncCircuitBreakerFactory()("bench")(function)


def _apurgatory(function: Any) -> Any:
    import purgatory

    return purgatory.AsyncCircuitBreakerFactory()("bench")(function)


def _pyresilience(function: Any, *parts: str) -> Any:
    import pyresilience as peer

    build = {
        "retry": ("retry", lambda: peer.RetryConfig(max_attempts=3)),
        "breaker": ("circuit_breaker", peer.CircuitBreakerConfig),
        "timeout": ("timeout", lambda: peer.TimeoutConfig(seconds=5.0)),
        "bulkhead": ("bulkhead", lambda: peer.BulkheadConfig(max_concurrent=100)),
    }
    return peer.resilient(**{build[part][0]: build[part][1]() for part in parts})(function)


_retry: dict[str, Callable[[Any], Any]] = {
    "nopanic": lambda function: _nopanic(function, "retry"),
    "pyresilience": lambda function: _pyresilience(function, "retry"),
    "stamina": _stamina,
    "tenacity": _tenacity,
}
_breaker: dict[str, Callable[[Any], Any]] = {
    "nopanic": lambda function: _nopanic(function, "breaker"),
    "circuitbreaker": _circuitbreaker,
    "purgatory": _purgatory,
    "pybreaker": _pybreaker,
    "pyresilience": lambda function: _pyresilience(function, "breaker"),
}
_fused: dict[str, Callable[[Any], Any]] = {
    "nopanic": lambda function: _nopanic(function, "retry", "breaker"),
    "pyresilience": lambda function: _pyresilience(function, "retry", "breaker"),
    "stamina": lambda function: _stamina(_circuitbreaker(function)),
    "tenacity": lambda function: _tenacity(_pybreaker(function)),
}
_afused: dict[str, Callable[[Any], Any]] = {
    "nopanic": lambda function: _nopanic(function, "retry", "breaker", "timeout"),
    "pyresilience": lambda function: _pyresilience(function, "retry", "breaker", "timeout"),
    "tenacity": lambda function: _tenacity(_apurgatory(function)),
}
_everything: dict[str, Callable[[Any], Any]] = {
    "nopanic": lambda function: _nopanic(function, "deadline", "retry", "breaker", "bulkhead"),
    "pyresilience": lambda function: _pyresilience(function, "retry", "breaker", "bulkhead"),
}


def _versions() -> list[str]:
    found = []
    for name in ("nopanic", "pyresilience", "stamina", "tenacity", "circuitbreaker", "purgatory", "pybreaker"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} is not installed")
    return [", ".join(found)]
