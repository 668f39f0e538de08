"""How much of a stream is recognised once it was seen three times, and how often it is taken for something else.

The stream (lines.py) is learned from as the engine learns: lines with one fingerprint are counted, at the third their
message becomes an expression, which is tried on the messages of others first. Floor: equal texts are the same.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.harness import Options, Report, Row, Spread
from bench.lines import Line, lines, templates
from prunella.core.issues import Learning
from prunella.core.records import Failure
from prunella.diagnosis.fingerprint import mask
from prunella.diagnosis.known import Matcher
from prunella.diagnosis.patterns import Pattern
from prunella.diagnosis.templates import template

_LINES, _SEED = 32_000, 11
_SAMPLE, _STRANGERS_MAX = 2_000, 0.01  # as in the engine's promotion
_RECOGNISED_MIN, _WRONG_MAX = 0.88, 0.002
_AFTER = Learning().promote_after


@dataclass
class Pupil:
    """Learn from a stream, line by line."""

    matcher: Matcher = field(default_factory=Matcher)
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    messages: dict[tuple[str, str], str] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    taught_by: dict[str, int] = field(default_factory=dict)

    def hear(self, line: Line) -> int | None:
        """Return which event the line is taken for; None where it is not known yet, and then it is learned from."""
        failure = Failure(service=line.system, message=line.text)
        found = self.matcher.match(failure)
        if found is not None:
            return self.taught_by[found.pattern.id]
        key = (line.system, mask(failure.message))
        self.seen[key] += 1
        self.messages.pop(key, None)
        self.messages[key] = failure.message  # the last one seen is the last one
        if self.seen[key] == _AFTER:
            self._learn(key, line)
        return None

    def _learn(self, key: tuple[str, str], line: Line) -> None:
        made = template(self.messages[key])
        if isinstance(made, str):
            self.refused[key] = "too few fixed words" if "are needed" in made else made
            return
        sought = re.compile(made.expression, re.IGNORECASE)
        others = [one for one in self.messages.items() if one[0] != key][-_SAMPLE:]
        fitted = sum(system == line.system and sought.search(text) is not None for (system, _), text in others)
        if others and fitted / len(others) > _STRANGERS_MAX:
            self.refused[key] = "would fit other problems"
            return
        name = f"{line.system}-{len(self.taught_by)}"
        self.taught_by[name] = line.event
        self.matcher.add(Pattern(id=name, expression=made.expression, service=line.system))


@dataclass
class Heard:
    """What became of the lines of events that had been seen three times."""

    later: int = 0
    recognised: int = 0
    wrong: int = 0
    equal: int = 0
    missed: Counter[int] = field(default_factory=Counter)
    confused: Counter[tuple[int, int]] = field(default_factory=Counter)
    per_s: float = 0.0


def listen(pupil: Pupil, stream: Iterable[Line]) -> Heard:
    """Let the pupil hear a stream, and count by the truth."""
    heard, before, texts = Heard(), Counter[int](), Counter[str]()
    taken_s, count = 0.0, 0
    for line in stream:
        begun_s = time.perf_counter()
        told = pupil.hear(line)
        taken_s += time.perf_counter() - begun_s
        count += 1
        heard.wrong += told is not None and told != line.event
        if told is not None and told != line.event:
            heard.confused[line.event, told] += 1
        if before[line.event] >= _AFTER:
            heard.later += 1
            heard.recognised += told is not None
            heard.equal += texts[line.text] >= _AFTER
            heard.missed[line.event] += told is None
        before[line.event] += 1
        texts[line.text] += 1
    heard.per_s = count / taken_s
    return heard


def run(options: Options) -> Report:
    """Replay one stream per round."""
    count = options.amount(_LINES)
    pupils = [Pupil() for _ in range(options.rounds)]
    heard = [listen(pupil, lines(count, _SEED + number)) for number, pupil in enumerate(pupils)]
    share = Spread.of([100 * one.recognised / one.later for one in heard])
    wrong = Spread.of([100 * one.wrong / max(one.recognised, 1) for one in heard])
    rows = [
        Row(
            what="later lines recognised", unit="%", ours=share,
            floor=Spread.of([100 * one.equal / one.later for one in heard]),
            target=f">= {_RECOGNISED_MIN:.0%}", met=share.median >= 100 * _RECOGNISED_MIN,
        ),
        Row(
            what="recognised lines taken for another event", unit="%", ours=wrong, target=f"<= {_WRONG_MAX:.1%}",
            met=wrong.median <= 100 * _WRONG_MAX,
        ),
        Row(what="expressions learned", unit="", ours=Spread.of([len(one.taught_by) for one in pupils])),
        Row(what="messages without an expression", unit="", ours=Spread.of([len(one.refused) for one in pupils])),
        Row(what="lines heard", unit="lines/s", ours=Spread.of([one.per_s for one in heard])),
    ]  # fmt: skip
    known = templates()
    title = f"Recognise: {count:,} lines of {len({system for system, _ in known})} systems, {len(known)} templates"
    return Report(title, rows, list(_notes(pupils[0], heard[0], known)))


def _notes(pupil: Pupil, heard: Heard, known: Sequence[tuple[str, str]]) -> Iterable[str]:
    """Say of one round what was refused, missed and mistaken."""
    yield "; ".join(f"refused, {why}: {count}" for why, count in Counter(pupil.refused.values()).most_common())
    for event, count in heard.missed.most_common(6):
        yield f"missed {count} times: {known[event][0]}: {known[event][1][:80]}"
    for (event, told), count in heard.confused.most_common(4):
        yield f"mistaken {count} times: {known[event][1][:60]!r} for {known[told][1][:60]!r}"
