"""Everything that reads what strangers write, as functions of some bytes: none may raise, none may be slow.

`make fuzz` drives them with atheris, guided by coverage; the tests replay what was ever found and draw a few hundred
inputs with hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType, SimpleNamespace

from fuzz import doors, files
from fuzz.cutting import NOW, texts
from prunella.core import redact
from prunella.core.errors import BadResponse
from prunella.core.records import Failure
from prunella.core.retry_after import retry_after_s
from prunella.diagnosis import classify
from prunella.diagnosis.fingerprint import fingerprint, mask, operation_of
from prunella.diagnosis.pasted import failure_of
from prunella.diagnosis.safety import refusal
from prunella.diagnosis.steps import TEXT_MAX
from prunella.diagnosis.templates import Template, template
from prunella.diagnosis.verifier import Verifier
from prunella.guard.response import json_response, read_response

_SLOW_S = 0.2
_ONCE_S: Mapping[str, float] = MappingProxyType(
    {"templates": 1.0, "recognition": 0.6, "packs": 0.6, "messages": 0.8, "configuration": 0.6}
)
"""Expressions are compiled and YAML is read once, when saved or started; a message goes out by every channel."""


def slow_s(name: str) -> float:
    """Return how long a target may take at most: no stranger's word may hold a worker up for longer."""
    return _ONCE_S.get(name, _SLOW_S)


def diagnose(data: bytes) -> None:
    """Classify, group and explain one failure."""
    message, code, exc_type, service, header = texts(data, 5)
    name, _, value = header.partition(":")
    failure = Failure(
        service=service[:200] or "acme",
        status=100 + data[0] * 2 if data else None,
        code=code or None,
        exc_type=exc_type or None,
        message=message,
        headers={name.lower(): value} if name else {},
    )
    fingerprint(failure, classify(failure, now=NOW))


def scrub(data: bytes) -> None:
    """Take secrets out, twice: the second time there is nothing left to do."""
    text = data.decode("utf-8", "surrogateescape")
    redact.scrub(text)
    redact.scrub_tree({"body": [text, {text[:50]: text}]})


def masking(data: bytes) -> None:
    """Mask a message and an address."""
    first, second = texts(data, 2)
    mask(first)
    operation_of("POST", second)


def waits(data: bytes) -> None:
    """Read how long to wait, in headers of any shape."""
    name, value, date = texts(data, 3)
    headers = {name.lower() or "retry-after": value, "date": date}
    wait_s = retry_after_s(headers, NOW)
    assert wait_s is None or wait_s >= 0


def pasted(data: bytes) -> None:
    """Read what somebody pasted."""
    failure_of(data.decode("utf-8", "surrogateescape"), service="acme")


def expressions(data: bytes) -> None:
    """Judge an expression, of a length that is accepted at all."""
    refusal(data.decode("utf-8", "surrogateescape"))


def recognition(data: bytes) -> None:
    """Look for an expression that was accepted in a text, and in a text made of its own letters: never slow."""
    expression, text = texts(data, 2)
    if refusal(expression) is not None:
        return
    verifier = Verifier(expression, ignore_case=True)
    verifier.spans(text[:TEXT_MAX])
    verifier.spans((expression * TEXT_MAX)[:TEXT_MAX])


def templates(data: bytes) -> None:
    """Learn from a message: the expression is safe, fits its own message, and is quick on what is nearly one."""
    (text,) = texts(data, 1)
    message = Failure(service="acme", message=text).message
    made = template(message)
    if not isinstance(made, Template):
        return
    assert refusal(made.expression) is None
    verifier = Verifier(made.expression, ignore_case=True)
    assert verifier.spans(message), made.expression
    verifier.spans(f"{message}!")
    verifier.spans((message * TEXT_MAX)[:TEXT_MAX])


def responses(data: bytes) -> None:
    """Judge the answer of a service."""
    kind, waits_for, body = texts(data, 3)
    answer = SimpleNamespace(
        status_code=100 + data[0] * 2 if data else 200,
        headers={"content-type": kind, "retry-after": waits_for},
        content=body.encode("utf-8", "surrogateescape"),
        text=body,
    )
    for one in (answer, body, data):
        read_response(one)
        with suppress(BadResponse):
            json_response(one)


_HERE = (diagnose, scrub, masking, waits, pasted, expressions, recognition, templates, responses)
_DOORS = (doors.events, doors.inbound, doors.signatures, doors.chat, doors.tokens, doors.queries)
_FILES = (files.packs, files.configuration, files.spool, files.names, files.logs, files.messages, files.addresses)
TARGETS: Mapping[str, Callable[[bytes], None]] = MappingProxyType(
    {one.__name__: one for one in (*_HERE, *_DOORS, *_FILES)}
)
