"""The library's front door: what works in any Python process with nothing else installed. Nothing of the engine.

Names are loaded when they are first used, so that importing prunella costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunella import testing as testing
    from prunella.core.errors import AttemptTimeout as AttemptTimeout
    from prunella.core.errors import BadResponse as BadResponse
    from prunella.core.errors import CircuitOpen as CircuitOpen
    from prunella.core.errors import DeadlineExceeded as DeadlineExceeded
    from prunella.core.errors import GuardError as GuardError
    from prunella.core.errors import HandedOver as HandedOver
    from prunella.core.errors import LoadShed as LoadShed
    from prunella.core.errors import PrunellaError as PrunellaError
    from prunella.core.errors import RateLimited as RateLimited
    from prunella.core.errors import RetryLater as RetryLater
    from prunella.core.records import Diagnosis as Diagnosis
    from prunella.core.records import Failure as Failure
    from prunella.core.redact import Secret as Secret
    from prunella.core.redact import scrub as scrub
    from prunella.core.states import StateMachine as StateMachine
    from prunella.diagnosis.classify import classify as classify
    from prunella.guard.asgi import SelfHealingMiddleware as SelfHealingMiddleware
    from prunella.guard.asgi import self_healing as self_healing
    from prunella.guard.breaker import Breaker as Breaker
    from prunella.guard.budget import RetryBudget as RetryBudget
    from prunella.guard.bulkhead import Bulkhead as Bulkhead
    from prunella.guard.deadline import no_deadline as no_deadline
    from prunella.guard.deadline import remaining_s as remaining_s
    from prunella.guard.exhausted import report_exhausted as report_exhausted
    from prunella.guard.exhausted import reports_exhausted as reports_exhausted
    from prunella.guard.exhausted import retry_error_callback as retry_error_callback
    from prunella.guard.fallback import Fallback as Fallback
    from prunella.guard.handover import connect as connect
    from prunella.guard.http import http as http
    from prunella.guard.limiter import AdaptiveLimiter as AdaptiveLimiter
    from prunella.guard.policy import Policy as Policy
    from prunella.guard.policy import policies as policies
    from prunella.guard.policy import policy as policy
    from prunella.guard.pool import PoolMonitor as PoolMonitor
    from prunella.guard.response import json_response as json_response
    from prunella.guard.response import read_response as read_response
    from prunella.guard.retry import Retry as Retry
    from prunella.guard.telemetry import opentelemetry_listener as opentelemetry_listener
    from prunella.guard.telemetry import prometheus_listener as prometheus_listener
    from prunella.guard.transitions import transition as transition
    from prunella.known import known_issues as known_issues

__version__ = "0.1.0.dev0"

_HOMES = {
    "core.errors": (
        "AttemptTimeout", "BadResponse", "CircuitOpen", "DeadlineExceeded", "GuardError", "HandedOver", "LoadShed",
        "PrunellaError", "RateLimited", "RetryLater",
    ),
    "core.records": ("Diagnosis", "Failure"),
    "core.redact": ("Secret", "scrub"),
    "core.states": ("StateMachine",),
    "diagnosis.classify": ("classify",),
    "guard.asgi": ("SelfHealingMiddleware", "self_healing"),
    "guard.breaker": ("Breaker",),
    "guard.budget": ("RetryBudget",),
    "guard.bulkhead": ("Bulkhead",),
    "guard.deadline": ("no_deadline", "remaining_s"),
    "guard.fallback": ("Fallback",),
    "guard.handover": ("connect",),
    "guard.exhausted": ("report_exhausted", "reports_exhausted", "retry_error_callback"),
    "guard.http": ("http",),
    "guard.limiter": ("AdaptiveLimiter",),
    "guard.policy": ("Policy", "policies", "policy"),
    "guard.pool": ("PoolMonitor",),
    "guard.response": ("json_response", "read_response"),
    "guard.retry": ("Retry",),
    "guard.telemetry": ("opentelemetry_listener", "prometheus_listener"),
    "guard.transitions": ("transition",),
    "known": ("known_issues",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME_OF, "testing"])  # noqa: PLE0605 - a list; the names above are what it holds


def __getattr__(name: str) -> Any:
    if name == "testing":
        return importlib.import_module("prunella.testing")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'prunella' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"prunella.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
