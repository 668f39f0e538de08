"""The file is read as YAML 1.2 with places, and no file, however hostile, breaks or stalls the reading."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from prunella.core.errors import ConfigError
from prunella.settings.source import BYTES_MAX, Place, parse, read

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("12", 12),
        ("-3", -3),
        ("007", 7),
        ("1:30", "1:30"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("0.20", 0.2),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".nan", ".nan"),
        ("2026-03-01", "2026-03-01"),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ("9" * 400, "9" * 400),
    ],
)
def test_source_reads_scalars_by_the_core_schema(text: str, value: object) -> None:
    """Only true, false, null and decimal numbers are anything but text."""
    assert parse("f", f"a: {text}").data == {"a": value}


def test_source_knows_where_every_value_stands() -> None:
    """Lines and columns count from 1, in blocks, in flows and through aliases."""
    source = parse("f", "a:\n  b: [x, &y 5]\nc: *y\n")
    assert source.values[("a", "b", 1)] == Place("f", 2, 10)
    assert source.keys[("a", "b")] == Place("f", 2, 3)
    assert source.data == {"a": {"b": ["x", 5]}, "c": 5}
    assert source.place(("a", "missing")) == Place("f", 2, 3)


def test_source_refuses_an_alias_bomb_within_a_second() -> None:
    """Aliases count as often as they are used, so what would unfold to billions of values stops early."""
    started_s = time.thread_time()
    with pytest.raises(ConfigError, match=r"more than 20000 values, aliases counted as often as they are used"):
        parse("f", BOMB)
    assert time.thread_time() - started_s < 1.0


@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "[" * 100_000, "{a: " * 5_000, "- " * 2_000, "".join(f"{' ' * n}a:\n" for n in range(200))]
)
def test_source_refuses_what_is_nested_without_end(text: str) -> None:
    """A value that holds itself and any depth beyond 40 levels are an answer, not a crash."""
    with pytest.raises(ConfigError, match=r"^f:\d+:\d+: .*deeper than 40 levels"):
        parse("f", text)


def test_source_refuses_too_many_values() -> None:
    """A file within the size limit may still hold more values than anybody configures."""
    with pytest.raises(ConfigError, match="more than 20000 values"):
        parse("f", "[" + "1," * 20_001 + "]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a: "\\ud800"', "f:1:4 a: holds half a character (a lone surrogate); write the whole character"),
        ('"\\ud800": 1', "f:1:1: a name here is no plain text; write name: value"),
        ("a: !!binary aGk=", "f:1:4 a: a tag (!…) stands here; tags are not understood, remove it"),
        ("a: !!python/name:os.system x", "f:1:4 a: a tag (!…) stands here; tags are not understood, remove it"),
    ],
)
def test_source_collects_what_does_not_hinder_reading_on(text: str, message: str) -> None:
    """Halves of characters and tags are mistakes beside others; no tag ever makes an object."""
    assert [problem.text for problem in parse("f", text).problems] == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: \x07", "f:1:4: holds a control character; remove it"),
        ('a: "\\UFFFFFFFF"', "f: is no YAML: a number or an escape in it is out of range; correct it"),
        (
            f"%YAML 1.{'9' * 5000}\n--- a",
            "f: is no YAML: a number or an escape in it is out of range; correct it",
        ),
        ("a\n---\nb", "f:2:1: is no YAML: but found another document; correct this line or the one above"),
        ("a: b: c", "f:1:5: is no YAML: mapping values are not allowed here; correct this line or the one above"),
    ],
)
def test_source_says_where_the_yaml_ends(text: str, message: str) -> None:
    """What is no YAML is one mistake with its place."""
    with pytest.raises(ConfigError) as caught:
        parse("f", text)
    assert caught.value.problems == [message]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a: \xff", ":1:4: is not UTF-8; save the file as UTF-8"),
        (b"\n\n  \xe9", ":3:3: is not UTF-8; save the file as UTF-8"),
        (
            b"#" * (BYTES_MAX + 1),
            ": longer than 1048576 bytes; at most 1 MiB is read, remove what is not needed",
        ),
    ],
)
def test_source_refuses_what_is_no_text_file(raw: bytes, message: str, tmp_path: Path) -> None:
    """Other encodings and huge files are refused before YAML is tried."""
    path = tmp_path / "prunella.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert caught.value.problems == [f"{path}{message}"]


def test_source_says_why_a_file_is_not_read(tmp_path: Path) -> None:
    """A missing file and a folder are configuration mistakes with a next step."""
    with pytest.raises(ConfigError, match="no such file; create it, or name another one with --config"):
        read(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"can't be read \(Is a directory\)"):
        read(tmp_path)


@pytest.mark.parametrize("raw", [b"", b"# nothing\n", b"\xef\xbb\xbfa: 1\n", b"---\n"])
def test_source_reads_empty_files_and_byte_order_marks(raw: bytes, tmp_path: Path) -> None:
    """Nothing is fine, and so is what some editors put in front."""
    path = tmp_path / "prunella.yaml"
    path.write_bytes(raw)
    assert read(path).data in ({}, None, {"a": 1})
