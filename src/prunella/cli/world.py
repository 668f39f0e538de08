"""Where a command finds its world: the configuration, the running engine, or the store when none runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from getpass import getpass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

from prunella.cli.streams import legible
from prunella.core.errors import ConfigError, PrunellaError

if TYPE_CHECKING:
    from prunella.settings import Settings

T = TypeVar("T")
Ask = Callable[[str, str, Any], Awaitable[Any]]
"""Method, address with its query, body -> what was answered."""

SCAN = "/integration-self-heal"
_DEFAULT = Path("prunella.yaml")
_TOKEN_TTL = timedelta(minutes=1)
_CALL_S = 15.0
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_chosen: list[Path] = []
_direct = build_opener(ProxyHandler({}))  # the engine runs on this machine or network; no proxy in between


def take_config(arguments: list[str]) -> list[str]:
    """Take `--config PATH` or `-c PATH` out of the arguments, wherever it stands, and remember it."""
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument in ("--config", "-c"):
            path = next(waiting, None)
            if path is None:
                raise ConfigError([f"{argument}: a path is missing; write {argument} prunella.yaml"])
            _chosen[:] = [Path(path)]
        elif argument.startswith("--config="):
            _chosen[:] = [Path(argument.partition("=")[2])]
        else:
            rest.append(argument)
    return rest


def config_path() -> Path | None:
    """Return the chosen file, PRUNELLA_CONFIG, or prunella.yaml where there is one."""
    if _chosen:
        return _chosen[0]
    if named := os.environ.get("PRUNELLA_CONFIG"):
        return Path(named)
    return _DEFAULT if _DEFAULT.exists() else None


def config_name() -> str:
    """Name the configuration for messages."""
    return str(config_path() or "no file, defaults only")


def settings(*, warn: bool = False, database_url: str | None = None) -> Settings:
    """Load the configuration; with `warn`, print its warnings.

    Args:
        database_url: stands in place of the configured one.
    """
    from prunella.settings import load

    given = {"PRUNELLA_DATABASE_URL": database_url} if database_url else {}
    loaded = load(config_path(), {**os.environ, **given})
    if warn:
        for warning in loaded.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    return loaded


def duration_s(text: str) -> float:
    """Read 30m or 12h as seconds."""
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise ConfigError([f"{text[:40]!r} is no duration; write 30m, 12h or 7d"])
    return int(match[1]) * _UNITS_S[match[2]]


def moment(since: str | None) -> str | None:
    """Return a moment as lists are asked for it: 24h is so long ago, anything else is left as it is."""
    if since is None or not re.fullmatch(r"\d{1,6}[smhd]", since):
        return since
    return (datetime.now(UTC) - timedelta(seconds=duration_s(since))).isoformat()


def listening(text: str) -> tuple[str, int]:
    """Read the address of --listen."""
    from prunella.settings.addresses import host_and_port

    found = host_and_port(text)
    if found is None:
        raise ConfigError([f"--listen: {text!r} is not host:port; write e.g. 127.0.0.1:8124"])
    return found


def person() -> str:
    """Return who types, as the audit calls them: the account of this machine, behind sudo the one that asked."""
    asked = os.environ.get("SUDO_USER") if os.getuid() == 0 else None
    try:
        return f"cli:{asked or pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container's number without a name
        return f"cli:uid-{os.getuid()}"


def mint(role: str, ttl_s: float) -> str:
    """Return a signed token of the person who types; it needs the key only, so it works beside a running engine."""
    from prunella.app import open_keys
    from prunella.core.clock import SystemClock
    from prunella.web.auth import Gatehouse, Role

    here = settings()
    if here.secret_key is None:  # a key made anew opens no engine
        _must_be_at_home(here)
    keys = open_keys(here, lambda line: print(line, file=sys.stderr))
    return Gatehouse(keys, (), SystemClock().now).mint(Role(role), timedelta(seconds=ttl_s), person())


def _must_be_at_home(here: Settings) -> None:
    """Refuse to begin an empty engine where a person only strayed: what it said, or paused, would be about nothing.

    Raises:
        ConfigError: no configuration is chosen or found, no database is named, and the default one is not there.
    """
    from prunella.app import sqlite_path

    database = sqlite_path(here.database_url)
    if config_path() is None and "PRUNELLA_DATABASE_URL" not in os.environ and database and not database.exists():
        fact = f"{Path.cwd()}: there is no {_DEFAULT} and no {database} here"
        raise ConfigError(
            [f"{fact}; go where prunella up runs, name its file with --config, or begin with: prunella init"]
        )


class NoEngine(PrunellaError):
    """Say that nobody answers at the configured address."""


def listed(path: str, query: Mapping[str, Any], *, role: str = "OPERATIONS", each: Callable[[list[Any]], None]) -> None:
    """Read a list to its end, page by page; `each` gets the items of a page."""
    cursor: dict[str, str] | None = {}

    async def walk(ask: Ask) -> None:
        """Read on from `cursor`, also where the engine ended meanwhile and the store is asked instead."""
        nonlocal cursor
        while cursor is not None:
            page = await ask("GET", f"{path}?{urlencode({**query, **cursor})}", None)
            each(page["items"])
            cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] is not None else None

    _talk(walk, role, _CALL_S)


def ask_engine(path: str, query: Mapping[str, Any], *, role: str = "OPERATIONS") -> Any:
    """Ask the running engine and nobody else; `NoEngine` where none runs."""
    try:
        return _over_http("GET", f"{path}?{urlencode(query)}", None, role, _CALL_S)
    except URLError:
        host, port = settings().listen
        raise NoEngine(f"no engine answers at {host}:{port}; start one with: prunella up") from None


def at(*words: str) -> str:
    """Return the address of something; a name in it is a name, whatever signs it holds.

    Raises:
        ConfigError: one of the words would lead elsewhere, as `..` does.
    """
    for word in words:
        if word.strip() in ("", ".", ".."):
            raise ConfigError([f"{word!r} is no name and no id; see --help for what is meant"])
    return "/api/v1/" + "/".join(quote(word, safe="") for word in words)


def call(
    method: str,
    path: str,
    body: Any = None,
    *,
    query: Mapping[str, Any] | None = None,
    role: str = "OPERATIONS",
    within_s: float | None = None,
) -> Any:
    """Ask the running engine; when none runs, answer from the store by the same routes.

    Args:
        within_s: how long an answer may take; None: 15 s.
    """
    address = path + (f"?{urlencode(query)}" if query else "")
    return _talk(lambda ask: ask(method, address, body), role, within_s or _CALL_S, healing=address == SCAN)


def _talk(talk: Callable[[Ask], Awaitable[T]], role: str, within_s: float, *, healing: bool = False) -> T:
    """Let `talk` ask the running engine; when none runs, the same routes on the store.

    Args:
        healing: it wants a runner.
    """

    async def over_http(method: str, address: str, body: Any) -> Any:
        return _over_http(method, address, body, role, within_s)

    async def run(ask: Ask) -> T:
        return await talk(ask)

    try:
        return asyncio.run(run(over_http))
    except TimeoutError:
        raise PrunellaError(f"the engine did not answer within {within_s:.0f} s; look at its log") from None
    except URLError:
        return asyncio.run(_in_process(talk, role, healing=healing))


class Refused(PrunellaError):
    """Say what the engine refused; `status` is its HTTP status."""

    def __init__(self, status: int, words: str) -> None:
        self.status = status
        super().__init__(words)


def exists(path: str) -> bool:
    """Tell whether there is such a thing."""
    try:
        call("GET", path)
    except Refused as error:
        if error.status != 404:
            raise
        return False
    return True


def _over_http(method: str, address: str, body: Any, role: str, within_s: float) -> Any:
    host, port = settings().listen
    engine = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
    except ValueError:
        raise ConfigError(["nan and inf are no numbers here; write a finite one"]) from None
    request = Request(
        f"http://{engine}{address}",
        method=method,
        data=data,
        headers={
            "authorization": f"Bearer {mint(role, _TOKEN_TTL.total_seconds())}",
            "content-type": "application/json",
        },
    )
    try:
        with _direct.open(request, timeout=within_s) as reply:
            return json.load(reply)
    except HTTPError as error:
        raise _refused(error.code, error.read()) from None
    except (ConnectionError, HTTPException, ValueError) as error:
        fact = f"{engine} gave no answer that an engine gives ({type(error).__name__})"
        raise PrunellaError(f"{fact}; look what listens there") from None


async def _in_process(talk: Callable[[Ask], Awaitable[T]], role: str, *, healing: bool) -> T:
    """Open the store and let `talk` ask the same routes, without a server."""
    import httpx2

    from prunella.app import open_app
    from prunella.web.server import create

    here = settings()
    _must_be_at_home(here)
    async with open_app(here, tell=lambda line: print(line, file=sys.stderr)) as app:
        transport = httpx2.ASGITransport(app=create(app), raise_app_exceptions=False)

        async def ask(method: str, address: str, body: Any) -> Any:
            headers = {"authorization": f"Bearer {mint(role, _TOKEN_TTL.total_seconds())}"}
            reply = await client.request(method, address, json=body, headers=headers)
            if reply.status_code >= 400:
                raise _refused(reply.status_code, reply.content)
            return reply.json()

        runs = app.running() if healing else contextlib.nullcontext()
        async with runs, httpx2.AsyncClient(transport=transport, base_url="http://prunella") as client:
            return await talk(ask)


def _refused(status: int, raw: bytes) -> Refused:
    try:
        problem = json.loads(raw)
    except ValueError:
        problem = {}
    problem = problem if isinstance(problem, dict) else {}
    lines = [f"{problem.get('title') or 'the engine refused'} ({status})", problem.get("detail", "")]
    lines += [f"{error['pointer']}: {error['detail']}" for error in problem.get("errors", [])]
    return Refused(status, "; ".join(filter(None, lines)))


def read_secret(prompt: str) -> str:
    """Read one value from standard input, unseen at a terminal."""
    value = getpass(prompt) if sys.stdin.isatty() else _piped().strip("\r\n")
    if not value:
        raise ConfigError(["standard input was empty; pipe the value in, or type it"])
    return value


def _piped() -> str:
    """Read standard input whole; a secret that came in pieces, or in another alphabet, is none."""
    text = sys.stdin.read()
    if text != legible(text):
        raise ConfigError(["standard input is no UTF-8; pipe the value in as text"])
    return text


def read_tokens() -> tuple[str, str | None]:
    """Read the access token and, on a second line, the refresh token."""
    if sys.stdin.isatty():
        return getpass("access token: "), getpass("refresh token (empty for none): ") or None
    lines = [line.strip() for line in _piped().splitlines() if line.strip()]
    if not lines:
        raise ConfigError(
            ["standard input was empty; pipe the access token in, and the refresh token on a second line"]
        )
    return lines[0], lines[1] if len(lines) > 1 else None
