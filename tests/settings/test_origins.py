"""What counts, where it comes from, and never a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunella.core.errors import ConfigError
from prunella.settings import load, model
from prunella.settings.origins import Shown, default_of
from prunella.settings.procedures import LimitsSection
from prunella.settings.section import Section

FILE = """\
service:
  database_url: postgresql://me:hunter2hunter2@db.example/p
  ingest_tokens: ["${ONE}"]
services:
  crm:
    base_url: https://crm.example
    headers: {x-team: red}
    gate: {failures: 7}
limits: {attempts: 4}
databases: {shop: {url: "postgresql://me:${SHOP}@db/shop"}}
procedures:
  old: {database: shop, every: 1h, check: {rows: {table: t, where: {a: 1}}}, remedy: {mend: {why: rust}}}
"""


def shown(tmp_path: Path, text: str, **environ: str) -> dict[str, Shown]:
    """Return what counts of a file, by path."""
    path = tmp_path / "prunella.yaml"
    path.write_text(text)
    return {one.path: one for one in load(path, {"ONE": "s3cr3t-one", "SHOP": "s3cr3t-shop", **environ}).effective()}


def test_origin_is_the_place_of_each_value(tmp_path: Path) -> None:
    """A line of the file, a variable, or a default; what is computed from others is there, too."""
    found = shown(tmp_path, FILE, PRUNELLA_LISTEN="127.0.0.1:9", PRUNELLA_INGEST_TOKEN="s3cr3t-two")
    file = str(tmp_path / "prunella.yaml")
    assert found["services.crm.gate.failures"] == Shown("services.crm.gate.failures", 7, f"{file}:8:22")
    assert found["services.crm.gate.successes"] == Shown("services.crm.gate.successes", 2, "default")
    assert found["service.listen"] == Shown("service.listen", "127.0.0.1:9", "env PRUNELLA_LISTEN")
    assert found["service.public_url"].value == "http://127.0.0.1:9"
    assert found["service.ingest_tokens[1]"].origin == "env PRUNELLA_INGEST_TOKEN"
    assert (found["limits.attempts"].value, found["limits.targets_max"].origin) == (4, "default")
    assert found["procedures.old.remedy.mend"].text == "{why: rust}"
    assert not [path for path, one in found.items() if path.startswith("procedures") and one.origin == "default"]


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Passwords of addresses are masked, references stay as they are written, their values stay away."""
    found = shown(tmp_path, FILE, PRUNELLA_INGEST_TOKEN="s3cr3t-two")
    assert found["service.database_url"].value == "postgresql://me:***@db.example/p"
    assert found["databases.shop.url"].value == "postgresql://me:${SHOP}@db/shop"
    override = shown(tmp_path, FILE, PRUNELLA_DATABASE_URL="postgresql://u:hunter2hunter2@h/d")
    assert override["service.database_url"].value == "postgresql://u:***@h/d"
    everything = repr((found, override)) + "".join(one.text for one in (*found.values(), *override.values()))
    assert "hunter2" not in everything
    assert "s3cr3t" not in everything


def test_defaults_alone_need_no_file() -> None:
    """Without a file the sections that always count are shown."""
    found = {one.path: one for one in load(None, {}).effective()}
    assert found["service.database_url"].value == "sqlite:///prunella.db"
    assert {one.origin for one in found.values()} == {"default"}
    assert found["limits.waves"].text == "[1, 2, 4, 8]"


def test_configuration_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """What would not load is not shown as if it counted."""
    with pytest.raises(ConfigError, match="unknown name"):
        shown(tmp_path, "servces: {}\n")


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        (model.RetentionSection, "audit", "365d"),
        (model.GateSection, "open", "1m"),
        (model.HealthSection, "timeout", "10s"),
        (model.DisableSection, "network", {"count": 9, "within": "1h"}),
        (model.ServiceSection, "reply", "json"),
        (model.OwnSection, "stop_within", "25s"),
        (model.OwnSection, "events_per_s", 1000.0),  # a rate is no duration
        (LimitsSection, "cool_down", "10m"),
        (model.RateSection, "initial_per_s", None),
    ],
)
def test_default_is_the_records(section: type[Section], name: str, value: object) -> None:
    """Defaults are those of the records that sections become, spelled as the file would."""
    assert default_of(section, name) == value
