"""Remedies that can be bound to known issues: the two that come along, and the functions of the user.

Text from outside never becomes code: a binding names what is registered here and hands it values of declared types.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType, NoneType, SimpleNamespace, UnionType
from typing import Any, Final, Protocol, TypeAlias, Union, get_args, get_origin, get_type_hints

from prunella.core.clock import Clock
from prunella.core.errors import InvalidInput, SecretError
from prunella.core.records import Request
from prunella.core.services import Service
from prunella.plugin import RemedyFunction
from prunella.remedies.calling import Run, Services, called
from prunella.remedies.contract import Outcome, Target
from prunella.remedies.http import Replay

_TYPES: Final[Mapping[type, str]] = {str: "text", int: "whole number", float: "number", bool: "true or false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A value that a remedy is given.

    Args:
        type: str, int, float or bool; None: any of them.
    """

    type: type | None
    required: bool

    @property
    def spelled(self) -> str:
        """Say what may be given."""
        return _TYPES[self.type] if self.type is not None else "text, number, true or false"

    def fits(self, value: Any) -> bool:
        """Tell whether a value, as JSON has it, may be given."""
        if self.type is None:
            return isinstance(value, (str, int, float, bool))
        if self.type is float:
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        return type(value) is self.type


class Bindable(Protocol):
    """Something that may be bound to a known issue.

    `acts_as`: the name under which it is carried out. `risk`: 0 for the least; of two that promise the same, the lesser
    one goes first. `cost_s`: how long it usually takes; decides after that. `timeout_s`: how long it may take.
    """

    name: str
    acts_as: str
    words: str
    idempotent: bool
    reversible: bool
    risk: int
    cost_s: float
    timeout_s: float
    parameters: Mapping[str, Parameter]

    def misfit(self, service: Service) -> str | None:
        """Return why it can do nothing for a service, None where it can."""
        ...


class RefreshAuth:
    """Refresh the account's tokens, as the recovery of expired tokens does."""

    name = "refresh_auth"
    acts_as = "refresh_token"
    words = "refresh the OAuth token"
    idempotent = False
    reversible = False
    risk = 1
    cost_s = 1.0
    timeout_s = 10.0
    parameters: Mapping[str, Parameter] = MappingProxyType({})

    def misfit(self, service: Service) -> str | None:
        """Return why it can do nothing for a service."""
        if service.oauth is not None:
            return None
        return f"services.{service.name} has no oauth section, so there is nothing to refresh"


class InvalidateCache:
    """Have a service forget what it keeps: one call to the address that the configuration names."""

    name = "invalidate_cache"
    acts_as = name
    words = "have the service empty its cache"
    idempotent = True
    reversible = False
    risk = 0
    cost_s = 1.0
    timeout_s = 10.0
    parameters: Mapping[str, Parameter] = MappingProxyType({})

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def misfit(self, service: Service) -> str | None:
        """Return why it can do nothing for a service."""
        if service.cache is not None:
            return None
        return f"services.{service.name} names no cache to empty; add cache: {{path: /…}}"

    async def apply(self, target: Target) -> Outcome:
        """Make the call once; any 2xx means that it was heard."""
        cache = target.service.cache
        if cache is None:
            return Outcome.failed(self.misfit(target.service) or "")
        asked = replace(target.service, validate="none")
        request = Request(method=cache.method, endpoint=cache.path)
        try:
            return await self._replay.apply(replace(target, service=asked, request=request))
        except (InvalidInput, SecretError) as error:  # nothing was sent
            return Outcome.failed(str(error))


class FunctionForIssue:
    """A function of the user, told what failed; it changes no rows.

    Args:
        services: where it may call.
    """

    cost_s = 5.0
    risk = 1

    def __init__(self, function: RemedyFunction, services: Services, clock: Clock) -> None:
        self.name = self.acts_as = function.name
        self.words = f"run {function.name}"
        self.idempotent = function.idempotent
        self.reversible = function.reversible
        self.timeout_s = function.timeout_s
        self.parameters = parameters_of(function)
        self._function = function
        self._services = services
        self._clock = clock

    def misfit(self, service: Service) -> str | None:
        """Return None: whether it helps, only its author knows."""
        return None

    async def apply(self, target: Target) -> Outcome:
        """Call the function once."""
        run = Run(
            idempotency_key=target.idempotency_key,
            attempt=target.attempt,
            incident_id=target.incident_id,
            held=None,
            services=self._services,
            timeout_s=self._function.timeout_s,
            clock=self._clock,
        )
        facts: Any = [dict(target.facts)] if self._function.per == "batch" else dict(target.facts)
        outcome = await called(self.name, self._function.function, run, facts, **target.parameters)
        if outcome.changes is not None:
            wanted = ", ".join(outcome.changes) or "nothing"
            said = f"{self.name} wants to change {wanted}, and what failed is no row; return Outcome.done(...)"
            return Outcome.failed(said)
        return outcome


def parameters_of(function: RemedyFunction) -> Mapping[str, Parameter]:
    """Read what a function wants beside its context and what failed, from its signature.

    What takes anything (`**kwargs`) is handed nothing: only what is declared can be given.
    """
    try:
        signature = list(inspect.signature(function.function).parameters.values())
    except (TypeError, ValueError):  # a function without a signature, of an extension in C
        return {}
    given = [one for one in signature if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)][:2]
    return {
        one.name: Parameter(type=_type_of(function, one), required=one.default is one.empty)
        for one in signature
        if one not in given and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    }


def _type_of(function: RemedyFunction, parameter: inspect.Parameter) -> type | None:
    """Return the one type that a parameter may have; None where any will do, or nobody can tell.

    Each is read by itself: that one names what is not there at run time says nothing about the others.
    """
    told = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    known = getattr(inspect.unwrap(function.function), "__globals__", {})
    try:
        hint = get_type_hints(told, globalns=known).get(parameter.name)
    except Exception:
        return None
    if get_origin(hint) in (Union, UnionType):
        hint = next(iter(others), None) if len(others := set(get_args(hint)) - {NoneType}) == 1 else None
    return hint if isinstance(hint, type) and hint in _TYPES else None


def value_of(spelled: str, text: str) -> str | int | float | bool:
    """Read what a person typed for a parameter, by what may be given; what is none of it stays a text.

    Args:
        spelled: as `Parameter.spelled` says it.
    """
    for kind in _READ.get(spelled, _ANY):
        with suppress(ValueError):
            return kind(text.strip())
    return text


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


_Read: TypeAlias = Callable[[str], str | int | float | bool]
_READ: Final[Mapping[str, tuple[_Read, ...]]] = {
    "text": (),
    "true or false": (_truth,),
    "whole number": (int,),
    "number": (int, float),
}
_ANY: Final[tuple[_Read, ...]] = (_truth, int, float)


def must_take(remedy: Bindable, parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that a remedy does not take.

    Raises:
        InvalidInput: one is unknown, missing or of another type.
    """
    known = ", ".join(f"{name} ({one.spelled})" for name, one in remedy.parameters.items()) or "none"
    for name, value in parameters.items():
        if name not in remedy.parameters:
            raise InvalidInput(f"{remedy.name} takes no parameter {name!r}; it takes {known}", pointer="/parameters")
        if not remedy.parameters[name].fits(value):
            wanted = remedy.parameters[name].spelled
            raise InvalidInput(
                f"{remedy.name}: {name} is {str(value)[:60]!r}; it must be {wanted}", pointer=f"/parameters/{name}"
            )
    missing = [name for name, one in remedy.parameters.items() if one.required and name not in parameters]
    if missing:
        raise InvalidInput(f"{remedy.name} needs {', '.join(missing)}; it takes {known}", pointer="/parameters")
