"""The variables of prunella itself: which there are, and how they override the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prunella.settings.source import Place, Source
from prunella.settings.values import nearest, read_variable

OVERRIDES: Final[Mapping[str, str]] = {
    "PRUNELLA_DATABASE_URL": "database_url",
    "PRUNELLA_DIRECT_URL": "direct_url",
    "PRUNELLA_LISTEN": "listen",
    "PRUNELLA_PUBLIC_URL": "public_url",
    "PRUNELLA_ENVIRONMENT": "environment",
}
"""Variable -> name in the section `service`."""
TOKEN: Final = "PRUNELLA_INGEST_TOKEN"  # noqa: S105, a name
KEY: Final = "PRUNELLA_SECRET_KEY"
_KNOWN: Final = [*OVERRIDES, TOKEN, KEY, "PRUNELLA_CONFIG", "PRUNELLA_TEST_DATABASE_URL"]


def override(source: Source, environ: Mapping[str, str]) -> None:
    """Let the environment speak last: each variable stands in the data as a reference to itself."""
    if not isinstance(source.data, dict):
        return
    if source.data.get("service") is None:
        source.data["service"] = {}
    own = source.data["service"]
    if not isinstance(own, dict):
        return
    for variable, name in OVERRIDES.items():
        if read_variable(environ, variable):
            own[name] = f"${{{variable}}}"
            source.values["service", name] = Place(variable)
    if read_variable(environ, TOKEN) and isinstance(own.get("ingest_tokens") or [], list):
        own["ingest_tokens"] = [*(own.get("ingest_tokens") or []), f"${{{TOKEN}}}"]
        source.values["service", "ingest_tokens", len(own["ingest_tokens"]) - 1] = Place(TOKEN)


def unknown(environ: Mapping[str, str], referred: set[str]) -> Iterator[str]:
    """Name the variables that look like ours, that we do not know and that the file does not refer to."""
    for name in sorted(environ):
        if name.startswith("PRUNELLA_") and name.removesuffix("_FILE") not in _KNOWN and name not in referred:
            yield f"{name}: unknown variable{nearest(name, _KNOWN, cutoff=0.8) or '; known: ' + ', '.join(_KNOWN[:-1])}"
