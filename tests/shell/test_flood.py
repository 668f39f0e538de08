"""A flood from one source: the others go on being heard, and nothing that was accepted is lost."""

from __future__ import annotations

import pytest

from shell.conftest import FLOOD, Shell
from shell.flooding import Told, flood, lost

pytestmark = pytest.mark.slow


def test_flood_of_one_source_silences_no_other(shell: Shell) -> None:
    """Far more than may be: the flood is refused with Retry-After, the other source never, and all that was taken is there.

    The full form, with 50,000 events and its figures: make flood
    """
    noisy, alone, beside = flood(shell.up, 600, 25, FLOOD)
    assert (len(beside.accepted), beside.refused, beside.other) == (25, 0, [])
    assert noisy.refused > 50
    assert noisy.other == []
    assert lost(shell.up, noisy, alone, beside) == set()
    print(f"p95 of the other: {alone.p95_s * 1000:.1f} ms alone, {beside.p95_s * 1000:.1f} ms beside")
    assert beside.p95_s < 1.0


def test_loss_is_seen(shell: Shell) -> None:
    """An event that was never sent counts as lost."""
    assert lost(shell.up, Told(accepted={"noisy-flood-never"})) == {"noisy-flood-never"}
