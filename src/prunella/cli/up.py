"""`prunella up`: engine, API and dashboard in one process, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

from prunella.app import open_app, sqlite_path
from prunella.app.life import leave_on_signals
from prunella.core.errors import ConfigError
from prunella.core.events import Event
from prunella.core.redact import scrub, scrub_tree
from prunella.engine.reconcile import reconcile
from prunella.settings import Settings

_QUIET = frozenset({"run.started"})


def serve(settings: Settings) -> None:
    """Run until SIGTERM or Ctrl-C; what is under way is finished first."""
    configure_logs()
    for warning in settings.warnings:
        structlog.get_logger().warning("config", warning=warning)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from prunella.web.server import listen, run_server  # a worker serves nothing, and need not hold what serves

    listening = listen(*settings.listen)
    async with open_app(settings, tell=_say) as app:
        app.parts.listeners.subscribe(_log_event)
        await run_server(app, listening, lambda url: _say(f"prunella is up: {url} (pid {os.getpid()})"))


def work(settings: Settings) -> None:
    """Heal until SIGTERM or Ctrl-C, beside other processes on the same database.

    Raises:
        ConfigError: the database is a file, which has room for one process.
    """
    _must_have_room(settings)
    configure_logs()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    async with open_app(settings, tell=_say) as app:
        app.parts.listeners.subscribe(_log_event)
        leave_on_signals(app.life, app.runner)
        async with app.running():
            _say(f"worker {app.parts.worker} is up")
            await app.life.stopping.wait()


def requeue(settings: Settings) -> int:
    """Queue everything anew that waits; return how many.

    Raises:
        ConfigError: the database is a file, whose one process does it at each start.
    """
    _must_have_room(settings)

    async def run() -> int:
        async with open_app(settings, tell=_say) as app:
            return await reconcile(app.parts, app.rounds, alone=False)

    return asyncio.run(run())


def _must_have_room(settings: Settings) -> None:
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


def _say(line: str) -> None:
    print(line, flush=True)
