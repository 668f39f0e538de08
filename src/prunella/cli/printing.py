"""How commands print: tables that fit the terminal, JSON where it is asked for, colour only where it is wanted."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from typing import Annotated, Any

import typer

from prunella.cli.streams import harmless

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=500, help="How many, at most.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="Go on behind a page: its next_cursor.")]
Since = Annotated[str | None, typer.Option("--since", help="Only as far back as this: 24h, 30d, or 2026-01-31T09:30.")]

_WIDTH_LEAST, _WIDTH_MOST = 60, 120
_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def example(*lines: str) -> str:
    """Return the end of a command's help: what to type."""
    return "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *(f"\b\n  $ {line}" for line in lines)])


def many(count: int, one: str, more: str | None = None) -> str:
    """Return a number with its word: 1 plan, 2 plans; `more` where an s is not enough."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def print_json(value: object) -> None:
    """Print a value as JSON that people can read, too."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def would(what: str, as_json: bool = False) -> None:
    """Say what a change would do, and that it was not done."""
    if as_json:
        print_json({"dry_run": True, "would": what})
    else:
        say(f"would {what}; nothing was changed")


def width() -> int | None:
    """Return how many columns there are; None where no person reads: nothing is cut or wrapped for a program."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return None
    return min(max(shutil.get_terminal_size().columns, _WIDTH_LEAST), _WIDTH_MOST)


def say(line: str, *, indent: int = 0, hang: int = 2) -> None:
    """Print a line, wrapped at the terminal's edge.

    Args:
        indent: blanks before it.
        hang: blanks more before what is wrapped.
    """
    line = harmless(line.replace("\n", " "))  # one line of ours, whatever a text from outside holds
    columns, before = width(), " " * indent
    if columns is None or len(line) + indent <= columns:
        print(f"{before}{line}".rstrip())
        return
    deeper = before + " " * hang
    print(
        textwrap.fill(
            line, columns, initial_indent=before, subsequent_indent=deeper, break_long_words=False,
            break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False,
        )
    )  # fmt: skip


def coloured(text: str, colour: str) -> str:
    """Return a text in a colour, at a terminal whose owner did not refuse it (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def duration(seconds: float) -> str:
    """Write a duration as prunella.yaml does: 30m, 6h, 1h30m."""
    parts: list[str] = []
    for unit, length_s in (("d", 86_400), ("h", 3600), ("m", 60)):
        count, seconds = divmod(seconds, length_s)
        parts += [f"{count:.0f}{unit}"] if count else []
    return "".join(parts + ([f"{seconds:g}s"] if seconds or not parts else []))


def agreed(question: str) -> bool:
    """Ask at a terminal; anything but yes is no."""
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def more(answer: dict[str, Any]) -> None:
    """Say how a list goes on."""
    if answer.get("next_cursor"):
        print(f"more: --cursor {answer['next_cursor']}")
