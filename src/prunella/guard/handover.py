"""What can't be done now is written down and done later, as the same logical call: same arguments, same key.

`connect` names the database or the engine; `policy.durable` says which functions may be handed over. The row is
committed before the caller sees `HandedOver`, so it survives whatever happens to the process afterwards. A process that
is connected makes due calls of the functions it knows; a claim with a lease keeps two from making one.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunella.core.errors import HandedOver, InvalidInput
from prunella.guard.call import Call
from prunella.guard.connection import Connection
from prunella.guard.durable import NewCall
from prunella.guard.link import LINK
from prunella.guard.making import FIRST_WAIT_S
from prunella.guard.place import open_place

if TYPE_CHECKING:
    from prunella.guard.policy import Policy

Function = Callable[..., Any]


class DurableFunction:
    """A function whose calls may be handed over, known by a name that other processes know too."""

    def __init__(
        self, policy: Policy, target: Function, name: str | None, key: str | Function, secrets: Mapping[str, Function]
    ) -> None:
        self.policy = policy
        self.target = target
        self.name = name or f"{_module_of(target)}:{target.__qualname__}"
        self.key = key
        self.secrets = secrets
        self.signature = inspect.signature(target)
        self._refuse_misuse(named=name is not None)

    def hand_over(self, call: Call, error: Exception, wait_s: float) -> HandedOver:
        """Write a call down; what is raised here means that nothing was written."""
        assert _connection is not None  # `policy` hands over only while connected
        if not call.idempotency_key:
            raise InvalidInput(f"durable {self.name}: the call has no idempotency key ({self.key} is empty)")
        operation_id, due_at = _connection.place.ledger.write(
            NewCall(
                function=self.name,
                policy=self.policy.name,
                key=call.idempotency_key,
                arguments=self._kept(call),
                attempts=call.attempt,
                wait_s=wait_s or FIRST_WAIT_S,
                error=f"{type(error).__name__}: {error}",
            )
        )
        due = datetime.fromtimestamp(due_at, UTC)
        told = f"{self.policy.name}: the call of {self.name} was written down as {operation_id}, due {due:%H:%M:%S} UTC"
        return HandedOver(told, operation_id=operation_id, due_at=due)

    def _kept(self, call: Call) -> dict[str, Any]:
        bound = self.signature.bind(*call.args, **call.kwargs)
        if not self.secrets:
            return {"args": list(bound.args), "kwargs": bound.kwargs}
        return {
            "args": [],
            "kwargs": {name: value for name, value in bound.arguments.items() if name not in self.secrets},
        }

    def _refuse_misuse(self, *, named: bool) -> None:
        parameters = self.signature.parameters
        if not named and "<" in self.name:
            raise TypeError(f"durable: {self.name} has no name that another process could know; give name=…")
        wanted = [*self.secrets, *([self.key] if isinstance(self.key, str) else [])]
        for one in wanted:
            if one not in parameters:
                raise TypeError(
                    f"durable: {self.name} has no argument {one!r}; it has {', '.join(parameters) or 'none'}"
                )
        kinds = {parameter.kind for parameter in parameters.values()}
        if self.secrets and kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY}:
            raise TypeError(
                f"durable: {self.name} takes arguments without names, so a secret among them can't be left out"
            )


def _module_of(target: Function) -> str:
    """Return the name under which other processes import what is `__main__` here."""
    if target.__module__ != "__main__":
        return target.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return str(spec.name) if spec is not None else Path(getattr(main, "__file__", "__main__")).stem


_functions: dict[str, DurableFunction] = {}
_connection: Connection | None = None


def register(function: DurableFunction) -> None:
    """Let this process make calls of `function` that were handed over; a later one of the same name takes its place."""
    _functions[function.name] = function


def known() -> list[str]:
    """Return the names of the functions whose calls this process can make."""
    return list(_functions)


def connected() -> bool:
    """Tell whether there is a database to hand over to."""
    return _connection is not None


def connect(url: str, token: str | None = None, *, resume: bool = True, spool: str | None = None) -> Connection:
    """Attach what durable calls are written to, and make those that are due; ends an earlier connection.

    Learned rates of limiters outlive the process there, breakers with `shared=True` stand together, and an engine
    hears of breakers that open. It waits, on an event loop too, until the database or the spool is open and its tables
    are there (some seconds where it is busy or far away: then call it in `asyncio.to_thread`), until an earlier
    connection has ended, and half a second for learned rates. What is spooled is brought without waiting, but for
    `resume=False` where no event loop runs.

    Args:
        url: `sqlite:///path` (three slashes: relative, four: absolute), `postgresql://…`, or the `https://…` of an
            engine. One database may serve applications and an engine at once.
        token: for an engine: a token of the role APPLICATION. One that the engine refuses is told in the log, with
            what to do, and calls wait in the spool for a better one.
        resume: once a second make due calls of this process's durable functions, and exchange what is shared.
            Asynchronous calls run on the event loop that is running now, or on one of their own.
        spool: for an engine: the SQLite file that keeps what the engine can't take while it does not answer; None
            takes `prunella-spool.db` in the working folder.

    Raises:
        InvalidInput: the address is of no known kind, there is no token or none that a header can carry, the spool
            can't be written, or the database's role may not make the tables that are missing.
        StoreUnavailable: the database does not answer. An engine need not answer yet.
    """
    global _connection
    fresh = Connection(open_place(url, token, spool), _functions, _disconnected)
    if _connection is not None:
        _connection.close()
    _connection, LINK.state = fresh, fresh.shared
    fresh.begin(resume=resume)
    return fresh


def _disconnected(connection: Connection) -> None:
    global _connection  # noqa: PLW0603
    if _connection is connection:
        _connection = LINK.state = None
