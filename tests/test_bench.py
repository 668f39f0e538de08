"""What the benchmarks count rather than time holds in short, too."""

from __future__ import annotations

import pytest
from bench import learning, lines, recognise

from prunella.diagnosis.patterns import Pattern


def test_nothing_rises_by_luck() -> None:
    """What works in 6 of 10 cases or fewer comes to act alone at no problem of hundreds, nor at 1 of 20,000 by count."""
    assert learning.lucky(range(300), 0.6) == []
    assert learning.chance(0.6) < 1 / 20_000
    assert learning.chance(0.5) < 1 / 1_000_000


def test_what_always_works_rises_where_it_is_needed_often() -> None:
    """After 25 incidents at four a day; at one in three days too much fades between them."""
    assert learning.lucky([0], 1.0) == [25]
    assert learning.lucky([0], 1.0, pace=12 * learning.PACE) == []


def test_best_remedy_is_found_as_by_a_plain_mean() -> None:
    """Of three remedies that work in 3, 6 and 9 of 10 cases, over the same seeds."""
    ours = list(learning.fixed(range(40), 100, learning.by_engine))[-1]
    floor = list(learning.fixed(range(40), 100, learning.by_plain_mean))[-1]
    assert ours == pytest.approx(floor, abs=0.05)
    assert ours > 0.78


def test_useless_remedy_gets_no_credit() -> None:
    """What does as waiting does is shown to do better almost never; what does much better mostly is."""
    assert learning.credited(range(40), 0.5, [100]).shown[100] <= 0.05
    assert learning.credited(range(20), 0.9, [100]).shown[100] >= 0.5


def test_stream_is_recognised_and_nothing_is_mistaken() -> None:
    """Of lines seen three times before most are known again, and none is taken for another event."""
    pupil = recognise.Pupil()
    heard = recognise.listen(pupil, lines.lines(1_500, seed=3))
    assert (heard.wrong, heard.confused) == (0, {})
    assert heard.recognised / heard.later > 0.6
    assert set(pupil.refused.values()) <= {"too few fixed words"}


def test_mistakes_are_counted() -> None:
    """An expression that fits strangers is found out."""
    pupil = recognise.Pupil()
    pupil.matcher.add(Pattern(id="wide", expression="connection|failed"))
    pupil.taught_by["wide"] = -1
    assert recognise.listen(pupil, lines.lines(100, seed=3)).wrong > 5


def test_stream_is_of_many_systems() -> None:
    """The same seed draws the same stream, from every system, with every blank filled."""
    stream = list(lines.lines(400, seed=1))
    assert stream == list(lines.lines(400, seed=1))
    assert len({line.system for line in stream}) >= 16
    assert [line.text for line in stream if "{" in line.text and "{ " not in line.text and "n{" not in line.text] == []
