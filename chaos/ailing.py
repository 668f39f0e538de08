"""What a process under test stands on, made to fail: a disk of its own, names of its own, a clock of its own.

For a child of the zygote, before it does anything else. Mounts are seen by that child alone; they need root, or a
kernel that lets everybody have a user namespace.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from prunella.core.clock import SystemClock

_NEWNS, _NEWUSER = 0x00020000, 0x10000000  # unshare(2)
_BIND, _PRIVATE = 0x1000, 0x4000 | 0x40000  # mount(2); private with all below it
_libc = ctypes.CDLL(None, use_errno=True)


def arrange(order: Mapping[str, Any]) -> None:
    """Do what the order says of `disk` (folder, megabytes), `names` (folder) and `clock` (file)."""
    if "disk" in order or "names" in order:
        _alone()
    if "disk" in order:
        folder, megabytes = order["disk"]
        _mount("tmpfs", folder, "tmpfs", 0, f"size={megabytes}m")
    if "names" in order:
        for name in ("hosts", "resolv.conf"):
            _mount(f"{order['names']}/{name}", f"/etc/{name}", "", _BIND, "")
    if "clock" in order:
        _shift_clock(Path(order["clock"]))


def _alone() -> None:
    if os.geteuid() != 0:
        user, group = os.getuid(), os.getgid()
        _must(_libc.unshare(_NEWUSER), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _must(_libc.unshare(_NEWNS), "unshare")
    _mount("none", "/", "", _PRIVATE, "")


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    words = [word.encode() or None for word in (source, target, kind)]
    _must(_libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None), f"mount {source} on {target}")


def _must(status: int, what: str) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _shift_clock(path: Path) -> None:
    """Let the wall clock differ by the seconds that stand in a file, from one moment to the next."""
    right = SystemClock.now

    def now(self: SystemClock) -> datetime:
        ahead_s = 0.0
        with suppress(OSError, ValueError):
            ahead_s = float(path.read_text())
        return right(self) + timedelta(seconds=ahead_s)

    SystemClock.now = now  # type: ignore[method-assign]
