"""Rows for other tools: JSON lines or CSV. What a spreadsheet would take for a formula is written as text."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import Any, TextIO

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Writer:
    """Write rows to a file as they come.

    Args:
        table: CSV, whose columns are those of the first row; otherwise one JSON object per line.
    """

    def __init__(self, file: TextIO, *, table: bool) -> None:
        self.count = 0
        self._file = file
        self._table = table
        self._csv: csv.DictWriter[str] | None = None

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write a page of rows."""
        for row in rows:
            self._one(row)
            self.count += 1

    def _one(self, row: dict[str, Any]) -> None:
        if not self._table:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            return
        if self._csv is None:
            self._csv = csv.DictWriter(self._file, list(row), extrasaction="ignore", lineterminator="\n")
            self._csv.writeheader()
        self._csv.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: Any) -> Any:
    """Return a value as a cell (OWASP: CSV injection)."""
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
