"""Put the routes together into one ASGI application, and serve it beside the engine."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from fastapi import APIRouter, FastAPI, Request

from prunella import __version__
from prunella.app import App
from prunella.app.life import leave_on_signals
from prunella.core.clock import Clock
from prunella.core.errors import ConfigError
from prunella.engine.effects import Recent
from prunella.web import openapi, pages, problems
from prunella.web.answers import Answers
from prunella.web.api import (
    approvals,
    audit,
    channels,
    chat,
    effects,
    entities,
    guards,
    health,
    inbound,
    incidents,
    keys,
    known_issues,
    links,
    notifications,
    operations,
    overview,
    pause,
    procedures,
    rekeying,
    runs,
    seals,
    secrets,
    self_heal,
    self_healing,
    services,
)
from prunella.web.auth import Gatehouse
from prunella.web.inbound.door import Door
from prunella.web.issuers import JwtIssuer
from prunella.web.limits import BodyLimit, Limits, address_of
from prunella.web.metrics import Metrics
from prunella.web.pages.frame import Frame
from prunella.web.shield import Shield
from prunella.web.terms import Terms
from prunella.web.wire import Wire

_BACKLOG = 2048
_LET_GO_EVERY_S = 0.1
_ROOMS = (
    self_heal,
    inbound,
    self_healing,
    incidents,
    operations,
    services,
    procedures,
    approvals,
    runs,
    entities,
    known_issues,
    notifications,
    channels,
    chat,
    seals,
    audit,
    pause,
    secrets,
    rekeying,
    keys,
    links,
    overview,
    effects,
)


def create(app: App) -> FastAPI:
    """Return the HTTP side of a wired prunella."""
    web = FastAPI(
        title="prunella",
        version=__version__,
        summary="Self-healing for services and their integrations",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy a redirect names http, and a client would send its token there
    )
    gatehouse = _gatehouse(app)
    web.state.gatehouse = gatehouse
    web.state.door = Door(app.settings.senders, app.vault.reveal, app.parts.clock.now, app.parts.listeners)
    web.state.limits = Limits(app.parts.clock.monotonic, app.settings.events_per_s, app.settings.requests_per_s)
    web.state.refusals = partial(_refused, app)
    web.state.effects = Recent(app.parts)
    web.state.answers = Answers(app.store, app.vault.keys, app.parts.clock)
    metrics = _metrics(app)
    frame = Frame(app)
    problems.install(web, frame.trouble)
    web.add_middleware(Terms)
    web.add_middleware(BodyLimit)
    web.add_middleware(problems.CutOff)
    web.add_middleware(Shield)
    for room in _ROOMS:
        _admit(web, room.router(app))
    if app.place is not None:
        _admit(web, guards.router(app.place))
    _admit(web, health.router(app, metrics))
    _admit(web, pages.router(app, gatehouse, frame))
    openapi.install(web)
    return web


def create_health(app: App) -> FastAPI:
    """Return what a worker answers: whether it is well, and what it counts."""
    web = FastAPI(title="prunella worker", openapi_url=None, redirect_slashes=False)
    web.state.gatehouse = _gatehouse(app)
    web.state.effects = Recent(app.parts)
    metrics = _metrics(app)
    problems.install(web)
    _admit(web, health.router(app, metrics))
    return web


def _admit(web: FastAPI, room: APIRouter) -> None:
    """Take a room's routes as they are: `include_router` builds each of them anew when the first request comes."""
    web.router.routes.extend(room.routes)


def _metrics(app: App) -> Metrics:
    """Return what counts here; entities and databases are what procedures call a service."""
    settings = app.settings
    named = {*settings.services, *settings.databases, *settings.entities, *settings.procedures}
    metrics = Metrics(named, settings.senders, app.parts.clock.now)
    app.parts.listeners.subscribe(metrics.listen)
    return metrics


def _refused(app: App, request: Request) -> None:
    """Tell of a token that was no good, for the log and the figures; what was shown is not told."""
    app.parts.listeners.emit("entrance.refused", way="token", address=address_of(request))


def _gatehouse(app: App) -> Gatehouse:
    settings, issuing = app.settings, app.settings.issuing
    issuer = None
    if issuing is not None:
        reveal = partial(app.vault.reveal, issuing.secret) if issuing.secret is not None else None
        issuer = JwtIssuer(issuing, app.caller, app.parts.clock, reveal)
    return Gatehouse(
        app.vault.keys, settings.ingest_tokens, app.parts.clock.now, app.store, issuer, public_url=settings.public_url
    )


async def run_server(app: App, web: FastAPI, bound: socket.socket, started: Callable[[str], None]) -> None:
    """Serve HTTP and heal until uvicorn is told to stop; `started` hears the address."""
    grace_s = math.ceil(app.settings.stop_within_s)
    config = uvicorn.Config(
        web, http=Wire, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=grace_s
    )
    server = Server(config, app.parts.clock)
    leave_on_signals(app.life, app.runner, server.stop)
    host, port = bound.getsockname()[:2]
    async with app.running():
        bound.listen(_BACKLOG)
        started(f"http://{host}:{port}")
        await server.serve(sockets=[bound])


class Server(uvicorn.Server):
    """uvicorn, but a signal only ends the serving: uvicorn would raise it again and kill the handlers under way."""

    def __init__(self, config: uvicorn.Config, clock: Clock) -> None:
        super().__init__(config)
        self._clock = clock

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the loop."""
        yield

    def stop(self, at_once: bool) -> None:
        """Take no new request; `at_once` also drops those under way."""
        self.force_exit = self.force_exit or at_once
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, and let connections go until then: uvicorn does so once, and one accepted just then would hold it up."""
        letting_go = asyncio.create_task(self._let_go())
        try:
            await super().shutdown(sockets)
        finally:
            letting_go.cancel()

    async def _let_go(self) -> None:
        while True:
            for connection in list(self.server_state.connections):
                connection.shutdown()
            await self._clock.sleep(_LET_GO_EVERY_S)


def bind(host: str, port: int) -> socket.socket:
    """Take the address, or say who may have it; who calls before we listen is refused and goes elsewhere."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches Nagle's delay off only where it is: 40 ms per answer otherwise.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(
            [f"service.listen: {host}:{port} can't be bound ({error.strerror}); stop what uses it or set another port"]
        ) from None
    return bound
