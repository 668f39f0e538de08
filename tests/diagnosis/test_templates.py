"""The expression of a message fits the next of its kind, and nobody else's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunella.diagnosis import safety, templates
from prunella.diagnosis.fingerprint import MASKS, Piece, mask, pieces
from prunella.diagnosis.templates import Template, template


def fits(message: str, other: str) -> bool:
    found = template(message)
    assert isinstance(found, Template), found
    return re.search(found.expression, other, re.IGNORECASE) is not None


@pytest.mark.parametrize(
    ("message", "again", "stranger"),
    [
        (
            "Order 4711 could not be synced: duplicate SKU 'AB-12' in location 77",
            "Order 9 could not be synced: duplicate SKU 'ZZ 99' in location 1,204",
            "Order 9 could not be synced: unknown SKU 'ZZ 99' in location 1,204",
        ),
        (
            "token of ada@example.com expired at 2026-11-02T08:14:55Z",
            "token of bob@shop.test expired at 12 Jan 2027",
            "token of ada@example.com revoked at 2026-11-02T08:14:55Z",
        ),
        (
            "connect to https://api.shop.test/v1/orders timed out after 30s",
            "connect to https://eu.shop.test/x?y=1 timed out after 2.5 seconds",
            "connect to https://api.shop.test/v1/orders was refused after 30s",
        ),
        (
            "row 0a1b2c3d-0000-4000-8000-000000000000 in 10.0.0.7:5432 is locked by another",
            "row 11111111-2222-4333-8444-555555555555 in [::1] is locked by another",
            "row 11111111-2222-4333-8444-555555555555 is locked by another",
        ),
    ],
)
def test_template_fits_the_next_of_its_kind_only(message: str, again: str, stranger: str) -> None:
    """Given other ids, times and amounts, it fits; given one other word, it does not."""
    assert fits(message, message)
    assert fits(message, again.replace("[::1]", "192.168.1.20"))
    assert not fits(message, stranger)


@pytest.mark.parametrize("message", ["", "500", "Error 4711", "x: 2026-11-02 17:00 #4", "request failed: 12"])
def test_template_needs_words(message: str) -> None:
    """Given a message that is hardly more than data, there is none, and it says what is missing."""
    assert "are needed" in str(template(message))


def test_id_is_no_word() -> None:
    """Given a word where an id stood, it is another problem; given another id, it is the same."""
    message = "account cus_42x was not found in the ledger"
    assert fits(message, "account 7-ada was not found in the ledger")
    assert not fits(message, "account service was not found in the ledger")


def test_template_of_a_long_message_is_open_at_its_end() -> None:
    """Given more than is read of a message, what comes after does not count."""
    message = "the import of the catalogue failed because " + "word " * 300
    assert fits(message, message + "and more")
    assert not fits("the import of the catalogue failed", "the import of the catalogue failed twice")


@pytest.mark.parametrize("name", [name for name in MASKS if name != "keep"])
def test_shape_covers_what_its_mask_covers(name: str) -> None:
    """Given whatever a mask takes, its shape takes it, too."""

    @settings(max_examples=30)
    @given(st.from_regex(re.compile(MASKS[name].removesuffix(r"(?=\d)"), re.ASCII), fullmatch=True))
    def covers(text: str) -> None:
        assert re.fullmatch(templates.SHAPES[name], text, re.IGNORECASE), text

    covers()


_WORDS = st.sampled_from(["order", "could", "not", "be", "found:", "Rejected", "(code", "by)", "[the]", "a.b*c", "$5?"])
_DATA = st.sampled_from(["4711", "'x y'", "ab12", "10.0.0.1", "a@b.example", "2026-01-02 10:00", "5 ms", "12%"])


@given(st.lists(st.one_of(_WORDS, _DATA), min_size=4, max_size=25), st.sampled_from([" ", "  ", "\n", "\t "]))
def test_template_fits_its_own_message_and_is_safe(parts: list[str], blank: str) -> None:
    """Given any mixture of words and data, what comes out fits where it came from, and may be kept."""
    message = blank.join(parts)
    found = template(message)
    if isinstance(found, str):
        return
    assert re.search(found.expression, message, re.IGNORECASE)
    assert safety.refusal(found.expression) is None


@given(st.text(max_size=300))
def test_pieces_are_the_message(text: str) -> None:
    """Given any text, its pieces put together are what was read of it, and say what `mask` says."""
    found = pieces(text)
    assert "".join(piece.text for piece in found) == text
    told = "".join(_told(piece) for piece in found)
    assert " ".join(told.split()) == mask(text)


def _told(piece: Piece) -> str:
    if piece.mask is None:
        return piece.text
    return "" if piece.mask == "weekday" else f"<{piece.mask}>"
