"""What stands at a path of a FaultyServer when no fault is in the way: the API itself, and receivers of messages.

A place is asked with the server's lock held: it decides, it never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from prunella.testing.ledger import Ledger, Request
from prunella.testing.words import Reply, json_reply

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1
DONE = json_reply(200, {"ok": True})


class Place(Protocol):
    """Somebody who answers; `delay_s` passes before each request is looked at."""

    delay_s: float

    def perform(self, request: Request, told: Reply | None) -> Reply:
        """Do what is asked for and answer, with `told` where the script says how."""
        ...


def key_or_content(request: Request) -> str:
    """Tell deeds apart by key, those without one by what they ask for: the same twice is a deed done twice."""
    return request.key or request.content


class Api:
    """Do each deed, once per Idempotency-Key where keys are honoured.

    Args:
        honour_keys: answer a known key from memory; 422 where it is used for something else.
        identity: names the deed that a request stands for, for the count of double effects.
    """

    delay_s = 0.0

    def __init__(self, ledger: Ledger, *, honour_keys: bool, identity: Callable[[Request], str]) -> None:
        self._ledger = ledger
        self._honour_keys = honour_keys
        self._identity = identity
        self._answers: dict[str, tuple[str, Reply]] = {}

    def perform(self, request: Request, told: Reply | None) -> Reply:
        if request.method in SAFE_METHODS:
            return told or DONE
        if self._honour_keys and request.key in self._answers:
            return self._from_memory(request, *self._answers[request.key])
        answer = told or DONE
        self._ledger.add_effect(self._identity(request))
        if request.key:
            self._answers[request.key] = (request.content, answer)
        return answer

    def _from_memory(self, request: Request, content: str, answer: Reply) -> Reply:
        if request.content != content:
            self._ledger.key_misuses += 1
            return json_reply(422, {"error": "idempotency_key_reused"})
        self._ledger.replayed_from_key += 1
        return Reply(answer.status, {**answer.headers, "Idempotent-Replayed": "true"}, answer.body)


class Receiver:
    """Keep what is posted: a chat webhook or a webhook of one's own. It does not look at idempotency keys.

    Attributes:
        received: the requests that were accepted, with headers and raw body for checking signatures.
    """

    delay_s = 0.0

    def __init__(self, ledger: Ledger, accepted: Reply, *, json_only: bool) -> None:
        self._ledger = ledger
        self._accepted = accepted
        self._json_only = json_only
        self.received: list[Request] = []

    @property
    def messages(self) -> list[Any]:
        """Return the JSON bodies that were accepted."""
        return [request.json() for request in list(self.received)]

    def perform(self, request: Request, told: Reply | None) -> Reply:
        if request.method != "POST" or (self._json_only and not _is_json_object(request)):
            return Reply(400, {"Content-Type": "text/plain"}, b"invalid_payload")
        self.received.append(request)
        self._ledger.changed.notify_all()
        return told or self._accepted


def _is_json_object(request: Request) -> bool:
    try:
        return isinstance(request.json(), dict)
    except ValueError:
        return False


def checked_path(path: str) -> str:
    """Return `path` if a request could ever match it."""
    if not path.startswith("/"):
        raise ValueError(f"FaultyServer: path {path!r} does not begin with '/'; write '/{path}'")
    return path


def longest_prefix(prefixes: Iterable[str], path: str) -> str | None:
    """Return the closest of `prefixes` that covers `path`, by whole segments."""
    covering = [prefix for prefix in prefixes if path == prefix or path.startswith(prefix.rstrip("/") + "/")]
    return max(covering, key=len, default=None)
