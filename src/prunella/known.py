"""Known issues for a policy: recognised by the patterns of diagnosis, repaired by functions of the user.

Above the rooms that it brings together, which are strangers; it decides nothing and calls nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from prunella.core.clock import HOST
from prunella.core.records import Failure
from prunella.diagnosis.classify import classify
from prunella.diagnosis.known import Matcher
from prunella.diagnosis.packs import builtin as shipped
from prunella.diagnosis.packs import read_entries
from prunella.diagnosis.patterns import Pattern
from prunella.guard.core import Unwanted
from prunella.guard.demands import is_positive
from prunella.guard.known import KnownIssues, Recognised, Remedy
from prunella.guard.response import read_response


def known_issues(
    entries: Iterable[Mapping[str, Any]] = (),
    *,
    remedies: Mapping[str, Remedy],
    builtin: bool = True,
    rest_s: float = 300.0,
) -> KnownIssues:
    """Return known issues with what repairs them, for `policy(known=…)`.

    Args:
        entries: issues of your own, each with at least `id` and `pattern`, as in a pack; one with the id of a shipped
            one takes its place.
        remedies: functions by the name of a remedy that issues have (`refresh_auth`), or by the id of an issue. Each is
            given the failure, and says with True that it is repaired; asynchronous ones are for asynchronous calls.
        builtin: also recognise the issues that are shipped.
        rest_s: seconds for which a remedy that did not help twice in a row is left out, > 0.

    Raises:
        ValueError: with every mistake in the entries, and every remedy that no issue has.
        TypeError: a remedy is no function.
    """
    known, mistakes = read_entries([dict(entry) for entry in entries])
    if mistakes:
        raise ValueError(f"known_issues: {'; '.join(mistake.text for mistake in mistakes)}")
    if not is_positive(rest_s):
        raise ValueError(f"known_issues: rest_s must be seconds > 0, got {rest_s!r}")
    patterns = {one.pattern.id: one.pattern for one in (*(shipped() if builtin else ()), *known)}
    bound = {pattern.id: name for pattern in patterns.values() if (name := _bound(pattern, remedies)) is not None}
    _check(remedies, patterns.values(), set(bound.values()))
    matcher = Matcher(pattern for pattern in patterns.values() if pattern.id in bound)

    classify(Failure(service="", message=""))  # reads what it needs now, not while a call waits

    def recognise(error: Exception, service: str) -> Recognised | None:
        failure = _failure(error, service)
        found = matcher.match(failure, kind=classify(failure, now=HOST.now()).kind)
        return None if found is None else Recognised(found.pattern.id, bound[found.pattern.id])

    return KnownIssues(recognise, MappingProxyType(dict(remedies)), rest_s=rest_s)


def _bound(pattern: Pattern, remedies: Mapping[str, Remedy]) -> str | None:
    """Return the name of what repairs an issue: what stands under its own id comes first."""
    return next((name for name in (pattern.id, pattern.remedy) if name is not None and name in remedies), None)


def _check(remedies: Mapping[str, Remedy], patterns: Iterable[Pattern], bound: set[str]) -> None:
    names = {name for pattern in patterns for name in (pattern.id, pattern.remedy) if name is not None}
    for name, remedy in remedies.items():
        if not callable(remedy):
            raise TypeError(f"known_issues: remedies[{name!r}] must be a function of the failure, got {remedy!r}")
        if name not in bound:
            near = get_close_matches(str(name), names, n=1)
            meant = f"did you mean {near[0]}?" if near else "name an issue, or a remedy that an issue has"
            raise ValueError(f"known_issues: no issue is repaired by {name!r}; {meant}")


def _failure(error: Exception, service: str) -> Failure:
    """Read a failure: an answer that nobody raised speaks for itself."""
    if not isinstance(error, Unwanted):
        return Failure.from_exception(error, service=service)
    failure = Failure.from_response(error.result, service=service)
    return failure if failure.message else replace(failure, message=read_response(error.result).error)
