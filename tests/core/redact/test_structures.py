"""What stands at a place of secrets goes, and what surrounds it stays: names of cookies, hosts, users, parameters."""

from __future__ import annotations

import pytest

from prunella.core.redact import scrub
from prunella.core.redact.structures import HINTS, cards

VALUE = "s3cr3tV4lue9xQz"
DIGEST = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Cookie: a={VALUE}; lang={VALUE}", "Cookie: a=; lang="),
        (f"Set-Cookie: sid={VALUE}; Path=/; Max-Age=60; HttpOnly", "Set-Cookie: sid=; Path=/; Max-Age=60; HttpOnly"),
        (f"<Cookie sid={VALUE} for shop.test/>", "<Cookie sid= for shop.test/>"),
        (f"https://user:{VALUE}@h.test/p?q=1", "https://user:@h.test/p?q=1"),
        (f"nats://svc:{VALUE[:7]}/#@{VALUE[7:]}@h.test:4222", "nats://svc:@h.test:4222"),
        (f"jdbc:oracle:thin:svc/{VALUE}@//h.test:1521/XE", "jdbc:oracle:thin:svc/@//h.test:1521/XE"),
        (f'Digest username="joe", response="{DIGEST}"', 'Digest username="joe", response=""'),
        (f"auth=('joe', '{VALUE}')", "auth=('joe', '')"),
        (f"mysql -h db -u root -p{VALUE} shop", "mysql -h db -u root -p shop"),
        (f"login joe password {VALUE} port", "login joe password  port"),
        (f"IDENTIFIED BY '{VALUE}'", "IDENTIFIED BY ''"),
        (f"INSERT INTO u (a, password) VALUES ('x', '{VALUE}')", "INSERT INTO u (a, password) VALUES ('x', '')"),
        (
            f"INSERT INTO u (a, token) VALUES (?, ?)] [parameters: ('x', '{VALUE}')]",
            "INSERT INTO u (a, token) VALUES (?, ?)] [parameters: ('x', '')]",
        ),
        ("123456 is your login code", " is your login code"),
        (
            f"-----BEGIN EC PRIVATE KEY-----\nMHcC{VALUE}\nAbC=\nTraceback (most recent call last)",
            "-----BEGIN EC PRIVATE KEY-----\nTraceback (most recent call last)",
        ),
    ],
)
def test_only_the_secret_goes(text: str, left: str) -> None:
    """Each mark stands exactly where the secret stood."""
    scrubbed = scrub(text)
    for start in range(scrubbed.count("[REDACTED:")):
        at = scrubbed.index("[REDACTED:")
        scrubbed = scrubbed[:at] + scrubbed[scrubbed.index("]", at) + 1 :]
        assert start < 2
    assert scrubbed == left


@pytest.mark.parametrize(
    "text",
    ["4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242", "378282246310005", "3782 822463 10005"],
)
def test_cards_are_known_by_scheme_length_and_check_digit(text: str) -> None:
    """One digit changed, a digit more, or within a word: it is no card."""
    assert [text[start:end] for start, end, _ in cards(text)] == [text]
    assert list(cards(text[:-1] + str((int(text[-1]) + 1) % 10))) == []
    assert list(cards(text + "7")) == []
    assert list(cards(f"id-{text}")) == []


def test_no_pattern_runs_where_nothing_hints_at_it() -> None:
    """A hint that stands in every text would let its pattern, and all that looks at names, run over every text."""
    assert not [hint for hint in HINTS if hint in "nothing of the kind stands here, and 4711 is no secret"]
    assert all(hint and hint == hint.lower().strip() for hint in HINTS)
