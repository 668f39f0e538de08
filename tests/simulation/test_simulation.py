"""The whole engine under seeded histories of failures, deaths and people: every invariant, every seed.

`PRUNELLA_SEEDS=10000` widens the walk. What a seed once showed stays as a mutant: seeds change their meaning when the
simulation learns something new, a planted bug does not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.mutants import MUTANTS
from simulation.scenario import Result, play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEEDS = int(os.environ.get("PRUNELLA_SEEDS", "80"))
CHUNK = 10
MUTANT_SEEDS = 100


def told(result: Result) -> str:
    """Say what went wrong, with the end of the trace."""
    return "\n".join([f"seed {result.seed}:", *result.wrongs, "the last lines of its trace:", *result.lines[-40:]])


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_history_breaks_a_promise(first: int) -> None:
    """Given any seed: nothing lost, nothing doubled, nothing stuck, nothing leaked, nothing called well unproven."""
    for seed in range(first, min(first + CHUNK, SEEDS)):
        result = play(seed)
        assert not result.wrongs, told(result)


def test_same_seed_plays_the_same_history() -> None:
    """Given one seed in two processes with different hash seeds, the traces are identical, and another seed's is not."""
    program = "from simulation.scenario import play; print([play(seed).digest for seed in (3, 4)])"
    digests = []
    for hash_seed in ("1", "2"):
        environ = {
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "PYTHONHASHSEED": hash_seed,
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
        digests.append(done.stdout)
    assert digests[0] == digests[1]
    assert len(set(digests[0].strip("[]\n").split(", "))) == 2


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_bug_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a planted bug, some seed of the first hundred shows it for what it is."""
    mutant = MUTANTS[name]
    mutant.plant(monkeypatch)
    said: list[str] = []
    for seed in (mutant.seed, *range(MUTANT_SEEDS)):
        said = play(seed).wrongs
        if any(mutant.shows in wrong for wrong in said):
            return
    pytest.fail(f"{name} was not caught within {MUTANT_SEEDS} seeds; the last one said {said}")
