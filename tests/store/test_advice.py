"""A day's questions have a hard end, whoever asks at the same moment, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from prunella.core.advice import Advice, Allowance, Answer, Consultation
from prunella.core.errors import Conflict
from prunella.core.records import Category
from prunella.store.contract import Store, again_on_conflict
from store.making import NOW, Outside, at, at_once

pytestmark = pytest.mark.anyio

DAY_S = 86_400
ADVICE = Advice(
    category=Category.DATA,
    kind="data.validation",
    summary="the e-mail is missing",
    steps=("add it", "send it again"),
    prevention="check before sending",
    proposed_action=None,
    confidence=0.5,
)
GOOD = Answer(advice=ADVICE, tokens=100)
BAD = Answer(trouble="it answered with HTTP 500", tokens=1000)


async def book(store: Store, name: str, allowance: Allowance, after_s: float = 0, tokens: int = 1000) -> str | None:
    async with store.transaction() as tx:
        return await tx.advice.book(name, "incident-1", "digest", tokens, allowance, at(after_s))


async def settle(store: Store, name: str, allowance: Allowance, answer: Answer, after_s: float = 0) -> None:
    async with store.transaction() as tx:
        await tx.advice.settle(name, at(after_s), 1000, answer, allowance, at(after_s))


async def ask(store: Store, name: str, allowance: Allowance, answer: Answer, after_s: float = 0) -> str | None:
    refusal = await book(store, name, allowance, after_s)
    if refusal is None:
        await settle(store, name, allowance, answer, after_s)
    return refusal


async def test_answer_is_kept_for_its_day(store: Store, outside: Outside) -> None:
    """What was said about a fingerprint is read back as it was, until midnight UTC."""
    assert await ask(store, "print-1", Allowance(), GOOD) is None
    async with store.transaction() as tx:
        read = await tx.advice.read("print-1", NOW)
        assert read == Consultation(asked_at=NOW, ended_at=NOW, advice=ADVICE, trouble="")
        assert await tx.advice.read("print-1", at(DAY_S)) is None
        assert await tx.advice.read("print-2", NOW) is None
    assert outside("SELECT incident_id, prompt_hash, tokens FROM advice") == [("incident-1", "digest", 100)]


async def test_trouble_is_kept_too(store: Store) -> None:
    """A question without advice is not asked again that day: its trouble stands in its place."""
    await ask(store, "print-1", Allowance(), BAD)
    async with store.transaction() as tx:
        read = await tx.advice.read("print-1", NOW)
    assert read is not None
    assert (read.advice, read.trouble) == (None, "it answered with HTTP 500")


async def test_question_is_asked_once(store: Store) -> None:
    """Who books what is booked, or settles what is settled, was too slow, and nothing is counted for it."""
    await book(store, "print-1", Allowance())
    with pytest.raises(Conflict):
        await book(store, "print-1", Allowance())
    await settle(store, "print-1", Allowance(), GOOD)
    with pytest.raises(Conflict):
        await settle(store, "print-1", Allowance(), BAD)
    assert await book(store, "print-2", Allowance(calls=2)) is None


async def test_calls_end_hard_under_many_at_once(store: Store, outside: Outside) -> None:
    """Twenty ask at the same moment, five may: exactly five are asked, the rest hear why; tomorrow is a new day."""
    allowance = Allowance(calls=5)

    @again_on_conflict
    async def one(number: int) -> str | None:
        return await book(store, f"print-{number}", allowance)

    refusals = await at_once(one(number) for number in range(20))
    assert refusals.count(None) == 5
    assert set(refusals) == {None, "the day's 5 calls are used up; asked again from 00:00 UTC"}
    assert outside("SELECT calls, tokens FROM advice_days") == [(5, 5000)]
    assert await book(store, "print-99", allowance, DAY_S) is None


async def test_tokens_end_hard(store: Store) -> None:
    """The most that a question can cost is taken before it is asked, and what it did not cost comes back."""
    allowance = Allowance(tokens=2000)
    assert await ask(store, "print-1", allowance, GOOD) is None  # 100 of 1,000
    assert await book(store, "print-2", allowance) is None  # 1,100
    refusal = await book(store, "print-3", allowance)
    assert refusal == "the day's 2000 tokens are used up; asked again from 00:00 UTC"
    assert await book(store, "print-3", allowance, tokens=900) is None


async def test_three_answers_without_advice_bring_silence(store: Store) -> None:
    """After three in a row nobody asks for ten minutes; then one tries, and advice ends the silence for all."""
    allowance = Allowance()
    for number in range(3):
        assert await ask(store, f"print-{number}", allowance, BAD) is None
    silent = "3 answers in a row brought nothing; not asked before 12:40 UTC"
    assert await book(store, "print-4", allowance, 599) == silent
    assert await book(store, "print-4", allowance, 600) is None
    assert "not asked before 12:50" in (await book(store, "print-5", allowance, 601) or "")
    await settle(store, "print-4", allowance, GOOD, 602)
    assert await book(store, "print-5", allowance, 603) is None


async def test_advice_in_between_keeps_it_talking(store: Store) -> None:
    """Only failures in a row count, and a try that fails brings the silence back at once."""
    answers = [BAD, BAD, GOOD, BAD, BAD]
    refusals = [await ask(store, f"print-{number}", Allowance(), one) for number, one in enumerate(answers)]
    assert refusals == [None] * 5
    await ask(store, "print-6", Allowance(), BAD)
    await ask(store, "print-7", Allowance(), BAD, 600)
    assert "4 answers in a row" in (await book(store, "print-8", Allowance(), 601) or "")


async def test_old_advice_is_forgotten(store: Store, outside: Outside) -> None:
    """The first question of a day removes what is older than 31 days."""
    for days in (0, 31, 32):
        await ask(store, "print-1", Allowance(), GOOD, days * DAY_S)
    kept: list[tuple[Any, ...]] = outside("SELECT day FROM advice ORDER BY day")
    assert kept == outside("SELECT day FROM advice_days ORDER BY day") == [("2026-04-01",), ("2026-04-02",)]
