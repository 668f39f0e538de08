"""Settings as they stand: every value with its origin, no secret among them."""

from __future__ import annotations

from pathlib import Path

from prunella.settings import load
from prunella.settings.effective import MASK

FILE = """
service:
  listen: 127.0.0.1:9000
  ingest_tokens: ["${PRUNELLA_INGEST_TOKEN}"]
services:
  crm:
    base_url: https://crm.example
    timeout: 5s
"""
TOKEN = "a-very-long-ingest-token-0123456789"


def test_every_setting_says_where_it_was_written(tmp_path: Path) -> None:
    """The file with line and column, the environment by name, and what nobody gave as a default."""
    file = tmp_path / "prunella.yaml"
    file.write_text(FILE)
    environ = {"PRUNELLA_INGEST_TOKEN": TOKEN, "PRUNELLA_ENVIRONMENT": "development"}
    found = {line.path: line for line in load(file, environ).effective()}
    assert found["service.listen"].value == "127.0.0.1:9000"
    assert found["service.listen"].origin == f"{file}:3:11"
    assert found["service.environment"].origin == "PRUNELLA_ENVIRONMENT"
    assert (found["service.migrate"].value, found["service.migrate"].origin) == ("auto", "default")
    assert found["services.crm.base_url"].value == "https://crm.example"


def test_secrets_are_masked_and_references_are_shown(tmp_path: Path) -> None:
    """A reference says where a secret is; its value is shown nowhere, whatever it stands under."""
    file = tmp_path / "prunella.yaml"
    file.write_text(FILE.replace("crm.example", f"crm.example/{TOKEN}"))
    found = {line.path: line.value for line in load(file, {"PRUNELLA_INGEST_TOKEN": TOKEN}).effective()}
    assert TOKEN not in str(found)
    assert found["services.crm.base_url"] == f"https://crm.example/{MASK}"
    assert found["service.ingest_tokens[0]"] == "${PRUNELLA_INGEST_TOKEN}"
