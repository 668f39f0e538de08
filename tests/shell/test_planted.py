"""Each checker of this room beside the bug that it is there for: a server with one guard taken away, and it notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from flows.running import eventually
from shell import (
    test_addresses,
    test_bodies,
    test_pages,
    test_people,
    test_signatures,
    test_start,
    test_tokens,
    test_words,
)
from shell.conftest import Shell, opened_shell
from shell.planted import BUGS, FILE, plant

pytestmark = pytest.mark.slow
Checker = Callable[[Shell], None]

NOTICED: tuple[tuple[str, Checker], ...] = (
    ("raw_messages", test_words.test_message_shows_what_was_said_and_does_nothing_with_it),
    ("raw_pages", test_pages.test_text_from_outside_is_text_on_every_page),
    ("raw_log", test_words.test_log_has_one_record_per_line_whatever_is_said),
    ("any_site", test_pages.test_no_other_site_acts_for_who_is_signed_in),
    ("any_host", test_addresses.test_endpoint_of_an_event_leads_to_no_other_host),
    ("any_address", test_addresses.test_host_that_a_service_names_is_no_leave_to_call_it),
    ("any_address", test_addresses.test_service_at_a_private_address_is_never_called),
    (
        "any_address",
        partial(test_addresses.test_channel_that_opens_its_own_connections_is_held_to_the_same_rule, channel="pager"),
    ),
    (
        "any_address",
        partial(test_addresses.test_name_that_turns_leads_nobody_astray, channel="turning", turns=4, arrive=1),
    ),
    (
        "any_address",
        partial(test_addresses.test_name_that_turns_leads_nobody_astray, channel="turning_pager", turns=4, arrive=3),
    ),
    ("redirects", test_addresses.test_redirect_is_never_followed),
    ("wide_allowance", partial(test_addresses.test_allowance_that_could_mean_more_is_refused_at_the_start, entry="*")),
    ("believed_tokens", test_tokens.test_good_token_opens_and_no_forgery_does),
    ("curious_issuer", test_tokens.test_unknown_key_ids_make_nobody_ask_the_issuer_each_time),
    ("endless_heads", test_tokens.test_token_of_ten_megabytes_is_cut_off),
    (
        "weak_sections",
        partial(
            test_tokens.test_weak_way_in_is_refused_before_anything_starts,
            section="auth: {jwt: {issuer: i, audience: a, secret: '${SHORT}'}}",
            words="32",
        ),
    ),
    ("unsigned", test_signatures.test_delivery_is_taken_once_and_only_as_it_was_signed),
    ("unsigned", test_signatures.test_button_counts_once_and_only_as_slack_signed_it),
    ("any_digest", test_people.test_plan_is_approved_as_it_was_seen_by_who_may_and_once),
    ("any_role", test_people.test_known_issues_are_changed_by_operations_alone),
    ("any_parameter", test_people.test_remedy_is_bound_with_what_it_declares_alone),
    ("unknown_names", partial(test_people.test_pack_says_what_is_known_and_never_what_is_done, name="trusted")),
    ("endless_bodies", test_bodies.test_body_that_is_too_much_is_refused_without_being_kept),
    ("unpacked_bodies", test_bodies.test_packed_body_is_refused_by_its_name),
    ("one_at_a_time", test_bodies.test_slow_and_silent_lines_hold_up_nobody),
    ("endless_lines", test_bodies.test_five_hundred_silent_lines_take_nobodys_place),
    ("whole_replies", test_bodies.test_reply_of_a_service_that_is_a_bomb_is_cut_off),
    ("python_in_packs", partial(test_bodies.test_pack_that_is_a_bomb_is_refused_at_once, kind="object")),
    ("python_in_packs", partial(test_bodies.test_pack_that_is_a_bomb_is_refused_at_once, kind="many documents")),
    ("endless_packs", partial(test_bodies.test_pack_that_is_a_bomb_is_refused_at_once, kind="alias bomb")),
    ("slow_words", test_bodies.test_long_messages_are_read_in_time),
    ("folded_names", test_start.test_names_that_are_no_names_are_refused_each_at_its_place),
    ("short_keys", partial(test_start.test_weak_key_does_not_start, key="abcde")),
    ("objects_in_configuration", partial(test_start.test_file_that_is_a_bomb_does_not_start, text=test_start.OBJECT)),
    # the last: what it lets in would keep the server busy with the next long message
    ("slow_expressions", test_bodies.test_expression_that_could_be_slow_is_refused_when_it_is_saved),
)


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A server like the room's own, whose guards can be taken away; its first message was sent with one missing."""
    folder = tmp_path_factory.mktemp("weak")
    (folder / FILE).write_text("raw_messages")
    with opened_shell(folder, PLANTED=str(folder)) as one:
        eventually(lambda: bool(one.chat.received) and bool(one.hook.received))
        plant(one.up)
        yield one


def named(checker: Checker) -> str:
    """Return a checker's name."""
    return str(getattr(checker, "func", checker).__name__)


@pytest.mark.parametrize(("bug", "checker"), NOTICED, ids=[f"{bug}-{named(one)}" for bug, one in NOTICED])
def test_checker_notices_the_bug(weak: Shell, bug: str, checker: Checker) -> None:
    """With the guard taken away it fails, and not for another reason than what it looks at."""
    weak.canary.ledger.requests.clear()
    plant(weak.up, bug)
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception)) as noticed:
            checker(weak)
    finally:
        plant(weak.up)
    print(f"{bug}: {str(noticed.value)[:300]}")


def test_every_bug_is_planted_somewhere() -> None:
    """No bug is kept that nobody is seen to notice; two are noticed by flows/test_canaries.py."""
    assert {bug for bug, _ in NOTICED} | {"open_words", "open_rows"} == set(BUGS)
