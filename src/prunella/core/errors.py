"""The one error tree. Every error prunella raises itself stands here, so that users can catch by intent.

PrunellaError
├── ConfigError           the configuration cannot be used; lists every mistake at once
├── InvalidInput          a caller handed over something that can't be accepted; nothing was recorded
├── Outdated              somebody decided on a version that no longer stands
├── IllegalTransition     a state change that the state machine does not allow
├── StoreError
│   ├── SchemaBehind      the tables are older than this version of prunella
│   ├── StoreLocked       another process owns this SQLite file
│   ├── StoreUnavailable  the database does not answer; nothing was recorded
│   │   └── StoreRefused  it answers, and refuses us until a person changes something
│   └── Conflict          the row changed since it was read (compare-and-set lost)
├── DatabaseUnavailable   a database of the user does not answer, or not in time
├── DatabaseRefused       a database of the user answers, and refuses: a right, a name, a constraint
├── SecretError           a secret is missing, or its ciphertext does not open with the keys at hand
├── EgressError
│   ├── EgressRefused     the address is not one that prunella may call; nothing was sent
│   └── EgressFailed      the call was made and no usable reply came back
├── Undelivered           a notification did not arrive
└── GuardError            a guard kept a call from being made, or from being made again
    ├── CircuitOpen       the breaker refuses: the service is known to be down
    ├── RateLimited       the limiter refuses: its turn would come too late
    ├── LoadShed          the bulkhead or the pool monitor refuses: there is too much work already
    ├── DeadlineExceeded  the time for the whole call is used up (also a TimeoutError)
    ├── AttemptTimeout    one attempt took too long (also a TimeoutError)
    ├── BadResponse       an answer came, and it is not what was promised
    ├── RetryLater        the service asks for a longer wait than a call can sit out
    └── HandedOver        the call was written down and will be made later
"""

from __future__ import annotations

from datetime import datetime


class PrunellaError(Exception):
    """Root of everything prunella raises on purpose; `code` is stable and anchors the documentation."""

    code = "PR000"


class ConfigError(PrunellaError):
    """Refuse a configuration; `problems` holds one line per mistake, so all are seen at once."""

    code = "PR100"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class InvalidInput(PrunellaError):
    """Refuse input from outside; `pointer` is the JSON pointer (RFC 6901) of the offending value."""

    code = "PR110"

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        self.pointer = pointer
        super().__init__(detail)


class Outdated(PrunellaError):
    """Refuse a change that was meant for another version of the thing; nothing was changed."""

    code = "PR111"


class IllegalTransition(PrunellaError):
    """Refuse a state change that the machine does not list."""

    code = "PR200"


class StoreError(PrunellaError):
    """Say that prunella's own tables could not be read or written."""

    code = "PR300"


class SchemaBehind(StoreError):
    """Refuse to run on tables of an older version."""

    code = "PR301"


class StoreLocked(StoreError):
    """Refuse a second process on one SQLite file."""

    code = "PR302"


class StoreUnavailable(StoreError):
    """Say that the database does not answer; nothing of this request was recorded."""

    code = "PR303"


class StoreRefused(StoreUnavailable):
    """Say that the database refuses us (password, role, right): waiting helps nobody, a person has to act."""

    code = "PR305"


class Conflict(StoreError):
    """Say that a row changed since it was read; read again and decide anew."""

    code = "PR304"


class DatabaseUnavailable(PrunellaError):
    """Say that a user's database does not answer, or not within its limits; nothing of the transaction stays."""

    code = "PR310"


class DatabaseRefused(PrunellaError):
    """Say what a user's database refused; nothing of the transaction stays."""

    code = "PR311"


class SecretError(PrunellaError):
    """Say that a secret is missing or does not open; the message never holds its value."""

    code = "PR400"


class EgressError(PrunellaError):
    """Say that a call to the outside did not bring back a usable reply."""

    code = "PR500"


class EgressRefused(EgressError):
    """Refuse an address before anything was sent."""

    code = "PR501"


class EgressFailed(EgressError):
    """Report a call without a reply. `sent` is False only where it is proven that nothing left."""

    code = "PR502"

    def __init__(self, detail: str, *, exc_type: str, errno_name: str | None = None, sent: bool = True) -> None:
        self.exc_type = exc_type
        self.errno_name = errno_name
        self.sent = sent
        super().__init__(detail)


class Undelivered(PrunellaError):
    """Say that a notification did not arrive.

    Args:
        reason: what happened, without the channel's address.
        retry_after_s: seconds the receiver asked for, None where it named none.
        permanent: another try would end the same; a person has to look at the channel.
        left: the recipients that are still to be told, where others were; empty: all.
    """

    code = "PR510"

    def __init__(
        self,
        reason: str,
        *,
        retry_after_s: float | None = None,
        permanent: bool = False,
        left: tuple[str, ...] = (),
    ) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.permanent = permanent
        self.left = left
        super().__init__(reason)


class GuardError(PrunellaError):
    """Say that a guard kept a call from being made, or from being made again."""

    code = "PR600"


class CircuitOpen(GuardError):
    """Refuse a call to what is known to be down; `retry_after_s` is None where nobody knows when it ends."""

    code = "PR601"

    def __init__(self, detail: str, *, retry_after_s: float | None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class RateLimited(GuardError):
    """Refuse a call whose turn would come only after `retry_after_s`."""

    code = "PR602"

    def __init__(self, detail: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class LoadShed(GuardError):
    """Refuse a call because too much work is under way already."""

    code = "PR603"


class DeadlineExceeded(GuardError, TimeoutError):
    """Say that the time for the whole call is used up."""

    code = "PR604"


class AttemptTimeout(GuardError, TimeoutError):
    """Say that one attempt took too long."""

    code = "PR605"


class BadResponse(GuardError):
    """Say that an answer came and is not what was promised.

    Args:
        status: HTTP status, None where there was none.
        excerpt: first 200 characters of the body, scrubbed.
        retry_after_s: what the answer asked for, None where it said nothing.
    """

    code = "PR606"

    def __init__(
        self, detail: str, *, status: int | None = None, excerpt: str = "", retry_after_s: float | None = None
    ) -> None:
        self.status = status
        self.excerpt = excerpt
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class RetryLater(GuardError):
    """Say that the service asks to wait until `due_at`, which is longer than a call can sit out."""

    code = "PR607"

    def __init__(self, detail: str, *, due_at: datetime) -> None:
        self.due_at = due_at
        super().__init__(detail)


class HandedOver(GuardError):
    """Say that the call was written down under `operation_id` and will be made at `due_at`."""

    code = "PR608"

    def __init__(self, detail: str, *, operation_id: str, due_at: datetime) -> None:
        self.operation_id = operation_id
        self.due_at = due_at
        super().__init__(detail)
