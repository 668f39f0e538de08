"""The `prunella` command. It translates words into calls and answers into words; nothing is decided here."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; the base install has none of its libraries and says what to install."""
    if find_spec("typer") is None or find_spec("sqlalchemy") is None:
        print('prunella: the engine is not installed; run: pip install "prunella[server]"', file=sys.stderr)
        raise SystemExit(2)
    from prunella.cli.commands import run

    run(sys.argv[1:])
