"""The only road from raw input to a record: it takes secrets out and keeps the words that say what went wrong.

Rooms only mark spans (known values, values beside names, structures, vendors' tokens); scrub.py alone replaces them.
Text is cut before the first pattern, and every pattern is bounded, so that no text from outside can make it slow.
It must never raise on a text.
"""

from prunella.core.redact.known import Redactor, Secret, forget, known, register, set_hash_key
from prunella.core.redact.scrub import CHARS_MAX, holds_secret, scrub
from prunella.core.redact.trees import evidence_headers, has_marks, scrub_tree, shape

__all__ = [
    "CHARS_MAX",
    "Redactor",
    "Secret",
    "evidence_headers",
    "forget",
    "has_marks",
    "holds_secret",
    "known",
    "register",
    "scrub",
    "scrub_tree",
    "set_hash_key",
    "shape",
]
