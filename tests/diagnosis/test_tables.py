"""The tables hold together: every kind is known and every name stands in the form in which it is looked up."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from prunella.core.records import KINDS
from prunella.diagnosis import tables
from prunella.diagnosis.classify import flat


def test_facts_cover_every_kind() -> None:
    """Retryable, actor and advice are told for each kind, and for no other."""
    assert set(tables.FACTS) == set(KINDS)


def test_tables_name_known_kinds_only() -> None:
    """No table leads to a kind that a diagnosis would refuse."""
    named = {
        *tables.CODES.values(),
        *tables.EXCEPTIONS.values(),
        *tables.MODULE_EXCEPTIONS.values(),
        *tables.SQLSTATES.values(),
        *tables.SQLSTATE_CLASSES.values(),
        *tables.PHRASES,
        *tables.WORDS,
        *tables.SHARPER,
        *(kind for codes in tables.SERVICE_CODES.values() for kind in codes.values()),
        *(kind for kind, _ in tables.STATUSES.values()),
        *(kind for kinds in tables.STATUS_MAY_MEAN.values() for kind in kinds),
        *(kind for pairs in tables.SHARPER.values() for kind, _ in pairs),
    }
    assert named <= set(KINDS)


@pytest.mark.parametrize("table", [tables.CODES, tables.EXCEPTIONS, *tables.SERVICE_CODES.values()])
def test_table_names_are_flat(table: Mapping[str, str]) -> None:
    """A name that is not its own flat form would never be found."""
    assert [name for name in table if flat(name) != name] == []


def test_words_are_tried_for_every_kind_that_has_phrases() -> None:
    """Phrases that no order mentions would be dead, and they are compared with lower-case text."""
    assert set(tables.WORDS) == set(tables.PHRASES)
    assert all(phrase == phrase.lower() for phrases in tables.PHRASES.values() for phrase in phrases)


def test_sqlstates_have_their_shape() -> None:
    """States have five characters and classes two."""
    assert all(re.fullmatch("[0-9A-Z]{5}", state) for state in tables.SQLSTATES)
    assert all(re.fullmatch("[0-9A-Z]{2}", state) for state in tables.SQLSTATE_CLASSES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RATE_LIMIT_EXCEEDED", "ratelimitexceeded"),
        ("rateLimitExceeded", "ratelimitexceeded"),
        ("ThrottlingException", "throttling"),
        ("overloaded_error", "overloaded"),
        ("Error", ""),
    ],
)
def test_flat_joins_the_notations_of_one_name(name: str, expected: str) -> None:
    """However a service writes a code, it is looked up under one name."""
    assert flat(name) == expected
