"""The ledger of a FaultyServer: what arrived, what was done, and what should not have happened.

One lock guards the whole server; it is also what waiting for events rests on.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prunella.testing.leaks import Leak, find_secrets

EARLY_SLACK_S = 0.02  # a client's timer may fire a little before ours would


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived; `at_s` is monotonic, header names are lower case, `query` is without its `?`."""

    at_s: float
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def key(self) -> str | None:
        """Return the Idempotency-Key (draft-ietf-httpapi-idempotency-key-header), if there is one."""
        return self.headers.get("idempotency-key")

    @property
    def content(self) -> str:
        """Return what is asked for, short enough to compare and to read."""
        return f"{self.method} {self.path} {hashlib.sha256(self.body).hexdigest()[:12]}"

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Ledger:
    """Keep the books.

    Attributes:
        requests: every request, in order of arrival.
        early: requests that came before a wait that was asked for on their path was over.
        effects_by_key: how often each deed was done, by Idempotency-Key; without one, by method, path and body.
        replayed_from_key: requests answered from memory because their key was known.
        key_misuses: requests that used a known key for something else.
        in_flight_max: the most requests that were being answered at once.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.requests: list[Request] = []
        self.early: list[Request] = []
        self.effects_by_key: Counter[str] = Counter()
        self.replayed_from_key = 0
        self.key_misuses = 0
        self.in_flight = 0
        self.in_flight_max = 0
        self._not_before_s: dict[str, float] = {}

    @property
    def effects(self) -> int:
        """Count the deeds done."""
        with self.changed:
            return self.effects_by_key.total()

    @property
    def double_effects(self) -> int:
        """Count the deeds done again, beyond the first time."""
        with self.changed:
            return self.effects_by_key.total() - len(self.effects_by_key)

    def __repr__(self) -> str:
        with self.changed:
            last = ", ".join(f"{request.method} {request.path}" for request in self.requests[-5:])
            return (
                f"<Ledger: {len(self.requests)} requests (last: {last or 'none'}), {self.effects} effects, "
                f"{self.double_effects} double, {self.replayed_from_key} replayed, {len(self.early)} early, "
                f"{self.key_misuses} key misuses, at most {self.in_flight_max} in flight>"
            )

    def record(self, request: Request, scope: str) -> None:
        """Enter a request; `scope` is what an asked-for wait applies to."""
        with self.changed:
            self.requests.append(request)
            if request.at_s < self._not_before_s.get(scope, 0.0) - EARLY_SLACK_S:
                self.early.append(request)
            self.changed.notify_all()

    def ask_to_wait(self, scope: str, wait_s: float) -> None:
        """Remember that `scope` is not to be asked again for `wait_s`."""
        with self.changed:
            until_s = time.monotonic() + wait_s
            self._not_before_s[scope] = max(until_s, self._not_before_s.get(scope, 0.0))

    def add_effect(self, identity: str) -> None:
        """Enter a deed."""
        with self.changed:
            self.effects_by_key[identity] += 1
            self.changed.notify_all()

    @contextmanager
    def passing(self) -> Iterator[Callable[[], None]]:
        """Count a request as in flight until the block ends or what it is given is called.

        The call is for the moment before the last byte leaves: once the client has it, its next request may be
        here before this block ends, and would seem to overlap.
        """
        ended = False

        def end() -> None:
            nonlocal ended
            with self.changed:
                self.in_flight -= not ended
                ended = True
                self.changed.notify_all()

        with self.changed:
            self.in_flight += 1
            self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            yield end
        finally:
            end()

    def leaks(self, secrets: list[str], token_paths: set[str]) -> list[Leak]:
        """Search every request for `secrets` outside Authorization headers and the bodies sent to `token_paths`."""
        with self.changed:
            requests = list(self.requests)
        found: list[Leak] = []
        for number, request in enumerate(requests):
            here = f"request {number}, {request.method} {request.path}"
            found += find_secrets(request.path, secrets, where=f"{here}: path")
            found += find_secrets(request.query, secrets, where=f"{here}: query")
            for name, value in request.headers.items():
                if name != "authorization":
                    found += find_secrets(f"{name}: {value}", secrets, where=f"{here}: header {name}")
            if request.path not in token_paths:
                found += find_secrets(request.body, secrets, where=f"{here}: body")
        return found
