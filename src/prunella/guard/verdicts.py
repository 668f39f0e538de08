"""What an error says about the service: a verdict, a wish for silence, or nothing where a guard refused.

Pure questions about one error; what follows from the answers is `flow`'s.
"""

from __future__ import annotations

from typing import Final

from prunella.core import shapes
from prunella.core.clock import HOST
from prunella.core.errors import AttemptTimeout, BadResponse, DeadlineExceeded, GuardError
from prunella.guard.core import Unwanted

_VERDICTS: Final = (AttemptTimeout, BadResponse, DeadlineExceeded, Unwanted)
"""Errors of ours that are judgements on the service; every other one is a refusal, and says nothing about it."""
_SILENCE_MAX_S: Final = 3600.0
"""Longest silence of all calls for one answer: a mistaken one (9999999999) ends by itself, and a service that means it
says so again, once an hour. The call that got the answer is told the whole wait."""


class NoTimeLeft(DeadlineExceeded):
    """Refuse an attempt that could not even begin; it says nothing about the service."""


def is_refusal(error: BaseException) -> bool:
    """Tell whether an error is a guard's own and no judgement on the service."""
    return isinstance(error, NoTimeLeft) or (isinstance(error, GuardError) and not isinstance(error, _VERDICTS))


def asked_wait_s(error: Exception) -> float | None:
    """Return what the service asked to wait; a refusal of our own asks nothing of the service's."""
    if isinstance(error, GuardError) and not isinstance(error, BadResponse):
        return None
    return shapes.asked_wait_s(error, HOST.now())


def silence_s(error: Exception) -> float | None:
    """Return how long a service that throttles wants to hear nothing from anybody here."""
    asked_s = shapes.asked_wait_s(error, HOST.now())
    return None if asked_s is None else min(asked_s, _SILENCE_MAX_S)
