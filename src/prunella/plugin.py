"""What users' modules import to add checks and remedies of their own; nothing of the engine stands behind it.

A function registers itself under a name when its module is imported (`service.plugins` in prunella.yaml names the
modules); configuration refers to it by that name, and never to code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from prunella.core.errors import ConfigError
from prunella.core.findings import Finding, Row
from prunella.core.outcomes import Outcome

__all__ = ["CHECKS", "REMEDIES", "Context", "Finding", "Outcome", "Row", "check", "remedy"]

_OURS = frozenset({"replay", "probe", "refresh_token", "refresh_auth", "wait", "manual_intervention"})
"""Names that stand for what prunella does itself: in plans, runs and figures one would be taken for the other."""
_TIMEOUT_S = 30.0
"""How long a plug-in may take; as long as one statement on a user's database may."""

Checker = Callable[..., Awaitable[Iterable[Finding]] | Iterable[Finding]]
Remedying = Callable[..., Awaitable[Outcome | None] | Outcome | None]
Function = TypeVar("Function", bound=Callable[..., Any])


class Context(Protocol):
    """What a plug-in is given.

    Args:
        idempotency_key: the same for every try of one attempt, and for the next one where a call brought no reply;
            `egress` sends it along.
        database: `await database.fetch_all(sql, **values)` and `await database.execute(sql, **values)`; of a remedy
            within the transaction of its run, of a check read-only. Values are written as :name in the SQL.
        egress: `await egress.request(service, method, path, json=…)` to configured services.
        deadline: seconds that are left.
        log: `log("…")` adds a line to the run's record.
    """

    idempotency_key: str
    attempt: int
    incident_id: str
    database: Any
    egress: Any
    log: Callable[[str], None]

    @property
    def deadline(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFunction:
    """A user's check.

    Args:
        schedule: `every` and what else makes it a procedure of its own; empty where the configuration names it.
    """

    name: str
    function: Checker
    timeout_s: float
    schedule: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedyFunction:
    """A user's remedy."""

    name: str
    function: Remedying
    idempotent: bool
    reversible: bool
    per: Literal["row", "batch"]
    timeout_s: float


CHECKS: dict[str, CheckFunction] = {}
REMEDIES: dict[str, RemedyFunction] = {}


def check(name: str, *, timeout_s: float = _TIMEOUT_S, **schedule: Any) -> Callable[[Function], Function]:
    """Register a function `(ctx)` that returns findings.

    Args:
        timeout_s: seconds it may take.
        schedule: `every`, `remedy`, `level` and whatever else a procedure of prunella.yaml may have: the function is
            then a procedure of its own, without a line of configuration.
    """

    def register(function: Function) -> Function:
        _must_be_new(name, CHECKS, "check", function)
        CHECKS[name] = CheckFunction(name=name, function=function, timeout_s=timeout_s, schedule=schedule)
        return function

    return register


def remedy(
    name: str,
    *,
    idempotent: bool = False,
    reversible: bool = False,
    per: Literal["row", "batch"] = "row",
    timeout_s: float = _TIMEOUT_S,
) -> Callable[[Function], Function]:
    """Register a function `(ctx, row)`, or `(ctx, rows)` per batch, that does something about findings.

    Args:
        idempotent: done twice under one key it has one effect; only then is an attempt repeated that died
            half-way, or whose call brought no reply.
        reversible: what it changes through its outcome may be put back by `prunella undo`.
        timeout_s: seconds it may take.
    """

    def register(function: Function) -> Function:
        _must_not_be_ours(name, function)
        _must_be_new(name, REMEDIES, "remedy", function)
        REMEDIES[name] = RemedyFunction(
            name=name, function=function, idempotent=idempotent, reversible=reversible, per=per, timeout_s=timeout_s
        )
        return function

    return register


def _must_not_be_ours(name: str, function: Callable[..., Any]) -> None:
    """Refuse a name that stands for something else in plans, runs and figures."""
    if name in _OURS:
        reserved = ", ".join(sorted(_OURS))
        raise ConfigError(
            [f"@remedy({name!r}) in {function.__module__}: the name is prunella's own; choose another than {reserved}"]
        )


def _must_be_new(name: str, known: dict[str, Any], what: str, function: Callable[..., Any]) -> None:
    """Refuse two functions under one name; a module that is imported again registers its own anew."""
    before = known.get(name)
    if before is not None and before.function.__module__ != function.__module__:
        taken = f"the name is taken by {before.function.__module__}; choose another one"
        raise ConfigError([f"@{what}({name!r}) in {function.__module__}: {taken}"])
