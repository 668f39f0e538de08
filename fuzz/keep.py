"""Keep what fuzzing found: from fuzz/found/ into tests/data/fuzz.jsonl, which the tests replay with every run.

libFuzzer writes an input down when it reaches what none before did: the shortest of them are kept. What once crashed a
target is always kept.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from fuzz.targets import TARGETS

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "data" / "fuzz.jsonl"
MOST, BYTES_MAX = 40, 2_000
"""Inputs of one target, and how long one may be."""


def kept() -> dict[str, list[bytes]]:
    """Return what is kept, by target."""
    found: dict[str, list[bytes]] = {name: [] for name in TARGETS}
    for line in KEPT.read_text().splitlines():
        one = json.loads(line)
        found[one["target"]].append(base64.b64decode(one["bytes"]))
    return found


def chosen(name: str, before: list[bytes]) -> list[bytes]:
    """Return what to keep of a target: what is kept already, what crashed it, and the shortest of the rest."""
    folder = ROOT / "fuzz" / "found" / name
    files = sorted(folder.iterdir()) if folder.exists() else []
    crashes = [one.read_bytes() for one in files if one.name.startswith(("crash-", "timeout-"))]
    others = [one.read_bytes() for one in files if not one.name.startswith(("crash-", "timeout-", "seed-"))]
    short = sorted((data for data in others if len(data) <= BYTES_MAX), key=lambda data: (len(data), data))
    return list(dict.fromkeys([*before, *crashes, *short]))[: max(MOST, len(before) + len(crashes))]


def main() -> None:
    """Keep what was found for the targets that are named, or for all."""
    found = kept()
    for name in sys.argv[1:] or TARGETS:
        found[name] = chosen(name, found[name])
    lines = [
        json.dumps({"target": name, "bytes": base64.b64encode(one).decode()}) for name in found for one in found[name]
    ]
    KEPT.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
