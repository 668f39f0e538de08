"""The commands of a page: each is parsed by the real command line, and nothing of it is done. Faults are returned."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

from typer.main import get_command

from docs.pages import Page, steps
from prunella.cli.commands import _UsageError as UsageError
from prunella.cli.commands import cli


def wrong_commands(of: Page) -> list[str]:
    """Return the commands of a page that the command line does not take as they stand.

    What stands in a sentence may leave arguments out; options and names have to exist there, too.
    """
    shown = [command for block in of.blocks("console") for command, _ in steps(block)]
    told = re.findall(r"`(prunella [^`]+)`", of.prose)
    return [fault for text in shown for fault in _misused(text, whole=True)] + [
        fault for text in told for fault in _misused(text, whole=False)
    ]


def _misused(text: str, *, whole: bool) -> Iterator[str]:
    for words in invocations(text):
        try:
            parse(words)
        except UsageError as error:
            if whole or not type(error).__name__.startswith(("Missing", "NoArgs", "BadOption")):
                yield f"prunella {' '.join(words)}: {error}"


def invocations(text: str) -> Iterator[list[str]]:
    """Yield the words behind each `prunella` in a line of shell."""
    split = shlex.shlex(re.sub(r"\b2>", ">", text.replace("$(", " ( ")), posix=True, punctuation_chars=True)
    split.commenters, split.whitespace_split = "#", True
    words: list[str] | None = None
    first = True
    for token in split:
        if set(token) <= set("();<>|&\n"):
            if words is not None:
                yield words
            words, first = None, True
        elif words is not None:
            words.append(token)
        elif first and token.rpartition("/")[2] == "prunella":
            words = []
        else:
            first = first and re.match(r"\w+=", token) is not None
    if words is not None:
        yield words


@cache
def _command_line() -> Any:
    return get_command(cli)


def parse(words: list[str]) -> None:
    """Parse a command as the command line would, and do nothing."""
    rest = [
        one
        for place, one in enumerate(words)
        if one not in ("-c", "--config") and words[max(place - 1, 0)] not in ("-c", "--config")
    ]
    command: Any = _command_line()
    context, name = None, "prunella"
    while True:
        context = command.make_context(name, rest, parent=context)
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not hasattr(command, "resolve_command") or not rest:
            return
        name, command, rest = command.resolve_command(context, rest)
