"""State machines of what people decide: proposals, and known issues with their remedies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from prunella.core.errors import IllegalTransition
from prunella.core.issues import ISSUE, Binding, IssueState, KnownIssue
from prunella.core.records import Approval
from prunella.core.states import APPROVAL, ApprovalState
from store.machines import OLD, WORKERS, Rows
from store.making import NOW, SECOND


class ApprovalMachine(Rows):
    """A proposal that several answer at once: one answer counts, and a plan is carried out once, after a yes."""

    def __init__(self) -> None:
        super().__init__()
        self.proposed = Approval(
            id="a", incident_id="i", procedure="ward", plan={}, digest="d", created_at=NOW, expires_at=NOW + 60 * SECOND
        )
        self.do(lambda tx: tx.approvals.add([self.proposed]))
        self.state, self.used = ApprovalState.WAITING, False

    @rule(was=st.sampled_from(ApprovalState), state=st.sampled_from(ApprovalState), by=WORKERS)
    def answer(self, was: ApprovalState, state: ApprovalState, by: str) -> None:
        decided = replace(self.proposed, state=state, decided_by=by, decided_at=self.now)
        try:
            moved = self.tried(lambda tx: tx.approvals.move(decided, was))
        except IllegalTransition:
            assert not APPROVAL.allows(was, state)
            return
        assert moved == (was is self.state)
        if moved:
            self.state = state

    @rule()
    def carry_out(self) -> None:
        begun = self.tried(lambda tx: tx.approvals.use("a", self.now))
        assert begun == (self.state is ApprovalState.APPROVED and not self.used), "carried out without a yes, or twice"
        self.used = self.used or begun

    @invariant()
    def row_is_the_model(self) -> None:
        row = self.do(lambda tx: tx.approvals.get("a"))
        assert row is not None
        assert (row.state, row.used_at is not None) == (self.state, self.used)
        standing = self.state in (ApprovalState.WAITING, ApprovalState.APPROVED) and not self.used
        assert bool(self.do(lambda tx: tx.approvals.standing_of("ward"))) == standing


class IssueMachine(Rows):
    """A known issue: counts are nobody's to overwrite, what was read before a change is not saved over it."""

    def __init__(self) -> None:
        super().__init__()
        fresh = KnownIssue(id="k", title="t", expression="quota of x", created_at=NOW, created_by="ada")
        self.do(lambda tx: tx.learning.add([fresh], NOW))
        self.read = [self.row()]
        self.counts, self.window, self.seen_at = (0, 0, 0), -1, NOW
        self.state, self.bound, self.version = IssueState.ACTIVE, frozenset[str](), self.read[0].version
        self.seen_once = False

    def row(self) -> KnownIssue:
        found = self.do(lambda tx: tx.learning.issue("k"))
        assert found is not None
        return found

    def save(self, old: int, **changed: Any) -> None:
        seen = self.read[max(len(self.read) - 1 - old, 0)]
        saved = self.tried(lambda tx: tx.learning.save(replace(seen, **changed), self.now))
        assert saved == (seen.version == self.version), f"version {seen.version} over {self.version}"
        if saved:
            self.version += 1
            self.state = changed.get("state", seen.state)
            self.bound = frozenset(one.remedy for one in changed.get("remedies", seen.remedies))
            self.read.append(self.row())

    @rule(window=st.integers(0, 6))
    def occurs(self, window: int) -> None:
        counted = self.do(lambda tx: tx.learning.occurred("k", window, self.now))
        assert (counted is not None) == (window > self.window)
        if counted is not None:
            seen, unfixed, failed = self.counts
            self.counts, self.window, self.seen_at, self.seen_once = (
                (seen + 1, unfixed + 1, failed),
                window,
                self.now,
                True,
            )

    @rule(helped=st.booleans())
    def repair_ends(self, helped: bool) -> None:
        seen, unfixed, failed = self.counts
        if helped:
            self.do(lambda tx: tx.learning.repaired("k"))
            self.counts = (seen, 0, 0)
        else:
            self.do(lambda tx: tx.learning.not_repaired("k"))
            self.counts = (seen, unfixed, failed + 1)

    @rule(old=OLD, state=st.sampled_from(IssueState))
    def moves(self, old: int, state: IssueState) -> None:
        if ISSUE.allows(self.read[max(len(self.read) - 1 - old, 0)].state, state):
            self.save(old, state=state)

    @rule(old=OLD, remedy=st.sampled_from(("reload", "restart")))
    def person_binds(self, old: int, remedy: str) -> None:
        seen = self.read[max(len(self.read) - 1 - old, 0)]
        others = tuple(one for one in seen.remedies if one.remedy != remedy)
        self.save(old, remedies=(*others, Binding(remedy=remedy, by="ada", trusted=True)))

    @rule(old=OLD)
    def person_unbinds(self, old: int) -> None:
        self.save(old, remedies=())

    @rule()
    def falls_asleep(self) -> None:
        slept = self.do(lambda tx: tx.learning.sleep(self.now, self.now))
        should = self.seen_once and self.seen_at < self.now and self.state is not IssueState.DORMANT
        assert slept == should
        if slept:
            self.state, self.version = IssueState.DORMANT, self.version + 1
            self.read.append(self.row())

    @invariant()
    def row_is_the_model(self) -> None:
        row = self.row()
        assert (row.occurrences, row.unfixed, row.failed_fixes) == self.counts
        assert (row.state, row.version) == (self.state, self.version)
        assert {one.remedy for one in row.remedies} == self.bound
