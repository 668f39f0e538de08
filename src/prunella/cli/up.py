"""`prunella up`: engine, API and dashboard in one process, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Coroutine, Mapping, MutableMapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

from prunella.app import App, open_app, sqlite_path
from prunella.app.life import leave_on_signals
from prunella.cli.tracing import configure_tracing
from prunella.core.clock import SystemClock
from prunella.core.errors import ConfigError, StoreRefused, StoreUnavailable
from prunella.core.events import Event
from prunella.core.redact import scrub, scrub_tree
from prunella.engine import entrances
from prunella.engine.reconcile import reconcile
from prunella.settings import Settings

_AGAIN_S = 2.0
_GOODBYE_S = 4.0
"""How much longer than `stop_within` a stop may take: below the 30 s after which orchestrators kill."""
_QUIET = frozenset({"run.started"})


def serve(settings: Settings) -> None:
    """Run until SIGTERM or Ctrl-C; what is under way is finished first."""
    _start(settings, _serve(settings))


async def _serve(settings: Settings) -> None:
    from prunella.web.server import bind, create, run_server  # a worker that serves nothing need not hold what serves

    async with AsyncExitStack() as closing:
        bound = closing.enter_context(bind(*settings.listen))
        app = await _open(settings, closing)
        link = await entrances.first_link(app.parts)
        await run_server(app, create(app), bound, partial(_say_up, settings.public_url, link))


def work(settings: Settings, *, listen: tuple[str, int] | None = None) -> None:
    """Heal until SIGTERM or Ctrl-C, beside other processes on the same database.

    Args:
        listen: where it says how it is and what it counts; None: nowhere.

    Raises:
        ConfigError: the database is a file, which has room for one process.
    """
    must_have_room(settings)
    _start(settings, _work(settings) if listen is None else _work_and_tell(replace(settings, listen=listen)))


async def _work(settings: Settings) -> None:
    async with AsyncExitStack() as closing:
        app = await _open(settings, closing)
        leave_on_signals(app.life, app.runner)
        async with app.running():
            _say(f"worker {app.parts.worker} is up")
            await app.life.stopping.wait()


async def _work_and_tell(settings: Settings) -> None:
    from prunella.web.server import bind, create_health, run_server

    async with AsyncExitStack() as closing:
        bound = closing.enter_context(bind(*settings.listen))
        app = await _open(settings, closing)
        name = app.parts.worker
        await run_server(app, create_health(app), bound, lambda url: _say(f"worker {name} is up: {url}"))


def _start(settings: Settings, process: Coroutine[None, None, None]) -> None:
    configure_logs()
    configure_tracing()
    for warning in settings.warnings:
        structlog.get_logger().warning("config.warning", warning=warning)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(process)


async def _open(settings: Settings, closing: AsyncExitStack) -> App:
    """Open prunella; wait for a server that is away, but not for one that refuses us, nor for a file."""
    told = ""
    while True:
        try:
            app = await closing.enter_async_context(open_app(settings, tell=_say))
        except StoreRefused:
            raise
        except StoreUnavailable as error:
            if sqlite_path(settings.database_url) is not None:
                raise
            if str(error) != told:
                structlog.get_logger().warning("store.awaited", reason=str(error), again_s=_AGAIN_S)
            told = str(error)
            await SystemClock().sleep(_AGAIN_S)
        else:
            app.parts.listeners.subscribe(_log_event)
            watch = asyncio.create_task(_end_anyway(app), name="end anyway")
            closing.callback(watch.cancel)
            return app


async def _end_anyway(app: App) -> None:
    """End without a goodbye where the database is silent for ever: others notice, and no stop outlasts its time."""
    await app.life.stopping.wait()
    last = threading.Timer(app.settings.stop_within_s + _GOODBYE_S, _end_now)
    last.daemon = True
    last.start()


def _end_now() -> None:
    structlog.get_logger().error("process.cut_off", reason="the database was silent until the time to stop was up")
    os._exit(1)


def requeue(settings: Settings) -> int:
    """Queue everything anew that waits; return how many.

    Raises:
        ConfigError: the database is a file, whose one process does it at each start.
    """
    must_have_room(settings)

    async def run() -> int:
        async with open_app(settings, tell=_say) as app:
            return await reconcile(app.parts, app.rounds, alone=False)

    return asyncio.run(run())


def must_have_room(settings: Settings) -> None:
    """Refuse a second process on a file.

    Raises:
        ConfigError: the database is a file.
    """
    if sqlite_path(settings.database_url) is not None:
        why = "SQLite is for one process, `prunella up` alone, and its queue is rebuilt at each start"
        raise ConfigError(
            [f"service.database_url: {why}; set a postgresql:// address, see docs/outgrowing-one-machine.md"]
        )


def configure_logs() -> None:
    """Log JSON lines to standard error; scrubbed last, when tracebacks and messages are text already."""
    tracebacks = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))  # locals may hold anything
    shared: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper("iso"), tracebacks]
    render: list[Any] = [_scrub, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # which implementation it chose is nobody's news


def _scrub(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take secrets out. Most lines are flat and hold none: one look at the whole line tells."""
    if not any(isinstance(value, Mapping | list | tuple) for value in event.values()):
        line = "\n".join(f"{name}={value}" for name, value in event.items())
        if scrub(line) == line:
            return event
    scrubbed: MutableMapping[str, Any] = scrub_tree(dict(event))
    return scrubbed


def _log_event(event: Event) -> None:
    if event.name not in _QUIET:
        structlog.get_logger().info(event.name, **event.fields)


def _say_up(public_url: str, first_link: str | None, url: str) -> None:
    if first_link is not None:
        _say(f"nobody has signed in yet; this link does, once, within a day: {public_url}/login?token={first_link}")
    _say(f"prunella is up: {url} (pid {os.getpid()})")


def _say(line: str) -> None:
    print(line, flush=True)
