"""Layers of evidence, from the strongest to the weakest; each says what it knows, or nothing.

The service's own profile, headers, the codes of protocols, what services agree on, the exception's class, pages for
people, the words of a name, the status, words. What they know stands in `profiles/`; their order is the whole rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from prunella.core.records import KINDS
from prunella.diagnosis import tables
from prunella.diagnosis.evidence import Evidence, in_words
from prunella.diagnosis.knowledge import Knowledge
from prunella.diagnosis.profile import Profile


class Found(NamedTuple):
    """What a layer says.

    Args:
        because: the evidence, for people.
        code: the flat code that decided, if one did.
    """

    kind: str
    confidence: float
    because: str
    code: str = ""


# The service's own profile ----------------------------------------------------------------------------------------


_SURE_STATUSES: Final = frozenset({401, 407, 408, 429, 500, 502, 504})


def _by_profile(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    if profile is None:
        return None
    for rule in profile.rules:
        if rule.fits(evidence):
            return Found(rule.kind, 0.95 if rule.is_exact else 0.90, f"{profile.name}: {rule.seen(evidence)}")
    return _among(evidence, lambda _, short: profile.codes.get(short))


def _among(evidence: Evidence, kind_of: Callable[[str, str], str | None], *, lower: float = 0.0) -> Found | None:
    """Return what the first known code means; one that stands in the text gives way to a status that is sure."""
    own = evidence.failure.code
    for code, short in evidence.codes:
        kind = kind_of(code, short)
        if kind is None:
            continue
        agrees = _agrees(kind, evidence.status)
        if code == own:
            return Found(kind, round((0.95 if agrees else 0.85) - lower, 2), f"code {code}", short)
        if evidence.status not in _SURE_STATUSES or agrees:
            return Found(kind, round(0.90 - lower, 2), f"code {code} in the text", short)
    return None


def _agrees(kind: str, status: int | None) -> bool:
    plain = tables.STATUSES.get(status or 0)
    return plain is None or KINDS[plain[0]] is KINDS[kind]


# Codes that everybody speaks --------------------------------------------------------------------------------------


def _by_protocol(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    for rule in known.rules(evidence):
        if rule.fits(evidence):
            return Found(rule.kind, 0.90, rule.seen(evidence), next(iter(rule.codes & evidence.flat_codes), ""))
    found = _among(evidence, lambda _, short: known.kind_of_signed_code(short, evidence))
    if found is not None:
        return _sharpened(found, evidence, known)
    found = _among(evidence, lambda code, short: _common(code, short, evidence, known))
    return found and _sharpened(found, evidence, known)


def _common(code: str, short: str, evidence: Evidence, known: Knowledge) -> str | None:
    kind = known.kind_of_code(code, short, evidence.source)
    if kind is not None:
        return kind
    match = _HTTP_CODE.fullmatch(code) if evidence.status is None or evidence.status < 400 else None
    return tables.STATUSES.get(int(match[1]), (None,))[0] if match else None


_HTTP_CODE: Final = re.compile(r"(?:HTTP[ _-]?)?([1-5]\d\d)", re.IGNORECASE)


def _by_vote(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    """Believe of a stranger's code what most services mean by it."""
    found = _among(evidence, lambda _, short: known.vote(short), lower=0.1)
    if found is not None and evidence.status == 503 and not _agrees(found.kind, 503):
        return None
    return found and _sharpened(found, evidence, known)


# Headers, exception, status --------------------------------------------------------------------------------------


def _by_header(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    headers, status = evidence.headers, evidence.status
    if not headers:
        return None
    challenge = headers.get("www-authenticate", "")
    for error, kind in _CHALLENGES.items():
        if error in challenge:
            return Found(kind, 0.95, f"header www-authenticate {error}")
    if status in (403, 429, 503):
        for name in _REMAINING:
            if headers.get(name, "").strip() == "0":
                return Found("rate_limit.window", 0.95, f"header {name} 0")
        if _USED_UP.search(headers.get("ratelimit", "")):
            return Found("rate_limit.window", 0.95, "header ratelimit: used up")
        if status == 403 and "retry-after" in headers:
            return Found("rate_limit.window", 0.90, "header retry-after with HTTP 403")
    return None


_CHALLENGES: Final = {"insufficient_scope": "auth.permission", "invalid_token": "auth.expired"}
"""RFC 6750 section 3.1."""
_REMAINING: Final = ("x-ratelimit-remaining", "ratelimit-remaining", "x-rate-limit-remaining")
_USED_UP: Final = re.compile(r"(?:remaining|;\s?r)=0(?!\d)")
"""The combined RateLimit field, in the older and the newer form of its draft."""


def _by_exception(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    for name, long, short in evidence.classes:
        kind = profile.exceptions.get(long) or profile.exceptions.get(short) if profile is not None else None
        kind = kind or _kind_of_class(long, short, known)
        if kind is not None:
            confidence = 0.80 if kind == "bug" else 0.90
            return _sharpened(Found(kind, confidence, f"exception {name}"), evidence, known)
    return None


def _kind_of_class(long: str, short: str, known: Knowledge) -> str | None:
    if known.says_nothing(long, short):
        return None
    return known.kind_of_exception(long, short)


def _by_name(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    """Read the words of a code or a class that nobody knows, where the status leaves room for them."""
    if evidence.status is not None and evidence.status not in _OPEN_STATUSES:
        return None
    names = [evidence.codes[0][0]] if evidence.failure.code else [name for name, _, _ in evidence.classes]
    for name in names:
        kind = known.kind_of_name(in_words(name))
        if kind is not None:
            return _sharpened(Found(kind, 0.75, f"the name {name}"), evidence, known)
    return None


_OPEN_STATUSES: Final = frozenset({200, 400, 402, 403, 404, 405, 409, 412, 422, 423, 500})
"""They are used for so many things that a name says more."""


def _by_status(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    status = evidence.status
    if status is None or status < 300:
        return None
    own = profile.statuses.get(status) if profile is not None else None
    if own is not None:
        return Found(own, 0.90, f"HTTP {status} of this service")
    plain = tables.STATUSES.get(status)
    if status in _SAYS_LITTLE:
        found = known.phrase(evidence)
        if found is not None and is_telling(found[0]) and found[1] in _SAYS_LITTLE[status]:
            return _sharpened(Found(found[1], 0.80, f"HTTP {status} with the words {found[0]!r}"), evidence, known)
    if plain is None:
        return None
    kind, confidence = plain
    if status in _SAYS_LITTLE and (evidence.failure.code or _is_about_something_else(kind, evidence, known)):
        confidence = min(confidence, _DOUBTFUL)  # the service said more, and nobody here knows what it means
    return _sharpened(Found(kind, confidence, f"HTTP {status}"), evidence, known)


_DOUBTFUL: Final = 0.80


def _is_about_something_else(kind: str, evidence: Evidence, known: Knowledge) -> bool:
    """Tell whether a message has words, and none that speak of this kind's category."""
    phrase = known.phrase(evidence)
    return " " in evidence.text and (phrase is None or KINDS[phrase[1]] is not KINDS[kind])


_EVERYTHING: Final = frozenset(KINDS)
_OF_REQUESTS: Final = _EVERYTHING - {"network.server"}
_SAYS_LITTLE: Final = {
    400: _OF_REQUESTS, 402: frozenset({"data.business", "rate_limit.quota"}),
    403: _EVERYTHING, 404: frozenset({"config", "auth.permission"}), 405: frozenset({"data.business"}),
    409: frozenset({"network.contention", "data.business"}), 422: _OF_REQUESTS,
    423: frozenset({"policy", "billing", "auth.invalid"}),
    500: _EVERYTHING - {"bug"}, 503: frozenset({"rate_limit.window", "rate_limit.quota", "resource", "billing"}),
    401: frozenset({"auth.invalid", "auth.expired", "auth.permission", "policy", "billing", "rate_limit.quota"}),
}  # fmt: skip


# The body of a success, words ------------------------------------------------------------------------------


_REFUSED: Final = re.compile(r"[\"'](?:success|ok)[\"']\s?:\s?false")


def _by_body(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    """Read what came with a success status and is none: a refusal in JSON, a page for people."""
    text = evidence.text
    if evidence.status is not None and evidence.status < 300 and _REFUSED.search(text) is not None:
        return _by_words(evidence, known, profile) or Found("data.validation", 0.60, "a refusal inside a success")
    return None


def _by_page(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    """Read a page for people that came instead of an answer: a login form, a wall, a sign that all is shut."""
    text, status = evidence.text, evidence.status
    if not text.lstrip().startswith(("<!doctype html", "<html")):
        return None
    if status is not None and status not in _PAGE_STATUSES:
        return None
    if status == 404:
        return Found("config", 0.70, "a page where no page can be: nothing answers at this address")
    if "<form" in text and "password" in text:
        return Found("auth.invalid", 0.80, "a login form instead of an answer")
    for kind, marks in known.pages.items():
        mark = phrase_in(text, marks)
        if mark is not None:
            return Found(kind, 0.80, f"a page with the words {mark!r}")
    return Found("data.bad_response", 0.70, "a page instead of an answer") if status is None or status < 300 else None


_PAGE_STATUSES: Final = frozenset({200, 202, 203, 400, 403, 404, 405, 500, 503})


def _by_words(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    found = known.phrase(evidence)
    if found is None:
        return None
    phrase, kind = found
    alone = evidence.status is None and evidence.failure.code is None
    confidence = tables.WORD_CONFIDENCE.get(KINDS[kind], 0.60) if alone else 0.60
    return _sharpened(Found(kind, confidence, f"the words {phrase!r}"), evidence, known)


def _by_plain_words(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    """Read a short message as one reads a name, when all else is silent."""
    message = evidence.failure.message
    kind = known.kind_of_name(in_words(message)) if 0 < len(message) <= _SHORT else None
    return Found(kind, 0.55, "the words of the message") if kind in _PLAIN else None


_SHORT: Final = 200
_PLAIN: Final = frozenset(kind for kind in KINDS if kind.startswith(("auth.", "rate_limit.", "network."))) | {
    "data.not_found", "data.conflict", "data.too_large",
}  # fmt: skip
"""Of these people speak in the words of names; `wrong` or `refused` in a sentence may mean anything."""


def _by_wrapper(evidence: Evidence, known: Knowledge, profile: Profile | None) -> Found | None:
    """Believe at last even a class that is used for anything."""
    for name, long, short in evidence.classes:
        kind = known.kind_of_exception(long, short)
        if kind is not None:
            return Found(kind, 0.60, f"exception {name}")
    return None


_Layer = Callable[[Evidence, Knowledge, Profile | None], Found | None]
LAYERS: Final[tuple[_Layer, ...]] = (
    _by_profile, _by_header, _by_protocol, _by_vote, _by_exception, _by_page, _by_name, _by_status, _by_body, _by_words,
    _by_wrapper, _by_plain_words,
)  # fmt: skip


def phrase_in(text: str, phrases: Iterable[str]) -> str | None:
    """Return the first of these phrases that stands in a text."""
    for phrase in phrases:
        if phrase in text:
            return phrase
    return None


def is_telling(phrase: str) -> bool:
    """Tell whether a phrase is more than one common word: only then may it overrule other evidence."""
    return " " in phrase or not phrase.isascii()


def _sharpened(found: Found, evidence: Evidence, known: Knowledge) -> Found:
    """Let the text say which of several things a broad answer means here."""
    finer = tables.FINER.get(found.kind)
    phrase = known.phrase(evidence) if finer is not None else None
    if finer is None or phrase is None or phrase[1] not in finer or not is_telling(phrase[0]):
        return found
    lower = 1.0 if KINDS[phrase[1]] is KINDS[found.kind] else 0.9
    return found._replace(kind=phrase[1], confidence=round(found.confidence * lower, 2))
