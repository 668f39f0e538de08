"""`python -m bench [NAME ...]`: run benchmarks and print their tables."""

from __future__ import annotations

import argparse
import importlib
import json

from bench.harness import Options, Report

NAMES = (
    *("imports", "guard", "classify", "known", "grouping", "redact", "learning", "recognise"),
    *("intake", "flood", "begin", "runner", "backlog", "dashboard", "live"),
    *("issues", "detect", "mend", "stuck", "forget"),
)


def main() -> None:
    """Run what is named, or everything."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Ratios against a floor, in one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(NAMES)}; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="measurements per contender, in turn (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the work of a round; 0.1 is a quick look")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(NAMES))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; choose from {', '.join(NAMES)}")
    reports = []
    for name in chosen.names or NAMES:
        report: Report = importlib.import_module(f"bench.{name}").run(Options(chosen.rounds, chosen.scale))
        reports.append(report)
        if not chosen.json:
            print(f"{report}\n", flush=True)
    if chosen.json:
        print(json.dumps([report.as_json() for report in reports], indent=2))


if __name__ == "__main__":
    main()
