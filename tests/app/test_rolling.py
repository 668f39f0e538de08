"""Workers with an older configuration beside those with a newer one."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunella.app import _run_procedure, open_app
from prunella.runner.local import LocalRunner
from prunella.settings import load

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("others", [0, 1])
async def test_procedure_of_a_newer_configuration_is_left_to_others(tmp_path: Path, others: int) -> None:
    """Who does not know a procedure gives it back while others may know it, and forgets it when alone."""
    settings = load(None, {"PRUNELLA_DATABASE_URL": f"sqlite:///{tmp_path / 'prunella.db'}"})
    async with open_app(settings) as app:
        async with app.store.transaction() as tx:
            for number in range(others):
                await tx.workers.beat(f"other-{number}", "2", app.parts.clock.now())
        await _run_procedure(app.parts, app.rounds, "of-tomorrow")
        assert isinstance(app.runner, LocalRunner)
        assert [(one.handler, one.ids) for one in app.runner.in_memory()] == [("procedure", ("of-tomorrow",))] * others
