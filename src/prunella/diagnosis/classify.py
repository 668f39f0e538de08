"""Say what is wrong: layers of evidence from the strongest to the weakest, and the first that knows an answer wins.

User rules, the service's own code, headers, the exception's class, the HTTP status, words. Pure: the same failure
gives the same diagnosis, without I/O, clock or randomness. The knowledge stands in `tables`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from prunella.core.records import KINDS, Actor, Diagnosis, Failure
from prunella.core.retry_after import retry_after_s
from prunella.diagnosis import tables

Rule = Mapping[str, Any]
"""`{"when": {"status": 477, "code": ..., "message": ...}, "kind": ..., "retry_after": seconds}`."""

_EDGE: Final = 2048
_QUOTA_S: Final = 7200.0
"""A throttle that lasts longer than two hours is a quota: it pays to park the calls."""


class _Found(NamedTuple):
    kind: str
    confidence: float
    because: str


def classify(failure: Failure, *, now: datetime | None = None, rules: Sequence[Rule] = ()) -> Diagnosis:
    """Return what is wrong with `failure`, how sure that is, and which evidence decided.

    Args:
        failure: the evidence, as scrubbed by its own constructor.
        now: for waits given as a moment; None measures them against the response's own `Date` only.
        rules: the user's own, asked first. `when` holds one or more of status (one or a list), code, exc_type and
            message (a part of the text, in any case); all of them must fit.
    """
    wait_s = retry_after_s(failure.headers, now) if failure.headers else None
    rule = next((rule for rule in rules if _fits(rule.get("when") or {}, failure)), None)
    if rule is not None:
        asked_s = rule.get("retry_after")
        seen = " ".join(f"{name} {value}" for name, value in rule["when"].items())
        return _diagnosis(
            _Found(rule["kind"], 0.99, f"rule {seen}"), failure, wait_s if asked_s is None else float(asked_s)
        )
    text = _readable(failure.message)
    found = _by_code(failure, text) or _by_header(failure) or _by_exception(failure, text) or _by_status(failure, text)
    found = (
        found or _by_body(failure, text) or _by_words(failure, text) or _Found("unclassified", 0.50, "no known pattern")
    )
    if found.kind == "rate_limit.window" and wait_s is not None and wait_s > _QUOTA_S:
        found = found._replace(kind="rate_limit.quota")
    return _diagnosis(found, failure, wait_s)


def flat(name: str) -> str:
    """Reduce a code or class name to the form used in the tables: lower case, letters and digits, no final "error"."""
    return _SUFFIX.sub("", _NOT_ALNUM.sub("", name.lower()))


_NOT_ALNUM: Final = re.compile("[^a-z0-9]+")
_SUFFIX: Final = re.compile("(?:exception|error|fault)$")


def _fits(when: Mapping[str, Any], failure: Failure) -> bool:
    return bool(when) and all(_meets(name, wanted, failure) for name, wanted in when.items())


def _meets(name: str, wanted: Any, failure: Failure) -> bool:
    if name == "message":
        return str(wanted).lower() in failure.message.lower()
    if name not in ("status", "code", "exc_type"):
        return False
    value = getattr(failure, name)
    return value is not None and str(value).lower() in [
        str(one).lower() for one in (wanted if isinstance(wanted, list | tuple) else [wanted])
    ]


def _readable(message: str) -> str:
    if len(message) > 2 * _EDGE:
        message = f"{message[:_EDGE]} {message[-_EDGE:]}"
    return message.lower()


# The service's own code ------------------------------------------------------------------------------------------


_JSON_CODE: Final = re.compile(
    r"[\"'](code|error|reason|error_?code|error_?type|errcode|sqlstate|type|status)[\"']\s?:\s?"
    r"[\"']?([A-Za-z0-9][\w.:-]{2,60})(?![\w ])",
    re.IGNORECASE,
)
_ERRNO_NAME: Final = re.compile(
    r"[EU](?<!\w.)(?:[A-Z]{3,15}|AI_[A-Z]{3,12}|(?:ND_ERR|RR)_[A-Z_]{3,40})(?!\w)", re.DOTALL
)
_MARKED_CODES: Final = (
    ("error occurred (", re.compile(r"error occurred \((\w{3,60})\)")),
    ("StatusCode.", re.compile(r"StatusCode\.([A-Z_]{2,20})")),
    ("rror code: ", re.compile(r"[eE]rror code: (1\d{3})(?!\d)")),
    ("SQLSTATE", re.compile(r"SQLSTATE[\[: ]{1,2}([0-9A-Z]{5})")),
    ("error=", re.compile(r"error=([a-z_]{4,40})")),
)
_ERRNO_NUMBER: Final = re.compile(r"\[Errno (\d{1,3})\]")
_HTTP_CODE: Final = re.compile(r"(?:HTTP[ _-]?)?([1-5]\d\d)", re.IGNORECASE)
_KEY_ORDER: Final = ("code", "errorcode", "error", "reason", "sqlstate", "errcode", "errortype", "type", "status")
_SURE_STATUSES: Final = frozenset({401, 407, 408, 429, 500, 502, 504})


def _by_code(failure: Failure, text: str) -> _Found | None:
    if failure.code:
        kind = _kind_of_code(failure.code, failure)
        if kind is not None:
            confidence = 0.95 if _agrees(kind, failure.status) else 0.85
            return _sharpened(_Found(kind, confidence, f"code {failure.code}"), text)
    for code in _codes_in(failure.message[:_EDGE]):
        kind = _kind_of_code(code, failure)
        if kind is not None and (failure.status not in _SURE_STATUSES or _agrees(kind, failure.status)):
            return _sharpened(_Found(kind, 0.90, f"code {code} in the text"), text)
    return None


def _agrees(kind: str, status: int | None) -> bool:
    plain = tables.STATUSES.get(status or 0)
    return plain is None or KINDS[plain[0]] is KINDS[kind]


def _codes_in(message: str) -> Iterator[str]:
    """Find codes in the known places of a text; the more exact key of a JSON body comes first."""
    if "'" in message or '"' in message:
        found = {key.lower().replace("_", ""): code for key, code in reversed(_JSON_CODE.findall(message))}
        yield from (found[key] for key in _KEY_ORDER if key in found)
    yield from _ERRNO_NAME.findall(message)
    for mark, pattern in _MARKED_CODES:
        if mark in message:
            yield from pattern.findall(message)
    if "[Errno " in message:
        yield from (errno.errorcode.get(int(number), "") for number in _ERRNO_NUMBER.findall(message))
    if len(message) <= 60 and message.replace("_", "").isalnum():
        yield message


def _kind_of_code(code: str, failure: Failure) -> str | None:
    name = flat(code)
    service = failure.service.lower().replace("-", "_").partition("_")[0]
    for owner in (service, failure.source):
        kind = tables.SERVICE_CODES.get(owner, {}).get(name)
        if kind is not None:
            return kind
    kind = tables.CODES.get(name) or tables.SQLSTATES.get(code)
    if kind is not None:
        return kind
    if len(code) == 4 and code.isdigit() and "cf-ray" in failure.headers:
        return tables.SERVICE_CODES["cloudflare"].get(code)
    if len(code) == 5 and code.isalnum() and code.isupper() | code.isdigit() and not code.isalpha():
        return tables.SQLSTATE_CLASSES.get(code[:2])
    match = _HTTP_CODE.fullmatch(code) if failure.status is None or failure.status < 400 else None
    return tables.STATUSES.get(int(match[1]), (None,))[0] if match else None


# Headers, exception, status --------------------------------------------------------------------------------------


def _by_header(failure: Failure) -> _Found | None:
    if not failure.headers:
        return None
    challenge = failure.headers.get("www-authenticate", "")
    for error, kind in _CHALLENGES.items():
        if error in challenge:
            return _Found(kind, 0.95, f"header www-authenticate {error}")
    if failure.status in (403, 429, 503):
        for name in _REMAINING:
            if failure.headers.get(name, "").strip() == "0":
                return _Found("rate_limit.window", 0.95, f"header {name} 0")
        if _USED_UP.search(failure.headers.get("ratelimit", "")):
            return _Found("rate_limit.window", 0.95, "header ratelimit: used up")
        if failure.status == 403 and "retry-after" in failure.headers:
            return _Found("rate_limit.window", 0.90, "header retry-after with HTTP 403")
    return None


_CHALLENGES: Final = {"insufficient_scope": "auth.permission", "invalid_token": "auth.expired"}
"""RFC 6750 section 3.1."""
_REMAINING: Final = ("x-ratelimit-remaining", "ratelimit-remaining")
_USED_UP: Final = re.compile(r"(?:remaining|;\s?r)=0(?!\d)")
"""The combined RateLimit field, in the older and the newer form of its draft."""
_CAUSE: Final = re.compile(r"[cC]aused by '?(\w{3,60})\(|^\(([\w.]{3,80})\) ")


def _by_exception(failure: Failure, text: str) -> _Found | None:
    for name in (*_causes_in(failure.message), failure.exc_type or ""):
        kind = _kind_of_exception(name)
        if kind is not None:
            confidence = 0.80 if kind == "bug" else 0.90
            return _sharpened(_Found(kind, confidence, f"exception {name}"), text)
    return None


def _causes_in(message: str) -> Iterator[str]:
    if message.startswith("(") or "aused by " in message:
        yield from (wrapped or leading for wrapped, leading in reversed(_CAUSE.findall(message[:_EDGE])))


def _kind_of_exception(name: str) -> str | None:
    module, _, class_name = name.rpartition(".")
    short = flat(class_name)
    return tables.MODULE_EXCEPTIONS.get(f"{module.partition('.')[0]}.{short}") or tables.EXCEPTIONS.get(short)


def _by_status(failure: Failure, text: str) -> _Found | None:
    status = failure.status
    if status is None or status < 300:
        return None
    for kind in tables.STATUS_MAY_MEAN.get(status, ()):
        phrase = _phrase_in(text, tables.PHRASES[kind])
        if phrase is not None:
            return _sharpened(_Found(kind, 0.80, f"HTTP {status} with the words {phrase!r}"), text)
    plain = tables.STATUSES.get(status)
    return None if plain is None else _sharpened(_Found(*plain, f"HTTP {status}"), text)


# The body of a success, words ------------------------------------------------------------------------------


_REFUSED: Final = re.compile(r"[\"'](?:success|ok)[\"']\s?:\s?false")


def _by_body(failure: Failure, text: str) -> _Found | None:
    """Read what came with a success status and is none: a refusal in JSON, a page for people."""
    if failure.status is None or failure.status >= 300:
        return None
    if _REFUSED.search(text) is not None:
        return _by_words(failure, text) or _Found("data.validation", 0.60, "a refusal inside a success")
    if not text.lstrip().startswith(("<!doctype html", "<html")):
        return None
    if "<form" in text and "password" in text:
        return _Found("auth.invalid", 0.80, "a login form instead of an answer")
    for kind in ("rate_limit.window", "policy", "network.server"):
        phrase = _phrase_in(text, tables.PHRASES[kind])
        if phrase is not None:
            return _Found(kind, 0.80, f"a page with the words {phrase!r}")
    return _Found("data.bad_response", 0.70, "a page instead of an answer")


def _by_words(failure: Failure, text: str) -> _Found | None:
    for kind in tables.WORDS if text else ():
        phrase = _phrase_in(text, tables.PHRASES[kind])
        if phrase is not None:
            alone = failure.status is None and failure.code is None
            confidence = tables.WORD_CONFIDENCE.get(KINDS[kind], 0.60) if alone else 0.60
            return _sharpened(_Found(kind, confidence, f"the words {phrase!r}"), text)
    return None


def _phrase_in(text: str, phrases: Sequence[str]) -> str | None:
    for phrase in phrases:
        if phrase in text:
            return phrase
    return None


def _sharpened(found: _Found, text: str) -> _Found:
    for kind, phrases in tables.SHARPER.get(found.kind, ()) if text else ():
        phrase = _phrase_in(text, phrases)
        if phrase is not None:
            lower = 1.0 if KINDS[kind] is KINDS[found.kind] else 0.9
            return _Found(kind, round(found.confidence * lower, 2), found.because)
    return found


def _diagnosis(found: _Found, failure: Failure, wait_s: float | None) -> Diagnosis:
    retryable, actor, advice = tables.FACTS[found.kind]
    if found.kind == "rate_limit.quota" and flat(failure.code or "") in tables.OWNER_MUST_ACT:
        retryable, actor = False, Actor.OWNER
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


def _signals(found: _Found, failure: Failure, wait_s: float | None) -> Iterator[str]:
    if failure.status is not None:
        yield f"HTTP {failure.status}"
    if failure.code:
        yield f"code {failure.code}"
    if failure.exc_type:
        yield f"exception {failure.exc_type}"
    if wait_s is not None:
        yield f"wait {wait_s:g} s"
    yield found.because
