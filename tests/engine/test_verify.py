"""Only a look proves recovery: every replay answered as promised, a health check, or a success from outside."""

from __future__ import annotations

import pytest

from prunella.engine.verify import Verification, by_operations, by_probe, by_success
from store.making import signal


@pytest.mark.parametrize(
    ("operations", "proven", "how"),
    [
        ({}, None, "there is no request whose success could prove it"),
        ({"cancelled": 2}, None, "there is no request whose success could prove it"),
        ({"done": 1}, True, "1 of 1 replayed requests answered as expected"),
        ({"done": 7, "cancelled": 1}, True, "7 of 7 replayed requests answered as expected"),
        ({"done": 6, "waiting": 1}, None, "6 of 7 requests went through, 1 to go"),
        ({"done": 5, "running": 1, "waiting": 1}, None, "5 of 7 requests went through, 2 to go"),
        ({"waiting": 1, "dead": 1}, None, "0 of 2 requests went through, 1 to go"),
        ({"done": 6, "dead": 1}, False, "6 of 7 requests went through, 1 in quarantine"),
        ({"dead": 2}, False, "0 of 2 requests went through, 2 in quarantine"),
    ],
)
def test_replays_prove_only_when_all_went_through(operations: dict[str, int], proven: bool | None, how: str) -> None:
    """All done proves; something left leaves it open; quarantine disproves; nothing at all proves nothing."""
    assert by_operations(operations) == Verification(proven, how)


@pytest.mark.parametrize("ok", [True, False])
def test_health_check_proves_what_it_says(ok: bool) -> None:
    """The service's own health check proves or disproves, and is named."""
    assert by_probe(ok, "HTTP 200") == Verification(ok, "health check: HTTP 200")


def test_success_from_outside_names_its_source() -> None:
    """A reported success proves, and the proof can be traced to its event."""
    assert by_success(signal(event_id="e-7", source="webhook")) == Verification(
        True, "success reported by webhook (e-7)"
    )
