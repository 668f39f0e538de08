"""Hear of the retries of other libraries when they are used up: tenacity, stamina, backoff, urllib3, requests.

Listeners are told, and guards further out will not try again. Must never hide the error that is on its way.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from prunella.guard.marks import mark
from prunella.guard.policy import Policy, policies
from prunella.guard.response import attribute

_log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])


def report_exhausted(guarded_by: Policy | str, error: BaseException, attempts: int | None = None) -> None:
    """Tell the listeners of a policy that another library's retries are used up; never raises.

    Guards further out will not try again what was tried here.

    For urllib3 and requests: call it where `MaxRetryError` or `RetryError` is caught.

    Args:
        guarded_by: a policy or its name.
        attempts: how often it was tried; None where nobody says.
    """
    mark(error)
    one = policies().get(guarded_by) if isinstance(guarded_by, str) else guarded_by
    if one is None:
        _log.warning("exhausted retries could not be reported: there is no policy named %s", guarded_by)
        return
    if attempts is None:
        attempts = attribute(attribute(error, "last_attempt"), "attempt_number")  # tenacity's RetryError
    why = "another library's retries are used up"
    one.tell("call.gave_up", attempts=attempts, reason=why, error=error)


def retry_error_callback(guarded_by: Policy | str) -> Callable[[Any], Any]:
    """Return what tenacity takes as `retry_error_callback`: it reports, and raises the last error itself."""

    def gave_up(retry_state: Any) -> Any:
        if retry_state.outcome.failed:
            report_exhausted(guarded_by, retry_state.outcome.exception(), retry_state.attempt_number)
        return retry_state.outcome.result()

    return gave_up


def reports_exhausted(guarded_by: Policy | str) -> Callable[[Function], Function]:
    """Decorate a function above its retry decorator (stamina, backoff …): what it raises is reported and goes on."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        async def aguarded(*args: Any, **kwargs: Any) -> Any:
            with _reporting(guarded_by):
                return await function(*args, **kwargs)

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with _reporting(guarded_by):
                return function(*args, **kwargs)

        return aguarded if inspect.iscoroutinefunction(function) else guarded  # type: ignore[return-value]

    return decorate


@contextlib.contextmanager
def _reporting(guarded_by: Policy | str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        report_exhausted(guarded_by, error)
        raise
