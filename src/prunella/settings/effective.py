"""Every setting as it stands: its path, its value, and where it was written. Secrets are masked, by name and by value.

A reference (`${NAME}`, `secret://name`) is shown as it was written: it says where a secret is, not what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from prunella.core.redact import scrub, scrub_tree
from prunella.engine.notices import spell_duration
from prunella.settings.source import Loc, Source, path_of

if TYPE_CHECKING:
    from prunella.settings import Settings

MASK: Final = "•••"
_DEFAULT: Final = "default"
_CHARS_MAX: Final = 300
_DAY_S: Final = 86_400
_OWN: Final = ("listen", "public_url", "environment", "migrate", "metrics_public", "stop_within_s")
"""What of the section `service` always has a value, given or not."""
_SECRET: Final = ("token", "secret", "password", "key_file", "hmac", "credential")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One setting.

    Args:
        origin: `file:line:column`, the name of an environment variable, or `default`.
    """

    path: str
    value: str
    origin: str


def lines(settings: Settings, source: Source) -> list[Line]:
    """Return what was written, in the order of the file, and the defaults of what was not."""
    given = [_line(settings, source, loc, value) for loc, value in _leaves(source.data, ())]
    known = {line.path for line in given}
    return [*given, *(line for line in _defaults(settings) if line.path not in known)]


def _defaults(settings: Settings) -> Iterator[Line]:
    for name in _OWN:
        yield _default("service", name, getattr(settings, name))
    for name, section in (("service.retention", settings.retention), ("limits", settings.limits)):
        for field in fields(section):
            yield _default(name, field.name, getattr(section, field.name))


def _default(section: str, name: str, value: Any) -> Line:
    """Spell a default; a duration is said as people say it."""
    spelled = _spelled(value)
    if name.endswith("_s"):
        spelled = spell_duration(value) if value % _DAY_S else f"{value / _DAY_S:g} d"
    return Line(path=f"{section}.{name.removesuffix('_s')}", value=spelled, origin=_DEFAULT)


def _leaves(data: Any, loc: Loc) -> Iterator[tuple[Loc, Any]]:
    """Walk down to what holds nothing else."""
    if isinstance(data, Mapping) and data:
        for name, value in data.items():
            yield from _leaves(value, (*loc, str(name)))
    elif isinstance(data, list) and data:
        for number, value in enumerate(data):
            yield from _leaves(value, (*loc, number))
    elif loc:
        yield loc, data


def _line(settings: Settings, source: Source, loc: Loc, value: Any) -> Line:
    return Line(path=path_of(loc), value=_masked(settings, loc, value), origin=str(source.place(loc)))


def _masked(settings: Settings, loc: Loc, value: Any) -> str:
    if isinstance(value, str) and (value.startswith("secret://") or (value.startswith("${") and value.endswith("}"))):
        return value
    names = [str(part).lower() for part in loc if isinstance(part, str)]
    if isinstance(value, str) and names and any(word in names[-1] for word in _SECRET):
        return MASK
    text = _spelled(value)
    for secret in settings.secrets:
        text = text.replace(secret.reveal(), MASK)
    scrubbed = scrub_tree({names[-1] if names else "value": scrub(text)})
    return str(next(iter(scrubbed.values())))[:_CHARS_MAX]


def _spelled(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        joined = ":" if any(isinstance(one, str) for one in value) else ", "
        return joined.join(map(str, value)) or "–"
    return str(value)
