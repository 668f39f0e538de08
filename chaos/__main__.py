"""`python -m chaos NAME …`: break things, print the ledger; 1 if a promise broke."""

from __future__ import annotations

import argparse
import importlib
import sys

KILLS = ("storm", "boundaries", "takeover", "tokens")
NAMES = (*KILLS, "breakers", "deliveries", "infrastructure", "limits", "replies", "soak")


def main() -> None:
    """Run what is named, or everything that kills."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Kill, and count what became of everything.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(NAMES)}; default: {', '.join(KILLS)}"
    )
    parser.add_argument("--seed", type=int, default=1, help="what the moments are drawn from (default 1)")
    parser.add_argument("--kills", type=int, default=1000, help="storm: kills, on each database (default 1,000)")
    parser.add_argument("--pg-kills", type=int, default=20, help="storm: kills of all of PostgreSQL (default 20)")
    parser.add_argument("--events", type=int, default=10_000, help="storm, deliveries: events (default 10,000)")
    parser.add_argument("--workers", type=int, default=3, help="storm: workers beside `prunella up` (default 3)")
    parser.add_argument("--minutes", type=float, default=60, help="storm: no kill comes later than that (default 60)")
    parser.add_argument("--expiries", type=int, default=1000, help="tokens: how often a token expires (default 1,000)")
    parser.add_argument("--token-kills", type=int, default=50, help="tokens: kills of workers (default 50)")
    parser.add_argument(
        "--take-overs", type=int, default=20, help="takeover: kills of a worker in mid-call (default 20)"
    )
    parser.add_argument("--calls", type=int, default=2000, help="limits: how many calls (default 2,000)")
    parser.add_argument("--outages", type=int, default=12, help="breakers: how often the service is down (default 12)")
    parser.add_argument("--delivery-kills", type=int, default=50, help="deliveries: kills of the receiver (default 50)")
    parser.add_argument("--soak-minutes", type=float, default=10, help="soak: how long (default 10)")
    parser.add_argument("--plant", action="append", default=[], metavar="BUG", help="plant a bug, to see it named")
    parser.add_argument("--every", type=int, default=1, help="boundaries: look at every n-th only (default 1: all)")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(NAMES))
    if unknown:
        parser.error(f"there is nothing called {', '.join(unknown)}; choose from {', '.join(NAMES)}")
    wrong = False
    for name in chosen.names or KILLS:
        title, book = importlib.import_module(f"chaos.{name}").chosen(chosen)
        wrong = wrong or bool(book.wrongs)
        print(f"{title}\n{book}\n", flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
