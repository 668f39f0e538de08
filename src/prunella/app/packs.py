"""What is known beforehand: the packs that the configuration names, read once, where prunella starts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from prunella.core.errors import ConfigError
from prunella.core.issues import BUILTIN
from prunella.diagnosis.packs import Known, builtin
from prunella.diagnosis.patterns import Pattern
from prunella.packs import read_file
from prunella.settings import Settings


def shipped(settings: Settings) -> list[Pattern]:
    """Return the patterns of every pack, in the order of the packs; of two with one id the later one only.

    Raises:
        ConfigError: with every mistake of every file, each with its line, its entry and its field.
    """
    problems: list[str] = []
    found: dict[str, Pattern] = {}
    for place, name in enumerate(settings.learning.packs):
        try:
            found |= {one.pattern.id: one.pattern for one in _pack(name)}
        except ConfigError as error:
            problems += _named(settings, place, name, error)
    if problems:
        raise ConfigError(problems)
    return list(found.values())


def unbound(patterns: Iterable[Pattern], registered: Collection[str]) -> list[str]:
    """Say of each known issue whose remedy nobody registered that it is left to people."""
    return [
        f"known issue {one.id} names the remedy {one.remedy!r}, which nobody registered, so it is left to people; "
        f"registered are {', '.join(sorted(registered))}; service.plugins names the modules that add others"
        for one in patterns
        if one.remedy is not None and one.remedy not in registered
    ]


def _pack(name: str) -> tuple[Known, ...]:
    return builtin() if name == BUILTIN else read_file(Path(name))


def _named(settings: Settings, place: int, name: str, error: ConfigError) -> Iterator[str]:
    """Say of a file that can't be read as a whole who named it; a mistake in it has its own line."""
    for problem in error.problems:
        whole = problem.startswith(f"{name}: ") and not Path(name).is_file()
        yield settings.problem(("known_issues", "packs", place), problem) if whole else problem
