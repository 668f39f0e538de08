"""What the system itself holds goes in every spelling, in one pass, and never prints itself."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
import re
import string
import threading
import time
from collections.abc import Callable, Iterator
from random import Random
from urllib.parse import quote, quote_plus

import pytest

from prunella.core import redact
from prunella.core.redact import Redactor, Secret, scrub

VALUE = "s3cr3tV4lue-9xQz"
PLAIN = VALUE.replace("-", "")
HELD = 'tÖp "held"/<value>+1&x\'s'


@pytest.fixture
def held() -> Iterator[str]:
    redact.register(HELD)
    yield HELD
    redact.forget(HELD)


def test_secret_never_prints_its_value() -> None:
    """Neither repr nor str nor formatting nor pickling gives the value away; only reveal() does."""
    secret = Secret(VALUE)
    assert f"{secret} {secret!r} {[secret]}" == "Secret(****) Secret(****) [Secret(****)]"
    assert secret.reveal() == VALUE
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_secret_compares_by_value() -> None:
    """Equal values are equal secrets, hash alike, and a deep copy is the same secret."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), copy.deepcopy(Secret("a"))}) == 1


def test_register_ignores_short_values() -> None:
    """A value under six characters would tear ordinary words apart, so it is not taken."""
    redactor = Redactor()
    redactor.register("abc")
    redactor.register(Secret("abcdef"))
    assert redactor.known_values == {Secret("abcdef")}


def test_marks_compare_equal_secrets_only_under_one_key() -> None:
    """Equal values get equal marks, different ones do not, and another key gives other marks."""
    redactor = Redactor()
    redactor.set_hash_key(b"one")
    first = redactor.mark("named", VALUE)
    assert redactor.mark("named", VALUE) == first != redactor.mark("named", PLAIN)
    redactor.set_hash_key(b"two")
    assert redactor.mark("named", VALUE) != first
    with pytest.raises(ValueError, match="1 to 64 bytes"):
        redactor.set_hash_key(b"")


def lowered(text: str) -> str:
    """Return a percent-encoded text with small hexadecimal digits."""
    return re.sub("%..", lambda match: match[0].lower(), text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": lambda value: quote(value, safe=""),
    "URL, lower case": lambda value: lowered(quote(value, safe="")),
    "URL, path": quote,
    "form": quote_plus,
    "URL twice": lambda value: quote(quote(value, safe=""), safe=""),
    "JSON": lambda value: json.dumps({"note": value}),
    "JSON twice": lambda value: json.dumps(json.dumps({"note": value})),
    "JSON, letters kept": lambda value: json.dumps({"note": value}, ensure_ascii=False),
    "JSON of Go": lambda value: (
        json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    ),
    "JSON of PHP": lambda value: json.dumps(value).replace("/", "\\/"),
    "repr": repr,
    "repr of bytes": lambda value: repr(value.encode()),
    "HTML": html.escape,
    "HTML with numbers": lambda value: html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "hex": lambda value: value.encode().hex(),
    "hex, upper case": lambda value: value.encode().hex().upper(),
    "Base64": lambda value: base64.b64encode(value.encode()).decode(),
    "Base64 + 1": lambda value: base64.b64encode(f"a{value}xx".encode()).decode(),
    "Base64 + 2": lambda value: base64.b64encode(f"ab{value}x".encode()).decode(),
    "Base64 for URLs": lambda value: base64.urlsafe_b64encode(f"abcde{value}".encode()).decode(),
    "Base64 in a URL": lambda value: quote(base64.b64encode(f"u:{value}".encode()).decode(), safe=""),
    "Basic": lambda value: "Basic " + base64.b64encode(f"user:{value}".encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_registered_values_go_in_every_spelling(held: str, spelling: Callable[[str], str]) -> None:
    """A value that the system holds goes however a text spells it; once forgotten, it is not looked for."""
    text = f"failed on {spelling(held)} again"
    [(start, end, _)] = redact.known.spans(text)
    assert text[start:end] not in scrub(text)
    redact.forget(held)
    assert not list(redact.known.spans(text))


def test_registered_values_of_any_make_are_all_found() -> None:
    """Of 200 values of 6 to 64 characters none is missed in any spelling: recall 1.0."""
    redactor = many()
    values = sorted(secret.reveal() for secret in redactor.known_values)
    missed = [
        (name, value)
        for name, spelling in SPELLINGS.items()
        for value in values
        if not list(redactor.spans(f"failed on {spelling(value)} again"))
    ]
    assert missed == []
    assert not list(redactor.spans("nothing of it stands in this line " * 400))


def test_many_registered_values_are_found_in_one_pass() -> None:
    """200 values in 16 kB take less than a millisecond here; a machine that is busy gets five."""
    redactor = many()
    text = "2026-03-01 ERROR sync of order 4711 failed: HTTP 422 {'type': 'invalid_request'} at app/sync.py " * 200
    taken = []
    for _ in range(20):
        started = time.thread_time()
        list(redactor.spans(text[: redact.CHARS_MAX]))
        taken.append(time.thread_time() - started)
    assert min(taken) < 0.005


@pytest.mark.parametrize(
    ("address", "token"),
    [
        ("https://hooks.slack.test/services/T0123ABCD/B0123ABCD/aZ4kQm9TtX2bVw8Lc0Ys", "aZ4kQm9TtX2bVw8Lc0Ys"),
        ("https://watch.test/ping?key=aZ4kQm9TtX2bVw8Lc0Ys&every=60", "aZ4kQm9TtX2bVw8Lc0Ys"),
        ("tgram://123456789012:AbCdEfGhIjKlMnOp/12315544", "AbCdEfGhIjKlMnOp"),
        ("https://flows.test/hook/aZ4k%2BQm9TtX2b", "aZ4k+Qm9TtX2b"),
    ],
)
def test_what_makes_an_address_secret_is_one_too(address: str, token: str) -> None:
    """Whoever refuses it names its path or its token alone; what is forgotten is forgotten whole."""
    redactor = Redactor()
    redactor.register(address)
    for text in (f"no such hook: {token}", f"404: /services/{quote(token)} was not found"):
        assert list(redactor.spans(text)), text
    redactor.forget(address)
    assert not list(redactor.spans(f"no such hook: {token}"))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("https://flows.test/webhooks/sync-supplier-products", "webhooks of sync-supplier-products are late"),
        ("https://flows.test/hook/aZ4kQm9TtX2bVw8Lc0Ys", "flows.test is away"),
        ("postgresql://robot:word@db.test/supplier_products_v2", "supplier_products_v2 is locked"),
        ("sqlite:////var/lib/Prunella-Data-2/p.db", "/var/lib/Prunella-Data-2 is full"),
    ],
)
def test_words_of_an_address_are_no_secrets(address: str, text: str) -> None:
    """Hosts, names of databases and plain words stay readable."""
    redactor = Redactor()
    redactor.register(address)
    assert not list(redactor.spans(text))


def test_registering_disturbs_nobody_who_reads() -> None:
    """Texts are read while others register and forget."""
    redactor = many()
    value = next(iter(redactor.known_values)).reveal()

    def churn() -> None:
        for number in range(60):
            redactor.register(f"another-{number}")
            redactor.forget(f"another-{number}")

    thread = threading.Thread(target=churn)
    thread.start()
    while thread.is_alive():
        assert list(redactor.spans(f"it was {value} again"))
    thread.join()


def many() -> Redactor:
    """Return a redactor that holds 200 values; half of them hold what every encoding escapes."""
    rng = Random(7)
    plain = string.ascii_letters + string.digits
    redactor = Redactor()
    while len(redactor.known_values) < 200:
        letters = plain + "+/=-_ \"'&<>é" if len(redactor.known_values) % 2 else plain
        redactor.register("".join(rng.choices(letters, k=rng.choice((6, 8, 12, 16, 24, 40, 64)))))
    return redactor
