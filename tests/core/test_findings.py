"""What a look came to can be counted, and tells whether it saw everything."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from prunella.core.findings import Finding, Sighting

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE = Finding(key="a", issue="SICK", message="a is sick")


@pytest.mark.parametrize(("count", "found", "complete"), [(None, 1, True), (1, 1, True), (7, 7, False)])
def test_look_that_was_cut_off_says_so(count: int | None, found: int, complete: bool) -> None:
    """Findings beyond the cap count, and what is not among the findings is then not gone."""
    sighting = Sighting(findings=(ONE,), at=NOW, count=count)
    assert (sighting.found, sighting.is_complete) == (found, complete)
