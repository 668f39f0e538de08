"""`python -m prunella.testing`: a FaultyServer to try a client against by hand."""

from __future__ import annotations

import argparse
import sys
import threading

from prunella.testing.faulty import FaultyServer


def _script(text: str) -> tuple[str, list[str]]:
    path, found, words = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} has no '='; write /path=503,503,ok")
    return path, words.split(",")


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted, then show the ledger."""
    parser = argparse.ArgumentParser(prog="python -m prunella.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (default) takes a free one")
    parser.add_argument("--script", type=_script, action="append", default=[], metavar="/PATH=WORD,WORD,...")
    options = parser.parse_args(arguments)
    with FaultyServer(port=options.port) as server:
        for path, words in options.script:
            server.script(path, words)
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stdout.write(f"{server.ledger}\n")


if __name__ == "__main__":
    main()
