"""The kinds of value that the file may hold: texts, figures, durations, references to secrets.

What is wrong is said here, where it is read. A secret's text is never part of a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from prunella.core.redact import Secret
from prunella.core.services import SecretRef, SecretSource
from prunella.settings.source import scalar

_REFERENCE: Final = re.compile(r"\$\{([^{}]*)(\}?)")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STORED: Final = "secret://"
REFERENCE: Final = r"^secret://|\$\{\w+\}"
"""What a reference to a secret looks like, for editors."""
_STORED_NAME: Final = re.compile(r"[\w.-]{1,64}(?:/[\w.-]{1,64}){0,3}", re.ASCII)
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file is read with: the environment; and every secret that came to light, for the redactor."""

    environ: Mapping[str, str]
    secrets: list[Secret] = field(default_factory=list)

    def keep(self, text: str) -> Secret:
        """Return `text` as a secret and remember it."""
        secret = Secret(text)
        self.secrets.append(secret)
        return secret


def wrong(text: str) -> PydanticCustomError:
    """Say what is wrong with a value; the message begins with the value as the file spells it."""
    return PydanticCustomError("wrong", "{text}", {"text": text})


def hidden(text: str) -> PydanticCustomError:
    """Say what is wrong without showing the value."""
    return PydanticCustomError("hidden", "{text}", {"text": text})


def plain_secret(*, storable: bool) -> PydanticCustomError:
    """Refuse a secret that stands in the file; `storable`: it could also be kept in the store."""
    return PydanticCustomError("plain_secret", "a secret stands in the file", {"storable": storable})


def nearest(word: str, known: list[str], cutoff: float = 0.6) -> str:
    """Return "; did you mean X?" for a word that is nearly a known one, otherwise nothing."""
    close = get_close_matches(word, known, n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""


def _reading(info: ValidationInfo) -> Reading:
    assert isinstance(info.context, Reading)  # load() hands it over
    return info.context


def expanded(value: Any, info: ValidationInfo) -> Any:
    """Put the environment's values in for every ${NAME} of a text; leave everything else as it is."""
    if not isinstance(value, str):
        return value
    if value.startswith(_STORED):
        raise hidden("secret:// is not possible here; write ${NAME} and set it in the environment")
    return _REFERENCE.sub(lambda match: _variable(match, info), value)


def opened(text: str, info: ValidationInfo) -> Secret:
    """Return the text with the environment's values as a secret that the redactor knows."""
    return _reading(info).keep(expanded(text, info))


def _variable(match: re.Match[str], info: ValidationInfo) -> str:
    name = match[1]
    if not match[2] or not _VARIABLE.fullmatch(name):
        raise hidden("holds a ${…} that names no variable; write ${NAME} with letters, digits and _ only")
    text = read_variable(_reading(info).environ, name)
    if not text:
        raise hidden(f"the environment variable {name} is not set; set it before prunella starts")
    return text


def read_variable(environ: Mapping[str, str], name: str) -> str:
    """Return a variable's value, or what stands in the file that NAME_FILE names: so containers hand over secrets.

    A file that can't be read counts as a variable that is not set.
    """
    path = environ.get(f"{name}_FILE")
    if environ.get(name) or not path:
        return environ.get(name, "")
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeError):
        return ""


def _expanded_scalar(value: Any, info: ValidationInfo) -> Any:
    return scalar(expanded(value, info)) if isinstance(value, str) and "${" in value else value


def _or_never(value: Any, info: ValidationInfo) -> Any:
    read = _expanded_scalar(value, info)
    if isinstance(read, str) and read != "never":
        raise wrong("is no figure; write never, a whole number, or for network {count: 9, within: 60m}")
    return None if read == "never" else read


def _schema_or_never(schema: dict[str, Any]) -> None:
    figure = dict(schema)
    schema.clear()
    schema["anyOf"] = [figure, {"const": "never"}]


EXPANDED: Final = BeforeValidator(expanded)
EXPANDED_SCALAR: Final = BeforeValidator(_expanded_scalar)
Text = Annotated[str, BeforeValidator(expanded), Field(min_length=1)]
Flag = Annotated[bool, BeforeValidator(_expanded_scalar)]
Count = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_expanded_scalar)]
DaySeconds = Annotated[float, Field(ge=0, le=86_400), BeforeValidator(_expanded_scalar)]
Rate = Annotated[float, Field(gt=0, le=100_000), BeforeValidator(_expanded_scalar)]
NEVER: Final[Any] = (BeforeValidator(_or_never), Field(json_schema_extra=_schema_or_never))
"""Marks of a field that also takes the word never, which becomes None."""


@dataclass(frozen=True, slots=True)
class Between:
    """Read a duration into seconds; both ends are durations, too, and allowed."""

    least: str
    most: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        text = f"A duration from {self.least} to {self.most}."
        return {"type": "string", "pattern": f"^{_DURATION.pattern}$|^\\$\\{{", "description": text}

    def _read(self, value: Any, info: ValidationInfo) -> float:
        text = expanded(value, info)
        seconds = seconds_of(text) if isinstance(text, str) else None
        if seconds is None:
            in_seconds = f"{value}s"
            meant = in_seconds if seconds_of(in_seconds) is not None else "e.g. 500ms, 10s, 30m, 4h or 7d"
            raise wrong(f"is not a duration; write {meant}")
        if not (seconds_of(self.least) or 0.0) <= seconds <= (seconds_of(self.most) or 0.0):
            raise wrong(f"is out of range; at least {self.least}, at most {self.most}")
        return seconds


def seconds_of(text: str) -> float | None:
    """Return the seconds that a duration lasts, None where `text` is none."""
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _UNIT_S[match[2]] if match else None


def secret_of(value: Any, info: ValidationInfo, *, storable: bool) -> SecretSource:
    """Return the secret that `value` refers to; `storable`: secret://NAME is possible, too."""
    if not isinstance(value, str) or not value:
        raise hidden("must be a reference to a secret, as text; write ${NAME}" + (" or secret://NAME" * storable))
    if value.startswith(_STORED) and storable:
        name = value.removeprefix(_STORED)
        if not _STORED_NAME.fullmatch(name):
            raise hidden("names no stored secret; write secret://service/name with letters, digits and . _ - only")
        return SecretRef(name)
    if "${" not in value and not value.startswith(_STORED):
        raise plain_secret(storable=storable)
    return opened(value, info)


def _secret(value: Any, info: ValidationInfo) -> SecretSource:
    return secret_of(value, info, storable=True)


def _environment_secret(value: Any, info: ValidationInfo) -> SecretSource:
    return secret_of(value, info, storable=False)


def _secret_when_enabled(value: Any, info: ValidationInfo) -> SecretSource | None:
    """Read a secret of a section that is switched on; what is off may refer to what is not set."""
    if not info.data.get("enabled") and isinstance(value, str) and re.search(REFERENCE, value):
        return None
    return _secret(value, info)


def _header(value: Any, info: ValidationInfo) -> SecretSource | str:
    plain = isinstance(value, str) and "${" not in value and not value.startswith(_STORED)
    return value if plain else _secret(value, info)


def reference_schema(pattern: str) -> WithJsonSchema:
    """Describe a reference to editors."""
    return WithJsonSchema({"type": "string", "pattern": pattern})


SecretText = Annotated[SecretSource, PlainValidator(_secret), reference_schema(REFERENCE)]
SecretWhenEnabled = Annotated[SecretSource | None, PlainValidator(_secret_when_enabled), reference_schema(REFERENCE)]
EnvironmentSecret = Annotated[Secret, PlainValidator(_environment_secret), reference_schema(r"\$\{\w+\}")]
HeaderText = Annotated[SecretSource | str, PlainValidator(_header), WithJsonSchema({"type": "string"})]
