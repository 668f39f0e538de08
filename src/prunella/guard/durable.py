"""Durable calls as records: what can be kept of a call, how an attempt ended, and what comes back.

Must never hold a secret, nor what no database can hold or nobody can send back: that is refused, or made fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from prunella.core import redact
from prunella.core.clock import Ids, Rng, SystemClock
from prunella.core.errors import InvalidInput

_TEXT_MAX = 500
_NAME_BYTES_MAX = 500
"""For a name and a key each: an index of PostgreSQL takes rows of 2,704 bytes."""
_ARGUMENTS_CHARS_MAX = redact.CHARS_MAX  # beyond it nothing is looked at for secrets
_DEPTH_MAX = 100
WAIT_S_MAX = 366 * 86_400.0
"""What a service may ask for; a date beyond it is a mistake, and would be none in some databases."""
_ids = Ids(SystemClock(), Rng())


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """A call to be written down.

    Args:
        function: name under which the function is known.
        key: its idempotency key; while one waits under it, another is not written.
        arguments: `args` and `kwargs`, as JSON can hold them.
        attempts: how often it was tried already.
        wait_s: seconds until it is due.
        error: how the last attempt failed; kept without its secrets.
        id: its own for ever, so that writing it twice writes it once.

    Raises:
        InvalidInput: the arguments can't be kept: they are no JSON, or hold a secret.
    """

    function: str
    policy: str
    key: str
    arguments: Mapping[str, Any]
    attempts: int
    wait_s: float
    error: str
    id: str = field(default_factory=_ids.new)

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", told(self.error))
        object.__setattr__(self, "wait_s", min(self.wait_s, WAIT_S_MAX))
        for name, value in (("name", self.function), ("key", self.key)):
            if len(storable(value).encode()) > _NAME_BYTES_MAX or storable(value) != value:
                raise InvalidInput(
                    f"durable: the {name} {storable(value)[:50]!r}… can't be kept; take at most {_NAME_BYTES_MAX} "
                    "bytes of text without NUL and lone surrogates"
                )
        text = self.arguments_json()
        if len(text) > _ARGUMENTS_CHARS_MAX:
            raise InvalidInput(
                f"durable {self.function}: its arguments are {len(text)} characters of JSON, and at most "
                f"{_ARGUMENTS_CHARS_MAX} are kept; pass ids and plain values"
            )
        if redact.scrub(text) != text or redact.scrub(self.key) != self.key:
            raise InvalidInput(
                f"durable {self.function}: its arguments or its key hold what looks like a secret, which is never "
                "stored; name the argument in secrets={…} with a function that brings it when the call is made"
            )

    def arguments_json(self) -> str:
        """Return the arguments as they are stored."""
        try:
            _demand_text(self.arguments, 0)
            return json.dumps(self.arguments, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"durable {self.function}: its arguments are no JSON ({error}); pass ids and plain values"
            ) from error


def told(error: str) -> str:
    """Return what an error says as it may be stored: without secrets, short, and text for every database."""
    return storable(redact.scrub(error))[:_TEXT_MAX]


def storable(text: str) -> str:
    """Return `text` with question marks for NUL and lone surrogates, which PostgreSQL or UTF-8 can't hold."""
    return text.replace("\0", "?").encode(errors="replace").decode()


def _demand_text(value: Any, depth: int) -> None:
    """Raise `ValueError` for what JSON can be told but nobody can send back: it would hold up every other call."""
    if depth > _DEPTH_MAX:
        raise ValueError(f"nested deeper than {_DEPTH_MAX} levels")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _demand_text(name, depth + 1)
            _demand_text(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _demand_text(item, depth + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableCall:
    """A call that waits to be made.

    Args:
        function: name under which the function is known.
        args, kwargs: positional and named arguments, as JSON holds them.
        attempts: how often it was tried, in the calling process and since, this time included.
        worker: who claimed it; what another says of it no longer counts.
    """

    id: str
    function: str
    idempotency_key: str
    args: list[Any]
    kwargs: dict[str, Any]
    attempts: int
    created_at: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one attempt at a durable call ended.

    Args:
        state: done; waiting for its next attempt; dead, for a person to look at.
        wait_s: seconds until the next attempt.
        error: what went wrong; kept without its secrets.
        counted: False for an attempt that a guard refused.
    """

    state: Literal["done", "waiting", "dead"]
    wait_s: float = 0.0
    error: str | None = None
    counted: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "wait_s", min(self.wait_s, WAIT_S_MAX))
        if self.error is not None:
            object.__setattr__(self, "error", told(self.error))
