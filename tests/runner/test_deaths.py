"""Workers that die, freeze or take their time, as processes of their own: who lives goes on, and nobody is doubled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import pytest

from prunella.core.clock import SystemClock
from prunella.core.events import Listeners
from prunella.runner.contract import STALE_S
from prunella.runner.procrastinate import ProcrastinateRunner, install
from prunella.store import migrations
from runner.ground import queue_of
from runner.process import Process

pytestmark = pytest.mark.slow


@dataclass
class Scene:
    """Three workers, each busy with one call, and a fourth that takes over what they leave."""

    killed: Process
    frozen: Process
    slow: Process
    heir: Process
    killed_at: float = 0.0
    frozen_at: float = 0.0
    left: int = -1


@pytest.fixture(scope="module")
def scene(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Scene]:
    """Play it once: kill one, freeze one for longer than is borne, let one be slow, and wake the frozen one."""
    with new_database() as url:
        migrations.upgrade(url)
        asyncio.run(_submit(url, "killed", "frozen", "slow"))
        workers = [Process.start(url) for _ in range(3)]
        heir: Process | None = None
        try:
            for worker in workers:
                worker.until(lambda lines: any(line.startswith("begin ") for line in lines))
            by_name = {worker.lines[-1].removeprefix("begin "): worker for worker in workers}
            heir = Process.start(url, 4)
            heir.says("up")
            scene = Scene(by_name["killed"], by_name["frozen"], by_name["slow"], heir)
            with queue_of(url) as ask:
                _play(scene, lambda: int(ask("SELECT count(*) FROM procrastinate_jobs")[0][0]))
            yield scene
        finally:
            for process in [*workers, *([heir] if heir is not None else [])]:
                process.end()


def _play(scene: Scene, left: Callable[[], int]) -> None:
    began = time.monotonic()
    scene.killed_at = scene.frozen_at = began
    scene.killed.signal(SIGKILL)
    scene.frozen.signal(SIGSTOP)
    for name in ("killed", "frozen"):
        scene.heir.says(f"begin {name}")
        scene.heir.release(name)
        scene.heir.says(f"end {name}")
    scene.frozen.signal(SIGCONT)
    scene.frozen.release("frozen")
    scene.frozen.until(lambda lines: any("thought this one dead" in line for line in lines))
    threading.Event().wait(began + 2 * STALE_S + 0.5 - time.monotonic())  # what does not happen takes its time to see
    scene.slow.release("slow")
    scene.slow.says("end slow")
    for process in (scene.slow, scene.frozen, scene.heir):
        process.signal(SIGTERM)
        assert process.child.wait(10) == 0
    scene.left = left()


async def _submit(url: str, *names: str) -> None:
    await install(url)
    runner = ProcrastinateRunner(url, SystemClock(), Listeners())
    for name in names:
        await runner.submit("hold", name)
    await runner.close()


def test_call_of_a_killed_worker_goes_on_within_ten_seconds(scene: Scene) -> None:
    """kill -9 in the middle of a call: another worker begins it anew."""
    assert scene.heir.says("begin killed") - scene.killed_at < 10


def test_call_of_a_frozen_worker_goes_on_and_its_end_is_refused(scene: Scene) -> None:
    """Frozen for too long it has lost its call; woken, it is told so, breaks nothing and ends well."""
    assert scene.heir.says("begin frozen") - scene.frozen_at < 10
    assert scene.frozen.lines.count("end frozen") == 1
    refused = '["hold", "frozen"] ended after another worker had taken it over; that one thought this one dead'
    assert [line for line in scene.frozen.lines if line.startswith("WARNING")] == [f"WARNING {refused}"]


def test_slow_call_of_a_living_worker_is_begun_once(scene: Scene) -> None:
    """Longer than twice the time after which a silent worker counts as dead."""
    everything = [line for one in (scene.killed, scene.frozen, scene.slow, scene.heir) for line in one.lines]
    assert everything.count("begin slow") == 1
    assert scene.left == 0
