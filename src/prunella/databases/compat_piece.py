"""One function or view that is installed in the user's database: its text, and the comment by which it is known again.

Bodies are quoted as texts, so nothing in a name can end one early.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from prunella.databases.spelled import name_of, text_of

NAME_BYTES_MAX = 63
"""PostgreSQL cuts longer names without a word (NAMEDATALEN)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A function or a view.

    Args:
        kind: FUNCTION or VIEW.
        create: the statement that makes it.
        words: what it does, for its comment.
        also: what else its meaning hangs on; when that changes it is made anew.
    """

    kind: str
    schema: str
    name: str
    create: str
    words: str
    also: str = ""

    @property
    def digest(self) -> str:
        """Return what changes when the piece does."""
        return hashlib.sha256(f"{self.create}\0{self.words}\0{self.also}".encode()).hexdigest()[:12]

    def comment(self, database: str) -> str:
        """Return the comment that tells whose it is and which version."""
        return f"prunella ({database}): {self.words} [{self.digest}]"


def function(schema: str, name: str, arguments: str, *, returns: str, attributes: str, body: str, words: str) -> Piece:
    """Return a function; `arguments`, `returns` and `attributes` are SQL."""
    head = f"CREATE FUNCTION {name_of(schema, name)}({arguments}) RETURNS {returns} {attributes}"
    return Piece("FUNCTION", schema, name, f"{head} AS {text_of(body)}", words)


def view(schema: str, name: str, query: str, *, words: str, of: Piece) -> Piece:
    """Return a view over a function."""
    return Piece("VIEW", schema, name, f"CREATE VIEW {name_of(schema, name)} AS {query}", words, of.digest)
