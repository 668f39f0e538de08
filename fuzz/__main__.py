"""Drive one target with atheris: `python -m fuzz diagnose -max_total_time=60`; what is found lands in fuzz/found/."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["prunella"]):
    from fuzz.targets import SLOW_S, TARGETS

FOUND = Path(__file__).parent / "found"


def main() -> None:
    """Run the target that is named first; the rest goes to libFuzzer."""
    name, *rest = sys.argv[1:] or ["diagnose"]
    target = TARGETS[name]

    def timed(data: bytes) -> None:
        begun_s = time.process_time()
        target(data)
        if time.process_time() - begun_s > SLOW_S * 5:  # instrumented code is some five times slower
            raise TimeoutError(f"{name}: {len(data)} bytes took {time.process_time() - begun_s:.2f} s")

    folder = FOUND / name
    folder.mkdir(parents=True, exist_ok=True)
    atheris.Setup([sys.argv[0], str(folder), f"-artifact_prefix={folder}/crash-", "-max_len=16384", *rest], timed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
