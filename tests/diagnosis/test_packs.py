"""A pack is read strictly and written back the same; what is shipped is recognised, told apart, and says its source."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import packs as tool  # a tool of this repository
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunella.core.errors import ConfigError
from prunella.core.records import KINDS, Category, Failure, Severity
from prunella.diagnosis.knowledge import knowledge
from prunella.diagnosis.known import Matcher
from prunella.diagnosis.packs import Known, builtin, plain_of, read_entries
from prunella.diagnosis.packs.shipped import COMPILED
from prunella.diagnosis.patterns import Pattern
from prunella.diagnosis.verifier import linear
from prunella.packs import read_file, read_pack, write_pack

PACK = builtin()
CORPUS = Path(__file__).parents[1] / "data" / "failures.jsonl"
SHOWN = ("service", "source", "status", "code", "exc_type", "message", "headers")
VENDORS = ("stripe", "shopify", "hubspot", "slack", "xero", "google", "github", "supabase", "postgresql")
REMEDIES = {None, "refresh_auth", "invalidate_cache"}


def refused(text: str) -> list[str]:
    """Return the mistakes of a pack, a line each."""
    with pytest.raises(ConfigError) as caught:
        read_pack(text, name="known.yaml")
    return caught.value.problems


def one(expression: str, **facts: Any) -> Known:
    """Return a known issue that nobody ships."""
    return Known(Pattern(**({"id": "planted.one", "expression": expression} | facts)))


# Reading --------------------------------------------------------------------------------------------------------------


def test_everything_an_entry_says_is_read() -> None:
    """Each field lands where it belongs; what is left out is left to its default."""
    text = """
- id: acme.disk
  title: Disk full
  pattern: 'disk .{1,9} full'
  severity: HIGH
  service: acme
  kind: resource
  code: E17
  means: resource
  cause: No space.
  advice: Give it space.
  remedy: make_room
  source: https://acme.example/e17
  tags: [disk]
  resolved: true
  ignore_case: false
  examples: ["disk sda1 full"]
  others: ["disk full"]
- {id: acme.other, pattern: gone fishing, remedy: }
"""
    first, second = read_pack(text)
    assert first.pattern == Pattern(
        id="acme.disk",
        expression="disk .{1,9} full",
        severity=Severity.HIGH,
        service="acme",
        kind="resource",
        code="E17",
        title="Disk full",
        means="resource",
        cause="No space.",
        advice="Give it space.",
        remedy="make_room",
        source="https://acme.example/e17",
        tags=("disk",),
        resolved=True,
        ignore_case=False,
    )
    assert (first.examples, first.others) == (("disk sda1 full",), ("disk full",))
    assert second == Known(Pattern(id="acme.other", expression="gone fishing"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["holds nothing; write a list"]),
        ("issues: []", ["holds a dict; write a list"]),
        ("- 5", ["known.yaml:1:3: entry 1: is an int; write {id"]),
        ("- {title: a}", ["entry 1: id: is missing", "entry 1: pattern: is missing"]),
        ("- {id: a, pattern: abc, pattrn: b}", ["entry 1 (a): pattrn: unknown name; did you mean pattern?"]),
        ("- {id: a, pattern: abc, xyz: 1}", ["entry 1 (a): xyz: unknown name; known: advice, cause, code"]),
        ("- {id: 5, pattern: abc}", ["entry 1: id: 5; write a text, in quotes"]),
        ("- {id: a, pattern: abc, code: 23505}", ["code: 23505; write a text, in quotes"]),
        ("- {id: a, pattern: abc, severity: high}", ["severity: 'high'; did you mean HIGH?"]),
        ("- {id: a, pattern: abc, kind: auth.expierd}", ["kind: 'auth.expierd'; did you mean auth.expired?"]),
        ("- {id: a, pattern: abc, means: 7}", ["means: 7; one of auth.expired, "]),
        ("- {id: a, pattern: abc, source: 'http://a.example'}", ["source: 'http://a.example'; write an address with"]),
        ("- {id: a, pattern: abc, resolved: perhaps}", ["resolved: 'perhaps'; write true or false"]),
        ("- {id: a, pattern: abc, tags: disk}", ["tags: 'disk'; write a list of texts"]),
        (f"- {{id: a, pattern: abc, tags: {['x'] * 21}}}", ["tags: has 21 values; at most 20"]),
        ("- {id: a, pattern: abc, cause: ' '}", ["cause: is empty; write something, or leave it out"]),
        ('- {id: a, pattern: abc, cause: "a\\nb"}', ["cause: 'a\\nb'; write it in one line"]),
        (f"- {{id: a, pattern: abc, title: {'x' * 121}}}", ["title: has 121 characters; at most 120"]),
        ("- {id: a, pattern: abc}\n- {id: a, pattern: def}", ["known.yaml:2:8: entry 2 (a): id: stands in entry 1"]),
        ("- {id: a, pattern: 'x*'}", ["entry 1 (a): pattern: it can match the empty text"]),
        ("- {id: a, pattern: '(a+)+$'}", ["entry 1 (a): pattern: a repeat stands inside a repeated group"]),
        ("- {id: a, pattern: '(?<=x)abc'}", ["entry 1 (a): pattern: it uses look-ahead or look-behind"]),
        ("- {id: a, pattern: 'abc('}", ["entry 1 (a): pattern: it is not a valid expression"]),
        ("- {id: a, pattern: abc, examples: [xyz]}", ["examples[0]: 'xyz': the pattern does not fit it"]),
        ("- {id: a, pattern: abc, others: [x, abcd]}", ["others[1]: 'abcd': the pattern fits it, and must not"]),
        ("- {id: a, pattern: abc, severity: X}\n- {id: b}", ["entry 1 (a): severity", "entry 2 (b): pattern: is miss"]),
    ],
)
def test_every_mistake_is_named_with_entry_and_field(text: str, said: list[str]) -> None:
    """All of them at once, each with what to write instead."""
    problems = refused(text)
    assert len(problems) == len(said)
    assert all(words in problem for words, problem in zip(said, problems, strict=True))
    assert all(problem.startswith("known.yaml:") for problem in problems)


BOMB = "\n".join(
    [
        "- &a [x, x, x, x, x, x, x, x, x, x]",
        *(f"- &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in zip("abcdef", "bcdefg", strict=True)),
    ]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "write fewer aliases"),
        ("[" * 60 + "]" * 60, "deeper than 40 levels"),
        ("- {id: a, pattern: abc}\n" + "#" * 2**20, "is longer than 1,048,576 bytes; write two packs"),
        ("- {id: a, pattern: !!python/name:os.system x}", "a tag (!…) stands here"),
        ("- {id: a, id: b, pattern: abc}", "stands here a second time"),
        ("- {id: a, pattern: [", "is no YAML"),
        ('- {id: a, pattern: "\\ud800"}', "half a character"),
    ],
)
def test_text_is_not_trusted(text: str, words: str) -> None:
    """Neither with size, depth, aliases nor tags, and nothing of it is carried out."""
    assert any(words in problem for problem in refused(text))


def test_file_is_read_like_a_text(tmp_path: Path) -> None:
    """With its path in each message, and in a word why where it cannot be read."""
    path = tmp_path / "known.yaml"
    path.write_bytes(b"\xef\xbb\xbf- {id: a, pattern: abc}\n")
    assert [known.pattern.id for known in read_file(path)] == ["a"]
    for content, words in (
        (b"\xff", "is not UTF-8"),
        (b"-" * (2**20 + 1), "is longer than"),
        (b"- {}", ":1:3: entry 1"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            read_file(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path / "missing.yaml")


def test_pack_of_the_documentation_is_read() -> None:
    """What people copy from there works."""
    text = (Path(__file__).parents[2] / "docs" / "known-issues.md").read_text(encoding="utf-8")
    pack = text.partition("```yaml\n")[2].partition("```")[0]
    assert [known.pattern.id for known in read_pack(pack)] == ["acme.closed-for-lunch"]
    assert f"ships {len(PACK)} of them" in text


def test_patterns_are_judged_by_who_wants_it() -> None:
    """A trial that judges one by one gets them all; what is wrong in form is refused all the same."""
    text = "- {id: a, pattern: '(a+)+$', examples: [zzz]}"
    assert len(read_pack(text, judged=False)) == 1
    assert read_entries([{"id": "a"}], judged=False)[1] != []


# Writing --------------------------------------------------------------------------------------------------------------

lines = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12) | st.sampled_from(
    [
        "1e5",
        "yes",
        "null",
        "~",
        "0x1F",
        "- a",
        "a: b",
        "#",
        "'",
        '"',
        "1:30",
        "${HOME}",
        "*a",
        "&a",
        "!x",
        "<<",
        "2026-01-01",
    ]
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip) | lines
patterns = st.builds(
    Pattern,
    id=lines,
    expression=texts,
    severity=st.sampled_from(Severity),
    service=st.none() | lines,
    kind=st.none() | st.sampled_from(list(KINDS)),
    code=st.none() | lines,
    title=st.just("") | lines,
    means=st.none() | st.sampled_from(list(KINDS)),
    cause=st.just("") | lines,
    advice=st.just("") | lines,
    remedy=st.none() | lines,
    source=st.none() | lines.map("https://a.example/{}".format),
    tags=st.lists(lines, max_size=3).map(tuple),
    resolved=st.booleans(),
    ignore_case=st.booleans(),
)
examples = st.lists(texts, max_size=2).map(tuple)
packs = st.lists(st.builds(Known, patterns, examples, examples), max_size=4, unique_by=lambda known: known.pattern.id)


@settings(max_examples=60, deadline=None)
@given(packs)
def test_written_pack_is_read_the_same(known: list[Known]) -> None:
    """Whatever the texts look like to YAML: numbers, dates, aliases, control characters."""
    assert read_pack(write_pack(known), judged=False) == tuple(known)


def test_shipped_pack_is_written_and_read_the_same() -> None:
    """As a person would export and import it, judged again on the way in."""
    assert read_pack(write_pack(PACK)) == PACK


# What is shipped ------------------------------------------------------------------------------------------------------


def test_compiled_pack_is_what_the_document_says() -> None:
    """After a change of builtin.yaml `make profiles` writes it anew; nothing wrong with it gets past that."""
    assert COMPILED.read_text(encoding="utf-8") == tool.compiled()
    assert [plain_of(known) for known in PACK] == json.loads(tool.compiled())


def not_first(pack: Iterable[Known]) -> list[str]:
    """Return the examples for which another entry counts, or none, with their service and without."""
    matcher = Matcher(known.pattern for known in pack)
    found = []
    for known in pack:
        for text in known.examples:
            failure = Failure(service=known.pattern.service or "acme", message=text)
            for subject in (failure, failure.message):
                match = matcher.match(subject)
                if match is None or match.pattern.id != known.pattern.id:
                    found.append(f"{known.pattern.id}: {text[:60]}: {match and match.pattern.id}")
    return found


def test_examples_are_recognised_first() -> None:
    """Over the whole pack, with the matcher that is shipped: for failures of the service and for bare words."""
    assert not_first(PACK) == []


def test_overlapping_entry_is_noticed() -> None:
    """One that is louder or more specific takes over, and one that fits nothing has no example that it fits."""
    louder = one("cached plan", severity=Severity.CRITICAL)
    assert any(line.startswith("postgresql.cached-plan-stale") for line in not_first((*PACK, louder)))
    assert len(not_first([replace(one("abc"), examples=("xyz",))])) == 2


def test_near_misses_are_told_apart() -> None:
    """What an entry must not be taken for is not, even where the failure is of its service."""
    for known in PACK:
        matcher = Matcher([known.pattern])
        service = known.pattern.service or "acme"
        assert [text for text in known.others if matcher.match(Failure(service=service, message=text))] == []


def incomplete(pack: Iterable[Known]) -> list[str]:
    """Return the entries that leave out what a shipped one has to say, or say what cannot be."""
    found = []
    for known in pack:
        pattern = known.pattern
        says = {
            "title": pattern.title,
            "cause": pattern.cause.endswith("."),
            "advice": pattern.advice.endswith("."),
            "examples": 1 <= len(known.examples) <= 3,
            "others": 1 <= len(known.others) <= 2,
            "source": (pattern.source or "").startswith("https://"),
            "tags": pattern.tags or pattern.service,
            "means": pattern.means in KINDS,
            "remedy": pattern.remedy in REMEDIES,
            "no remedy for data": pattern.remedy is None or KINDS[pattern.means or "bug"] is not Category.DATA,
            "no conditions but the service": pattern.kind is None and pattern.code is None and not pattern.resolved,
            "vendor": pattern.id.partition(".")[0] == (pattern.service or pattern.id.partition(".")[0]),
        }
        found += [f"{pattern.id}: {what}" for what, holds in says.items() if not holds]
    return found


def test_shipped_entries_say_all_that_helps() -> None:
    """Cause, advice, source, examples and near misses; a remedy only where a machine knows enough."""
    assert incomplete(PACK) == []


def test_incomplete_entry_is_noticed() -> None:
    """A data problem with a remedy, an unknown remedy, and everything that is left out."""
    planted = one("abc", means="data.conflict", remedy="refresh_auth"), one("abc", remedy="reboot", kind="bug")
    said = incomplete(planted)
    assert {"planted.one: no remedy for data", "planted.one: remedy", "planted.one: source"} <= set(said)
    assert "planted.one: no conditions but the service" in said


def test_services_of_the_pack_have_a_profile() -> None:
    """The names in the pack are those of profiles, so that `stripe-eu` is recognised as Stripe."""
    services = {known.pattern.service for known in PACK if known.pattern.service}
    profiles = {name: knowledge().profile((name,)) for name in services}
    assert {name for name, profile in profiles.items() if profile is None or profile.name != name} == set()


def test_every_vendor_is_known_well() -> None:
    """At least ninety entries, and six of each service that is named; no id stands there twice."""
    counts = Counter(known.pattern.id.partition(".")[0] for known in PACK)
    print(counts)
    assert len(PACK) >= 90
    assert [name for name in VENDORS if counts[name] < 6] == []
    assert len({known.pattern.id for known in PACK}) == len(PACK)


def test_every_pattern_is_indexed_and_linear() -> None:
    """Each has a literal to be found by, passes the check for safety, and means the same to google-re2."""
    matcher = Matcher()
    warnings = [matcher.add(known.pattern) for known in PACK]
    assert [warning for warning in warnings if warning] == []
    pytest.importorskip("re2")
    for known in PACK:
        engine = linear(known.pattern.expression, ignore_case=True)
        assert engine is not None, known.pattern.id
        assert all(any(True for _ in engine.finditer(text)) for text in known.examples if text.isascii())


def greedy(pack: Iterable[Known], share_max: float = 0.01) -> list[str]:
    """Return the entries that fit more than a share of strangers' failures that are labelled as something else."""
    matcher = Matcher(known.pattern for known in pack)
    cases = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    wrong: Counter[str] = Counter()
    for case in cases:
        for match in matcher.matches(Failure(**{name: case[name] for name in SHOWN})):
            wrong[match.pattern.id] += match.pattern.means != case["kind"]
    return [name for name, count in wrong.items() if count > share_max * len(cases)]


def test_no_entry_fits_what_is_something_else() -> None:
    """At most one of a hundred labelled failures of ninety services."""
    assert greedy(PACK) == []


def test_greedy_entry_is_noticed() -> None:
    """One word that many failures hold is too many."""
    assert greedy([one("error")]) == ["planted.one"]
