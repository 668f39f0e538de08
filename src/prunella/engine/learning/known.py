"""The known issues that are sought, in memory: what stands in the tables, and what is shipped.

Reads only. Whoever changes an issue changes its row; every process notices within a second or so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from prunella.core.clock import Clock
from prunella.core.errors import InvalidInput
from prunella.core.issues import KnownIssue
from prunella.core.records import Failure
from prunella.diagnosis.known import Matcher
from prunella.diagnosis.patterns import Pattern
from prunella.store.contract import Transaction
from prunella.store.learning import Stamp

_LOOK_EVERY_S = 1.0
_LATE = timedelta(seconds=60)
"""So much later than it is dated may a change be seen: its transaction went on, or its host's clock is behind."""
_EVER = datetime.min.replace(tzinfo=UTC)
_FEW = 200
"""Changes taken over one by one, at half a millisecond each; of more, all is made anew (10,000 issues: 1 s)."""


class KnownIssues:
    """Recognise failures.

    Args:
        shipped: patterns that come along; an issue in the tables takes the place of the one with its id.
    """

    def __init__(self, clock: Clock, shipped: Sequence[Pattern] = ()) -> None:
        self._clock = clock
        self._shipped = {pattern.id: pattern for pattern in shipped}
        self._matcher = Matcher(shipped)
        self._issues: dict[str, KnownIssue] = {}
        self._stamps: dict[str, Stamp] = {}
        self._state: tuple[datetime | None, int, int] = (None, 0, 0)
        self._looked_at = float("-inf")

    @property
    def shipped(self) -> Mapping[str, Pattern]:
        """Return the patterns that come along, by id."""
        return self._shipped

    async def refresh(self, tx: Transaction) -> None:
        """Read the issues that changed; asks the store at most once a second."""
        if self._clock.monotonic() - self._looked_at < _LOOK_EVERY_S:
            return
        state = await tx.learning.state_of_issues()
        if state != self._state:
            await self._follow(tx, await self._stamps_of(tx, state))
            self._state = state
        self._looked_at = self._clock.monotonic()

    def is_repaired(self, issue_id: str | None) -> bool:
        """Tell whether something is bound to an issue that may repair it."""
        if issue_id is None:
            return False
        issue = self._issues.get(issue_id)
        if issue is not None:
            return bool(issue.remedies)
        return issue_id in self._shipped and self._shipped[issue_id].remedy is not None

    def forget(self) -> None:
        """Ask the store at the next look: an issue was changed here."""
        self._looked_at = float("-inf")

    def match(self, failure: Failure, *, kind: str, names: tuple[str, ...] = ()) -> str | None:
        """Return the id of the issue that a failure is an occurrence of; one that was joined with another is that."""
        found = self._matcher.match(failure, kind=kind, names=names)
        if found is None:
            return None
        issue = self._issues.get(found.pattern.id)
        return issue.alias_of or issue.id if issue is not None else found.pattern.id

    async def _stamps_of(self, tx: Transaction, state: tuple[datetime | None, int, int]) -> dict[str, Stamp]:
        """Return the stamps of all issues: those of before and what changed lately, where that adds up."""
        newest, *_ = self._state
        if newest is not None:
            stamps = self._stamps | await tx.learning.stamps(newest - _LATE)
            if (len(stamps), sum(version for version, _ in stamps.values())) == state[1:]:
                return stamps
        return await tx.learning.stamps(_EVER)

    async def _follow(self, tx: Transaction, stamps: dict[str, Stamp]) -> None:
        """Bring what is sought to where the tables are."""
        changed = [id_ for id_, stamp in stamps.items() if self._stamps.get(id_) != stamp]
        gone = self._stamps.keys() - stamps.keys()
        if len(changed) + len(gone) > _FEW:
            self._take_all(await tx.learning.issues())
        else:
            self._let_go(gone)
            self._take(await tx.learning.some_issues(changed) if changed else ())
        self._stamps = stamps

    def _take_all(self, issues: Sequence[KnownIssue]) -> None:
        self._issues = {issue.id: issue for issue in issues}
        stored = {issue.id: pattern_of(issue) for issue in issues}
        self._matcher = Matcher((self._shipped | stored).values())

    def _take(self, issues: Sequence[KnownIssue]) -> None:
        for issue in issues:
            self._issues[issue.id] = issue
            self._seek(pattern_of(issue))

    def _let_go(self, ids: AbstractSet[str]) -> None:
        for id_ in ids:
            self._issues.pop(id_, None)
            self._matcher.remove(id_)
            if id_ in self._shipped:
                self._seek(self._shipped[id_])

    def _seek(self, pattern: Pattern) -> None:
        """Seek by a pattern in place of the one with its id; what can't be kept is not sought, as at the start."""
        self._matcher.remove(pattern.id)
        with suppress(InvalidInput):
            self._matcher.add(pattern)


def pattern_of(issue: KnownIssue) -> Pattern:
    """Return the words by which an issue is recognised; one that is over is sought as before: it may come back."""
    return Pattern(
        id=issue.id,
        expression=issue.expression,
        severity=issue.severity,
        service=issue.service,
        kind=issue.kind,
        code=issue.code,
        title=issue.title,
        means=issue.means,
        cause=issue.cause,
        advice=issue.advice,
        remedy=issue.remedies[0].remedy if issue.remedies else None,
        source=issue.source or None,
        tags=tuple(issue.tags),
        ignore_case=issue.ignore_case,
    )
