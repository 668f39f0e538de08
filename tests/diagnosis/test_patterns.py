"""A pattern says how loud it is, where it applies and whether it can be repaired."""

from __future__ import annotations

import pytest

from prunella.core.records import Severity
from prunella.diagnosis.patterns import LOUDEST_FIRST, Match, Pattern


def test_loudest_comes_first() -> None:
    """From the siren to the whisper."""
    assert sorted(Severity, key=LOUDEST_FIRST.__getitem__) == ["CRITICAL", "HIGH", "MEDIUM", "LOW"]


def test_severity_is_one_of_four() -> None:
    """A word is taken as its severity, and an unknown one refused."""
    assert Pattern(id="a", expression="b", severity="HIGH").severity is Severity.HIGH  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="URGENT"):
        Pattern(id="a", expression="b", severity="URGENT")  # type: ignore[arg-type]


def test_scopes_are_counted() -> None:
    """Service, kind and code, each where it is given."""
    assert Pattern(id="a", expression="b").scopes == 0
    assert Pattern(id="a", expression="b", service="crm", kind="network.dns", code="X").scopes == 3


@pytest.mark.parametrize(("remedy", "can"), [("refresh_token", True), (None, False)])
def test_match_says_whether_it_can_be_repaired(remedy: str | None, can: bool) -> None:
    """It can where a remedy is named."""
    assert Match(Pattern(id="a", expression="b", remedy=remedy), ((0, 1),)).can_be_repaired is can
