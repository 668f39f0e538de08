"""How far may a sweep go? Pure: the rules that are never bent, asked in order; every answer says why and until when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from prunella.core.findings import Sighting
from prunella.core.records import Level
from prunella.engine.gatekeeper import Answer, Verdict
from prunella.engine.pauses import Rest
from prunella.engine.ready import Ready
from prunella.engine.stock import Due

_BAD_MIN = 2  # a single failing target never stops the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a sweep is about to do, and what stands around it."""

    ready: Ready
    due: Sequence[Due]
    sighting: Sighting
    rest: Rest | None
    paused_by: str | None
    now: datetime


Rule = Callable[[Situation], Verdict | None]


def admit(situation: Situation) -> Verdict:
    """Return the first rule's objection, or leave to run."""
    for rule in _RULES:
        verdict = rule(situation)
        if verdict is not None:
            return verdict
    return Verdict(Answer.RUN, "no rule objects")


def waves(sizes: Sequence[int], targets: Sequence[Due]) -> list[list[Due]]:
    """Cut targets into waves: 1, 2, 4, 8, then the rest."""
    cut, start = [], 0
    for size in sizes:
        cut.append(list(targets[start : start + size]))
        start += size
    return [wave for wave in [*cut, list(targets[start:])] if wave]


def is_bad(bad: Sequence[bool]) -> bool:
    """Tell whether more than half of a wave, and at least two, went badly."""
    return sum(bad) >= _BAD_MIN and sum(bad) * 2 > len(bad)


def cut(ready: Ready, due: Sequence[Due]) -> tuple[list[Due], list[Due]]:
    """Return what one run may touch, and what is left for the next: `targets_max` things, and rows of each set."""
    most = ready.policy.limits.targets_max
    mine = [replace(one, finding=replace(one.finding, keys=one.finding.keys[:most])) for one in due[:most]]
    return mine, list(due[most:])


def paused(ready: Ready, by: str) -> str:
    """Say who paused a procedure and how it goes on."""
    return f"{ready.name} is paused by {by}; go on with: prunella resume --procedure {ready.name}"


def _nothing(situation: Situation) -> Verdict | None:
    return None if situation.due else Verdict(Answer.WAIT, "there is nothing to do")


def _resting(situation: Situation) -> Verdict | None:
    if situation.rest is not None:
        return Verdict(Answer.WAIT, situation.rest.reason, situation.rest.until)
    if situation.paused_by is not None:
        return Verdict(Answer.WAIT, paused(situation.ready, situation.paused_by))
    return None


def _share(situation: Situation) -> Verdict | None:
    """Hold a run whose rows are too large a part of their table: a bad join, a renamed column, an emptied parent."""
    most = situation.ready.policy.limits.share_max
    for one in situation.due:
        finding = one.finding
        if finding.total is not None and finding.count > most * finding.total:
            share = finding.count / max(finding.total, 1)
            return Verdict(
                Answer.WAIT,
                f"{share:.0%} of {finding.key} matches ({finding.count} of {finding.total} rows), and share_max is "
                f"{most:.0%}; look at the rows with a dry run, then raise limits.share_max if they are meant",
            )
    return None


def _level(situation: Situation) -> Verdict | None:
    level = max([situation.ready.policy.level, *(one.incident.level for one in situation.due)])
    if level is Level.L2:
        return Verdict(Answer.PROPOSE, "level L2: a person approves the plan first")
    if level is Level.L3:
        return Verdict(Answer.REFUSE, "level L3: a person carries the plan out")
    return None


_RULES: tuple[Rule, ...] = (_nothing, _resting, _share, _level)
