"""All that is known: every service's profile and every protocol, indexed by what a failure shows.

The documents under `profiles/` are compiled to one file (`make profiles`), because the base install has no YAML reader;
a test says when that file is behind. Read once, at the first failure.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from prunella.core.records import Actor
from prunella.diagnosis.evidence import Evidence
from prunella.diagnosis.profile import Profile, Rule

COMPILED: Final = Path(__file__).parent / "profiles" / "compiled.json"
_BEGINNING: Final = re.compile(r"(\w{1,4})\w*")
_TOKEN: Final = re.compile("[a-z0-9]+")
_TOKEN_MIN: Final = 5
"""A shorter part of a service's name is too common to stand for a vendor: `box`, `make`, `wise`."""
_NEAR: Final = 600
"""Characters of a text in which words are looked for: what they are about stands first or last."""


class Knowledge:
    """What all documents say together.

    Args:
        compiled: what `tools/profiles.py` made of the documents.
    """

    def __init__(self, compiled: Mapping[str, Any]) -> None:
        self._names: Mapping[str, str] = compiled["names"]
        self._services: Mapping[str, str] = compiled["services"]
        self._profiles: dict[str, Profile | None] = {}
        self._signed = _by_code(Profile.unpacked(one) for one in compiled["signed"])
        self._codes: Mapping[str, str] = compiled["codes"]
        self._classes: Mapping[str, str] = compiled["classes"]
        self._lengths = sorted({len(start) for start in self._classes}, reverse=True)
        self._exceptions: Mapping[str, str] = compiled["exceptions"]
        self._says_nothing = frozenset(compiled["says_nothing"])
        self._rules = _indexed(map(Rule.unpacked, compiled["rules"]))
        self._answers: Mapping[str, bool] = compiled["answers"]
        self._actors: Mapping[str, str] = compiled["actors"]
        self._votes: Mapping[str, str] = compiled["votes"]
        self._phrases: Mapping[str, list[tuple[str, str]]] = compiled["phrases"]
        self.pages: Mapping[str, list[str]] = compiled["pages"]
        self._patterns = [(kind, re.compile(one), frozenset(needed)) for kind, one, needed in compiled["patterns"]]
        self._names_say = [(kind, re.compile("|".join(of))) for kind, of in compiled["names_say"].items()]

    def profile(self, names: Iterable[str]) -> Profile | None:
        """Return the profile of a service by its full name, or by a word of it: `stripe-eu`, `crm_hubspot`."""
        for name in names:
            if name not in self._profiles:
                if len(self._profiles) > _NAMES_MAX:  # names come from outside
                    self._profiles.clear()
                self._profiles[name] = self._find(name)
            found = self._profiles[name]
            if found is not None:
                return found
        return None

    def _find(self, name: str) -> Profile | None:
        words = _TOKEN.findall(name.lower())
        beginnings = ["".join(words[:end]) for end in range(len(words), 0, -1)]
        for candidate in (*beginnings, *(word for word in words if len(word) >= _TOKEN_MIN)):
            if candidate in self._names:
                return Profile.unpacked(json.loads(self._services[self._names[candidate]]))
        return None

    def kind_of_signed_code(self, short: str, evidence: Evidence) -> str | None:
        """Return what a flat code means in the first protocol that knows it and shows itself in this failure."""
        for protocol in self._signed.get(short, ()):
            if protocol.is_signed(evidence):
                return protocol.signed_codes.get(short) or protocol.codes.get(short)
        return None

    def kind_of_code(self, code: str, short: str, source: str) -> str | None:
        """Return what a code means in the protocols that everybody speaks, by its name or by how it begins."""
        return self._codes.get(short) or self._kind_of_class(code.upper(), source)

    def _kind_of_class(self, code: str, source: str) -> str | None:
        """Return what a code's beginning says; five bare digits may be any vendor's, unless a database said them."""
        sqlstate = _SQLSTATE.fullmatch(code) is not None and (not code.isdigit() or source in _OF_DATABASES)
        for length in self._lengths:
            kind = self._classes.get(code[:length]) if length < len(code) else None
            if kind is not None and (length > _SQLSTATE_CLASS or sqlstate):
                return kind
        return None

    def vote(self, code: str) -> str | None:
        """Return what most services mean by a flat code."""
        return self._votes.get(code)

    def retryable(self, code: str) -> bool | None:
        """Return whether a call with this flat code may succeed later, where the kind's own answer is wrong."""
        return self._answers.get(code)

    def actor(self, code: str) -> Actor | None:
        """Return who moves next for this flat code, where the kind's own answer is wrong."""
        found = self._actors.get(code)
        return None if found is None else Actor(found)

    def kind_of_exception(self, long: str, short: str) -> str | None:
        """Return what an exception class means, by its name with the root of its module, or by its name alone."""
        return self._exceptions.get(long) or self._exceptions.get(short)

    def says_nothing(self, long: str, short: str) -> bool:
        """Tell whether a class only says that something failed, as `HTTPStatusError` does."""
        return long in self._says_nothing or short in self._says_nothing

    def rules(self, evidence: Evidence) -> Iterator[Rule]:
        """Yield the protocols' rules that may fit: few or none for most failures."""
        keys = (*evidence.flat_codes, *(short for _, _, short in evidence.classes), evidence.status, evidence.source)
        for key in keys:
            yield from self._rules.get(key, ())

    def kind_of_name(self, words: str) -> str | None:
        """Return what the words of a name say: `access_token_expired`."""
        return next((kind for kind, pattern in self._names_say if pattern.search(words)), None)

    def phrase(self, evidence: Evidence) -> tuple[str, str] | None:
        """Return (phrase, kind) of the longest phrase in a failure's text; what quotes names counts before phrases."""
        if evidence.phrase is None:
            evidence.phrase = self._phrase(evidence.text) if evidence.text else _SILENCE
        return None if evidence.phrase is _SILENCE else evidence.phrase

    def _phrase(self, text: str) -> tuple[str, str]:
        near = text if len(text) <= _NEAR else f"{text[: _NEAR // 2]} {text[-_NEAR // 2 :]}"
        words = prefixes(near)
        for kind, pattern, needed in self._patterns:
            match = None if needed and needed.isdisjoint(words) else pattern.search(near)
            if match is not None:
                return match[0], kind
        best = _SILENCE
        for prefix in words if text.isascii() else {*words, ""}:
            for phrase, kind in self._phrases.get(prefix, ()):
                if len(phrase) < len(best[0]):
                    break  # the longest come first
                if phrase in near and (len(phrase), phrase) > (len(best[0]), best[0]):
                    best = (phrase, kind)  # of equally long ones the last by name: sets have no order
        return best if best[0] else _SILENCE


_SILENCE: Final = ("", "")
_NAMES_MAX: Final = 10_000
_SQLSTATE: Final = re.compile(r"(?=.*\d)[0-9A-Z]{5}")
_SQLSTATE_CLASS: Final = 2
_OF_DATABASES: Final = ("db", "python", "node")


def prefixes(text: str) -> set[str]:
    """Return how the words of a lower-case text begin."""
    return set(_BEGINNING.findall(text))


def flat_name(name: str) -> str:
    """Reduce a service's name to the form in which it is looked up."""
    return "".join(_TOKEN.findall(name.lower()))


def _indexed(rules: Iterable[Rule]) -> dict[object, list[Rule]]:
    """Return the rules by the rarest thing that they name."""
    index: defaultdict[object, list[Rule]] = defaultdict(list)
    for rule in rules:
        short_classes = {name.rpartition(".")[2] for name in rule.classes}
        keys: Iterable[object] = rule.codes or short_classes or rule.statuses or rule.sources
        for key in keys:
            index[key].append(rule)
    return dict(index)


def _by_code(protocols: Iterable[Profile]) -> dict[str, list[Profile]]:
    index: defaultdict[str, list[Profile]] = defaultdict(list)
    for one in protocols:
        for code in (*one.signed_codes, *one.codes):
            index[code].append(one)
    return dict(index)


@cache
def knowledge() -> Knowledge:
    """Return what the package ships."""
    return Knowledge(json.loads(COMPILED.read_text(encoding="utf-8")))
