"""Copy the few files that the pages and their tests take from npm, with licences and checksums; then commit them.

So neither the wheel nor a user's machine needs Node, and what a browser is served is what was looked at.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "src/prunella/web/static/vendor"
TESTS = ROOT / "tests/browser/vendor"
SUMS = "SHA256SUMS"

TAKEN = {
    "htmx.org@4.0.1": (
        PAGES,
        {"LICENSE": "htmx.LICENSE", "dist/htmx.min.js": "htmx.js", "dist/ext/hx-sse.min.js": "hx-sse.js"},
    ),
    "uplot@1.6.32": (
        PAGES,
        {"LICENSE": "uplot.LICENSE", "dist/uPlot.iife.min.js": "uplot.js", "dist/uPlot.min.css": "uplot.css"},
    ),
    "axe-core@4.14.1": (TESTS, {"LICENSE": "axe.LICENSE", "axe.min.js": "axe.js"}),
}
"""Package and version -> where its files go, and what they are called there."""


def fetch(package: str, into: Path, files: dict[str, str]) -> None:
    """Take files out of an npm package."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", package, "--silent"], cwd=folder, check=True, capture_output=True)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            for source, name in files.items():
                member = archive.extractfile(f"package/{source}")
                assert member is not None
                into.mkdir(parents=True, exist_ok=True)
                (into / name).write_bytes(member.read())


def sums(folder: Path) -> str:
    """Return the checksums of a folder's files, as `sha256sum` writes them."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


if __name__ == "__main__":
    for package, (into, files) in TAKEN.items():
        fetch(package, into, files)
    for folder in (PAGES, TESTS):
        (folder / SUMS).write_text(sums(folder))
