"""What a failure shows, in the form in which knowledge is looked up: flat codes, class names, a lower-case text.

Reads codes only in known places: the field of the record, the keys of a JSON body, `SQLSTATE[…]`, `[Errno …]` and their
like. Must never decide what anything means.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prunella.core.records import Failure

_EDGE: Final = 1024
"""Only so much of both ends of a text is read: what matters stands first or last."""
_NAME_MAX: Final = 300
_NOT_ALNUM: Final = re.compile("[^a-z0-9]+")
_SUFFIX: Final = re.compile("(?:exception|error|fault)$")
_JSON_CODE: Final = re.compile(
    r"[\"'](code|error|reason|error_?code|error_?type|errcode|sqlstate|type|status)[\"']\s?:\s?"
    r"[\"']?(-?[A-Za-z0-9][\w.:/-]{0,60})(?![\w ])",
    re.IGNORECASE,
)
_ERRNO_NAME: Final = re.compile(
    r"[EU](?<!\w.)(?:[A-Z]{3,15}|AI_[A-Z]{3,12}|(?:ND_ERR|RR)_[A-Z_]{3,40})(?!\w)", re.DOTALL
)
_MARKED_CODES: Final = (
    ("error occurred (", re.compile(r"error occurred \((\w{3,60})\)")),
    ("StatusCode.", re.compile(r"StatusCode\.([A-Z_]{2,20})")),
    ("rror code: ", re.compile(r"[eE]rror code: (\d{3,6})(?!\d)")),
    ("SQLSTATE", re.compile(r"SQLSTATE[\[: ]{1,2}([0-9A-Z]{5})")),
    ("error=", re.compile(r"error=\"?([a-z_]{4,40})")),
    ("ORA-", re.compile(r"(ORA-\d{5})")),
    ("AADSTS", re.compile(r"(AADSTS\d{4,7})")),
)
_ERRNO_NUMBER: Final = re.compile(r"\[Errno (-?\d{1,3})\]")
_KEY_ORDER: Final = ("code", "errorcode", "error", "reason", "sqlstate", "errcode", "errortype", "type", "status")
_CAUSE: Final = re.compile(r"[cC]aused by '?(\w{3,60})\(|^\(([\w.]{3,80})\) ")


def flat(name: str) -> str:
    """Reduce a code or class name to the form used in tables: lower case, letters and digits, no final "error"."""
    plain = _NOT_ALNUM.sub("", name.lower())
    return _SUFFIX.sub("", plain) or plain


def in_words(name: str) -> str:
    """Write a name in words with underscores: `AccessTokenExpiredError` is `access_token_expired_error`."""
    return "_".join(
        part.lower() for part in _PART.findall(name.rpartition(".")[2] if _DOTTED.fullmatch(name) else name)
    )


_LOOKS_LIKE_CODE: Final = re.compile(r"(?=.*[_A-Z0-9])\w+")
_DOTTED: Final = re.compile(r"[\w.]+")
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class Evidence:
    """One failure, read once.

    Args:
        names: what the service is called beside its configured name: by its vendor.

    `text` is the message in lower case, both ends of it; `codes` every code with its flat form, the failure's own
    first; `classes` (as written, flat with the root of its module, flat), the deepest cause first, then the exception
    and what its class is made of; `phrase` is what knowledge found in the text, None before it looked.
    """

    __slots__ = ("classes", "codes", "failure", "flat_codes", "headers", "names", "phrase", "source", "status", "text")

    def __init__(self, failure: Failure, names: tuple[str, ...] = ()) -> None:
        message = failure.message
        self.failure = failure
        self.phrase: tuple[str, str] | None = None
        self.names = (failure.service, *names)
        self.status = failure.status
        self.headers: Mapping[str, str] = failure.headers
        self.source = failure.source
        start = message if len(message) <= 2 * _EDGE else message[:_EDGE]
        self.text = (message if start is message else f"{start} {message[-_EDGE:]}").lower()
        own = (failure.code[:_NAME_MAX],) if failure.code else ()
        found = dict.fromkeys((*own, *_codes_in(start)))
        self.codes = [(code, flat(code)) for code in found]
        self.flat_codes = frozenset([short for _, short in self.codes])
        self.classes = [_class(name) for name in _names_of(failure, start) if name]


def _names_of(failure: Failure, start: str) -> Iterable[str]:
    """Return the classes of a failure, the one that says most first."""
    own = (failure.exc_type or "")[:_NAME_MAX]
    behind = reversed(_telling(own, failure.causes)) if failure.causes else ()
    bases = failure.bases if failure.status is None else ()  # else it is an answer, whatever its class is made of
    return dict.fromkeys((*behind, *_causes_in(start), own, *bases))


def _telling(own: str, causes: tuple[str, ...]) -> list[str]:
    """Return the causes that say more than what was raised from them, nearest first.

    Behind a time-out stands only how it was noticed: a cancelled wait, a socket that was not ready, an empty queue.
    """
    found: list[str] = []
    for name in causes:
        if _ENDS.search((found[-1] if found else own).lower()):
            break
        if name not in _MACHINERY:
            found.append(name)
    return found


_ENDS: Final = re.compile("timeout|timedout|decodeerror|cancelled")
_MACHINERY: Final = frozenset({
    "asyncio.CancelledError", "BlockingIOError", "InterruptedError", "StopIteration", "StopAsyncIteration",
    "queue.Empty", "queue.Full", "asyncio.QueueEmpty", "asyncio.QueueFull", "ssl.SSLWantReadError",
    "ssl.SSLWantWriteError", "anyio.WouldBlock", "KeyError", "IndexError", "AttributeError",
})  # fmt: skip
"""Raised within a library to steer itself; what stands in front of them says what it means."""


def _class(name: str) -> tuple[str, str, str]:
    module, _, short = name.rpartition(".")
    return name, f"{module.partition('.')[0].lower()}.{flat(short)}", flat(short)


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
    if len(message) <= 60 and _LOOKS_LIKE_CODE.fullmatch(message):
        yield message


def _causes_in(message: str) -> Iterator[str]:
    if message.startswith("(") or "aused by " in message:
        yield from (wrapped or leading for wrapped, leading in reversed(_CAUSE.findall(message)))
