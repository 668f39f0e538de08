"""Compile the profiles: read every document, refuse what is wrong, and write the one file that ships.

The base install has no YAML reader and must be ready at its first failure: names are flattened, rules and phrases are
indexed and what services agree on is counted here, and not by every program that starts.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from prunella.diagnosis.documents import read_profile
from prunella.diagnosis.grammar import AT, BRANCH, LITERAL, SUBPATTERN, parse
from prunella.diagnosis.knowledge import COMPILED, flat_name, prefixes
from prunella.diagnosis.profile import Profile

FOLDER: Final = COMPILED.parent
ORDER: Final = (
    "grpc", "oauth", "sqlstate", "errno", "tls", "dns", "smtp", "ftp_sftp", "ldap", "websocket", "graphql", "jsonrpc",
    "soap", "odata", "webhook_delivery", "curl", "http", "python_exceptions", "node_exceptions", "other_runtimes",
    "pages", "words", "names", "common", "problem_json",
)  # fmt: skip
"""Which protocol is asked first where several know a name; the most general one comes last."""
_VOTE_CHARS_MIN: Final = 5
_AGREED: Final = 0.75
"""Share of the services knowing a code that must mean the same by it, before it is believed of a stranger."""


def documents(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Return every document, protocols first and in order; `ValueError` names the file that can't be read."""
    protocols = {path.stem: _read(path) for path in (folder / "protocols").glob("*.yaml")}
    services = [_read(path) for path in sorted((folder / "services").glob("*.yaml"))]
    return [*(protocols.pop(name) for name in ORDER if name in protocols), *protocols.values(), *services]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name}: a document must be a mapping")  # noqa: TRY004
    return found


def compiled(all_documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `Knowledge` is made of."""
    every = list(all_documents)
    protocols = [read_profile(one) for one in every if "protocol" in one]
    services = [read_profile(one) for one in every if "service" in one]
    return {
        "names": _names(services),
        "services": {one.name: json.dumps(one.packed(), ensure_ascii=False, separators=(",", ":")) for one in services},
        "signed": [one.packed("name", "signs", "codes", "signed_codes") for one in protocols if one.signs],
        "codes": _first(one.codes for one in protocols if not one.signs or one.signed_codes),
        "classes": _first(one.classes for one in protocols),
        "exceptions": _first(one.exceptions for one in protocols),
        "says_nothing": sorted({name for one in protocols for name in one.says_nothing}),
        "rules": [rule.packed() for one in protocols for rule in one.rules],
        "answers": _first(one.retryable for one in protocols),
        "actors": _first(one.actors for one in protocols),
        "votes": _votes(services),
        "phrases": _phrases(protocols),
        "pages": next((one.pages for one in protocols if one.pages), {}),
        "patterns": [
            (kind, pattern, needed_words(pattern))
            for one in protocols
            if one.name == "words"
            for kind, patterns in one.patterns.items()
            for pattern in patterns
        ],
        "names_say": next((one.patterns for one in protocols if one.name == "names"), {}),
    }


def _names(services: Iterable[Profile]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in services:
        for name in (one.name, *one.also):
            other = found.setdefault(flat_name(name), one.name)
            if other != one.name:
                raise ValueError(f"{one.name}: the name {name} belongs to {other} already")
    return found


def _first(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for table in tables:
        for name, value in table.items():
            found.setdefault(name, value)
    return found


def _votes(services: Iterable[Profile]) -> dict[str, str]:
    meant: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in services:
        for code, kind in one.codes.items():
            meant[code][kind] += 1
    agreed = {}
    for code, kinds in sorted(meant.items()):
        kind, count = kinds.most_common(1)[0]
        if not code.isdigit() and len(code) >= _VOTE_CHARS_MIN and count >= _AGREED * kinds.total():
            agreed[code] = kind
    return agreed


def _phrases(protocols: Iterable[Profile]) -> dict[str, list[tuple[str, str]]]:
    """Return each phrase under the rarest beginning of a word in it, so that a text finds its few candidates."""
    order = next((one.order for one in protocols if one.name == "words"), ())
    ranks = {kind: rank for rank, kind in enumerate(order)}
    meant: dict[str, str] = {}
    for one in protocols:
        for kind, phrases in one.words.items():
            for phrase in phrases:
                other = meant.setdefault(phrase, kind)
                if ranks.get(kind, 99) < ranks.get(other, 99):
                    meant[phrase] = kind
    common = Counter(prefix for phrase in meant for prefix in prefixes(phrase))
    index: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for phrase, kind in sorted(meant.items(), key=lambda item: (-len(item[0]), ranks.get(item[1], 99), item[0])):
        index[min(prefixes(phrase), key=lambda prefix: (common[prefix], prefix), default="")].append((phrase, kind))
    return dict(index)


def needed_words(pattern: str) -> list[str]:
    """Return how the words begin of which every match has one; none where nothing is certain."""
    return sorted(_needed(list(parse(pattern, ignore_case=False))))


def _needed(tokens: list[Any]) -> set[str]:
    """Return the rarest demand of a sequence: a piece of text in it, or one of the alternatives of a group."""
    demands, run = [], ""
    for operation, value in [*tokens, (None, None)]:
        if operation is LITERAL:
            run += chr(value)
            continue
        if operation is AT:
            run += " "  # the edge of a word ends it as a space does
            continue
        words = re.findall(r"\w{4,}|\w{2,3}(?=\W)", run)  # a short last word may go on in what follows
        demands += [{max(words, key=len)[:4]}] if words else []
        run = ""
        if operation is SUBPATTERN:
            demands.append(_needed(list(value[-1])))
        elif operation is BRANCH:
            parts = [_needed(list(branch)) for branch in value[1]]
            demands.append(set().union(*parts) if all(parts) else set())
    return min(filter(None, demands), key=len, default=set())


def main() -> int:
    """Write the compiled file."""
    try:
        every = documents()
        text = json.dumps(compiled(every), ensure_ascii=False, separators=(",", ":"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    COMPILED.write_text(text + "\n", encoding="utf-8")
    print(f"{len(every)} profiles, {len(text) // 1024} kB: {COMPILED.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
