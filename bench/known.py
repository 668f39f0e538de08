"""What recognising known problems costs, against a loop over `re`: the same patterns, the same messages, one run.

Patterns and messages are drawn from one vocabulary with one seed; three messages in ten are made to fit a pattern.
Half of the patterns regard case: the loop is quicker on those. Times are the processor's, or the slowest 1 % would be
those in which another process had its turn.
"""

from __future__ import annotations

import hashlib
import random
import re
import statistics
import string
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from bench.harness import Options, Report, Row, Spread, percentile
from prunella.diagnosis.known import Matcher
from prunella.diagnosis.patterns import Pattern

Result = TypeVar("Result")
_CHANGED = 100
"""Patterns that are added, and as many that are removed, while messages are matched."""
_MESSAGES, _LOOPED = 10_000, {1_000: 400, 10_000: 60}
_RATIO_MIN = {1_000: 20, 10_000: 100}
_COMPILE_MAX_S, _ADD_MAX_MS, _P99_MAX_MS = 1.0, 10.0, 2.0
_TEXT = (
    "connection refused timeout token expired invalid grant request failed retry limit exceeded upstream host "
    "certificate handshake database deadlock detected constraint violates unique key column relation missing "
    "permission denied scope account suspended payment declined card order customer invoice webhook signature "
    "mismatch payload schema field required unexpected response status gateway service unavailable maintenance "
    "queue full worker lost lease session closed socket reset peer broken pipe quota daily monthly rate window "
    "resource locked version conflict duplicate entry record lookup address resolution name unknown server error "
)
WORDS = _TEXT.split()


def run(options: Options) -> Report:
    """Measure both sizes."""
    rows, notes = [], []
    for count in _LOOPED:
        found, note = _measure(count, options)
        rows += found
        notes.append(note)
    return Report("Known problems: messages of some 150 characters, per second", rows, notes)


def _measure(count: int, options: Options) -> tuple[list[Row], str]:
    rng = random.Random(7)
    patterns = [drawn(rng, number) for number in range(count)]
    messages = [_message(rng, patterns) for _ in range(options.amount(_MESSAGES))]
    few = messages[: options.amount(_LOOPED[count])]
    rounds = [_round(rng, patterns, messages, few) for _ in range(options.rounds)]
    figures = {name: [one[name] for one in rounds] for name in rounds[0]}
    ratio = Spread.of([mine / theirs for mine, theirs in zip(figures["ours"], figures["loop"], strict=True)])
    rows = [
        Row(
            what=f"{count:,} patterns",
            unit="messages/s",
            floor=Spread.of(figures["loop"]),
            ours=Spread.of(figures["ours"]),
            ratio=ratio,
            target=f">= {_RATIO_MIN[count]} times",
            met=ratio.median >= _RATIO_MIN[count],
        ),
        _limit(f"{count:,} patterns, slowest 1 % of messages", "ms", figures["p99_ms"], _P99_MAX_MS),
        _limit(f"{count:,} patterns, compile", "s", figures["compile_s"], _COMPILE_MAX_S, figures["loop_compile_s"]),
        _limit(f"{count:,} patterns, add one, slowest of 20", "ms", figures["add_ms"], _ADD_MAX_MS),
        _limit(f"{count:,}, {_CHANGED} added and removed: slowest 1 %", "ms", figures["changing_p99_ms"], _P99_MAX_MS),
        _limit(f"{count:,}, add or remove one, slowest 1 %", "ms", figures["change_ms"], _ADD_MAX_MS),
    ]
    same = "identical to" if all(figures["same"] + figures["same_changed"]) else "DIFFERENT from"
    cold = statistics.median(figures["cold"])
    words = f"{same} the loop's, before and after changes; {cold:,.0f} messages/s while expressions are compiled"
    return rows, f"{count:,}: results {words}"


def _round(rng: random.Random, patterns: list[Pattern], messages: list[str], few: list[str]) -> dict[str, float]:
    compile_s, matcher = _timed(lambda: Matcher(patterns))
    cold_s, _ = _timed(lambda: [matcher.matches(message) for message in messages])
    re.purge()
    loop_compile_s, loop = _timed(
        lambda: [(one.id, re.compile(one.expression, _flags(one)).search) for one in patterns]
    )
    loop_s, expected = _timed(lambda: [[name for name, search in loop if search(message)] for message in few])
    singles = [_timed(lambda message=message: matcher.matches(message))[0] for message in messages]  # type: ignore[misc]
    found = [sorted(match.pattern.id for match in matcher.matches(message)) for message in few]
    fresh = [drawn(rng, len(patterns) + number) for number in range(20)]
    adds = [_timed(lambda one=one: matcher.add(one))[0] for one in fresh]  # type: ignore[misc]
    return {
        "compile_s": compile_s,
        "loop_compile_s": loop_compile_s,
        "cold": len(messages) / cold_s,
        "loop": len(few) / loop_s,
        "ours": len(messages) / sum(singles),
        "p99_ms": percentile(singles, 0.99) * 1000,
        "add_ms": max(adds) * 1000,
        "same": _digest(found) == _digest([sorted(names) for names in expected]),
        **_while_changed(rng, matcher, {one.id: one for one in [*patterns, *fresh]}, messages, few),
    }


def _while_changed(
    rng: random.Random, matcher: Matcher, known: dict[str, Pattern], messages: list[str], few: list[str]
) -> dict[str, float]:
    """Add and remove patterns between the messages; then compare with a loop over those that are left."""
    coming = [drawn(rng, len(known) + number) for number in range(_CHANGED)]
    going = rng.sample(sorted(known), _CHANGED)
    deeds: list[Callable[[], object]] = [partial(matcher.add, one) for one in coming]
    deeds += [partial(matcher.remove, one) for one in going]
    rng.shuffle(deeds)
    every = max(len(messages) // len(deeds), 1)
    changes, singles = [], []
    for number, message in enumerate(messages):
        if number % every == 0 and deeds:
            changes.append(_timed(deeds.pop())[0])
        singles.append(_timed(partial(matcher.matches, message))[0])
    left = {**known, **{one.id: one for one in coming}}
    searches = [(id_, re.compile(one.expression, _flags(one)).search) for id_, one in left.items() if id_ not in going]
    expected = [sorted(id_ for id_, search in searches if search(message)) for message in few]
    found = [sorted(match.pattern.id for match in matcher.matches(message)) for message in few]
    return {
        "changing_p99_ms": percentile(singles, 0.99) * 1000,
        "change_ms": percentile(changes, 0.99) * 1000,
        "same_changed": not deeds and _digest(found) == _digest(expected),
    }


def _limit(what: str, unit: str, values: Sequence[float], most: float, floor: Sequence[float] = ()) -> Row:
    spread = Spread.of(values)
    base = Spread.of(floor) if floor else None
    return Row(what=what, unit=unit, ours=spread, floor=base, target=f"<= {most:g}", met=spread.median <= most)


def _timed(function: Callable[[], Result]) -> tuple[float, Result]:
    begin = time.thread_time()
    result = function()
    return time.thread_time() - begin, result


def _digest(found: Sequence[Sequence[str]]) -> str:
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _flags(pattern: Pattern) -> re.RegexFlag:
    return re.IGNORECASE if pattern.ignore_case else re.NOFLAG


def drawn(rng: random.Random, number: int) -> Pattern:
    """Draw a pattern as people write them: some words, sets, gaps, alternatives, optional parts, a code."""
    words = rng.sample(WORDS, 6)
    code = "".join(rng.choices(string.ascii_uppercase, k=2)) + str(rng.randint(100, 99_999))
    shapes = (
        f"{words[0]} {words[1]} .*{words[2]} {words[3]}",
        f"{code}: {words[0]} {words[1]}",
        rf"{words[0]} {words[1]} \d+ {words[2]} \({code}\)",
        f"(?:{words[0]}|{words[1]}) {words[2]} {words[3]} {words[4]}",
        rf"{words[0]} [\w-]+ {words[1]} {words[2]}(?: {words[3]})? {words[4]}",
        f"{words[0]}.*{words[1]} {code}",
        f"{words[0]} {words[1]} {words[2]}|{words[3]} {words[4]} {words[5]}",
    )
    return Pattern(id=f"known-{number}", expression=rng.choice(shapes), ignore_case=number % 2 == 0)


def _message(rng: random.Random, patterns: Sequence[Pattern]) -> str:
    words = [rng.choice(WORDS) for _ in range(17)]
    words.insert(rng.randrange(17), f"{rng.choice(string.ascii_uppercase)}{rng.randint(0, 99_999)}")
    if rng.random() < 0.3:
        words.insert(rng.randrange(17), _fitting(rng.choice(patterns).expression))
    return " ".join(words)


def _fitting(expression: str) -> str:
    """Return words that an expression of ours matches."""
    plain = re.sub(r"\(\?:([^|)]*)(?:\|[^)]*)?\)\??", r"\1", expression).split("|")[0]
    for part, words in ((r"\d+", "42"), (r"[\w-]+", "a-1"), (".*", " so to speak "), ("\\", "")):
        plain = plain.replace(part, words)
    return plain
