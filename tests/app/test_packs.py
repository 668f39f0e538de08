"""What is known beforehand is what the configured packs hold, or the start says what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunella.app import open_app
from prunella.app.packs import shipped
from prunella.core.errors import ConfigError
from prunella.core.records import Failure
from prunella.diagnosis.packs import builtin
from prunella.settings import Settings, load

OWN = """\
- {id: shop.stale-rates, pattern: 'stale rates for \\w{3}', severity: HIGH, remedy: invalidate_cache}
- {id: postgresql.disk-full, pattern: 'our disk is full', severity: LOW}
"""


def configured(folder: Path, packs: str) -> Settings:
    """Load a configuration that names packs."""
    path = folder / "prunella.yaml"
    path.write_text(f'service: {{database_url: "sqlite:///{folder}/prunella.db"}}\nknown_issues: {{packs: {packs}}}\n')
    return load(path, {})


def test_packs_are_read_in_their_order(tmp_path: Path) -> None:
    """What comes along is there, what the user wrote beside it, and theirs takes the place of ours with its id."""
    (tmp_path / "own.yaml").write_text(OWN)
    patterns = {one.id: one for one in shipped(configured(tmp_path, "[builtin, own.yaml]"))}
    assert set(patterns) == {one.pattern.id for one in builtin()} | {"shop.stale-rates"}
    assert patterns["postgresql.disk-full"].expression == "our disk is full"
    assert [one.id for one in shipped(configured(tmp_path, "[own.yaml]"))] == [
        "shop.stale-rates",
        "postgresql.disk-full",
    ]
    assert shipped(configured(tmp_path, "[]")) == []


def test_mistakes_in_packs_are_named_where_they_stand(tmp_path: Path) -> None:
    """Every one of every file at once: a file that is not there at the line that names it, an entry at its own."""
    (tmp_path / "own.yaml").write_text("- {id: a, pattern: '(a+)+b'}\n- {id: b}\n")
    with pytest.raises(ConfigError) as caught:
        shipped(configured(tmp_path, "[none.yaml, own.yaml]"))
    missing, unsafe, empty = caught.value.problems
    assert missing.startswith(
        f"{tmp_path}/prunella.yaml:2:24 known_issues.packs[0]: {tmp_path}/none.yaml: cannot be read"
    )
    assert unsafe.startswith(f"{tmp_path}/own.yaml:1:20: entry 1 (a): pattern: ")
    assert empty == f"{tmp_path}/own.yaml:2:3: entry 2 (b): pattern: is missing; write pattern: ..."


@pytest.mark.anyio
async def test_engine_recognises_what_packs_hold(tmp_path: Path) -> None:
    """A running prunella knows the user's own issue, and learns as quickly as the file says."""
    (tmp_path / "own.yaml").write_text(OWN)
    async with open_app(configured(tmp_path, "[own.yaml], promote_after: 7")) as app:
        failure = Failure(service="shop", message="stale rates for EUR")
        assert app.parts.known.match(failure, kind="unknown.unknown") == "shop.stale-rates"
        assert app.parts.learning.promote_after == 7


@pytest.mark.anyio
async def test_engine_does_not_start_on_a_broken_pack(tmp_path: Path) -> None:
    """It says so before it touches its database."""
    with pytest.raises(ConfigError, match=r"own\.yaml: cannot be read"):
        async with open_app(configured(tmp_path, "[own.yaml]")):
            pytest.fail("it started")
    assert not (tmp_path / "prunella.db").exists()


@pytest.mark.anyio
async def test_remedy_that_nobody_registered_is_told_at_the_start(tmp_path: Path) -> None:
    """Which issue, which remedy, what there is instead; what is shipped names only what comes along."""
    (tmp_path / "own.yaml").write_text("- {id: shop.odd, pattern: 'quite odd indeed', remedy: dance}\n")
    told: list[str] = []
    async with open_app(configured(tmp_path, "[builtin, own.yaml]"), tell=told.append):
        pass
    (words,) = [one for one in told if "known issue" in one]
    assert words.startswith("known issue shop.odd names the remedy 'dance', which nobody registered")
