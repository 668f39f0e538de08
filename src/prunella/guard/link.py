"""What connects the live parts of this process with the board that `pr.connect` brings.

Parts report here and look here; without a connection nothing happens. No I/O but for the right to probe.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prunella.guard.breaker import LiveBreaker, State
    from prunella.guard.limiter import LiveLimiter


ADMISSION = "prunella token --role APPLICATION"
"""What a person does where an engine wants another token."""


class Shared(Protocol):
    """What live parts tell, and ask of, the others."""

    def may_probe(self, name: str, lease_s: float) -> bool:
        """Win the right to probe in this period; False for everybody else."""
        ...

    def changed(self, breaker: LiveBreaker, state: State, reason: str) -> None:
        """Hear of a breaker's change of state."""
        ...

    def noticed(self, service: str, code: str, message: str, *, recovered: bool) -> None:
        """Hear of something that the engine should know."""
        ...

    def rate_of(self, name: str) -> float | None:
        """Return the rate that was learned before this process began; None where there is none."""
        ...


class Link:
    """The connection, if there is one, and the live parts that it serves."""

    def __init__(self) -> None:
        self.state: Shared | None = None
        self.breakers: weakref.WeakSet[LiveBreaker] = weakref.WeakSet()
        self.limiters: weakref.WeakSet[LiveLimiter] = weakref.WeakSet()


LINK = Link()
