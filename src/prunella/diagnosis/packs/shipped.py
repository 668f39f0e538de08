"""The known issues that the package ships, as `tools/packs.py` compiled them: nothing is judged again here."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Final

from prunella.diagnosis.packs.entries import Known, read_entries

DOCUMENT: Final = Path(__file__).parent / "builtin.yaml"
COMPILED: Final = DOCUMENT.with_suffix(".json")


@cache
def builtin() -> tuple[Known, ...]:
    """Return the known issues that the package ships."""
    known, mistakes = read_entries(json.loads(COMPILED.read_text(encoding="utf-8")), judged=False)
    assert not mistakes, mistakes
    return known
