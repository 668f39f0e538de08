"""`prunella demo`: a real engine heals a small shop that breaks in front of you. Nothing leaves this machine."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from prunella.app import App, open_app
from prunella.core.clock import SystemClock
from prunella.core.errors import PrunellaError
from prunella.demo.screen import Screen
from prunella.demo.shop import Shop, get
from prunella.demo.stories import SOLD_OUT_NEXT, STORIES, Ending, Stage
from prunella.settings import load
from prunella.web.auth import Gatehouse, Role
from prunella.web.server import bind, create, run_server

_CONFIG = Path(__file__).with_name("prunella.yaml")


def show(*, seconds: float, port: int) -> int:
    """Play every story; return 0 when each ended as told, 1 otherwise.

    Args:
        seconds: give up after this long.
        port: of the dashboard, 0 for any free one.
    """
    with TemporaryDirectory(prefix="prunella-demo-") as folder:
        shop = Shop(Path(folder))
        try:
            return asyncio.run(_show(shop, Path(folder), seconds, port))
        except KeyboardInterrupt:
            return 0
        finally:
            shop.stop()


async def _show(shop: Shop, folder: Path, seconds: float, port: int) -> int:
    screen = Screen(SystemClock(), shop.read_chat)
    bound = bind("127.0.0.1", port)
    address = f"127.0.0.1:{bound.getsockname()[1]}"
    database = f"sqlite:///{folder / 'demo.db'}"
    settings = load(_CONFIG, shop.environment(database, address))
    commands = folder / "prunella.yaml"  # all that a command needs to find the running engine and its key
    commands.write_text(f"service: {{database_url: '{database}', listen: '{address}'}}\n")
    async with open_app(settings) as app:
        up = asyncio.Event()
        server = asyncio.create_task(run_server(app, create(app), bound, lambda _: up.set()))
        await up.wait()
        app.parts.listeners.subscribe(screen.listen)
        token = _token(app)
        link = f"{settings.public_url}/login?token={token}"
        stage = Stage(shop, settings.public_url, token, screen, app.parts.clock)
        screen.say(f"A small shop opens on this machine. Watch it heal here, or at\n  {link}")
        try:
            async with asyncio.timeout(seconds):
                endings = await _play(stage)
                await _messages_out(app)
        except TimeoutError:
            screen.say(f"\nThe stories did not end within {seconds:.0f} s.")
            return 1
        _scoreboard(screen, shop, endings)
        screen.say(f"\nDashboard: {link}")
        if sys.stdout.isatty():
            await _leave_to_a_person(stage, commands)
            await server
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
    return 0 if all(ending.as_told for ending in endings) else 1


async def _play(stage: Stage) -> list[Ending]:
    endings = []
    for story in STORIES:
        stage.screen.title((story.__doc__ or "").strip())
        try:
            endings.append(await story(stage))
        except (PrunellaError, KeyError, ValueError) as error:
            endings.append(Ending(story.__name__, "-", f"{type(error).__name__}: {error}", as_told=False))
    return endings


async def _messages_out(app: App) -> None:
    """Wait until every message has reached the chat."""
    while True:
        async with app.store.transaction() as tx:
            if not await tx.outbox.waiting():
                return
        await app.parts.clock.sleep(0.05)


async def _leave_to_a_person(stage: Stage, commands: Path) -> None:
    """Leave one plan to whoever watches, and say how to look at it all."""
    stage.screen.title("Your turn: the next tea is sold out. Sign in by the link above, open Approvals, and say yes.")
    await stage.plan(SOLD_OUT_NEXT)
    stage.screen.title("The same by command, in a second terminal:")
    (healed, *_) = (await get(f"{stage.prunella}/api/v1/incidents?service=crm", stage.token))["items"]
    for words in (
        "approvals",
        "incidents",
        f"explain {healed['id']}",
        "notifications --all",
        "events tail --no-follow",
    ):
        stage.screen.say(f"  {_prunella()} -c {commands} {words}")
    stage.screen.say("\nCtrl-C ends the demo.")


def _prunella() -> str:
    """Return how a person at this machine calls prunella."""
    beside = Path(sys.executable).with_name("prunella")
    if shutil.which("prunella") is not None or not beside.exists():
        return "prunella"
    return str(beside)


def _scoreboard(screen: Screen, shop: Shop, endings: list[Ending]) -> None:
    ledger = shop.server.ledger
    screen.title("Scoreboard")
    head = ("service", "failed with", "what prunella did", "ended as told")
    screen.table(head, [(e.service, e.failed_with, e.done, "yes" if e.as_told else "NO") for e in endings])
    screen.say()
    screen.say(
        f"  The third parties saw {ledger.effects} effects, {ledger.double_effects} of them twice, "
        f"{len(ledger.early)} calls before a wait was over, {shop.oauth.refreshes} token refresh; "
        f"people got {sum(len(one.messages) for one in shop.chats.values())} messages."
    )


def _token(app: App) -> str:
    return Gatehouse(app.vault.keys, (), app.parts.clock.now).mint(Role.OPERATIONS, timedelta(hours=12), "shopkeeper")
