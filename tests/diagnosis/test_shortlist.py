"""Whatever has all literals of a way in a text is on the list, however entries came and went."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prunella.diagnosis.literals import Way
from prunella.diagnosis.shortlist import Shortlist

LITERALS = st.text("abc", min_size=3, max_size=9)
WAYS = st.lists(st.frozensets(LITERALS, min_size=1, max_size=3), min_size=1, max_size=3).map(tuple)
TEXTS = st.text("abc", max_size=60)


def on_list(shortlist: Shortlist[int], text: str) -> set[int]:
    """Return the entries that a text may fit."""
    return set(shortlist.candidates(text))


def naive(entries: dict[int, tuple[Way, ...]], text: str) -> set[int]:
    """Look for every literal of every entry."""
    return {entry for entry, ways in entries.items() if any(all(literal in text for literal in way) for way in ways)}


@given(st.lists(WAYS, max_size=40), TEXTS)
def test_list_is_what_a_loop_finds(all_ways: list[tuple[Way, ...]], text: str) -> None:
    """No more and no less: few entries and many, short texts and long ones."""
    entries = dict(enumerate(all_ways))
    assert on_list(Shortlist(entries.items()), text) == naive(entries, text)


@given(st.lists(WAYS, min_size=1, max_size=20), st.data(), TEXTS)
def test_changing_equals_building_anew(all_ways: list[tuple[Way, ...]], data: st.DataObject, text: str) -> None:
    """Entries added one by one, and some removed, stand as if they had been there from the start, or never."""
    shortlist: Shortlist[int] = Shortlist()
    entries = dict(enumerate(all_ways))
    for entry, ways in entries.items():
        shortlist.add(entry, ways)
    for entry in data.draw(st.sets(st.sampled_from(sorted(entries)))):
        shortlist.remove(entry, entries.pop(entry))
    assert on_list(shortlist, text) == naive(entries, text)


def test_common_words_make_no_key() -> None:
    """What many entries share is looked at only under what is their own."""
    ways = {number: (frozenset({f"connection to host{number:04} refused"}),) for number in range(500)}
    shortlist = Shortlist(ways.items())
    rows = [row for table in shortlist._tables.values() for row in table.values()]
    assert max(map(len, rows)) <= 2
