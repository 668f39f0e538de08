"""What prunella.yaml says about known issues arrives; document C's figures count where it says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunella.core.issues import Learning
from prunella.core.services import Cache
from prunella.settings import Settings, load


def loaded(text: str, folder: Path) -> Settings:
    """Load a configuration that stands in a folder."""
    path = folder / "prunella.yaml"
    path.write_text(text)
    return load(path, {"AFTER": "5"})


@pytest.mark.parametrize("text", ["", "known_issues:", "known_issues: {}", "known_issues: {packs: }"])
def test_learning_has_the_documents_figures(text: str, tmp_path: Path) -> None:
    """Known after 3 occurrences, passed on at 10, one occurrence in five minutes, with what comes along."""
    learning = loaded(text, tmp_path).learning
    assert learning == Learning(packs=("builtin",), promote_after=3, escalate_at=10, window_s=300.0)


def test_learning_is_as_the_file_says(tmp_path: Path) -> None:
    """Every figure arrives, and a pack's file stands where the configuration stands, not where somebody types."""
    text = "known_issues: {packs: [./own.yaml, /srv/all.yml], promote_after: $AFTER, escalate_at: 20, window: 90s}"
    learning = loaded(text.replace("$AFTER", "'${AFTER}'"), tmp_path).learning
    packs = (str(tmp_path / "own.yaml"), "/srv/all.yml")
    assert learning == Learning(packs=packs, promote_after=5, escalate_at=20, window_s=90.0)


def test_learning_without_packs_knows_nothing_beforehand(tmp_path: Path) -> None:
    """An empty list is a choice, and not the same as none."""
    assert loaded("known_issues: {packs: []}", tmp_path).learning.packs == ()


def test_learning_is_shown_with_its_defaults(tmp_path: Path) -> None:
    """What counts is shown where the file says nothing, as the file would spell it."""
    shown = {one.path: (one.text, one.origin) for one in loaded("known_issues: {escalate_at: 4}", tmp_path).effective()}
    assert shown["known_issues.packs"] == ("[builtin]", "default")
    assert shown["known_issues.window"] == ("5m", "default")
    assert shown["known_issues.escalate_at"] == ("4", f"{tmp_path}/prunella.yaml:1:29")


@pytest.mark.parametrize(
    ("text", "cache"),
    [
        ("base_url: https://crm.example/v1, cache: {path: /cache}", Cache(path="/cache", method="POST")),
        ("base_url: https://crm.example, cache: {path: /all, method: DELETE}", Cache(path="/all", method="DELETE")),
        (
            "hosts: ['crm.example:8443'], cache: {path: 'https://crm.example:8443/all'}",
            Cache(path="https://crm.example:8443/all"),
        ),
        ("base_url: https://crm.example", None),
    ],
)
def test_cache_of_a_service_arrives(text: str, cache: Cache | None, tmp_path: Path) -> None:
    """A path below the address, or a full address on one of the service's own hosts."""
    assert loaded(f"services: {{crm: {{{text}}}}}", tmp_path).services["crm"].cache == cache
