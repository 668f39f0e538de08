"""Write the bill of materials: what an installation from the lock consists of, as CycloneDX 1.6 JSON.

`python tools/sbom.py [LOCK] >prunella.cdx.json`: no network, no clock, no chance; one lock gives one text.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "server.txt"
_PINNED = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[\w, -]*\])?==(?P<version>[^\s;]+)(?: ?; ?(?P<marker>.*))?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pinned:
    """One package of a lock.

    Args:
        marker: where it is installed (PEP 508); empty: everywhere.
        hashes: SHA-256 of each file that may be installed as it.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Return its package URL."""
        return f"pkg:pypi/{self.name}@{self.version.replace('+', '%2B')}"


def pinned(text: str) -> list[Pinned]:
    """Read a lock; `ValueError` where a line is not pinned to a version and to hashes."""
    found = list(_read(text))
    bare = [one.name for one in found if not one.hashes]
    if bare:
        raise ValueError(f"the lock has no hashes for {', '.join(bare)}; make lock writes them")
    return sorted(found, key=lambda one: (one.name, one.version))


def _read(text: str) -> Iterator[Pinned]:
    for line in text.replace("\\\n", " ").splitlines():
        wanted, _, rest = line.partition(" --hash")
        wanted = wanted.strip()
        if not wanted or wanted.startswith("#"):
            continue
        match = _PINNED.fullmatch(wanted)
        if match is None:
            raise ValueError(f"{wanted[:100]!r} is not pinned; write name==version, as make lock does")
        name = re.sub(r"[-_.]+", "-", match["name"]).lower()
        yield Pinned(name, match["version"], (match["marker"] or "").strip(), tuple(_HASH.findall(f"--hash{rest}")))


def bill(text: str, project: dict[str, Any]) -> dict[str, Any]:
    """Return the bill of a lock's text and a project's table."""
    listed = pinned(text)
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    number = uuid.UUID(bytes=hashlib.sha256(f"{own}\n{text}".encode()).digest()[:16], version=4)
    direct = {_name_of(one) for one in project["optional-dependencies"]["server"]}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{number}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": own,
            }
        },
        "components": [_component(one) for one in listed],
        "dependencies": [{"ref": own, "dependsOn": [one.purl for one in listed if one.name in direct]}],
        "compositions": [
            {"aggregate": "complete", "assemblies": [own]},
            {"aggregate": "unknown", "dependencies": [own]},
        ],
    }


def _name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]).lower()


def _component(one: Pinned) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": value} for value in one.hashes]
    component = {
        "type": "library",
        "bom-ref": one.purl,
        "name": one.name,
        "version": one.version,
        "purl": one.purl,
        "externalReferences": [{"type": "distribution", "url": one.purl, "hashes": hashes}],
    }
    return component | ({"properties": [{"name": "prunella:marker", "value": one.marker}]} if one.marker else {})


def main() -> None:
    """Print the bill of a lock; of the server's, where none is named."""
    lock = Path(sys.argv[1]) if len(sys.argv) > 1 else LOCK
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    print(json.dumps(bill(lock.read_text(), project), indent=2))


if __name__ == "__main__":
    main()
