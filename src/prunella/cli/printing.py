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


def agreed(question: str) -> bool:
    """Ask at a terminal; anything but yes is no."""
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
