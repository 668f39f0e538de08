"""Hold a library that opens its own connections to the rule of `egress`: no socket leads where nothing may be called.

The interpreter itself asks before each connection (PEP 578), so it does not matter by which protocol, by which of the
library's modules, or at which spelling, redirect or DNS answer: what counts is the address that the socket would get.
"""

from __future__ import annotations

import errno
import socket
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NoReturn, TypeVar

from prunella.core.errors import EgressRefused
from prunella.egress import EgressPolicy

T = TypeVar("T")
_PROGRAMS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"}
)
_THREAD_START = threading.Thread.start
_ADDRESSED = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


@dataclass(slots=True)
class Fence:
    """What one call may reach.

    Args:
        admitted: addresses of hosts that the deployment names, as they were looked up here.
        refusal: the first that was refused, for libraries that swallow errors.
    """

    policy: EgressPolicy
    admitted: set[tuple[str, int]] = field(default_factory=set)
    refusal: EgressRefused | None = None

    def run(self, call: Callable[[], T]) -> T:
        """Make a call; in this thread, and in the tasks and threads that it starts, every socket is asked about.

        Raises:
            EgressRefused: it failed, and it had been refused an address.
        """
        _watch()
        try:
            return self.hold(call)
        except Exception:
            if self.refusal is not None:
                raise self.refusal from None
            raise

    def hold(self, call: Callable[[], T]) -> T:
        """Make a call behind this fence."""
        token = _standing.set(self)
        try:
            return call()
        finally:
            _standing.reset(token)

    def look_up(self, host: str, port: int) -> None:
        """Note where a host leads that the deployment lets us call wherever it leads."""
        if not self.policy.names(host, port):
            return
        for *_, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            self.admitted.add((str(found[0]), port))

    def must_admit(self, address: Any) -> None:
        """Refuse an address, unless it is public, or allowed by itself or by its name."""
        if not isinstance(address, tuple) or len(address) < 2:
            self.refuse("a socket of this host would be spoken to, which is no address on a network")
        host, port = str(address[0]), int(address[1])
        if (host, port) in self.admitted or _may(self.policy, host, port):
            return
        self.refuse(
            f"address {host} is not public; add '{host}:{port}', or the name it belongs to, to egress.allow_hosts "
            "if prunella may call it"
        )

    def refuse(self, why: str) -> NoReturn:
        """Stop what is under way, as the operating system would: libraries clean up after that."""
        self.refusal = self.refusal or EgressRefused(why)
        raise PermissionError(errno.EACCES, why)


_standing: ContextVar[Fence | None] = ContextVar("fence", default=None)


def _may(policy: EgressPolicy, host: str, port: int) -> bool:
    try:
        return policy.admits(host, port, host)
    except ValueError:  # a name: it is looked up below this, where nobody is asked
        return policy.names(host, port)


@cache
def _watch() -> None:
    """Be asked by the interpreter from now on; it never forgets whom it asks."""
    sys.addaudithook(_asked)
    threading.Thread.start = _start  # type: ignore[assignment, method-assign]


def _start(thread: threading.Thread) -> None:
    """Start a thread behind the fence of who starts it: some libraries connect in one, and 3.11 asks nobody."""
    fence = _standing.get()
    if fence is not None:
        thread.run = partial(fence.hold, thread.run)  # type: ignore[method-assign]
    _THREAD_START(thread)


def _asked(event: str, arguments: tuple[Any, ...]) -> None:
    if not event.startswith(("socket.", "subprocess.", "os.", "pty.")):
        return
    fence = _standing.get()
    if fence is None:
        return
    if event in _ADDRESSED and arguments[1] is not None:  # a connected socket sends where it was asked about
        fence.must_admit(arguments[1])
    elif event == "socket.getaddrinfo":
        token = _standing.set(None)  # our own look is nobody's call
        try:
            fence.look_up(str(arguments[0] or ""), int(arguments[1] or 0))
        except (OSError, ValueError):
            pass  # who asked will hear it
        finally:
            _standing.reset(token)
    elif event in _PROGRAMS:
        fence.refuse("a program of this host would be started, and what it calls is not seen")
