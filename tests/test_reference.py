"""The reference is what the code says: the committed files are those that the code would write now."""

from __future__ import annotations

import pytest
import reference

PAGES = reference.pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_reference_is_up_to_date(name: str) -> None:
    """Whoever changes a command, a setting, an error, an event or a metric runs `make reference`."""
    assert (reference.FOLDER / name).read_text(encoding="utf-8") == PAGES[name], "run: make reference"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cli.md", ["## prunella init", "`--dry-run`", "$ prunella links create", "## prunella services pause"]),
        ("settings.md", ["## services.NAME.gate", "`failures`", "| `5` |", "## service.retention", "`30d`"]),
        ("errors.md", ["`PR100`", "`ConfigError`", "`PR608`", "`HandedOver`"]),
        ("events.md", ["`incident.resolved`", "`took_s`", "- `approval.approved`", "- `incident.ack`", "- `pause`"]),
        ("metrics.md", ["`prunella_signals_total`", "`outcome`", "`prunella_recovery_seconds`"]),
    ],
)
def test_reference_holds_what_there_is(name: str, words: list[str]) -> None:
    """Each page names known things with their facts, so that an empty page can't pass."""
    assert [one for one in words if one not in PAGES[name]] == []


def test_reference_refuses_a_name_it_cannot_spell() -> None:
    """An entry of the audit whose name is put together in a new way fails the tool, and is not left out."""
    import ast

    call = ast.parse('note(f"planted.{word}")').body[0]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    with pytest.raises(KeyError, match="planted"):
        list(reference._actions(call.value.args))
