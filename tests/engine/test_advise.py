"""An opinion is asked for beside the healing: after it decided, seldom, and without anything waiting or changing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.world import CRM, PROBED, World, of_category, play, refused
from prunella.cli.explain import tell_story
from prunella.core import redact
from prunella.core.advice import Advice, Allowance, Answer, Prompt, Question
from prunella.core.records import AuditEntry, Category, Failure
from prunella.core.services import DisableAfter
from prunella.core.states import IncidentState
from prunella.engine import advise, heal, people
from prunella.engine.plan import choose
from prunella.testing import LoopClock

ADVICE = Advice(
    category=Category.NETWORK,
    kind="network.timeout",
    summary="The service is slow",
    steps=("Look at its status page", "Wait"),
    prevention="Set a shorter limit",
    proposed_action="replay",
    confidence=0.99,
)
GOOD = Answer(advice=ADVICE, tokens=500)
BAD = Answer(trouble="no reply within 5 s", tokens=1000)
UNKNOWN = of_category(Category.UNKNOWN)
LOST: dict[str, Any] = {"status": 422, "code": "validation_error", "message": "email is missing"}


class Scripted:
    """Answer by script, the last again and again, after `takes_s` virtual seconds each."""

    deadline_s = 5.0

    def __init__(self, *answers: Answer | Exception, takes_s: float = 1.0) -> None:
        self.answers: Sequence[Answer | Exception] = answers or (GOOD,)
        self.takes_s = takes_s
        self.questions: list[Question] = []
        self.under_way = 0
        self.most_at_once = 0
        self.asked_at_s: list[float] = []
        self.during: Callable[[], Awaitable[None]] | None = None

    def prompt(self, question: Question) -> Prompt:
        self.questions.append(question)
        return Prompt(body={"words": question.template}, digest=f"digest-{len(self.questions)}", tokens_max=1000)

    async def ask(self, prompt: Prompt) -> Answer:
        clock = LoopClock()
        self.asked_at_s.append(clock.monotonic())
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            if self.during is not None:
                await self.during()
            await clock.sleep(self.takes_s)
        finally:
            self.under_way -= 1
        answer, *rest = self.answers
        self.answers = rest or (answer,)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def opinions(world: World, incident_id: str | None = None) -> list[AuditEntry]:
    """Return what the advisor left in the timelines."""
    entries = [entry for entry in await world.audit() if entry.actor == "advisor"]
    return [entry for entry in entries if incident_id in (None, entry.incident_id)]


async def shown(world: World, incident_id: str | None) -> dict[str, Any]:
    """Return an incident as the command line gets it."""
    one = await world.incident(incident_id)
    facts = {name: getattr(one, name) for name in ("title", "category", "kind", "because", "confidence", "state")}
    timeline = [
        {"at": str(entry.at), "action": entry.action, "reason": entry.reason}
        for entry in await world.audit()
        if entry.incident_id == incident_id
    ]
    rest = {"status": "", "count": 1, "level": "L0", "action_taken": "", "held_reason": None, "next_at": None}
    rest |= {"issue_id": None, "decided": {}}
    return {**facts, **rest, "timeline": timeline, "runs": []}


async def decisions(world: World) -> list[Any]:
    """Return everything that was decided and done, the audit of the engine included."""
    found: list[Any] = [*await world.incidents(), *await world.told()]
    found += [replace(one, payload_sealed=b"") for one in await world.operations()]  # sealing draws chance of its own
    for incident in await world.incidents():
        found += await world.runs(incident.id)
    found += [entry for entry in await world.audit() if entry.actor != "advisor"]
    found += [await world.gate("crm"), await world.gate("probed")]
    return [*found, [(deed.remedy, deed.at_s, deed.target) for deed in world.hands.deeds]]


# What is asked, and when ----------------------------------------------------------------------------------------------


def test_opinion_stands_in_the_timeline_after_the_decision(sqlite_path: Path) -> None:
    """An incident that nobody can explain is decided first; the opinion follows, marked as one, and explain shows it."""

    async def story(world: World) -> None:
        receipt = await world.fail(**UNKNOWN)
        await world.later(10)
        (entry,) = await opinions(world)
        assert (entry.action, entry.target, entry.incident_id) == ("advice.given", "crm", receipt.incident_id)
        assert entry.reason == (
            "an opinion, it decides nothing: The service is slow | steps: 1) Look at its status page; 2) Wait | "
            "prevention: Set a shorter limit | proposes replay (L2: only a person may start it) | "
            "would call it network.timeout (confidence 0.99)"
        )
        timeline = [one.action for one in await world.audit() if one.incident_id == receipt.incident_id]
        assert timeline.index("advice.given") > timeline.index("incident.opened") + 1
        assert f"{entry.action:<20} {entry.reason}" in tell_story(await shown(world, receipt.incident_id))

    play(sqlite_path, story, running=True, advisor=Scripted(takes_s=4.0))


def test_decision_is_durable_before_anybody_is_asked(sqlite_path: Path) -> None:
    """When the question goes out, the incident is escalated already, with its reason, and nobody holds it."""
    advisor, seen = Scripted(), list[Any]()

    async def story(world: World) -> None:
        async def look() -> None:
            seen.extend(await world.incidents())

        advisor.during = look
        await world.fail(**LOST)
        await world.later(10)

    play(sqlite_path, story, running=True, advisor=advisor)
    (incident,) = seen
    assert (incident.state, incident.claimed_by, incident.lease_until) == (IncidentState.ESCALATED, None, None)
    assert incident.held_reason is not None


def test_known_failures_are_not_asked_about(sqlite_path: Path) -> None:
    """What the rules explain and the engine heals costs nothing; what ends with a person is asked about."""
    advisor = Scripted()

    async def story(world: World) -> None:
        await world.fail()
        await world.fail(**of_category(Category.RATE_LIMIT))
        await world.later(60)
        assert advisor.questions == []
        await world.fail(**LOST)
        await world.later(60)
        assert [one.kind for one in advisor.questions] == ["data.validation"]

    play(sqlite_path, story, running=True, advisor=advisor)


def test_incident_that_is_over_is_not_asked_about(sqlite_path: Path) -> None:
    """What was resolved before its turn came costs nothing."""
    advisor = Scripted()

    async def story(world: World) -> None:
        desk = advise.Desk(world.parts, advisor, Allowance())
        receipt = await world.fail("probed", endpoint=None, **UNKNOWN)
        await world.succeed("probed")
        assert (await world.incident(receipt.incident_id)).state is IncidentState.RESOLVED
        await desk.advise(receipt.incident_id or "")
        await desk.advise("no such incident")

    play(sqlite_path, story)
    assert advisor.questions == []


def test_question_holds_words_and_no_data(sqlite_path: Path) -> None:
    """Texts are masked, odd names are, too; a secret that became known after the failure was stored is gone as well."""
    late = "known-only-later 17"
    failure = Failure(
        service="crm",
        status=400,
        code="no such user ada@example.com",
        exc_type="shop.errors.Refused",
        message=f"user 4711 (ada@example.com) at https://crm.example.com/x?y=1 sent {late}",
        operation="POST /contacts/{id}",
    )
    asked: list[Question] = []

    async def story(world: World) -> None:
        incident = await world.incident((await world.fail(**UNKNOWN)).incident_id)
        redact.known.register(late)
        asked.append(advise.question(replace(incident, because="text says 4711"), failure))
        redact.known.forget(late)

    play(sqlite_path, story)
    (one,) = asked
    assert one.template == "user <number> (<email>) at <url> sent <secret>"
    assert (one.code, one.exc_type) == ("no such user <email>", "shop.errors.Refused")
    assert (one.operation, one.because) == ("POST /contacts/{id}", "text says <number>")


# How often ------------------------------------------------------------------------------------------------------------


def test_fingerprint_is_asked_about_once_a_day(sqlite_path: Path) -> None:
    """The same problem again gets the same opinion from the store; after midnight it is asked anew."""
    advisor = Scripted()

    async def story(world: World) -> None:
        first = await world.fail(endpoint=None, **UNKNOWN)
        await world.later(10)
        await world.succeed()
        second = await world.fail(endpoint=None, **UNKNOWN)
        await world.later(10)
        assert second.incident_id != first.incident_id
        (one,), (other,) = await opinions(world, first.incident_id), await opinions(world, second.incident_id)
        assert one.reason == other.reason
        assert len(advisor.asked_at_s) == 1
        await world.succeed()
        await world.later(86_400)
        await world.fail(endpoint=None, **UNKNOWN)
        await world.later(10)
        assert len(advisor.asked_at_s) == 2

    play(sqlite_path, story, running=True, advisor=advisor)


def test_incident_has_one_opinion_however_often_it_is_looked_at(sqlite_path: Path) -> None:
    """Many events and passes of one incident leave one line."""
    advisor = Scripted()

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(None, "it went wrong somehow")]
        for _ in range(5):
            await world.fail(**UNKNOWN)
            await world.later(30)
        assert len(await world.incidents()) == 1
        assert len(await opinions(world)) == len(advisor.questions) == 1

    play(sqlite_path, story, running=True, advisor=advisor)


def test_day_has_a_hard_end(sqlite_path: Path) -> None:
    """Beyond the day's calls nobody is asked, and the timeline says why and until when."""
    advisor = Scripted()

    async def story(world: World) -> None:
        for word in ("alpha", "beta", "gamma"):
            await world.fail(status=None, message=f"{word} went wrong somehow")
            await world.later(10)
        assert len(advisor.asked_at_s) == 2
        skipped = (await opinions(world))[-1]
        assert (skipped.action, skipped.reason) == (
            "advice.skipped",
            "the day's 2 calls are used up; asked again from 00:00 UTC",
        )

    play(sqlite_path, story, running=True, advisor=advisor, allowance=Allowance(calls=2))


def test_advisor_that_fails_is_left_alone(sqlite_path: Path) -> None:
    """Three failures in a row, each asked once, and it is not asked for ten minutes."""
    advisor = Scripted(BAD)

    async def story(world: World) -> None:
        for word in ("alpha", "beta", "gamma", "delta"):
            await world.fail(status=None, message=f"{word} went wrong somehow")
            await world.later(10)
        actions = [entry.action for entry in await opinions(world)]
        assert actions == ["advice.failed"] * 3 + ["advice.skipped"]
        assert len(advisor.asked_at_s) == 3
        await world.later(600)
        await world.fail(status=None, message="epsilon went wrong somehow")
        await world.later(10)
        assert len(advisor.asked_at_s) == 4

    play(sqlite_path, story, running=True, advisor=advisor)


def test_answer_that_never_came_is_told(sqlite_path: Path) -> None:
    """A process that died while asking leaves a question without answer: waited for, then told, not asked again."""
    advisor = Scripted()

    async def story(world: World) -> None:
        one = await world.incident((await world.fail(**LOST)).incident_id)
        now = world.parts.clock.now()
        async with world.parts.store.transaction() as tx:
            assert await tx.advice.book(one.fingerprint, "another", "digest", 1000, Allowance(), now) is None
        await world.later(20)
        assert await opinions(world) == []
        await world.later(20)
        (entry,) = await opinions(world)
        assert entry.action == "advice.failed"
        assert entry.reason == "asked today already: its answer was lost with the process that asked"
        assert advisor.asked_at_s == []

    play(sqlite_path, story, running=True, advisor=advisor)


# Nothing waits, nothing changes ---------------------------------------------------------------------------------------

TROUBLES = [
    GOOD,
    BAD,
    Answer(advice=replace(ADVICE, proposed_action="refresh_token", confidence=1.0), tokens=1),
    Answer(trouble="its answer does not have the agreed form (json_invalid)", tokens=9_000),
    RuntimeError("a bug of the advisor"),
]


async def bad_day(world: World) -> None:
    """Let many things go wrong, some of them beyond repair."""
    world.hands.script["replay"] = [refused(503), refused(None, "it went wrong somehow"), refused(500), refused(503)]
    world.hands.script["probe"] = [refused(503)]
    for number in range(6):
        await world.fail(**UNKNOWN)
        await world.fail(status=None, message="something else broke", code=f"E{number}")
        await world.fail(**LOST)
        await world.fail()
        await world.fail("probed", endpoint=None, **UNKNOWN)
        await world.later(7)
    await world.later(300)


@pytest.mark.parametrize("answer", TROUBLES, ids=["advice", "timeout", "bold", "nonsense", "bug"])
@pytest.mark.parametrize("takes_s", [0.0, 5.0])
def test_decisions_are_the_same_with_and_without(sqlite_path: Path, answer: Answer | Exception, takes_s: float) -> None:
    """Incidents, operations, runs, gates, messages, the engine's audit and every wait: equal to the last digit."""
    told: list[list[Any]] = []

    async def story(world: World) -> None:
        await bad_day(world)
        told.append(await decisions(world))

    advisor = Scripted(answer, takes_s=takes_s)
    play(sqlite_path, story, running=True)
    play(sqlite_path, story, running=True, advisor=advisor)
    assert len(advisor.asked_at_s) >= 3
    assert told[0] == told[1]


def test_comparison_notices_a_difference(sqlite_path: Path) -> None:
    """The same look sees a world in which one draw of chance was lost: it can fail."""
    told: list[list[Any]] = []

    async def story(world: World) -> None:
        if told:
            world.parts.rng.random()
        await bad_day(world)
        told.append(await decisions(world))

    play(sqlite_path, story, running=True)
    play(sqlite_path, story, running=True)
    assert told[0] != told[1]


def test_plan_is_the_same_after_an_opinion(sqlite_path: Path) -> None:
    """What would be done next does not depend on what was said."""
    plans: list[Any] = []

    async def story(world: World) -> None:
        receipt = await world.fail(**LOST)
        await world.later(10)
        async with world.parts.store.transaction() as tx:
            incident = await tx.incidents.take(receipt.incident_id or "")
            case = await heal.read_case(world.parts, tx, incident)
        plans.append((choose(case), case))

    play(sqlite_path, story, running=True)
    play(sqlite_path, story, running=True, advisor=Scripted())
    assert plans[0] == plans[1]


def test_slow_advisor_holds_up_no_healing(sqlite_path: Path) -> None:
    """A hundred unexplained incidents at once: two questions under way, and every replay at the moment it had alone."""
    told: list[list[Any]] = []

    async def story(world: World) -> None:
        codes = [f"CODE_{first}{second}" for first in "ABCDEFGHIJ" for second in "ABCDEFGHIJ"]
        await asyncio.gather(*(world.fail(status=None, message="it broke", code=code) for code in codes))
        await world.later(4)
        assert len(world.hands.did()) == 100
        told.append(await decisions(world))

    advisor = Scripted(takes_s=5.0)
    wide = (replace(CRM, disable_after=DisableAfter(unknown=None), calls_max=100), PROBED)
    play(sqlite_path, story, running=True, services=wide)
    play(sqlite_path, story, running=True, services=wide, advisor=advisor)
    assert told[0] == told[1]
    assert (len(advisor.asked_at_s), advisor.most_at_once) == (2, 2)


def test_person_still_outranks(sqlite_path: Path) -> None:
    """An incident that a person suppressed while the question was under way stays as the person wants it."""
    advisor = Scripted(takes_s=5.0)

    async def story(world: World) -> None:
        receipt = await world.fail(**LOST)
        await world.later(1)
        await people.act_on_incident(world.parts, receipt.incident_id or "", "suppress", by="ada")
        before = await world.incident(receipt.incident_id)
        await world.later(10)
        assert len(await opinions(world)) == 1
        assert replace(await world.incident(receipt.incident_id), learned=0) == before

    play(sqlite_path, story, running=True, advisor=advisor)


def test_prompt_is_in_no_log(sqlite_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the digest and what came of it, and not a word of the question."""
    with caplog.at_level(logging.DEBUG):

        async def story(world: World) -> None:
            await world.fail(status=None, message="xylophone went wrong somehow")
            await world.later(10)

        play(sqlite_path, story, running=True, advisor=Scripted())
    assert "prompt digest-1: advice given" in caplog.text
    assert "xylophone" not in caplog.text
