"""Decide which failures are the same problem: those with equal fingerprints, and no others.

What differs between two occurrences (ids, times, amounts, hosts) is masked, the words stay. In doubt they stay too:
two groups of one problem cost a second look, one group of two problems costs a wrong repair.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from prunella.core.records import Diagnosis, Failure

ALGORITHM: Final = "2"
"""Stands in front of each fingerprint; raise it with every change here, so that old and new groups never mix."""

_CHARS_MAX: Final = 1000
_FRAMES_MAX: Final = 3
MASKS: Final = {
    "secret": r"\[REDACTED:[a-z]{1,16}:[0-9a-f]{4}\]",
    "quoted": r"(?<![:\[{,(=])(?<![:\[{,(=] )"
    r"(?:\"(?![A-Za-z_.]{1,80}\")[^\"\n]{1,200}+\"|'(?![A-Za-z_.]{1,80}')[^'\n]{1,200}+')",
    # Looks like data and is a word.
    "keep": r"(?i:HTTP(?:/[\d.]{1,3})?|status(?:[ _]code)?|code)[ :=]{1,2}[1-5]\d\d(?![\w.])"
    r"|(?i:HTTP/[\d.]{1,3}|oauth\d|utf-?(?:8|16)|base64|sha-?\d{1,3}|md5|ipv[46]|x509|pgrst\d{3}|v\d{1,2})(?![\w-])",
    "weekday": r"[MTWFS](?:on|ue|ed|hu|ri|at|un)[a-z]{0,6},? (?=\d)",
    "url": r"[A-Za-z][A-Za-z+]{1,14}://[^\s\"'<>)\],]{1,1000}+",
    "email": r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}",
    "uuid": r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?!\w)",
    "time": r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?)?(?![\w-])"
    r"|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}(?![\w.])|\d{1,2}[ /-][A-Z][a-z]{2}[ /-]\d{2,4}(?!\w)"
    r"|\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?[AaPp][Mm]| ?(?:Z|UTC|GMT))?(?!\w)",
    "ip": r"\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5}|/\d{1,2})?(?![\w.])|(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4}(?!\w)",
    "host": r"(?:[a-z0-9][a-z0-9-]{0,62}\.){1,6}"
    r"(?:com|net|org|io|ai|dev|app|cloud|co|edu|gov|biz|xyz|arpa|test|example|local|internal|lan|corp|svc"
    r"|eu|de|fr|uk|us|au|br|ca|ch|cn|cz|dk|es|fi|jp|kr|mx|nl|nz|pt|ru|se|za)(?::\d{1,5})?(?![\w-]|\.\w)",
    "duration": r"\d{1,12}(?:\.\d{1,9})? ?(?:ms|msec|s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?|days?)(?!\w)",
    "number": r"-?\d{1,400}+(?:[.,]\d{1,40}+){0,8}+%?(?![\w-])",
    "id": r"(?=[A-Za-z_-]{0,40}\d)[\w-]{1,1000}+",
}
"""In order: the first that fits wins."""
_WORD_FIRST: Final = ("secret", "quoted", "keep", "weekday")
_PLAIN_WORD: Final = r"[A-Za-z]{1,64}+(?![\w@:.+-])"


def _one_of(names: Iterable[str]) -> str:
    return "|".join(f"(?P<{name}>{MASKS[name]})" for name in names)


_DATA_FIRST: Final = tuple(name for name in MASKS if name not in _WORD_FIRST)
# Most places hold a plain word: those are left at once, before the masks for data are tried on them.
_MASK: Final = re.compile(
    rf"(?<![A-Za-z0-9_])(?:{_one_of(_WORD_FIRST)}|(?!{_PLAIN_WORD})(?:{_one_of(_DATA_FIRST)}))", re.ASCII
)


def fingerprint(failure: Failure, diagnosis: Diagnosis) -> str:
    """Return the exact group of a failure.

    It is made of service, operation, kind, code, exception class, masked message, and of the functions in which the
    application failed where there is a stack; line numbers change with every release and are left out.
    """
    parts = (
        *(failure.service, failure.operation, diagnosis.kind, failure.code or "", failure.exc_type or ""),
        mask(failure.message),
        "\n".join(failure.frames[:_FRAMES_MAX]),
    )
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16)
    return f"{ALGORITHM}:{digest.hexdigest()}"


def mask(text: str) -> str:
    """Return the first 1,000 characters of `text` with `<id>`, `<time>`, `<number>` ... in place of what varies."""
    return " ".join(_MASK.sub(_placeholder, _beginning(text)).split())


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message: fixed words, or what a mask covers."""

    text: str
    mask: str | None = None


def pieces(text: str) -> list[Piece]:
    """Part the first 1,000 characters of `text` into what stays and what varies, as `mask` sees it."""
    text = _beginning(text)
    found, end = [], 0
    for match in _MASK.finditer(text):
        if match.lastgroup == "keep":
            continue
        found += [Piece(text[end : match.start()]), Piece(match[0], match.lastgroup)]
        end = match.end()
    found.append(Piece(text[end:]))
    return [piece for piece in found if piece.text]


def _beginning(text: str) -> str:
    """Return what is read of a message: whole words, where it is longer."""
    return text if len(text) <= _CHARS_MAX else text[:_CHARS_MAX].rpartition(" ")[0] or text[:_CHARS_MAX]


def _placeholder(match: re.Match[str]) -> str:
    name = match.lastgroup or ""
    if name == "keep":
        return match[0]
    return "" if name == "weekday" else f"<{name}>"


_VERSION: Final = re.compile(r"v\d{1,3}(?:\.\d{1,3})?|\d{4}-\d\d|[a-z]{2,20}\d", re.IGNORECASE)
_ORIGIN: Final = re.compile(r"\A[A-Za-z][A-Za-z+.-]{0,20}://[^/?#]*")
_SEGMENT_MAX: Final = 48


def operation_of(method: str, endpoint: str) -> str:
    """Return what was attempted, without ids, host or query: `POST /contacts/{id}`.

    Args:
        method: HTTP method, in any case.
        endpoint: absolute address or path. Versions stay (`v3`, `2024-01`), any other part that holds a digit, an @
            or more than 48 characters is an id.
    """
    path = re.split("[?#]", _ORIGIN.sub("", endpoint.strip()), maxsplit=1)[0]
    segments = [_segment(segment) for segment in path.split("/") if segment]
    return f"{method.strip().upper()} /{'/'.join(segments)}"


def _segment(segment: str) -> str:
    stem, dot, ending = segment.rpartition(".")
    if dot and ending.isalpha() and len(ending) <= 5 and "@" not in stem:
        return f"{_segment(stem)}.{ending}"
    if _VERSION.fullmatch(segment):
        return segment
    varies = len(segment) > _SEGMENT_MAX or "@" in segment or "%" in segment or any(map(str.isdigit, segment))
    return "{id}" if varies else segment
