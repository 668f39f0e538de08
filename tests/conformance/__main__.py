"""`python -m conformance`: put prunella, or prunella and its peers, through every case, and print the table."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from conformance import table
from conformance.catalogue import CASES
from conformance.contract import Adapter
from conformance.judge import Verdict, judge_all
from conformance.ours import Prunella
from conformance.peers import PEERS

_ALL: tuple[Adapter, ...] = (Prunella(), *PEERS)
ADAPTERS = {adapter.name: adapter for adapter in _ALL}
_AT_ONCE = 2
_SLOWEST_FIRST = ("nopanic", "pyresilience", "resilix")


def main() -> int:
    """Print the table; end with 1 where prunella fails a case."""
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument("--peers", action="store_true", help="put the other libraries through the cases too")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the table as Markdown")
    parser.add_argument("--library", dest="alone", choices=ADAPTERS, help="one library alone, as JSON")
    chosen = parser.parse_args()
    if chosen.alone is not None:
        _print_verdicts(chosen.alone)
    names = list(ADAPTERS) if chosen.peers else ["prunella"]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        order = sorted(names, key=lambda name: name not in _SLOWEST_FIRST)
        found = dict(zip(order, pool.map(_in_a_process, order), strict=True))
    verdicts = [verdict for name in names for verdict in found[name]]
    print("\n".join(table.lines(verdicts, names)))
    if chosen.write is not None:
        versions = {name: version(name) for name in names}
        chosen.write.parent.mkdir(exist_ok=True)
        chosen.write.write_text(table.markdown(verdicts, versions, datetime.now(UTC).date(), os.cpu_count() or 1))
    return int(any(verdict.mark == "fail" for verdict in found["prunella"]))


def _print_verdicts(library: str) -> None:
    logging.disable(logging.CRITICAL)  # broken listeners are meant to be
    warnings.simplefilter("ignore")
    verdicts = judge_all([ADAPTERS[library]], CASES)
    print(json.dumps([asdict(verdict) for verdict in verdicts]), flush=True)
    os._exit(0)  # a library may have left threads behind that never end


def _in_a_process(library: str) -> list[Verdict]:
    """Judge in a process of its own: what a library leaves behind must not reach the next."""
    command = [sys.executable, "-m", "conformance", "--library", library]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Verdict(**verdict) for verdict in json.loads(done.stdout.splitlines()[-1])]


if __name__ == "__main__":
    sys.exit(main())
