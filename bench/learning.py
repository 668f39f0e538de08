"""What learning is worth: remedies of unknown quality, chosen and trusted by the functions that the engine uses.

Not timed but counted, over seeded problems with one incident every six hours. Floor of the choice: the plain mean,
(good + 1) / (tried + 2). An incident is one application of one remedy, or of none, and its outcome.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from bench.harness import Options, Report, Row, Spread, percentile
from prunella.core.issues import Effect, Evidence
from prunella.engine.learning import evidence
from prunella.engine.learning.evidence import NOTHING, WAIT, Option

PACE: Final = timedelta(hours=6)
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_PROBLEMS, _LUCKY, _SEEDS = 3_000, 2_000, 10_000
_RATES: Final = (0.3, 0.6, 0.9)
_STEADY, _BROKEN = {10: 0.757, 30: 0.806, 100: 0.831}, {10: 0.518, 100: 0.550}
_WAITS: Final = 0.07
"""Share of incidents that show what comes of waiting."""
_WAIT_KNOWN_FROM: Final = 5
"""Outcomes of waiting from which it is weighed beside the remedies."""
Choice = Callable[[Sequence[Option]], str]


@dataclass
class Problem:
    """What was learned at one problem, and what really helps there."""

    rates: Mapping[str, float]
    rng: random.Random
    now: datetime = _START
    known: dict[str, Evidence] = field(default_factory=dict)

    def options(self, names: Sequence[str]) -> list[Option]:
        """Return remedies with what is known about them now; between equal ones chance decides, as cost would."""
        known = {name: evidence.as_of(self.known.get(name, NOTHING), self.now) for name in names}
        return [Option(remedy=name, own=known[name], risk=-(name == WAIT), cost=self.rng.random()) for name in names]

    def apply(self, name: str) -> bool:
        """Apply a remedy to the next incident and note what becomes of it."""
        self.now += PACE
        helps = self.rng.random() < self.rates[name]
        effect = Effect.VERIFIED if helps else Effect.INEFFECTIVE
        self.known[name] = evidence.noted(self.known.get(name, NOTHING), effect, self.now)
        return helps


def run(options: Options) -> Report:
    """Count everything."""
    problems = max(options.amount(_PROBLEMS) // options.rounds, 1)
    rows = [*_fixed(options, problems), *_useless(options.amount(_LUCKY)), *_luck(options.amount(_SEEDS))]
    return Report("Learning: what helps, and what only seems to", rows, [_pace()])


# Choosing


def by_engine(options: Sequence[Option]) -> str:
    """Choose as the engine does."""
    return evidence.ranked(options)[0][1].remedy


def by_plain_mean(options: Sequence[Option]) -> str:
    """Choose by what one would write by hand: nothing fades, nothing is known elsewhere."""
    return max(options, key=lambda one: ((one.own.verified + 1) / (one.own.tried + 2), one.cost)).remedy


def fixed(seeds: Sequence[int], count: int, choose: Choice, *, breaks: bool = False) -> Iterator[float]:
    """Yield, incident by incident, the share that is repaired so far; the best remedy may break half-way."""
    names = [f"remedy-{rate}" for rate in _RATES]
    crowd = [Problem(dict(zip(names, _RATES, strict=True)), random.Random(seed)) for seed in seeds]
    repaired = 0
    for number in range(count):
        if breaks and number == count // 2:
            crowd = [replace(one, rates={**one.rates, names[-1]: 0.2}) for one in crowd]
        repaired += sum(one.apply(choose(one.options(names))) for one in crowd)
        yield repaired / len(crowd) / (number + 1)


def _fixed(options: Options, problems: int) -> list[Row]:
    figures: dict[tuple[str, int, bool], list[float]] = {}
    for start in range(0, problems * options.rounds, problems):
        seeds = range(start, start + problems)
        for name, choose in (("ours", by_engine), ("floor", by_plain_mean)):
            course = list(fixed(seeds, 100, choose))
            for count in _STEADY:
                figures.setdefault((name, count, False), []).append(course[count - 1])
            for count in _BROKEN:
                share = list(fixed(seeds, count, choose, breaks=True))[-1]
                figures.setdefault((name, count, True), []).append(share)
    return [
        _choice_row(count, figures["ours", count, breaks], figures["floor", count, breaks], aims[count], breaks=breaks)
        for breaks, aims in ((False, _STEADY), (True, _BROKEN))
        for count in aims
    ]


def _choice_row(count: int, ours: Sequence[float], floor: Sequence[float], aim: float, *, breaks: bool) -> Row:
    what = "the best of them falls from 0.9 to 0.2 half-way" if breaks else "three remedies, 0.3, 0.6 and 0.9"
    mean = sum(ours) / len(ours)
    return Row(
        what=f"{what}: repaired of {count}", unit="%", ours=_percent(ours), floor=_percent(floor),
        target=f"{aim:.1%} by mean", met=round(mean, 3) >= aim,
    )  # fmt: skip


def _percent(shares: Sequence[float]) -> Spread:
    return Spread.of([100 * share for share in shares])


# What would have got well by itself


@dataclass
class Credit:
    """What is said about one remedy at many problems.

    Args:
        shown: after so many incidents, share of problems at which it is shown that it does better than waiting.
        lifts: by how much it seems to, in the end, at each problem.
        applied: share of the last tenth of all incidents to which it was still applied.
    """

    shown: dict[int, float]
    lifts: list[float]
    applied: float


def credited(seeds: Sequence[int], rate: float, counts: Sequence[int]) -> Credit:
    """Let half of all incidents get well by themselves, and one remedy work at `rate`."""
    shown: Counter[int] = Counter()
    lifts: list[float] = []
    applied, last = 0, max(counts)
    for seed in seeds:
        problem = Problem({"remedy": rate, WAIT: 0.5}, random.Random(seed))
        for number in range(last):
            known = problem.known.get(WAIT, NOTHING)
            names = ["remedy", WAIT] if known.good + known.bad >= _WAIT_KNOWN_FROM else ["remedy"]
            only_waits = problem.rng.random() < _WAITS
            chosen = WAIT if only_waits else by_engine(problem.options(names))
            problem.apply(chosen)
            applied += chosen != WAIT and number >= last * 9 // 10
            if number + 1 in counts:
                mine, waiting = (problem.known.get(name, NOTHING) for name in ("remedy", WAIT))
                shown[number + 1] += evidence.lift_between(mine, waiting)[0] > 0
        lifts.append(evidence.lift(problem.known["remedy"], problem.known.get(WAIT, NOTHING)) or 0.0)
    shares = {count: shown[count] / len(seeds) for count in counts}
    return Credit(shares, lifts, applied / len(seeds) / (last - last * 9 // 10))


def _useless(problems: int) -> list[Row]:
    rows = []
    for rate, words in ((0.5, "no better than waiting (0.5)"), (0.9, "better than waiting (0.9)")):
        credit = credited(range(problems), rate, (30, 100, 300))
        useless = rate == 0.5
        rows += [
            Row(
                what=f"{words}: credited after {count}", unit="% of problems", ours=_percent([share]),
                target="at most 5" if useless else "", met=share <= 0.05 if useless else None,
            )
            for count, share in credit.shown.items()
        ]  # fmt: skip
        most = [percentile(credit.lifts, share) for share in (0.05, 0.5, 0.95)]
        rows.append(Row(what=f"{words}: seems better by, after 300 (5, 50, 95 %)", unit="points", ours=_percent(most)))
        rows.append(Row(what=f"{words}: applied to the last 30 of 300", unit="%", ours=_percent([credit.applied])))
    return rows


# Trusting


def lucky(seeds: Sequence[int], rate: float, *, count: int = 100, pace: timedelta = PACE) -> list[int]:
    """Return after how many incidents a remedy came to act alone, for each problem where it did."""
    found = []
    for seed in seeds:
        rng, now, known = random.Random(seed), _START, NOTHING
        for number in range(1, count + 1):
            now += pace
            known = evidence.noted(known, Effect.VERIFIED if rng.random() < rate else Effect.INEFFECTIVE, now)
            if evidence.may_act_alone(known, trusted=False):
                found.append(number)
                break
    return found


def chance(rate: float, count: int = 100) -> float:
    """Return the probability that a remedy comes to act alone where nothing fades: every course, weighed."""
    courses: Mapping[tuple[int, int, int], float] = {(0, 0, 0): 1.0}
    risen = 0.0
    for _ in range(count):
        after: defaultdict[tuple[int, int, int], float] = defaultdict(float)
        for (good, bad, row), weight in courses.items():
            for course, share in (((good + 1, bad, 0), rate), ((good, bad + 1, min(row + 1, 2)), 1 - rate)):
                if evidence.may_act_alone(_standing(*course), trusted=False):
                    risen += weight * share
                else:
                    after[course] += weight * share
        courses = after
    return risen


def _standing(good: int, bad: int, row: int) -> Evidence:
    return Evidence(
        tried=good + bad, verified=good, ineffective=bad, good=float(good), bad=float(bad), failures_in_a_row=row
    )


def _luck(seeds: int) -> list[Row]:
    rows = []
    for rate in (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9):
        must_not = rate <= 0.6
        tried = seeds if must_not else max(seeds // 5, 1)
        risen = len(lucky(range(tried), rate))
        rows.append(
            Row(
                what=f"works in {rate:.0%}: acts alone within 100, of {tried:,} (exactly: {chance(rate):.2g})",
                unit="problems", ours=Spread.of([risen]), target="0" if must_not else "",
                met=not risen if must_not else None,
            )
        )  # fmt: skip
    return rows


def _pace() -> str:
    told = []
    for hours in (6, 24, 48, 72):
        found = lucky([0], 1.0, count=500, pace=timedelta(hours=hours))
        told.append(f"every {hours} h {f'after {found[0]}' if found else 'never'}")
    return f"a remedy that always works acts alone, at one incident {', '.join(told)}"
