"""What the caller gets instead when a call can't be made: a value, another function, or the last good result."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prunella.core.clock import HOST
from prunella.guard.demands import demand, is_positive
from prunella.guard.forks import renew_after_fork

_NOTHING = object()
_KEPT_MAX = 1000


class _Kept:
    """The last good results, the most recent thousand."""

    def __init__(self) -> None:
        self._results: OrderedDict[object, tuple[float, Any]] = OrderedDict()
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Take a fresh lock, in a child process."""
        self._lock = threading.Lock()

    def put(self, key: object, result: Any) -> None:
        if key is None:
            return
        with self._lock:
            self._results[key] = (HOST.monotonic(), result)
            self._results.move_to_end(key)
            if len(self._results) > _KEPT_MAX:
                self._results.popitem(last=False)

    def get(self, key: object, max_age_s: float | None) -> Any:
        with self._lock:
            kept_at, result = self._results.get(key, (0.0, _NOTHING))
        if result is _NOTHING or (max_age_s is not None and HOST.monotonic() - kept_at > max_age_s):
            return _NOTHING
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """What stands in for a call that failed for good.

    Args:
        call: a function with the call's own arguments, or with none; may be asynchronous where the call is.
        value: what is returned where neither `call` nor a last good result is there.
        last_good: return what the same arguments brought last, where that is known.
        max_age_s: how old a last good result may be, > 0; None takes any.
        feature: what degrades, for the event; the policy's name where it is empty.
    """

    call: Callable[..., Any] | None = None
    value: Any = _NOTHING
    last_good: bool = False
    max_age_s: float | None = None
    feature: str = ""
    _kept: _Kept = field(default_factory=_Kept, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.call is None and self.value is _NOTHING and not self.last_good:
            raise ValueError("Fallback: nothing is given to fall back on; set call, value or last_good=True")
        if self.call is not None and not callable(self.call):
            raise TypeError(f"Fallback: call must be a function, got {self.call!r}; a plain value goes into value=…")
        demand(self, "max_age_s", self.max_age_s is None or is_positive(self.max_age_s), "seconds > 0, or None")

    def keep(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Keep a good result for these arguments."""
        self._kept.put(_key(function, args, kwargs), result)

    def stand_in(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[], Any] | None:
        """Return what to call for a substitute; None where there is none."""
        if self.last_good:
            kept = self._kept.get(_key(function, args, kwargs), self.max_age_s)
            if kept is not _NOTHING:
                return lambda: kept
        if self.call is not None:
            call = self.call
            return call if _takes_nothing(call) else lambda: call(*args, **kwargs)
        return None if self.value is _NOTHING else lambda: self.value


def _key(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Return what tells these arguments from others; None where they can't be told (not hashable)."""
    key = (function, args, tuple(sorted(kwargs.items())))
    try:
        hash(key)
    except Exception:  # whatever an argument's own __hash__ raises: keeping must not break a good call
        return None
    return key


def _takes_nothing(function: Callable[..., Any]) -> bool:
    try:
        return not inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
