"""Say what is wrong: layers of evidence from the strongest to the weakest, and the first that knows an answer wins.

User rules, the service's own profile, headers, the codes of protocols, the exception's class, the HTTP status, words.
Pure: the same failure gives the same diagnosis, without clock or randomness. What is known stands in `profiles/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from prunella.core.records import Actor, Diagnosis, Failure
from prunella.core.retry_after import retry_after_s
from prunella.diagnosis import tables
from prunella.diagnosis.evidence import Evidence
from prunella.diagnosis.knowledge import Knowledge, knowledge
from prunella.diagnosis.layers import LAYERS, Found, phrase_in
from prunella.diagnosis.profile import Profile

UserRule = Mapping[str, Any]
"""`{"when": {"status": 477, "code": ..., "message": ...}, "kind": ..., "retry_after": seconds}`."""

_QUOTA_S: Final = 7200.0
"""A throttle that lasts longer than two hours is a quota: it pays to park the calls."""


_NOTHING: Final = Found("unclassified", 0.50, "no known pattern")


def classify(
    failure: Failure,
    *,
    now: datetime | None = None,
    rules: Sequence[UserRule] = (),
    names: tuple[str, ...] = (),
    known: Knowledge | None = None,
) -> Diagnosis:
    """Return what is wrong with `failure`, how sure that is, and which evidence decided.

    Args:
        failure: the evidence, as scrubbed by its own constructor.
        now: for waits given as a moment; None measures them against the response's own `Date` only.
        rules: the user's own, asked first. `when` holds one or more of status (one or a list), code, exc_type and
            message (a part of the text, in any case); all of them must fit.
        names: more names of the service, such as its vendor's: they lead to its profile.
        known: the profiles to use; None takes those that are shipped.

    Raises:
        TypeError: what is given is no `Failure`.
    """
    if not isinstance(failure, Failure):
        raise TypeError(
            f"classify: failure must be a Failure, got {type(failure).__name__}; make one with "
            "Failure.from_exception(error, service=...) or Failure.from_response(response, service=...)"
        )
    wait_s = retry_after_s(failure.headers, now) if failure.headers else None
    known = known or knowledge()
    rule = next((rule for rule in rules if _fits(rule.get("when") or {}, failure)), None)
    if rule is not None:
        asked_s = rule.get("retry_after")
        seen = " ".join(f"{name} {value}" for name, value in rule["when"].items())
        found = Found(rule["kind"], 0.99, f"rule {seen}")
        return _diagnosis(found, failure, None, known, wait_s if asked_s is None else float(asked_s))
    evidence = Evidence(failure, names)
    profile = known.profile(evidence.names)
    found = _NOTHING
    for layer in LAYERS:
        answer = layer(evidence, known, profile)
        if answer is not None:
            found = answer
            break
    if found.kind in _LIMITS:
        found = found._replace(kind=_how_long(found.kind, evidence.text, wait_s))
    return _diagnosis(found, failure, profile, known, wait_s)


def _how_long(kind: str, text: str, wait_s: float | None) -> str:
    """Return whether a limit is a window or a quota: by the wait that it asks, or by what it calls itself."""
    if (wait_s is not None and wait_s > _QUOTA_S) or phrase_in(text, _LONG) is not None:
        return "rate_limit.quota"
    return "rate_limit.window" if phrase_in(text, _SHORTLY) is not None else kind


_LIMITS: Final = frozenset({"rate_limit.window", "rate_limit.quota"})
_LONG: Final = ("daily", "per day", "monthly", "per month")
_SHORTLY: Final = ("per minute", "per_minute", "per second", "per_second", "secondly")


def _fits(when: Mapping[str, Any], failure: Failure) -> bool:
    return bool(when) and all(_meets(name, wanted, failure) for name, wanted in when.items())


def _meets(name: str, wanted: Any, failure: Failure) -> bool:
    if name == "message":
        return str(wanted).lower() in failure.message.lower()
    if name not in ("status", "code", "exc_type"):
        return False
    value = getattr(failure, name)
    if value is None:
        return False
    spelled = {str(value).lower()}
    if name == "exc_type":
        spelled.add(str(value).rpartition(".")[2].lower())  # people leave out the package
    return not spelled.isdisjoint(
        str(one).lower() for one in (wanted if isinstance(wanted, list | tuple) else [wanted])
    )


def _diagnosis(
    found: Found, failure: Failure, profile: Profile | None, known: Knowledge, wait_s: float | None
) -> Diagnosis:
    retryable, actor, advice = tables.FACTS[found.kind]
    if found.code:
        retryable, actor = _of_code(found.code, profile, known, retryable, actor)
    return Diagnosis(
        kind=found.kind,
        confidence=found.confidence,
        because=found.because,
        retryable=retryable,
        actor=actor,
        advice=advice,
        signals=tuple(dict.fromkeys(_signals(found, failure, wait_s))),
        retry_after_s=wait_s,
    )


def _of_code(code: str, profile: Profile | None, known: Knowledge, retryable: bool, actor: Actor) -> tuple[bool, Actor]:
    """Return what a code says itself about trying again and about who moves next; the service's word comes first."""
    if profile is not None and code in profile.codes:
        return profile.retryable.get(code, retryable), profile.actors.get(code, actor)
    answer, mover = known.retryable(code), known.actor(code)
    return retryable if answer is None else answer, mover or actor


def _signals(found: Found, failure: Failure, wait_s: float | None) -> Iterator[str]:
    if failure.status is not None:
        yield f"HTTP {failure.status}"
    if failure.code:
        yield f"code {failure.code}"
    if failure.exc_type:
        yield f"exception {failure.exc_type}"
    if wait_s is not None:
        yield f"wait {wait_s:g} s"
    yield found.because
