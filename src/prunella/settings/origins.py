"""The configuration that counts, value by value, and where each comes from: file:line, environment, or a default.

Secrets are never shown: of a reference its name, of a database address everything but the password.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin
from urllib.parse import urlsplit

from prunella import settings
from prunella.core.issues import Learning
from prunella.core.procedures import DatabaseSource, Entity, Limits, Procedure, Sightings
from prunella.core.redact import Secret, scrub, scrub_tree
from prunella.core.retention import Retention
from prunella.core.services import Cache, DisableAfter, GateLimits, Health, Issuing, OAuth, Service
from prunella.egress import EgressPolicy
from prunella.settings import known as knowing
from prunella.settings import model, procedures
from prunella.settings.build import AdvisorSettings
from prunella.settings.section import Section, names_of
from prunella.settings.source import Loc, Source, path_of
from prunella.settings.values import read_variable

_RECORDS: Final[Mapping[type[Section], Any]] = {
    model.OwnSection: settings.Settings,
    model.RetentionSection: Retention,
    model.EgressSection: EgressPolicy,
    model.ServiceSection: Service,
    model.HealthSection: Health,
    model.CacheSection: Cache,
    model.OAuthSection: OAuth,
    model.GateSection: GateLimits,
    model.DisableSection: DisableAfter,
    knowing.KnownIssuesSection: Learning,
    model.AdvisorSection: AdvisorSettings,
    model.JwtSection: Issuing,
    procedures.DatabaseSection: DatabaseSource,
    procedures.LimitsSection: Limits,
    procedures.SightingsSection: Sightings,
    procedures.ProcedureSection: Procedure,
    procedures.EntitySection: Entity,
}
"""What each section becomes; the record knows the defaults."""
_ALWAYS: Final = ("service", "egress", "limits", "known_issues")
"""Sections that count even where the file does not have them."""
_OTHERWISE: Final = {"reply": "validate", "namespace": "schema"}
_DEPEND: Final = ("procedures", "entities")
"""Sections whose defaults depend on what they do, and on `limits`: only what is written is shown."""
_HARMLESS: Final = re.compile(r"\$\{\w+\}|secret://[\w./-]+|\*\*\*")
_UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


@dataclass(frozen=True, slots=True)
class Shown:
    """One value.

    Args:
        value: as JSON; `text` as prunella.yaml would spell it.
        origin: `file:line:column`, `env NAME`, or `default`.
    """

    path: str
    value: Any
    origin: str

    @property
    def text(self) -> str:
        """Return the value on one line."""
        return _spelled(self.value)


def shown(loaded: settings.Settings, source: Source, environ: Mapping[str, str]) -> list[Shown]:
    """Return every value that counts, in the order of the sections, as it was loaded.

    Args:
        source: what was read, with the environment's values in place.
    """
    written = list(_section(model.File, source.data or {}, (), source, environ))
    public = [Shown("service.public_url", loaded.public_url, "default")]
    found = written + (public if not any(one.path == public[0].path for one in written) else [])
    secrets = [secret.reveal() for secret in loaded.secrets]
    return [Shown(one.path, _without(secrets, one.value), one.origin) for one in found]


def _without(secrets: list[str], value: Any) -> Any:
    """Mask what is known to be a secret, wherever it stands."""
    if isinstance(value, str):
        return functools.reduce(lambda text, secret: text.replace(secret, "***"), secrets, value)
    if isinstance(value, list):
        return [_without(secrets, one) for one in value]
    return {name: _without(secrets, one) for name, one in value.items()} if isinstance(value, dict) else value


def default_of(section: type[Section], name: str) -> Any:
    """Return what counts where a section's field is not given, as JSON; None where nothing does."""
    record = _RECORDS.get(section)
    if record is None:
        return None
    known: dict[str, Field[Any]] = {one.name: one for one in fields(record)}
    if section is model.DisableSection and name == "network":
        return {"count": known["network"].default, "within": _duration(_default(known["network_within_s"]))}
    for candidate in (name, _OTHERWISE.get(name, name), f"{name}_s"):
        if candidate in known:
            return _json(
                _default(known[candidate]), seconds=candidate.endswith("_s") and not candidate.endswith("_per_s")
            )
    return None


def _section(
    section: type[Section], data: Mapping[str, Any], loc: Loc, source: Source, environ: Mapping[str, str]
) -> Iterator[Shown]:
    for name, info in section.model_fields.items():
        written = info.alias or name
        value, at = data.get(written), (*loc, written)
        inner, kind = section_in(info.annotation)
        if value is None:
            default = default_of(section, name) if not loc or loc[0] not in _DEPEND else None
            if (
                inner is not None
                and kind is Section
                and (name in _ALWAYS if not loc else inner in _RECORDS and default)
            ):
                yield from _section(inner, {}, at, source, environ)
            elif default not in (None, "", [], {}):
                yield Shown(path_of(at), default, "default")
        elif inner is not None and kind is Section and isinstance(value, dict):
            yield from _section(inner, value, at, source, environ)
        elif inner is not None and kind is dict and isinstance(value, dict):
            for key, one in value.items():
                yield from _section(inner, one or {}, (*at, key), source, environ)
        else:
            yield from _leaf(value, at, source, environ)
    known = names_of(section)
    for name in (name for name in data if name not in known):  # functions of the user
        yield from _leaf(data[name], (*loc, name), source, environ)


def _leaf(value: Any, at: Loc, source: Source, environ: Mapping[str, str]) -> Iterator[Shown]:
    """Show a value as it was written; of a list, items that come from elsewhere on lines of their own."""
    items = [(*at, number) for number in range(len(value))] if isinstance(value, list) else []
    if any(_is_variable(source, item) for item in items):
        for item, one in zip(items, value, strict=True):
            yield Shown(path_of(item), _masked(item, one), _origin(source, item))
        return
    if _is_variable(source, at):
        value = read_variable(environ, source.place(at).origin)
    yield Shown(path_of(at), _masked(at, value), _origin(source, at))


def _is_variable(source: Source, at: Loc) -> bool:
    return at in source.values and not source.values[at].line


def _origin(source: Source, at: Loc) -> str:
    return f"env {source.place(at)}" if _is_variable(source, at) else str(source.place(at))


def _masked(at: Loc, value: Any) -> Any:
    """Hide what could be a secret: references stay, since they tell a name only."""
    if not isinstance(value, str):
        return scrub_tree(value) if isinstance(value, dict | list) else value
    name = next((part for part in reversed(at) if isinstance(part, str)), "")
    shown = _without_password(value)
    probe = _HARMLESS.sub("", shown)
    return shown if scrub_tree({name: probe})[name] == probe else scrub_tree({name: shown})[name]


def _without_password(text: str) -> str:
    try:
        parts = urlsplit(text)
        password = parts.password
    except ValueError:
        return scrub(text)
    if not password or _HARMLESS.fullmatch(password):
        return text
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:***@{host}").geturl()


def section_in(annotation: Any) -> tuple[type[Section] | None, Any]:
    """Return the section that a field holds, and whether one, or many by name."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return section_in(arguments[0])
    if origin in (Union, UnionType):
        return next((found for one in arguments if (found := section_in(one))[0] is not None), (None, None))
    if origin is dict:
        return section_in(arguments[1])[0], dict
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, Section
    return None, None


def _default(known: Field[Any]) -> Any:
    if known.default is not MISSING:
        return known.default
    return known.default_factory() if known.default_factory is not MISSING else None


def _json(value: Any, *, seconds: bool = False) -> Any:
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
        return f"{value[0]}:{value[1]}"
    if isinstance(value, tuple | list | frozenset | set):
        return [_json(one) for one in (sorted(value) if isinstance(value, frozenset | set) else value)]
    if seconds and isinstance(value, int | float):
        return _duration(value)
    if isinstance(value, Mapping):
        return {str(name): _json(one) for name, one in value.items()}
    return value if isinstance(value, str | int | float | bool) or value is None else {"as": type(value).__name__}


def _duration(seconds: float) -> str:
    """Write seconds as prunella.yaml does, in the largest unit that fits."""
    unit, length = next(((unit, length) for unit, length in _UNITS if seconds and seconds % length == 0), ("ms", 0.001))
    return f"{seconds / length:g}{unit}" if seconds else "0s"


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_spelled(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_spelled, value)) + "]"
    return str(value)
