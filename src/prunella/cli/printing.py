"""How commands print: JSON where it is asked for, and a question at a terminal."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: object) -> None:
    """Print a value as JSON that people can read, too."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


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
