"""Take the secrets out of a text: cut it, let every room mark its spans, put the marks in place.

No pattern runs but where one of its hints stands in the text; most texts hold none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prunella.core.redact.known import known
from prunella.core.redact.marks import Span, replaced
from prunella.core.redact.names import LAST_WORDS, named
from prunella.core.redact.structures import HINTS, cards, structured
from prunella.core.redact.vendors import tokens

CHARS_MAX: Final = 16384
"""Longer texts lose their middle before anything reads them."""
_HEAD, _TAIL, _EDGE = 12000, 4000, 2048


def _gate(hint: str) -> str:
    return next((letter for letter in hint if letter not in "etaoinsrhldc"), "")  # nearly every text holds these


_GATED: Final[dict[str, tuple[str, ...]]] = {
    gate: tuple(hint for hint in dict.fromkeys((*HINTS, *LAST_WORDS)) if _gate(hint) == gate)
    for gate in sorted({_gate(hint) for hint in (*HINTS, *LAST_WORDS)})
}
"""Character that a text must hold -> hints worth looking for: most texts lack most of the characters."""


def scrub(text: str) -> str:
    """Return `text` without secrets, at most 16 kB of it.

    Each secret becomes `[REDACTED:kind:hash4]`; the keyed hash keeps equal secrets comparable.
    """
    text = cut(text)
    spans = list(_spans(text))
    return replaced(text, spans, known.mark) if spans else text


def holds_secret(text: str) -> bool:
    """Tell whether a secret stands in `text`, by its value or its maker's form; words around one prove nothing here."""
    return any(True for _ in known.spans(text)) or any(True for _ in tokens(text))


def _spans(text: str) -> Iterator[Span]:
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters grow when lowered, and positions must stay
        lowered = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    hints = [hint for gate, gated in _GATED.items() if gate in lowered for hint in gated if hint in lowered]
    yield from known.spans(text)
    yield from tokens(text)
    yield from cards(text)
    if hints:
        yield from named(text, lowered, hints)
        yield from structured(text, hints)


def cut(text: str) -> str:
    """Return `text` without its middle where it is longer than 16 kB, and say how much went."""
    if len(text) <= CHARS_MAX:
        return text
    head, tail = text[:_HEAD], text[-_TAIL:]
    # A token torn by the cut is no longer recognised, so the pieces at both edges go as well.
    head = head[: max(head.rfind(" "), head.rfind("\n"), _HEAD - _EDGE)]
    gaps = [at for at in (tail.find(" "), tail.find("\n")) if at >= 0]
    tail = tail[min([*gaps, _EDGE]) :]
    return f"{head} [CUT:{len(text) - len(head) - len(tail)}] {tail}"
