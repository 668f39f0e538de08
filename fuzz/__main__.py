"""Drive one target with atheris: `python -m fuzz diagnose -max_total_time=60`; what is found lands in fuzz/found/.

`python -m fuzz.keep` takes the shortest of it over into the tests.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["prunella"]):
    from fuzz.seeds import SEEDS
    from fuzz.targets import TARGETS, slow_s

FOUND = Path(__file__).parent / "found"


def main() -> None:
    """Run the target that is named first; the rest goes to libFuzzer."""
    name, *rest = sys.argv[1:] or ["diagnose"]
    target = TARGETS[name]

    def timed(data: bytes) -> None:
        begun_s = time.process_time()
        target(data)
        if time.process_time() - begun_s > slow_s(name) * 5:  # instrumented code is some five times slower
            raise TimeoutError(f"{name}: {len(data)} bytes took {time.process_time() - begun_s:.2f} s")

    folder = FOUND / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS.get(name, ())):
        (folder / f"seed-{number}").write_bytes(seed)
    logging.disable()
    folders = [] if any(not one.startswith("-") for one in rest) else [str(folder)]
    atheris.Setup([sys.argv[0], *folders, f"-artifact_prefix={folder}/crash-", "-max_len=16384", *rest], timed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
