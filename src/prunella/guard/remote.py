"""An engine elsewhere: it keeps durable calls, shared state and notices for applications.

What must not be lost while it does not answer waits in a spool, a SQLite file beside the program, and follows in
order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from prunella.core.clock import HOST
from prunella.core.errors import StoreUnavailable
from prunella.guard.asking import Engine
from prunella.guard.board import Notice, Standing
from prunella.guard.breaker import State
from prunella.guard.durable import DurableCall, Ending, NewCall
from prunella.guard.spool import Spool

_DUE_MAX = 32_503_680_000.0  # the year 3000


class EnginePlace:
    """An engine, with a spool for the time when it does not answer.

    Raises:
        InvalidInput: the address or the token can't be right.
    """

    def __init__(self, url: str, token: str | None, spool: str) -> None:
        self._engine = Engine(url, token)
        self._spool = Spool(spool)
        self.ledger = RemoteLedger(self._engine, self._spool)
        self.board = RemoteBoard(self._engine)

    def deliver(self) -> None:
        """Bring what was spooled while the engine did not answer."""
        self._spool.carry(self._engine)

    def tidy(self) -> None:
        """Do nothing: the engine looks after its tables."""

    def close(self) -> None:
        """Close connections and the spool."""
        self._engine.close()
        self._spool.close()


class RemoteLedger:
    """Durable calls that an engine keeps; what it can't take now is spooled."""

    def __init__(self, engine: Engine, spool: Spool) -> None:
        self._engine = engine
        self._spool = spool

    def write(self, call: NewCall) -> tuple[str, float]:
        """Have a call written down; where nobody answers it waits in the spool, under the same id."""
        body = asdict(call)
        earlier = self._spool.waiting(call.function, call.key)
        if earlier is not None:
            return str(earlier["id"]), HOST.now().timestamp() + float(earlier["wait_s"])
        try:
            written = self._engine.ask("calls", body)
            with _understood():
                return str(written["id"]), min(max(float(written["due_at"]), 0.0), _DUE_MAX)
        except StoreUnavailable:
            self._spool.add("calls", body)
            return call.id, HOST.now().timestamp() + call.wait_s

    def claim(self, functions: Sequence[str], worker: str, lease_s: float, most: int) -> list[DurableCall]:
        """Take calls that are due; nobody else gets them meanwhile."""
        if not functions:
            return []
        body = {"functions": list(functions), "worker": worker, "lease_s": lease_s, "most": most}
        items = self._engine.ask("calls/claim", body)["items"]
        with _understood():
            calls = [_call(item, worker) for item in items]
        return [call for call in calls if call.function in functions]

    def renew(self, call_id: str, worker: str, lease_s: float) -> None:
        """Keep a call that is still being made."""
        self._engine.ask("calls/renew", {"id": call_id, "worker": worker, "lease_s": lease_s})

    def end(self, call_id: str, worker: str, ending: Ending) -> None:
        """Report how an attempt ended; where nobody answers the report waits in the spool."""
        body = {"id": call_id, "worker": worker, **asdict(ending)}
        try:
            self._engine.ask("calls/end", body)
        except StoreUnavailable:
            self._spool.add("calls/end", body)


class RemoteBoard:
    """The board that an engine keeps."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def report(self, standing: Standing) -> int:
        """Tell the others where a breaker stands; return the new version."""
        body = {"name": standing.name, "state": standing.state.value, "reason": standing.reason}
        answer = self._engine.ask("breakers/report", body | {"open_s": min(standing.open_s, 1e9)})
        with _understood():
            return int(answer["version"])

    def standings(self) -> list[Standing]:
        """Return where the others' breakers stand."""
        items = self._engine.ask("breakers", {})["items"]
        with _understood():
            return [_standing(item) for item in items]

    def may_probe(self, name: str, lease_s: float) -> bool:
        """Win the right to probe in this period; False for everybody else."""
        return bool(self._engine.ask("breakers/probe", {"name": name, "lease_s": lease_s})["granted"])

    def learn(self, name: str, rate_per_s: float) -> None:
        """Keep a rate that was learned; the last word counts."""
        self._engine.ask("rates/learn", {"name": name, "rate_per_s": rate_per_s})

    def learned(self) -> dict[str, float]:
        """Return the rates that were learned, by the limiter's name."""
        rates = self._engine.ask("rates", {})["rates"]
        with _understood():
            return {str(name): float(rate_per_s) for name, rate_per_s in rates.items()}

    def notice(self, notice: Notice) -> None:
        """Leave word for the engine."""
        self._engine.ask("notices", asdict(notice))


@contextmanager
def _understood() -> Iterator[None]:
    """Take an answer that is not of the promised shape for none."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreUnavailable(f"the engine's answer can't be understood ({type(error).__name__})") from error


def _call(item: Mapping[str, Any], worker: str) -> DurableCall:
    return DurableCall(
        id=str(item["id"]),
        function=str(item["function"]),
        idempotency_key=str(item["idempotency_key"]),
        args=list(item["args"]),
        kwargs=dict(item["kwargs"]),
        attempts=int(item["attempts"]),
        created_at=float(item["created_at"]),
        worker=worker,
    )


def _standing(item: Mapping[str, Any]) -> Standing:
    return Standing(
        name=str(item["name"]),
        state=State(item["state"]),
        reason=str(item["reason"]),
        open_s=float(item["open_s"]),
        version=int(item["version"]),
    )
