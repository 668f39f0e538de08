"""Read a profile from the document that people write (profiles/*.yaml), and say all that is wrong with it.

Used when the package is built and where people test a profile of theirs; never while a failure is looked at. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prunella.core.records import KINDS, Actor
from prunella.diagnosis.evidence import flat
from prunella.diagnosis.profile import Profile, Rule

WAIT_UNITS: Final = ("seconds", "ms", "epoch", "epoch_ms", "date", "minutes")
_WHEN: Final = ("status", "code", "message", "header", "exc_type", "source")
_KEYS: Final = (
    "service", "protocol", "also", "sources", "signs", "codes", "signed_codes", "classes", "statuses", "rules",
    "exceptions", "says_nothing", "retryable", "not_retryable", "actors", "words", "patterns", "pages", "order",
    "wait_headers", "cases",
)  # fmt: skip
_BY_KIND: Final = ("codes", "signed_codes", "exceptions", "words", "classes", "patterns", "pages")
_ACTORS: Final = tuple(actor.value for actor in Actor)


def read_profile(document: Mapping[str, Any]) -> Profile:
    """Return what a document says; `ValueError` names everything that is wrong with it, a line each."""
    name = str(document.get("service") or document.get("protocol") or "")
    problems = [f"{name or 'profile'}: {problem}" for problem in _problems(document, name)]
    if problems:
        raise ValueError("\n".join(problems))
    codes, signed = _by_name(document.get("codes")), _by_name(document.get("signed_codes"))
    if "protocol" in document and document.get("signs"):
        signed |= {code: codes.pop(code) for code in list(codes) if code.isdigit()}  # a bare number may be anything
    return Profile(
        name=name,
        also=tuple(document.get("also") or ()),
        codes=codes,
        signed_codes=signed,
        signs={sign: [str(one).lower() for one in of] for sign, of in (document.get("signs") or {}).items()},
        classes={
            str(start).upper(): kind for kind, starts in (document.get("classes") or {}).items() for start in starts
        },
        statuses={int(status): kind for status, kind in (document.get("statuses") or {}).items()},
        rules=tuple(_rule(rule) for rule in document.get("rules") or ()),
        exceptions=_exceptions(document),
        says_nothing=frozenset(long for one in document.get("says_nothing") or () for long in _class_names(one)),
        retryable={flat(str(code)): True for code in document.get("retryable") or ()}
        | {flat(str(code)): False for code in document.get("not_retryable") or ()},
        actors={flat(str(code)): Actor(actor) for actor, of in (document.get("actors") or {}).items() for code in of},
        words={kind: [str(one).lower() for one in of] for kind, of in (document.get("words") or {}).items()},
        patterns=document.get("patterns") or {},
        pages={kind: [str(one).lower() for one in of] for kind, of in (document.get("pages") or {}).items()},
        order=tuple(document.get("order") or ()),
        wait_headers=dict(document.get("wait_headers") or {}),
    )


def _by_name(groups: Mapping[str, Iterable[object]] | None) -> dict[str, str]:
    return {flat(str(code)): kind for kind, codes in (groups or {}).items() for code in codes}


def _class_names(name: str) -> tuple[str, str]:
    module, _, short = name.rpartition(".")
    return (f"{module.partition('.')[0].lower()}.{flat(short)}" if module else flat(short)), flat(short)


def _exceptions(document: Mapping[str, Any]) -> dict[str, str]:
    """Return classes by both names; inside a service's own profile the short one is clear enough."""
    found: dict[str, str] = {}
    for kind, names in (document.get("exceptions") or {}).items():
        for name in names:
            long, short = _class_names(name)
            found[long] = kind
            if "service" in document:
                found.setdefault(short, kind)
    return found


def _rule(rule: Mapping[str, Any]) -> Rule:
    when = rule["when"]
    return Rule(
        kind=rule["kind"],
        statuses=frozenset(int(status) for status in _many(when.get("status"))),
        codes=frozenset(flat(str(code)) for code in _many(when.get("code"))),
        texts=tuple(str(text).lower() for text in _many(when.get("message"))),
        headers=tuple((name.lower(), str(part).lower()) for name, part in (when.get("header") or {}).items()),
        classes=frozenset(_class_names(str(name))[0] for name in _many(when.get("exc_type"))),
        sources=frozenset(str(source) for source in _many(when.get("source"))),
    )


def _many(value: object) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _problems(document: Mapping[str, Any], name: str) -> Iterator[str]:
    if not name:
        yield "has neither service nor protocol; name it"
    for key in document:
        if key not in _KEYS:
            yield f"{key} is not known; allowed: {', '.join(_KEYS)}"
    for section in _BY_KIND:
        yield from (f"{section}: {_no_kind(kind)}" for kind in document.get(section) or {} if kind not in KINDS)
    yield from _twice(document.get("codes") or {})
    for rule in document.get("rules") or ():
        yield from (f"rules: {problem}" for problem in _of_rule(rule))
    yield from _strange_values(document)


def _strange_values(document: Mapping[str, Any]) -> Iterator[str]:
    for status, kind in (document.get("statuses") or {}).items():
        if kind not in KINDS or not 100 <= int(status) <= 999:
            yield f"statuses: {status}: {kind} must be a status and a kind"
    for header, unit in (document.get("wait_headers") or {}).items():
        if unit not in WAIT_UNITS:
            yield f"wait_headers: {header}: {unit} is no unit; allowed: {', '.join(WAIT_UNITS)}"
    for actor in document.get("actors") or {}:
        if actor not in _ACTORS:
            yield f"actors: {actor} is no actor; allowed: {', '.join(_ACTORS)}"


def _twice(groups: Mapping[str, Iterable[object]]) -> Iterator[str]:
    named: dict[str, str] = {}
    for kind, codes in groups.items():
        for code in codes:
            other = named.setdefault(flat(str(code)), kind)
            if other != kind:
                yield f"codes: {code} is both {other} and {kind}; use a rule to tell them apart"


def _of_rule(rule: Mapping[str, Any]) -> Iterator[str]:
    if rule.get("kind") not in KINDS:
        yield _no_kind(rule.get("kind"))
    when = rule.get("when") or {}
    if not when:
        yield f"the one for {rule.get('kind')} names nothing in when; it would fit everything"
    for key in when:
        if key not in _WHEN:
            yield f"when holds {key}; allowed: {', '.join(_WHEN)}"


def _no_kind(kind: object) -> str:
    return f"{kind} is no kind; allowed: {', '.join(KINDS)}"
