"""Known problems are recognised among thousands exactly as a loop over all of them would."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnosis.expressions import expressions, texts
from diagnosis.hostile import EVIL
from prunella.core.errors import InvalidInput
from prunella.core.records import Failure, Severity
from prunella.diagnosis.known import ALWAYS_MAX, Matcher
from prunella.diagnosis.patterns import Pattern
from prunella.diagnosis.safety import refusal


def pattern(name: str, expression: str, severity: Severity = Severity.MEDIUM, **facts: object) -> Pattern:
    """Return a pattern."""
    return Pattern(id=name, expression=expression, severity=severity, **facts)  # type: ignore[arg-type]


def names(matcher: Matcher, subject: Failure | str, kind: str | None = None) -> list[str]:
    """Return the ids of what matches, the one that counts first."""
    return [match.pattern.id for match in matcher.matches(subject, kind=kind)]


def by_loop(patterns: Iterable[Pattern], text: str) -> dict[str, list[tuple[int, int]]]:
    """Search every pattern with `re`."""
    found = {
        one.id: [match.span() for match in re.finditer(one.expression, text, re.IGNORECASE * one.ignore_case)][:10]
        for one in patterns
    }
    return {name: spans for name, spans in found.items() if spans}


drawn = st.lists(st.tuples(expressions, st.booleans()), min_size=1, max_size=12).map(
    lambda rows: [
        pattern(f"p{number}", expression, ignore_case=ignore_case)
        for number, (expression, ignore_case) in enumerate(rows)
        if refusal(expression, ignore_case=ignore_case) is None
    ]
)


@settings(max_examples=400)
@given(drawn, texts)
def test_matches_are_those_of_a_loop(patterns: list[Pattern], text: str) -> None:
    """Same patterns, same places, whatever is drawn."""
    found = {match.pattern.id: list(match.spans) for match in Matcher(patterns).matches(text)}
    assert found == by_loop(patterns, text)


@settings(max_examples=100)
@given(drawn, drawn, texts, st.data())
def test_adding_and_removing_equals_building_anew(
    first: list[Pattern], second: list[Pattern], text: str, data: st.DataObject
) -> None:
    """What was added stands as if it had always been there; of two with one id the later counts."""
    matcher = Matcher(first)
    for one in second:
        matcher.add(one)
    kept = {one.id: one for one in (*first, *second)}
    for name in data.draw(st.sets(st.sampled_from([*kept, "nobody"]))):
        matcher.remove(name)
        kept.pop(name, None)
    assert matcher.matches(text) == Matcher(kept.values()).matches(text)
    assert len(matcher) == len(kept)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("kiss", "\u212ai\u017f\u017f"),
        ("\u017ftop", "STOP"),
        ("istanbul", "\u0130stanbul"),
        ("istanbul", "\u0131STANBUL"),
        ("\u0130stanbul", "istanbul"),
        ("ΣΊΣΥΦΟΣ", "Σίσυφος"),
        ("straße zu", "STRA\u1e9eE ZU"),
        ("[Tt]ime[Oo]ut", "TIMEOUT"),
        ("(?-i:Timeout)", "x Timeout"),
    ],
)
def test_traps_of_case_are_not_passed_over(expression: str, text: str) -> None:
    """What `re` takes for equal is found, also where lower case alone would not make it so."""
    assert re.search(expression, text, re.IGNORECASE)
    assert names(Matcher([pattern("one", expression)]), text) == ["one"]


def test_thousands_are_matched_as_by_a_loop() -> None:
    """The same ids on messages of one vocabulary."""
    rng = random.Random(5)
    words = ["connection", "refused", "token", "expired", "quota", "exceeded", "order", "payment", "host", "failed"]
    patterns = [
        pattern(f"p{number}", f"{rng.choice(words)} {rng.choice(words)} {rng.choice(['.*', ''])}{rng.choice(words)}")
        for number in range(2000)
    ]
    matcher = Matcher(patterns)
    for _ in range(20):
        message = " ".join(rng.choices(words, k=20))
        assert sorted(names(matcher, message)) == sorted(by_loop(patterns, message))


# The one that counts --------------------------------------------------------------------------------------------------


def test_loudest_counts_then_most_specific_then_first_id() -> None:
    """Severity before scopes, scopes before literals, literals before the id."""
    ranked = [
        pattern("z-critical", "refused", Severity.CRITICAL),
        pattern("y-high-crm", "refused", Severity.HIGH, service="crm", code="X"),
        pattern("x-high-crm", "refused", Severity.HIGH, service="crm"),
        pattern("w-high-long", "connection refused", Severity.HIGH),
        pattern("a-high", "refused", Severity.HIGH),
        pattern("b-high", "refused", Severity.HIGH),
        pattern("a-low", "connection refused by peer", Severity.LOW, service="crm", code="X"),
    ]
    failure = Failure(service="crm", code="X", message="connection refused by peer")
    matcher = Matcher(reversed(ranked))
    assert names(matcher, failure) == [one.id for one in ranked]
    first = matcher.match(failure)
    assert first is not None
    assert first.pattern is ranked[0]
    assert matcher.match("all is well") is None


@pytest.mark.parametrize(
    ("service", "more", "found"),
    [
        ("stripe", (), True),
        ("stripe-eu", (), True),
        ("payments", (), False),
        ("payments", ("stripe",), True),
        ("xero", ("payments",), False),
        ("", (), False),
    ],
)
def test_service_is_known_by_its_profile(service: str, more: tuple[str, ...], found: bool) -> None:
    """A pattern for Stripe is meant for `stripe-eu`, too, and for what is Stripe's by its vendor."""
    matcher = Matcher([pattern("one", "refused", service="stripe")])
    failure = Failure(service=service, message="connection refused")
    assert (matcher.match(failure, names=more) is not None) is found
    assert bool(matcher.matches(failure, names=more)) is found


def test_resolved_problems_are_not_looked_for() -> None:
    """Neither from the start nor when they become so."""
    matcher = Matcher([pattern("one", "refused", resolved=True), pattern("two", "refused")])
    assert names(matcher, "refused") == ["two"]
    assert matcher.add(pattern("two", "refused", resolved=True)) is None
    assert names(matcher, "refused") == []
    assert "two" not in matcher


@pytest.mark.parametrize(
    ("subject", "kind", "expected"),
    [
        (Failure(service="crm", code="E1", message="refused"), "network.dns", ["all", "any"]),
        (Failure(service="crm", code="E1", message="refused"), None, ["all", "any"]),
        (Failure(service="crm", code="E1", message="refused"), "bug", ["any"]),
        (Failure(service="erp", code="E1", message="refused"), "network.dns", ["any"]),
        (Failure(service="crm", message="refused"), "network.dns", ["any"]),
        ("refused", None, ["all", "any"]),
    ],
)
def test_pattern_applies_where_it_is_meant(subject: Failure | str, kind: str | None, expected: list[str]) -> None:
    """Service, code and kind are asked for where they are known; bare words come from anywhere."""
    matcher = Matcher(
        [pattern("all", "refused", service="crm", code="E1", kind="network.dns"), pattern("any", "refused")]
    )
    assert names(matcher, subject, kind) == expected


# What gets in ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", EVIL)
def test_evil_pattern_never_gets_in(expression: str) -> None:
    """Refused when it is added; what was stored all the same matches nothing and keeps nobody waiting."""
    with pytest.raises(InvalidInput, match="pattern 'evil'"):
        Matcher().add(pattern("evil", expression))
    stored = Matcher([pattern("evil", f"{expression}|refused {expression}"), pattern("good", "refused")])
    text = "refused " + "a" * 4000
    assert names(stored, text) == names(stored, text) == ["good"]


def test_unsafe_pattern_in_the_store_is_put_aside_when_it_is_needed() -> None:
    """It says why, and is not looked at again."""
    matcher = Matcher([pattern("evil", "refused (a+)+$"), pattern("good", "refused")])
    assert names(matcher, "refused aaa!") == ["good"]
    assert "end each turn" in matcher.refused["evil"]
    assert "evil" not in matcher


def test_refused_change_leaves_what_was_kept() -> None:
    """An edit that is refused changes nothing."""
    matcher = Matcher([pattern("one", "refused")])
    with pytest.raises(InvalidInput):
        matcher.add(pattern("one", "("))
    assert names(matcher, "refused") == ["one"]


def test_broken_pattern_in_the_store_stops_nobody() -> None:
    """It stands in `refused`, and the others match."""
    matcher = Matcher([pattern("broken", "("), pattern("good", "refused")])
    assert names(matcher, "refused") == ["good"]
    assert set(matcher.refused) == {"broken"}
    matcher.add(pattern("broken", "refused"))
    assert dict(matcher.refused) == {}


def test_patterns_without_a_literal_are_few_and_warned_about() -> None:
    """Fifty are kept, each with a warning; the next is refused until one goes; one may be changed at any time."""
    matcher = Matcher()
    for number in range(ALWAYS_MAX):
        warning = matcher.add(pattern(f"p{number}", rf"\d{{{number + 1}}}x"))
        assert warning is not None
        assert f"{number + 1} of at most 50" in warning
    assert len(matcher.warnings) == ALWAYS_MAX
    assert names(matcher, "12x")[-2:] == ["p0", "p1"]
    with pytest.raises(InvalidInput, match="add a word"):
        matcher.add(pattern("more", r"\d+y"))
    matcher.add(pattern("p0", r"\d\dz"))
    assert matcher.add(pattern("word", "refused")) is None
    matcher.remove("p1")
    assert matcher.add(pattern("more", r"\d+y"))
    stored = Matcher(pattern(f"p{number}", rf"\d{{{number + 1}}}x") for number in range(ALWAYS_MAX + 2))
    assert (len(stored), set(stored.refused)) == (ALWAYS_MAX, {"p50", "p51"})
