"""Standard input, output and error as they may be in earnest: closed, full, cut off, or of another alphabet."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


def prepare() -> None:
    """Let no sign without a letter for it end a command, and put an empty stream in place of one that is closed."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.StringIO())
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def legible(text: str) -> str:
    """Return a text with what is no UTF-8 in it marked, so that it can be sent and stored."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def leave_stdout() -> None:
    """Let go of a standard output that takes no more: the interpreter would try again at its end, and complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
