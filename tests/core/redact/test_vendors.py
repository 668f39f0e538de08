"""Tokens are known by their beginnings and shapes, and what only looks a little like one stays."""

from __future__ import annotations

import pytest

from prunella.core.redact.vendors import tokens


@pytest.mark.parametrize("before", ["", " ", '"', "=", "'", "(", ":", "/", "%20", ", "])
def test_tokens_are_found_wherever_a_word_begins(before: str) -> None:
    """Whatever divides it from the text before, a token is found whole, and the full stop behind it stays."""
    token = "ghp_" + "a1B2c3" * 6
    text = f"{before}{token}. Then"
    assert [text[start:end] for start, end, _ in tokens(text)] == [token]


@pytest.mark.parametrize("beginning", ["prunella_live_", "prunella_link_"])
def test_what_opens_our_own_doors_is_found(beginning: str) -> None:
    """API keys and one-time links of prunella itself go nowhere in the clear."""
    token = beginning + "Zk3-_aB9" * 5
    text = f"opened with {token}, then"
    assert [text[start:end] for start, end, _ in tokens(text)] == [token]


@pytest.mark.parametrize(
    "text",
    [
        "xghp_" + "a1B2c3" * 6,
        "data:image/png;base64,AAAA/EAAB" + "a1B2c3" * 12,
        "pk_live_" + "a1B2c3" * 4,
        "pi_3" + "a1B2c3" * 4,
        "sk-toolbar-container-wrapper",
        "secret_manager_client_error_of_2026",
        "re_send_the_confirmation_mail_later",
        "ghp_short",
        "a" * 40,
    ],
)
def test_what_is_no_token_stays(text: str) -> None:
    """Words that go on, ids, publishable keys, names in stylesheets and in code."""
    assert list(tokens(text)) == []
