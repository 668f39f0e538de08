"""What is known about one service or protocol: its codes, classes, statuses and rules.

In the form in which a failure's evidence is held against it, and in the form in which that is shipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from prunella.core.records import Actor
from prunella.diagnosis.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A kind for what codes and statuses alone can't say; everything that it names must fit.

    Args:
        statuses, codes, sources: any of them.
        texts: any of these parts of the text, in lower case.
        headers: name and part of the value; `*` for any value.
        classes: any of these exception classes, flat.
    """

    kind: str
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    classes: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()

    def fits(self, evidence: Evidence) -> bool:
        """Tell whether all of it is there; what costs most is looked at last."""
        if self.statuses and evidence.status not in self.statuses:
            return False
        if self.codes and self.codes.isdisjoint(evidence.flat_codes):
            return False
        if self.sources and evidence.source not in self.sources:
            return False
        for name, part in self.headers:
            if not _has(evidence.headers, name, part):
                return False
        if self.classes and not any(
            long in self.classes or short in self.classes for _, long, short in evidence.classes
        ):
            return False
        for text in self.texts:
            if text in evidence.text:
                return True
        return not self.texts

    def seen(self, evidence: Evidence) -> str:
        """Return what of a failure made it fit, for people."""
        code = next((code for code, short in evidence.codes if short in self.codes), None)
        text = next((text for text in self.texts if text in evidence.text), None)
        parts = (
            f"HTTP {evidence.status}" if self.statuses else "",
            f"code {code}" if code is not None else "",
            *(f"header {name}" for name, _ in self.headers),
            f"exception {evidence.failure.exc_type}" if self.classes else "",
            f"the words {text!r}" if text is not None else "",
        )
        return " with ".join(filter(None, parts))

    def packed(self) -> dict[str, Any]:
        """Return it as JSON can hold it, without what it does not name."""
        return {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name in _RULE_FIELDS
            if (value := getattr(self, name))
        }

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any]) -> Rule:
        """Return what `packed` made."""
        given: dict[str, Any] = {
            name: frozenset(value) if name in _RULE_SETS else value for name, value in packed.items()
        }
        if "headers" in given:
            given["headers"] = tuple((name, part) for name, part in given["headers"])
        return cls(**given)

    @property
    def is_exact(self) -> bool:
        """Tell whether it names something that machines write for machines."""
        return bool(self.codes or self.headers)


_RULE_FIELDS: Final = ("kind", "statuses", "codes", "texts", "headers", "classes", "sources")
_RULE_SETS: Final = ("statuses", "codes", "classes", "sources")


def _has(headers: Mapping[str, str], name: str, part: str) -> bool:
    value = headers.get(name)
    if value is None:
        return False
    return part == "*" or (value.strip() == part if part.isdigit() else part in value.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one document says, in the form in which it is looked up.

    Args:
        codes: flat code -> kind.
        signed_codes: the same for codes that mean this only where one of the signs is there.
        signs: source, header, exc_type, service or message -> what shows that the protocol is at work.
        classes: first characters of a code -> kind.
        exceptions: flat class, alone or with its module's root -> kind.
        retryable: flat code -> whether the same call may succeed later, where the kind's own answer is wrong.
        words: kind -> phrases that mean it wherever they stand.
        patterns: kind -> expressions that mean it, in the order in which they are asked.
        pages: kind -> what stands on a page for people that came instead of an answer.
        order: which kind wins where two phrases are equally long.
    """

    name: str
    also: tuple[str, ...] = ()
    codes: Mapping[str, str] = field(default_factory=dict)
    signed_codes: Mapping[str, str] = field(default_factory=dict)
    signs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    statuses: Mapping[int, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    exceptions: Mapping[str, str] = field(default_factory=dict)
    says_nothing: frozenset[str] = frozenset()
    retryable: Mapping[str, bool] = field(default_factory=dict)
    actors: Mapping[str, Actor] = field(default_factory=dict)
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    patterns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    wait_headers: Mapping[str, str] = field(default_factory=dict)

    def packed(self, *names: str) -> dict[str, Any]:
        """Return it as JSON can hold it, or only the fields of these names; what is empty is left out."""
        found = {name: getattr(self, name) for name in names or _PROFILE_FIELDS}
        packed = {
            name: sorted(value) if isinstance(value, frozenset) else value for name, value in found.items() if value
        }
        if "rules" in packed:
            packed["rules"] = [rule.packed() for rule in packed["rules"]]
        return packed

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any]) -> Profile:
        """Return what `packed` made."""
        given = dict(packed)
        given["rules"] = tuple(Rule.unpacked(rule) for rule in given.get("rules", ()))
        given["statuses"] = {int(status): kind for status, kind in given.get("statuses", {}).items()}
        given["actors"] = {code: Actor(actor) for code, actor in given.get("actors", {}).items()}
        return cls(**given)

    def is_signed(self, evidence: Evidence) -> bool:
        """Tell whether something shows that this protocol is at work."""
        signs = self.signs
        return (
            evidence.source in signs.get("source", ())
            or any(header in evidence.headers for header in signs.get("header", ()))
            or any(name.lower() in signs.get("service", ()) for name in evidence.names)
            or any(sign in name.lower() for sign in signs.get("exc_type", ()) for name, _, _ in evidence.classes)
            or any(sign in evidence.text for sign in signs.get("message", ()))
        )


_PROFILE_FIELDS: Final = (
    "name", "also", "codes", "classes", "statuses", "rules", "exceptions", "retryable", "actors", "wait_headers",
)  # fmt: skip
"""What a service's profile is asked for; the rest is a protocol's, and lives in the indexes over all of them."""
