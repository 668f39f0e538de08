"""Compile the pack of known issues that is shipped: refuse what is wrong with it, and write the file that is read."""

from __future__ import annotations

import json
import sys

from prunella.core.errors import ConfigError
from prunella.diagnosis.packs import plain_of
from prunella.diagnosis.packs.shipped import COMPILED, DOCUMENT
from prunella.packs import read_pack


def compiled() -> str:
    """Return what ships, an entry a line; `ConfigError` names what is wrong with the document."""
    known = read_pack(DOCUMENT.read_text(encoding="utf-8"), name=DOCUMENT.name)
    return "[\n" + ",\n".join(json.dumps(plain_of(one), ensure_ascii=False) for one in known) + "\n]\n"


def main() -> int:
    """Write the compiled pack, or say what is wrong."""
    try:
        text = compiled()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    COMPILED.write_text(text, encoding="utf-8")
    print(f"{text.count(chr(10)) - 2} known issues, {len(text) // 1000} kB: {COMPILED.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
