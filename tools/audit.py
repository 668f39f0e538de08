"""Ask for known vulnerabilities of everything that is locked: 0 none, 1 found, 2 could not be asked.

pip-audit does it, from the hashed locks; what was not asked never looks like what is well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = ("server.txt", "dev.txt", "peers.txt", "fuzz.txt", "uv.txt")
PIP_AUDIT = "pip-audit==2.9.0"
WELL, FOUND, NOT_ASKED = 0, 1, 2
_WITHIN_S = 300


def verdict(output: str, said: str) -> tuple[int, str]:
    """Return the exit status and the words for what pip-audit answered.

    Args:
        output: its JSON; anything else means that it came to no end.
        said: its standard error.
    """
    try:
        listed = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        why = next((line for line in reversed(said.splitlines()) if line.strip()), "no answer")
        return NOT_ASKED, f"not audited: {why.strip()[:300]}"
    skipped = [one["skip_reason"] for one in listed if "skip_reason" in one]
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}; mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in listed
        for flaw in one.get("vulns", ())
    ]
    if lines:
        return FOUND, "\n".join(lines)
    if skipped or not listed:
        why = (
            f"{len(skipped)} of {len(listed)} packages were not found ({skipped[0][:200]})"
            if skipped
            else "no packages"
        )
        return NOT_ASKED, f"not audited: {why}"
    return WELL, f"{len(listed)} packages, none with a known vulnerability"


def audit(uv: str, lock: Path) -> tuple[int, str]:
    """Audit one lock."""
    command = [uv, "tool", "run", "--quiet", PIP_AUDIT, "--format", "json", "--progress-spinner", "off"]
    command += ["--require-hashes", "--disable-pip", "--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_WITHIN_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return NOT_ASKED, f"not audited: {error}"
    return verdict(done.stdout, done.stderr)


def main() -> int:
    """Audit every lock and tell; the worst status counts, and a vulnerability is worse than silence."""
    uv = sys.argv[1] if len(sys.argv) > 1 else "uv"
    statuses = []
    for name in LOCKS:
        status, words = audit(uv, ROOT / "requirements" / name)
        print(f"requirements/{name}: {words}")
        statuses.append(status)
    return FOUND if FOUND in statuses else max(statuses)


if __name__ == "__main__":
    sys.exit(main())
