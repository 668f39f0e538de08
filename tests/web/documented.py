"""What the OpenAPI document says an answer may be, and whether one is so."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs


class Documented:
    """Judge answers by a document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._validator = cache(self._made)

    def trouble(self, method: str, path: str, status: int, kind: str, body: Any) -> str | None:
        """Return why an answer of an operation is none that the document names; None where it is one.

        Args:
            path: the operation's, with the names of its parameters.
            kind: its media type.
            body: what was read from its JSON, None where it is none.
        """
        said = self.document["paths"][path][method.lower()]["responses"].get(str(status))
        if said is None:
            return f"{status} is not documented"
        if kind not in said.get("content", {}):
            return f"{status} as {kind!r} is not documented"
        if not kind.endswith("json"):
            return None
        error = next(self._validator(method.lower(), path, str(status), kind).iter_errors(body), None)
        return (
            None if error is None else f"{status} at {'/'.join(map(str, error.instance_path))}: {error.message[:300]}"
        )

    def roles(self, method: str, path: str) -> list[str] | None:
        """Return whom an operation lets in; None: anybody."""
        found: list[str] | None = self.document["paths"][path][method.lower()].get("x-roles")
        return found

    def valid(self, schema: Mapping[str, Any], value: Any) -> bool:
        """Tell whether a value is as a schema of the document says."""
        return bool(self._of(schema).is_valid(value))

    def _made(self, method: str, path: str, status: str, kind: str) -> Any:
        schema = self.document["paths"][path][method]["responses"][status]["content"][kind]["schema"]
        return self._of(schema)

    def _of(self, schema: Mapping[str, Any]) -> Any:
        return jsonschema_rs.Draft202012Validator({**schema, "components": self.document["components"]})
