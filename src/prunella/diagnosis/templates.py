"""Turn one message into the expression that recognises the next of its kind: words stay, what varies becomes a shape.

What comes out is anchored at both ends and passes the same check as what a person writes. A message that is hardly more
than data gives none: its expression would fit the messages of other problems.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from prunella.diagnosis import safety
from prunella.diagnosis.fingerprint import Piece, pieces

WORDS_MIN: Final = 3
CHARS_MIN: Final = 12
"""Fixed words, and letters and digits in them, that a template needs: with fewer it would fit strangers."""
SHAPES: Final = {
    "secret": r"\[REDACTED:[a-z]{1,16}:[0-9a-f]{4}\]",
    "quoted": r"(?:\"[^\"\n]{1,200}\"|'[^'\n]{1,200}')",
    "weekday": r"(?:[A-Za-z]{3,12},? )?",
    "url": r"[A-Za-z+]{2,15}://[^ \t\n\r\f\v\"'<>)\],]{1,1000}",
    "email": r"[\w.+-]{1,64}@[\w.-]{1,200}",
    "uuid": r"[0-9A-Fa-f-]{36}",
    "time": r"\d[\w:.,/+-]{0,40}(?: [\w:.,+-]{1,20}){0,2}",
    "ip": r"[\d:./A-Fa-f]{2,45}",
    "host": r"[a-z\d.-]{4,253}(?::\d{1,5})?",
    "duration": r"\d[\d.]{0,21} ?[a-z]{1,7}",
    "number": r"-?\d[\d.,]{0,400}%?",
    "id": r"[A-Za-z_-]{0,40}\d[\w-]{0,1000}",
}
"""By the names of the masks: what may stand in a mask's place. A shape covers at least what its mask covers, and an id
no more: where it took words, too, it would take other problems for this one."""
_BLANK: Final = re.compile(r"(\s+)")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True, slots=True)
class Template:
    """What one message has in common with the next of its kind.

    Args:
        expression: in the syntax of `re`, to be matched without regard to case.
        words: how many fixed words it has.
    """

    expression: str
    words: int


def template(message: str) -> Template | str:
    """Return the template of a message, or in words why it gives none."""
    found = pieces(message)
    fixed = " ".join(piece.text for piece in found if piece.mask is None)
    words, chars = len(_WORD.findall(fixed)), sum(map(str.isalnum, fixed))
    if words < WORDS_MIN or chars < CHARS_MIN:
        return f"it has {words} fixed words and {chars} fixed characters; {WORDS_MIN} and {CHARS_MIN} are needed"
    expression = f"^{''.join(map(_spelled, found))}"
    if len(message) <= sum(len(piece.text) for piece in found):
        expression += "$"
    refused = safety.refusal(expression)
    return refused if refused is not None else Template(expression, words)


def _spelled(piece: Piece) -> str:
    if piece.mask is not None:
        return SHAPES[piece.mask]
    return "".join(r"\s+" if part.isspace() else re.escape(part) for part in _BLANK.split(piece.text) if part)
