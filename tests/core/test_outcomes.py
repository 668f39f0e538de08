"""The words with which a plug-in says what it did."""

from __future__ import annotations

from prunella.core.outcomes import Outcome


def test_four_words_say_what_happened() -> None:
    """Changed wants something written, done and skip do not, failed is not ok."""
    changed = Outcome.changed(status="PENDING", vendor_id=7, note="another vendor")
    assert (changed.ok, changed.changes, changed.detail) == (
        True,
        {"status": "PENDING", "vendor_id": 7},
        "another vendor",
    )
    assert (Outcome.done("told").ok, Outcome.done("told").changes) == (True, None)
    assert (Outcome.skip("paid already").ok, Outcome.skip("paid already").skipped) == (True, True)
    assert (Outcome.failed("no vendor").ok, Outcome.failed("no vendor").detail) == (False, "no vendor")


def test_column_may_be_called_like_a_field() -> None:
    """A table with a column `ok` or `detail` can be changed like any other."""
    changed = Outcome.changed(ok=False, detail="x")
    assert (changed.ok, changed.detail, changed.changes) == (True, "", {"ok": False, "detail": "x"})
