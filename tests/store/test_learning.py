"""What is learned adds up from every worker and is read back as it was written, on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from prunella.core.errors import Conflict
from prunella.core.issues import Binding, Candidate, Evidence, IssueState, KnownIssue, Origin
from prunella.core.records import Failure, Level, Severity
from prunella.core.states import IncidentState
from prunella.store.contract import Store
from store.making import NOW, Outside, at, at_once, incident, opened, resolved, signal

pytestmark = pytest.mark.anyio

EVER = datetime(1, 1, 1, tzinfo=UTC)


def candidate(number: object = 1, **changed: Any) -> Candidate:
    fields: dict[str, Any] = {
        "fingerprint": f"print-{number}",
        "service": "crm",
        "kind": "data.validation",
        "message": f"order {number} has no address",
        "occurrences": 1,
        "last_window": 100,
        "first_seen": NOW,
        "last_seen": NOW,
    }
    return Candidate(**{**fields, **changed})


def known(number: object = 1, **changed: Any) -> KnownIssue:
    fields: dict[str, Any] = {
        "id": f"issue-{number}",
        "title": "an order has no address",
        "expression": r"order \d+ has no address",
        "created_at": NOW,
        "created_by": "ada",
    }
    return KnownIssue(**{**fields, **changed})


async def see(store: Store, *candidates: Candidate) -> None:
    async with store.transaction() as tx:
        await tx.learning.seen_again(candidates)


async def add(store: Store, *issues: KnownIssue, now: datetime = NOW) -> None:
    async with store.transaction() as tx:
        await tx.learning.add(issues, now)


async def issue_of(store: Store, number: object = 1) -> KnownIssue:
    async with store.transaction() as tx:
        found = await tx.learning.issue(f"issue-{number}")
    assert found is not None
    return found


async def patterns(store: Store) -> list[Candidate]:
    async with store.transaction() as tx:
        return await tx.learning.candidates(most=100)


async def connect(store: Store) -> None:
    """Have the connections ready, so that what comes next really meets."""
    await at_once(patterns(store) for _ in range(8))


def prints(candidates: Sequence[Candidate]) -> list[str]:
    return [one.fingerprint.removeprefix("print-") for one in candidates]


# Patterns


async def test_pattern_is_read_back_as_it_was_written(store: Store) -> None:
    """Every field of it, those that are empty and those that aren't."""
    full = candidate(
        code="23505", component="sync", action="PUSH /orders", impact=Severity.CRITICAL, environment="production",
        confidence=0.8, refused="its pattern would fit everything", issue_id="crm-1",
    )  # fmt: skip
    await see(store, candidate(2), full)
    async with store.transaction() as tx:
        assert await tx.learning.candidate("print-1") == full
        assert await tx.learning.candidate("print-2") == candidate(2)
        assert await tx.learning.candidate("print-3") is None


async def test_pattern_counts_once_in_a_stretch_of_time(store: Store) -> None:
    """Seen in one stretch again and again it counts once; a later one adds one; what is late changes nothing."""
    windows = [100, 100, 100, 101, 101, 100, 99, 105]
    for number, window in enumerate(windows):
        await see(store, candidate(last_window=window, last_seen=at(number)))
    (found,) = await patterns(store)
    assert (found.occurrences, found.last_window, found.first_seen, found.last_seen) == (3, 105, NOW, at(7))


async def test_occurrences_lie_apart(store: Store) -> None:
    """What is seen again sooner than that after the one counted last is no other one, of a pattern or of an issue."""
    await add(store, known())
    for number, moment in enumerate((1100, 1399, 1400, 1650, 1700, 1699)):
        async with store.transaction() as tx:
            await tx.learning.seen_again([candidate(last_window=moment, last_seen=at(number))], 300)
            await tx.learning.occurred("issue-1", moment, at(number), 300)
    (found,) = await patterns(store)
    issue = await issue_of(store)
    assert (found.occurrences, found.last_window) == (issue.occurrences, issue.last_window) == (3, 1700)


async def test_pattern_keeps_the_latest_moment_and_the_highest_confidence(store: Store) -> None:
    """What comes late takes neither back."""
    await see(store, candidate(confidence=0.7, last_seen=at(10)))
    await see(store, candidate(confidence=0.6, last_seen=at(5), message="order 7 has no address"))
    (found,) = await patterns(store)
    assert (found.confidence, found.last_seen, found.message) == (0.7, at(10), "order 7 has no address")


async def test_pattern_is_counted_once_by_all_workers_together(store: Store) -> None:
    """Ten workers see the same forty in one stretch, in turns of order: one occurrence each, and no deadlock."""
    await connect(store)
    for window in (100, 101):
        many = [candidate(number, last_window=window) for number in range(40)]
        await at_once(see(store, *(many if number % 2 else reversed(many))) for number in range(10))
    assert {one.occurrences for one in await patterns(store)} == {2}


async def test_pattern_is_ready_until_it_is_decided_about(store: Store) -> None:
    """Seen often enough and neither known nor refused, those waiting longest first."""
    await see(
        store, candidate("young", occurrences=9, first_seen=at(5)), candidate("old", occurrences=3),
        candidate("rare", occurrences=2), candidate("known", occurrences=5), candidate("refused", occurrences=5),
    )  # fmt: skip
    async with store.transaction() as tx:
        await tx.learning.settle("print-known", issue_id="crm-1")
        await tx.learning.settle("print-refused", refused="it has 1 fixed word")
        assert prints(await tx.learning.ready(3, most=9)) == ["old", "young"]
        assert prints(await tx.learning.ready(3, most=1)) == ["old"]
        assert prints(await tx.learning.candidates(most=9)) == ["young", "refused", "old", "rare"]
        settled = [await tx.learning.candidate(f"print-{name}") for name in ("known", "refused")]
    assert [(one.issue_id, one.refused) for one in settled if one] == [("crm-1", None), (None, "it has 1 fixed word")]
    await see(store, candidate("refused", last_window=101))
    async with store.transaction() as tx:
        assert prints(await tx.learning.ready(3, most=9)) == ["old", "young"]


async def test_messages_of_others_are_the_latest(store: Store) -> None:
    """Of every other fingerprint one, those seen last first."""
    await see(store, *(candidate(number, last_seen=at(number)) for number in range(5)))
    async with store.transaction() as tx:
        assert prints(await tx.learning.messages_of_others("print-3", most=3)) == ["4", "2", "1"]


async def test_flood_pushes_out_what_was_not_seen_for_longest(store: Store) -> None:
    """As many stay as may, also where many were seen at the same moment; below that nothing is forgotten."""
    await see(store, candidate("old"), *(candidate(number, last_seen=at(1)) for number in range(5)))
    async with store.transaction() as tx:
        assert await tx.learning.forget_beyond(6) == 0
        assert await tx.learning.forget_beyond(5) == 1
        assert await tx.learning.forget_beyond(3) == 2
    assert sorted(prints(await patterns(store))) == ["2", "3", "4"]


# Known issues


async def test_issue_is_read_back_as_it_was_written(store: Store) -> None:
    """Every field of it, with its remedies, their parameters, levels and who bound them."""
    full = known(
        ignore_case=False, state=IssueState.REGRESSED, origin=Origin.PACK, severity=Severity.CRITICAL, service="crm",
        kind="auth.expired", code="190", means="auth.expired", cause="größe", advice="look", source="https://x.example",
        tags=("oauth", "a'b"), occurrences=7, unfixed=3, failed_fixes=1, last_window=12, first_seen=NOW,
        last_seen=at(1), resolved_at=at(2), resolved_by="ada", escalated_at=at(3), escalation_reason="too often",
        precision=0.995, tested=1874, alias_of="issue-2", version=4,
        remedies=(
            Binding(remedy="refresh_auth", parameters={"account": "eu", "n": 3, "deep": [True, None]}, by="ada"),
            Binding(remedy="wait", level=Level.L3, trusted=True),
        ),
    )  # fmt: skip
    await add(store, full, known(2))
    async with store.transaction() as tx:
        assert await tx.learning.issues() == [full, known(2)]
        assert await tx.learning.some_issues(["issue-2", "issue-9"]) == [known(2)]
        assert await tx.learning.issue("issue-9") is None
    assert (await issue_of(store)).remedies[0].parameters == {"account": "eu", "n": 3, "deep": [True, None]}


async def test_issue_whose_id_is_taken_is_refused_and_named(store: Store) -> None:
    """Nothing of the whole import is kept, also where one import names an id twice."""
    await add(store, known(2))
    for issues in ((known(1), known(2)), (known(3), known(3))):
        with pytest.raises(Conflict, match=f"known issue {issues[1].id} exists already; choose another id"):
            await add(store, *issues)
    async with store.transaction() as tx:
        assert [one.id for one in await tx.learning.issues()] == ["issue-2"]


async def test_issue_that_is_made_sure_of_stays_as_it_is(store: Store) -> None:
    """Whoever needs a row makes it, and takes nothing from one that stands there."""
    async with store.transaction() as tx:
        await tx.learning.ensure(known(title="first"), NOW)
        await tx.learning.ensure(known(title="second"), NOW)
    assert (await issue_of(store)).title == "first"


async def test_issue_is_decided_about_once(store: Store) -> None:
    """Of two who read the same one writes; what is counted in the meantime is no conflict and is not overwritten."""
    await add(store, known())
    read = await issue_of(store)
    async with store.transaction() as tx:
        await tx.learning.occurred("issue-1", 5, NOW)
        saved = await tx.learning.save(replace(read, state=IssueState.RESOLVED, resolved_by="ada"), at(1))
    found = await issue_of(store)
    assert (saved.version, found.version, found.state, found.resolved_by) == (1, 1, IssueState.RESOLVED, "ada")
    assert (found.occurrences, found.unfixed, found.last_window) == (1, 1, 5)
    with pytest.raises(Conflict, match="known issue issue-1 changed since it was read"):
        async with store.transaction() as tx:
            await tx.learning.save(replace(read, title="too late"), at(2))


async def test_occurrence_is_counted_once_by_all_workers_together(store: Store, outside: Outside) -> None:
    """Ten workers tell of the same stretch at the same moment: one of them counts, and gets the issue as it is now."""
    await add(store, known())
    await connect(store)

    async def occurred(window: int, seconds: float) -> KnownIssue | None:
        async with store.transaction() as tx:
            return await tx.learning.occurred("issue-1", window, at(seconds))

    for window in (100, 101, 101, 99):
        told = [one for one in await at_once(occurred(window, window) for _ in range(10)) if one is not None]
        assert len(told) <= 1
    found = await issue_of(store)
    assert (found.occurrences, found.unfixed, found.last_window) == (2, 2, 101)
    assert (found.first_seen, found.last_seen) == (at(100), at(101))
    assert outside("SELECT version FROM known_issues") == [(0,)]
    assert await occurred(200, 200) == await issue_of(store)


async def test_occurrences_are_handed_over(store: Store) -> None:
    """What one issue had is added to another, by many at once, and taken away again; it never falls below none."""
    await add(store, known(occurrences=2, unfixed=1))
    spans = known(last_window=9, first_seen=at(-5), last_seen=at(5))

    async def count(occurrences: int, unfixed: int) -> None:
        async with store.transaction() as tx:
            await tx.learning.add_counts(spans, occurrences, unfixed)

    await at_once(count(3, 2) for _ in range(5))
    found = await issue_of(store)
    assert (found.occurrences, found.unfixed, found.last_window) == (17, 11, 9)
    assert (found.first_seen, found.last_seen) == (at(-5), at(5))
    await count(-7, -99)
    found = await issue_of(store)
    assert (found.occurrences, found.unfixed) == (10, 0)


async def test_repairs_are_counted_until_one_is_proven(store: Store) -> None:
    """What did not help adds up; a proven repair takes that and the occurrences before it away."""
    await add(store, known(unfixed=4, occurrences=9))
    async with store.transaction() as tx:
        await tx.learning.not_repaired("issue-1")
        failed = await tx.learning.not_repaired("issue-1")
        assert failed is not None
        assert (failed.failed_fixes, failed.unfixed) == (2, 4)
        await tx.learning.repaired("issue-1")
        assert await tx.learning.not_repaired("issue-9") is None
    found = await issue_of(store)
    assert (found.failed_fixes, found.unfixed, found.occurrences) == (0, 0, 9)


async def test_issue_that_is_not_seen_for_long_sleeps(store: Store) -> None:
    """Only what was seen, and longer ago than said; a second look finds nothing more."""
    await add(
        store, known("old", last_seen=at(-9)), known("new", last_seen=NOW), known("never"),
        known("over", last_seen=at(-9), state=IssueState.RESOLVED),
    )  # fmt: skip
    async with store.transaction() as tx:
        assert await tx.learning.sleep(at(-1), NOW) == 2
        assert await tx.learning.sleep(at(-1), NOW) == 0
        states = {one.id: (one.state.value, one.version) for one in await tx.learning.issues()}
    assert states == {
        "issue-new": ("active", 0), "issue-never": ("active", 0), "issue-old": ("dormant", 1),
        "issue-over": ("dormant", 1),
    }  # fmt: skip


async def test_every_change_of_what_is_sought_can_be_noticed(store: Store) -> None:
    """Also one that is dated before another that was seen already; counting moves nothing."""
    states = []

    async def look() -> None:
        async with store.transaction() as tx:
            states.append(await tx.learning.state_of_issues())

    await look()
    await add(store, known(1, last_seen=at(-99)), known(2), now=at(10))
    await look()
    read = await issue_of(store)
    async with store.transaction() as tx:
        await tx.learning.save(read, at(3))  # its transaction began earlier
    await look()
    async with store.transaction() as tx:
        await tx.learning.sleep(at(-1), at(4))
    await look()
    assert len(set(states)) == 4
    async with store.transaction() as tx:
        await tx.learning.occurred("issue-2", 5, at(99))
        assert await tx.learning.state_of_issues() == states[-1] == (at(10), 2, 2)
        assert await tx.learning.stamps(EVER) == {"issue-1": (2, at(4)), "issue-2": (0, at(10))}
        assert await tx.learning.stamps(at(5)) == {"issue-2": (0, at(10))}


# What became of remedies


async def test_evidence_is_read_back_as_it_was_written(store: Store) -> None:
    """By scope and remedy; others are left out, and what nobody knows is nothing."""
    first = Evidence(
        tried=9, verified=5, ineffective=3, undone=1, good=4.25, bad=0.1 + 0.2, failures_in_a_row=2, at=NOW
    )
    async with store.transaction() as tx:
        assert await tx.learning.take_evidence("issue:a", "refresh_auth") == Evidence()
        await tx.learning.save_evidence("issue:a", "refresh_auth", Evidence(tried=1))
        await tx.learning.save_evidence("issue:a", "refresh_auth", first)
        await tx.learning.take_evidence("kind:b", "wait")
        await tx.learning.save_evidence("kind:b", "wait", Evidence(tried=2))
        assert await tx.learning.take_evidence("issue:a", "refresh_auth") == first
        found = await tx.learning.evidence(["issue:a", "issue:c"])
        assert await tx.learning.evidence([]) == {}
    assert found == {("issue:a", "refresh_auth"): first}


async def test_evidence_adds_up_from_every_worker(store: Store) -> None:
    """Twenty note an outcome of one remedy at the same moment, the first one among them: none is lost."""

    async def note() -> None:
        async with store.transaction() as tx:
            had = await tx.learning.take_evidence("issue:a", "refresh_auth")
            await tx.learning.save_evidence("issue:a", "refresh_auth", replace(had, tried=had.tried + 1))

    await connect(store)
    await at_once(note() for _ in range(20))
    async with store.transaction() as tx:
        assert (await tx.learning.take_evidence("issue:a", "refresh_auth")).tried == 20


async def test_halved_evidence_counts_half_and_tells_the_same(store: Store) -> None:
    """What counts is halved in one scope; what happened stays as it happened."""
    whole = Evidence(tried=9, verified=6, ineffective=3, good=6.0, bad=3.0, at=NOW)
    async with store.transaction() as tx:
        for scope, remedy in (("issue:a", "wait"), ("issue:a", "refresh_auth"), ("issue:b", "wait")):
            await tx.learning.take_evidence(scope, remedy)
            await tx.learning.save_evidence(scope, remedy, whole)
        await tx.learning.halve_evidence("issue:a")
        found = await tx.learning.evidence(["issue:a", "issue:b"])
    half = replace(whole, good=3.0, bad=1.5)
    assert found == {("issue:a", "wait"): half, ("issue:a", "refresh_auth"): half, ("issue:b", "wait"): whole}


# What incidents and signals say to it


async def test_incident_is_learned_from_once_per_failure(store: Store) -> None:
    """Those waiting longest first; after a look it is left alone until it fails again; findings are no events."""
    for number, seconds in (("late", 2), ("early", 1)):
        await opened(store, number, last_seen=at(seconds))
    await opened(store, "finding", procedure="orders")

    async def waiting(most: int = 9) -> list[str]:
        async with store.transaction() as tx:
            return [one.fingerprint for one in await tx.incidents.to_learn(most=most)]

    assert await waiting() == ["print-early", "print-late"]
    assert await waiting(1) == ["print-early"]
    async with store.transaction() as tx:
        await tx.incidents.learned({})
        await tx.incidents.learned({"incident-early": 1, "incident-late": 1})
    assert await waiting() == []
    async with store.transaction() as tx:
        joined = await tx.incidents.open_or_join(incident("early", last_seen=at(9)))
    assert (joined.count, joined.learned) == (2, 1)
    assert await waiting() == ["print-early"]


async def test_repair_that_is_watched_is_found_when_it_has_lasted(store: Store) -> None:
    """Those that lasted longest first, once their time has come; and when the next one's does."""
    for number, seconds in ((1, 5), (2, 3), (3, 9)):
        fresh = await resolved(store, number, NOW)
        async with store.transaction() as tx:
            over = replace(fresh, version=fresh.version + 1, state=IncidentState.RESOLVED, resolved_at=NOW)
            await tx.incidents.save(replace(over, watched_until=at(seconds)))
    async with store.transaction() as tx:
        assert [await tx.incidents.next_watched(at(second)) for second in (2, 3)] == [at(3), at(5)]
        assert [one.id for one in await tx.incidents.watched(at(5), most=9)] == ["incident-2", "incident-1"]
        assert [one.id for one in await tx.incidents.watched(at(5), most=1)] == ["incident-2"]
        assert await tx.incidents.watched(at(2), most=9) == []


async def test_issue_is_named_on_open_incidents_only(store: Store) -> None:
    """Those of the fingerprint that have no name yet, in every account; the issue's open ones are listed oldest first."""
    await opened(store, 1, fingerprint="print", first_seen=at(2))
    await opened(store, 2, fingerprint="print", account="eu", first_seen=at(1))
    await opened(store, 3, fingerprint="other")
    await resolved(store, 4, NOW, fingerprint="print", account="us")
    await opened(store, 5, fingerprint="print", account="named", issue_id="crm-9")
    async with store.transaction() as tx:
        await tx.incidents.name_issue("print", "crm-1")
        found = await tx.incidents.open_of_issue("crm-1", most=9)
        assert [one.id for one in found] == ["incident-2", "incident-1"]
        assert [one.id for one in await tx.incidents.open_of_issue("crm-1", most=1)] == ["incident-2"]
        assert [one.id for one in await tx.incidents.open_of_issue("crm-9", most=9)] == ["incident-5"]
        over = await tx.incidents.get("incident-4")
    assert over is not None
    assert (over.issue_id, over.state) == (None, IncidentState.RESOLVED)


async def test_failures_of_signals_are_read_by_id(store: Store) -> None:
    """With all evidence in them; successes and signals that aren't there have none."""
    failure = Failure(service="crm", status=422, code="E7", message="no address", frames=("sync.push",))
    async with store.transaction() as tx:
        await tx.signals.add([(signal(1, failure=failure), None, None), (signal(2, failure=None), None, None)])
        assert await tx.signals.failures(["signal-1", "signal-2", "signal-3"]) == {"signal-1": failure}
        assert await tx.signals.failures([]) == {}
