"""The rules that all channels share."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.errors import Undelivered
from prunella.core.records import Notification
from prunella.core.redact import Secret
from prunella.egress import Egress, EgressPolicy, Reply
from prunella.notify import contract

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("kind", "sign"),
    [
        ("detected", "🚨"),
        ("attempt", "🔄"),
        ("recovered", "✅"),
        ("disabled", "⛔"),
        ("escalated", "⚠️"),
        ("digest", "🗂️"),
        ("unheard_of", "🔔"),
    ],
)
def test_heading_shows_the_sign_of_the_kind(notification: Notification, kind: str, sign: str) -> None:
    """The first line carries the kind's sign, and a kind without one still rings."""
    assert contract.heading(replace(notification, kind=kind, title="T")) == f"{sign} T"


def test_footnote_leaves_out_an_incident_that_is_none(notification: Notification) -> None:
    """The last line names severity, incident and moment; a digest has no incident."""
    assert contract.footnote(notification) == "HIGH · incident incident-1 · 2026-03-01 12:30:05 UTC"
    assert contract.footnote(replace(notification, incident_id=None)) == "HIGH · 2026-03-01 12:30:05 UTC"


def test_facts_of_says_how_many_are_missing(notification: Notification) -> None:
    """Facts beyond the limit are counted, not silently dropped."""
    many = replace(notification, facts=tuple((str(number), "x") for number in range(12)))
    assert contract.facts_of(many, 12) == many.facts
    assert contract.facts_of(many, 5) == (*many.facts[:4], ("More", "8 facts not shown"))


@given(st.text(alphabet="ab&<", max_size=60), st.integers(min_value=1, max_value=80))
def test_cut_never_exceeds_its_limit_nor_splits_an_escape(text: str, chars_max: int) -> None:
    """Cut text fits after escaping, ends in an ellipsis only when cut, and holds whole escapes only."""
    escapes = {"&": "&amp;", "<": "&lt;"}
    shown = contract.cut(text, chars_max, escape=lambda character: escapes.get(character, character))
    assert len(shown) <= chars_max
    read = shown.removesuffix("…").replace("&lt;", "<").replace("&amp;", "&")
    assert text.startswith(read)
    assert (read == text) == (not shown.endswith("…"))


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("https://a.test/i/1?x=1&y=2#z", "https://a.test/i/1?x=1&y=2#z"),
        ("https://a.test/|evil> <!channel>", "https://a.test/%7Cevil%3E%20%3C!channel%3E"),
        ("javascript:alert(1)", None),
        ("http://[", None),
        ("/incidents/1", None),
        (None, None),
    ],
)
def test_web_link_lets_only_web_addresses_through(link: str | None, shown: str | None) -> None:
    """A link is a web address that can't end early; anything else is left out."""
    assert contract.web_link(link) == shown


def test_refusal_asks_for_no_wait_where_none_would_help() -> None:
    """A permanent refusal carries no wait, a passing one carries the receiver's."""
    headers = {"retry-after": "7"}
    gone = contract.refusal("ops", Reply(410, headers, b"", 0.0), gone=frozenset({410}))
    busy = contract.refusal("ops", Reply(503, headers, b"", 0.0), gone=frozenset({410}))
    assert (gone.permanent, gone.retry_after_s) == (True, None)
    assert (busy.permanent, busy.retry_after_s) == (False, 7.0)


@pytest.mark.parametrize(
    ("url", "permanent", "reason"),
    [
        ("http://10.0.0.1/Zx9secret", True, "ops: 10.0.0.1: address 10.0.0.1 is not public"),
        ("https://me:Zx9secret@hooks.test/", True, "ops: hooks.test: the address holds a user or password"),
        ("nonsense Zx9secret", True, "ops: request: the address needs a scheme"),
        ("http://127.0.0.1:1/Zx9secret", False, "ops: POST 127.0.0.1: Connection refused (ECONNREFUSED)"),
    ],
)
async def test_post_tells_a_wrong_address_from_a_bad_moment(
    caller: Egress, url: str, permanent: bool, reason: str
) -> None:
    """An address that may not be called needs a person; a connection that failed needs time; neither shows the URL."""
    with pytest.raises(Undelivered) as undelivered:
        await contract.post(caller, Secret(url), channel="ops", json={})
    assert undelivered.value.permanent is permanent
    assert undelivered.value.reason.startswith(reason)
    assert "Zx9secret" not in str(undelivered.value)


async def test_post_refuses_a_private_receiver_by_default(receiver: object) -> None:
    """Channels go through the same door as all calls: a private receiver needs the policy's word."""
    egress = Egress(EgressPolicy())
    with pytest.raises(Undelivered, match=r"address 127\.0\.0\.1 is not public"):
        await contract.post(egress, Secret("https://127.0.0.1/"), channel="ops", json={})
    await egress.close()


def test_inert_turns_no_text_around_and_keeps_letters_together() -> None:
    """Signs that reverse the reading go, those that hold an emoji or a Persian word together stay."""
    assert contract.inert("a\u202etxt.exe\u2066 b\u2028c\r\nd") == "a txt.exe  b c  d"
    person = contract.EMOJI["MANUAL_INTERVENTION_REQUIRED"]
    assert contract.inert(f"{person} \u0645\u06cc\u200c\u062e") == f"{person} \u0645\u06cc\u200c\u062e"


def test_inert_breaks_addresses_in_angles() -> None:
    """What Markdown would make a link of any scheme is shown, and is none; a plain < stays as it is."""
    assert (
        contract.inert("<tel:1900> <a.b+c:x> a < b <declined>") == "<\u200btel:1900> <\u200ba.b+c:x> a < b <declined>"
    )


def test_link_that_is_too_long_is_left_out() -> None:
    """A chat would refuse the whole message because of it."""
    assert contract.web_link("https://p.example/" + "a" * 1900) is not None
    assert contract.web_link("https://p.example/" + "é" * 1000) is None
