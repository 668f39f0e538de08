"""What the README shows is what happens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import prunella as pr
from prunella.core.clock import HOST
from prunella.testing import faults

README = Path(__file__).parents[1] / "README.md"


class World:
    """The services that the README's code calls."""

    def __init__(self) -> None:
        self.shipped: list[int] = []

    async def post(self, path: str, json: dict[str, Any]) -> str:
        return f"created {json['id']}"

    def fetch(self, number: int) -> dict[str, int]:
        return {"id": number}

    def ship(self, order_id: int) -> None:
        self.shipped.append(order_id)
        raise ConnectionError("the courier is away")


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Run the README's Python from top to bottom, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    world = World()
    names = {
        "__name__": "readme",
        "client": world,
        "fetch": world.fetch,
        "courier": world,
        "asyncio": asyncio,
        "world": world,
    }
    with HOST.replaced(sleep=lambda _: None):
        for block in blocks():
            exec(compile(block, str(README), "exec"), names)
        yield names
    from prunella.guard import handover

    if handover._connection is not None:
        handover._connection.close()


def test_library_snippets_do_what_they_say(shown: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The calls are guarded, the exhausted one is handed over, and the scripted test passes."""
    assert len(blocks()) >= 3
    assert shown["contact"] == {"id": 42}
    assert asyncio.run(shown["push"]({"id": 3})) == "created 3"
    assert shown["world"].shipped == [7, 7, 7, 7]
    assert isinstance(shown["crm"], pr.Policy)
    with faults(shown["crm"], [404]), pytest.raises(pr.testing.Fault):
        shown["ship"](8)


def test_commands_stand_before_line_thirty() -> None:
    """A newcomer sees how to try it at once."""
    top = README.read_text().splitlines()[:30]
    assert any(line.startswith("$ make demo") for line in top)
    assert any(line.startswith("$ make test") for line in top)
