"""Names and addresses in the file, each checked for what it will be used for."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo

from prunella.core.errors import ConfigError
from prunella.core.records import KINDS
from prunella.core.redact import Secret
from prunella.core.services import SecretSource
from prunella.egress import EgressPolicy
from prunella.settings.values import REFERENCE, Text, hidden, nearest, reference_schema, secret_of, wrong

_NAME: Final = re.compile(r"[\w .:/@+-]{1,100}")  # what events may carry as `service_name`
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110 section 5.6.2
_HOST: Final = re.compile(r"[a-z0-9._-]{1,253}(?::[0-9]{1,5})?", re.IGNORECASE)
_BACKENDS: Final = {
    **{name: name for name in ("postgresql", "sqlite", "mysql", "mariadb")},
    "postgres": "postgresql",
}
_FACT: Final = re.compile(r"\{[A-Za-z_]\w{0,62}\}", re.ASCII)
FUNCTION: Final = re.compile(r"[\w.:-]{1,100}")
_LISTEN: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+):([0-9]{1,5})", re.ASCII)


def split_address(text: str) -> SplitResult | None:
    """Return the parts of a web address, None where `text` is none or holds a user or a password."""
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return None
    return parts if fits and text.isprintable() and " " not in text else None


def host_of(address: str) -> str:
    """Return the host of a web address, with its port where that is not the usual one."""
    parts = urlsplit(address)
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.hostname}:{parts.port}" if parts.port not in (None, usual) else f"{parts.hostname}"


def _web_address(text: str) -> str:
    if split_address(text) is None:
        said = hidden if "@" in text else wrong
        raise said("is no web address; write https://host/path, without a user or password")
    return text


def _base_address(text: str) -> str:
    if "?" in _web_address(text) or "#" in text:
        raise wrong("holds a query or fragment; write https://host/path")
    return text.rstrip("/")


def _database(text: str) -> str:
    try:
        parts = urlsplit(text)
        known = (parts.scheme == "sqlite" and text.startswith("sqlite:///") and len(text) > len("sqlite:///")) or (
            parts.scheme in ("postgresql", "postgres") and parts.port != 0
        )
    except ValueError:
        known = False
    if not known:
        raise hidden("is no database address; write sqlite:///prunella.db or postgresql://user:${NAME}@host/database")
    return text


def host_and_port(text: str) -> tuple[str, int] | None:
    """Read an address to listen on; None where it is none."""
    match = _LISTEN.fullmatch(text)
    return (match[1].strip("[]"), int(match[2])) if match is not None and int(match[2]) <= 65535 else None


def is_postgres(address: str) -> bool:
    """Tell whether a database address names PostgreSQL."""
    return address.partition(":")[0] in ("postgresql", "postgres")


def _user_database(text: str) -> str:
    scheme, colon, rest = text.partition("://")
    backend = _BACKENDS.get(scheme.partition("+")[0])
    try:
        fits = bool(colon and rest.strip("/")) and text.isprintable() and urlsplit(text).port != 0
    except ValueError:
        fits = False
    if backend is None or not fits:
        forms = "postgresql://user:${NAME}@host/database, mysql://… or sqlite:///file.db"
        raise hidden(f"is no database address; write {forms}")
    return text.replace(scheme.partition("+")[0], backend, 1)


def _template(text: str) -> str:
    """Check an address in which facts of a finding may stand, as {source}; never where the call goes."""
    place = text.partition("://")[2].partition("/")[0].partition("?")[0]
    if "{" in place or "}" in place:
        raise wrong("holds {…} in its host; facts of a finding may stand behind the host only")
    filled = _FACT.sub("x", text)
    if "{" in filled or "}" in filled:
        raise wrong("holds a brace that is no {name}; write e.g. https://host/{source}")
    _web_address(filled)
    return text


def _function(text: str) -> str:
    if not FUNCTION.fullmatch(text):
        raise wrong('is no name of a function; write it as in @remedy("…")')
    return text


def _listen(text: str) -> str:
    if host_and_port(text) is None:
        raise wrong("is not host:port; write e.g. 127.0.0.1:8123")
    return text


def _allowed_host(text: str) -> str:
    try:
        EgressPolicy(allow_hosts=frozenset({text}))
    except ConfigError:
        raise wrong("is no host, host:port or CIDR range; write e.g. n8n.internal:5678 or 10.1.0.0/16") from None
    return text


def _secret_address(value: Any, info: ValidationInfo) -> SecretSource:
    source = secret_of(value, info, storable=True)
    if isinstance(source, Secret) and split_address(source.reveal()) is None:
        raise hidden("the value is no web address; it has to begin with https://")
    return source


def _module(text: str) -> str:
    if not all(part.isidentifier() for part in text.split(".")):
        raise wrong("is no Python module; write e.g. shop.healing")
    return text


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise wrong("is not host or host:port; write e.g. api.example.com, without https:// and path")
    return text.lower()


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise hidden("this name can't be used; at most 100 letters, digits, spaces and . _ : / @ + -")
    return text


def _header_name(text: str) -> str:
    if not _HEADER_NAME.fullmatch(text):
        raise hidden("is no header name (RFC 9110); write e.g. X-Api-Version")
    return text


def _kind(text: str) -> str:
    if text not in KINDS:
        raise wrong(f"is no kind{nearest(text, list(KINDS)) or '; known: ' + ', '.join(KINDS)}")
    return text


Name = Annotated[str, AfterValidator(_name)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Address = Annotated[Text, AfterValidator(_web_address)]
BaseAddress = Annotated[Text, AfterValidator(_base_address)]
DatabaseAddress = Annotated[Text, AfterValidator(_database)]
UserDatabase = Annotated[Text, AfterValidator(_user_database)]
Template = Annotated[Text, AfterValidator(_template)]
Function = Annotated[Text, AfterValidator(_function)]
"""A function of the user, by the name it registered."""
Listen = Annotated[Text, AfterValidator(_listen)]
Host = Annotated[Text, AfterValidator(_host)]
Module = Annotated[Text, AfterValidator(_module)]
AllowedHost = Annotated[Text, AfterValidator(_allowed_host)]
SecretAddress = Annotated[SecretSource, PlainValidator(_secret_address), reference_schema(REFERENCE)]
Kind = Annotated[Text, AfterValidator(_kind), Field(json_schema_extra={"enum": list(KINDS)})]
