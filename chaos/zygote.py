"""A process that has imported everything once and forks workers on demand; each runs what the command line would run.

It speaks JSON lines on its standard streams: `{"start": name, ...}` is answered with a pid, `{"reap": pid}` once that
child is gone, `{"gone": pid}` with whether it ended by itself. It has no threads, so that a fork copies no lock.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaos import ailing, breakers, planted, soak, tokens
from chaos.failpoints import Points
from prunella.cli import up
from prunella.settings import Settings, load

Order = Mapping[str, Any]
Kind = Callable[[Settings, Order], None]


def main() -> None:
    """Serve orders until the standard input ends, and leave no child behind."""
    gc.collect()
    gc.freeze()  # or every collection in a child copies what was imported
    children: set[int] = set()
    try:
        for line in sys.stdin:
            print(json.dumps(_obey(json.loads(line), children)), flush=True)
    finally:
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _obey(order: Order, children: set[int]) -> Any:
    if "start" in order:
        pid = os.fork()
        if pid == 0:
            _live(order)
        children.add(pid)
        return {"pid": pid}
    if "reap" in order:
        _, status = os.waitpid(order["reap"], 0)
        children.discard(order["reap"])
        return {"status": status}
    pid, status = os.waitpid(order["gone"], os.WNOHANG)
    children.discard(pid)
    return {"gone": pid != 0, "status": os.waitstatus_to_exitcode(status)}


def _live(order: Order) -> None:
    """Be the child, and never come back."""
    status = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for stream, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(stream, number)
        os.environ.update(order["environ"])
        for bug in order.get("plant", ()):
            planted.PLANTS[bug]()
        if "trace" in order:
            Points(order["trace"], order["die_at"]).plant()
        ailing.arrange(order)
        settings = load(Path(order["config"]), os.environ)
        KINDS[order["kind"]](settings, order)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _up(settings: Settings, _: Order) -> None:
    up.serve(settings)


def _worker(settings: Settings, _: Order) -> None:
    up.work(settings)


def _tokens(settings: Settings, order: Order) -> None:
    tokens.refresh_when_told(settings, order)


KINDS: dict[str, Kind] = {
    "up": _up,
    "worker": _worker,
    "tokens": _tokens,
    "soak": soak.serve_and_forget,
    "breaker": breakers.call_all_the_time,
}

if __name__ == "__main__":
    main()
