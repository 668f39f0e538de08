"""Standard input, output and error as they may be in earnest: closed, full, cut off, or of another alphabet."""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO

_COMMANDS = re.compile("\x1b(?!\\[[0-9]{0,2}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal would obey, but for line ends, tabs and colours; and what turns the direction of reading."""


def prepare() -> None:
    """Let no sign without a letter for it end a command, and put an empty stream in place of one that is closed."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.StringIO())
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream.isatty() and not isinstance(stream, Terminal):
            setattr(sys, name, Terminal(stream))


class Terminal:
    """Write to a terminal what is to be read and nothing that it would obey: texts from outside stand in all lists."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, harmless."""
        return self._stream.write(harmless(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def harmless(text: str) -> str:
    """Return a text that a terminal shows and does not obey (CWE-150)."""
    return _COMMANDS.sub(" ", text)


def legible(text: str) -> str:
    """Return a text with what is no UTF-8 in it marked, so that it can be sent and stored."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def leave_stdout() -> None:
    """Let go of a standard output that takes no more: the interpreter would try again at its end, and complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
