"""The outbox when things go badly: outages, messages that nobody takes, channels that stand in for each other, floods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from notify.test_outbox import Chat, Post, play
from prunella.core.errors import StoreUnavailable, Undelivered
from prunella.core.records import Notification, Severity
from prunella.notify.outbox import batches, digest


async def later(post: Post, seconds: float) -> None:
    await post.store.clock.sleep(seconds)


def test_outage_of_two_channels_that_stand_in_for_each_other_loses_nothing(tmp_path: Path) -> None:
    """Both are away for ten minutes: the message arrives afterwards, once, by the one that has it."""
    mail = Chat("mail", refuses=lambda _, now_s: Undelivered("down") if now_s < 600 else None)

    async def story(post: Post) -> None:
        await post.put(1)
        await later(post, 4 * 3600)
        assert sorted((await post.states()).items()) == [("dead", 1), ("sent", 1)]

    chat = play(tmp_path, story, other=mail, refuses=lambda _, now_s: Undelivered("down") if now_s < 600 else None)
    assert (len(chat.got), len(mail.got)) == (0, 1)


def test_message_that_nobody_takes_holds_up_no_other(tmp_path: Path) -> None:
    """A receiver that fails on one message gets all others in time, before and after it is tried again."""
    bad: list[str] = []

    async def story(post: Post) -> None:
        bad.extend(await post.put(1))
        await later(post, 1000)
        for _ in range(5):
            await post.put(1)
            await later(post, 40)
        assert len(post.chat.got) == 5
        await later(post, 12 * 3600)
        assert await post.states() == {"dead": 1, "sent": 5}
        assert len((await post.rows())[0].tries) == 12

    chat = play(tmp_path, story, refuses=lambda one, _: Undelivered("HTTP 500") if one.id in bad else None)
    waited = [at - 1000 - 40 * number for number, at in enumerate(chat.at_s)]
    assert max(waited) <= 30


def test_message_that_nobody_takes_holds_up_none_beside_it(tmp_path: Path) -> None:
    """Queued together, the one behind it arrives in the same turn."""
    bad: list[str] = []

    async def story(post: Post) -> None:
        bad.append((await post.put(2))[0])
        await later(post, 0.5)

    assert len(play(tmp_path, story, refuses=lambda one, _: Undelivered("no") if one.id in bad else None).got) == 1


def test_end_of_an_outage_is_noticed_by_what_is_new(tmp_path: Path) -> None:
    """After two hours of failures the waits are an hour long; a message that comes then arrives within 30 s all the same."""

    async def story(post: Post) -> None:
        await post.put(1)
        await later(post, 2 * 3600 + 30)
        await post.put(1, severity=Severity.CRITICAL)
        await later(post, 31)
        assert len(post.chat.got) == 1
        assert post.chat.got[0].severity is Severity.CRITICAL

    play(tmp_path, story, refuses=lambda _, now_s: Undelivered("down") if now_s < 2 * 3600 else None)


def test_channel_that_is_down_is_not_hammered(tmp_path: Path) -> None:
    """A message every 5 s for five minutes: two tries in 30 s at most, and none of them is given up."""

    async def story(post: Post) -> None:
        for _ in range(60):
            await post.put(1)
            await later(post, 5)
        assert await post.states() == {"waiting": 60}

    chat = play(tmp_path, story, refuses=lambda _, __: Undelivered("down"))
    assert chat.tried <= 40


def test_what_was_not_tried_counts_no_try(tmp_path: Path) -> None:
    """Two of four failed and the rest went back in line: their tries are still before them."""

    async def story(post: Post) -> None:
        await post.put(3)
        await later(post, 0.5)
        assert [(row.attempts, len(row.tries)) for row in await post.rows()] == [(1, 1), (1, 1), (0, 0)]

    play(tmp_path, story, refuses=lambda _, __: Undelivered("down"))


def test_silence_that_was_asked_for_is_kept_for_all(tmp_path: Path) -> None:
    """A 429 with ten minutes: nothing is tried before, neither the others of the turn nor what comes meanwhile."""

    async def story(post: Post) -> None:
        await post.put(3)
        await later(post, 300)
        await post.put(1)
        await later(post, 299)
        assert post.chat.tried == 1
        await later(post, 10)
        assert await post.states() == {"sent": 4}

    play(tmp_path, story, Undelivered("429", retry_after_s=600))


def test_fault_of_our_own_is_no_endless_loop(tmp_path: Path) -> None:
    """A message that can't be written is tried as often as any other, and the others arrive."""
    bad: list[str] = []

    async def story(post: Post) -> None:
        bad.append((await post.put(2))[0])
        await later(post, 24 * 3600)
        first, second = await post.rows()
        assert (first.state, second.state, first.attempts) == ("dead", "sent", 12)
        assert first.last_error == "ops: a fault of prunella's own (UnicodeError)"

    play(tmp_path, story, refuses=lambda one, _: UnicodeError("x") if one.id in bad else None)


def test_database_that_is_away_is_no_fault_of_a_message(tmp_path: Path) -> None:
    """The address could not be read: no try is noted, and it goes out once the database is back."""

    async def story(post: Post) -> None:
        await post.put(1)
        await later(post, 120)
        (row,) = await post.rows()
        assert (row.state, [one["outcome"] for one in row.tries]) == ("sent", ["sent"])

    play(tmp_path, story, refuses=lambda _, now_s: StoreUnavailable("away") if now_s < 5 else None)


def note(number: int, severity: Severity = Severity.LOW, **changed: object) -> Notification:
    """Return a message."""
    made = Notification(
        id=f"n{number}",
        key=f"k{number}",
        channel="ops",
        kind="detected",
        severity=severity,
        title="t",
        facts=(),
        incident_id=None,
        link=None,
        next_at=None,
        created_at=Chat().clock._start,
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def test_gravest_of_a_pile_is_shown_whole() -> None:
    """Among twenty small ones the alarm stands for itself, and the rest is the digest; of equals it is the first."""
    pile = [note(number, Severity.CRITICAL if number in (7, 9) else Severity.LOW) for number in range(20)]
    (shown,), rest = batches(pile)
    assert shown.id == "n7"
    assert [one.id for one in rest] == [f"n{number}" for number in range(20) if number != 7]


def test_digest_has_an_id_of_its_own() -> None:
    """A receiver that knows ids takes the same digest once, and neither for one of its messages nor for another digest."""
    pile = [note(number) for number in range(5)]
    assert digest(pile).id == digest(pile).id
    assert len({digest(pile).id, digest(pile[:4]).id, *(one.id for one in pile)}) == 7


def test_recipients_who_were_left_are_told_later_by_the_same_message(tmp_path: Path) -> None:
    """One of two hears it at once, the other after a while: the channel is well meanwhile, and the try says who is left."""
    left = Undelivered("1 of 2 recipients", left=("bob@example.com",))

    async def story(post: Post) -> None:
        await post.put(2)
        await later(post, 0.5)
        first, second = await post.rows()
        assert (first.state, second.state) == ("waiting", "sent")
        assert first.tries[-1]["left"] == ["bob@example.com"]
        assert (await post.health())["ops"]["failing_since"] is None
        await later(post, 3)
        assert await post.states() == {"sent": 2}
        assert post.chat.got[-1].tries[-1]["left"] == ["bob@example.com"]

    play(tmp_path, story, left)


def test_recipient_who_is_never_told_makes_no_message_a_failure(tmp_path: Path) -> None:
    """A full mailbox among several: after the last try the message counts as sent, with who did not get it."""

    async def story(post: Post) -> None:
        await post.put(1)
        await later(post, 12 * 3600)
        (row,) = await post.rows()
        assert (row.state, row.last_error, len(row.tries)) == ("sent", "1 of 2", 12)

    play(tmp_path, story, refuses=lambda _, __: Undelivered("1 of 2", left=("bob@example.com",)))
