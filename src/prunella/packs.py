"""Packs of known issues as YAML: a text in, entries out, and back again.

The text is never trusted: it is read as the configuration is, without tags, with limits on size, depth and what aliases
expand to. What entries mean is `diagnosis.packs`'; nothing is stored or matched here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from prunella.core.errors import ConfigError
from prunella.diagnosis.packs import Known, plain_of, read_entries
from prunella.settings import source


def read_pack(text: str, *, name: str = "pack", judged: bool = True) -> tuple[Known, ...]:
    """Return the entries of a pack.

    Args:
        text: YAML: a list of {id, pattern, ...}; at most 1 MiB.
        name: what messages call it.
        judged: as in `read_entries`.

    Raises:
        ConfigError: with every mistake, each with its line, its entry and its field.
    """
    _check_size(name, len(text.encode("utf-8", "surrogatepass")))
    read = source.parse(name, text)
    document = read.data if () in read.values else None  # an empty text
    known, mistakes = read_entries(document, judged=judged)
    problems = [*read.problems, *(read.place(one.loc).problem((), one.text) for one in mistakes)]
    if problems:
        raise ConfigError([problem.text for problem in sorted(problems)])
    return known


def read_file(path: Path, *, judged: bool = True) -> tuple[Known, ...]:
    """Return the entries of a pack in a file, as `read_pack` does; it says so where the file cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(source.BYTES_MAX + 1)
        _check_size(str(path), len(raw))
        text = raw.decode("utf-8-sig")
    except OSError as error:
        reason = f"{path}: cannot be read ({error.strerror}); name a YAML file with a list of known issues"
        raise ConfigError([reason]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8; save the file as UTF-8"]) from None
    return read_pack(text, name=str(path), judged=judged)


def _check_size(name: str, size_bytes: int) -> None:
    if size_bytes > source.BYTES_MAX:
        raise ConfigError([f"{name}: is longer than {source.BYTES_MAX:,} bytes; write two packs"])


def write_pack(known: Iterable[Known]) -> str:
    """Return entries as YAML, in their order; `read_pack` makes the same of it again."""
    entries = [{key: _quoted(value) for key, value in plain_of(one).items()} for one in known]
    return yaml.dump(entries, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


class _Quoted(str):
    """A text that stands in quotes whatever it looks like: `1e5` would be read as a number."""

    __slots__ = ()


def _quoted(value: Any) -> Any:
    if isinstance(value, str):
        return _Quoted(value)
    return [_Quoted(one) for one in value] if isinstance(value, list) else value


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _in_quotes(dumper: yaml.SafeDumper, text: _Quoted) -> yaml.ScalarNode:
    style = "'" if text.isprintable() else '"'  # only within double ones line ends of all kinds are escaped
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=style)


_Dumper.add_representer(_Quoted, _in_quotes)
