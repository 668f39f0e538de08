"""The documents as their readers take them: pages, the blocks on them, and what a block belongs to.

A block that is a file of its own says so in its first line (`# world.py`). A comment before a block tells what can't be
seen: `<!-- belongs to: notify.rules.0 -->` is a part of prunella.yaml, `<!-- belongs to: acme.yaml -->` another file.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"(?:^ *<!-- belongs to: (?P<place>\S+) -->\n+)?^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"(?:#|--) (\S+\.\w+)\b")


@dataclass(frozen=True)
class Block:
    """One block of a page; `place`: what it belongs to, where a comment says so."""

    language: str
    text: str
    place: str = ""

    @property
    def file(self) -> str:
        """Return the file that the block is, or an empty text."""
        named = _FILE.match(self.text)
        return named[1] if named else self.place if re.search(r"\.\w{2,4}$", self.place) else ""


@dataclass(frozen=True)
class Page:
    """One document."""

    name: str
    text: str

    def blocks(self, language: str) -> list[Block]:
        """Return the blocks of a language; a block of no language that shows commands is a console."""
        return [one for one in self._blocks() if one.language == language]

    def _blocks(self) -> Iterator[Block]:
        for found in _FENCE.finditer(self.text):
            text = textwrap.dedent(found["text"])
            language = found["language"] or ("console" if re.search(r"^\$ ", text, re.MULTILINE) else "text")
            yield Block(language, text, found["place"] or "")

    @property
    def prose(self) -> str:
        """Return what stands between the blocks."""
        return _FENCE.sub("", self.text)


def page(name: str) -> Page:
    """Read one document, by its path from the root."""
    return Page(name, (ROOT / name).read_text(encoding="utf-8"))


def pages() -> list[Page]:
    """Return every document of the repository."""
    found = {
        *ROOT.glob("*.md"),
        *(one for room in ("docs", "examples", "bench", "deploy") for one in (ROOT / room).rglob("*.md")),
    }
    return [page(str(one.relative_to(ROOT))) for one in sorted(found)]


def steps(block: Block) -> list[tuple[str, list[str]]]:
    """Return what a console tells to type, behind `$ `, each with the lines that it shows as the answer."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif found and _goes_on(found[-1][0]):
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif found and line.strip():
            found[-1][1].append(line)
    return found


def _goes_on(command: str) -> bool:
    """Tell whether a shell would wait for more: a backslash at the end, or an open quote."""
    return command.endswith("\\") or command.count("'") % 2 == 1
