"""Whether the places where people are told can be reached; a connection is opened, and nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from urllib.parse import urlsplit

from prunella.app import open_keys, open_store, sqlite_path
from prunella.cli.doctor.flaw import Flaw, error, note, warning
from prunella.core.errors import ConfigError, EgressError, PrunellaError
from prunella.core.redact import Secret
from prunella.core.services import SecretRef, SecretSource
from prunella.egress import Egress, EgressPolicy
from prunella.notify.email import server_of
from prunella.settings import Settings
from prunella.store.secrets import Vault

_PORTS = {"https": 443, "http": 80}
_WITHIN_S = 5.0


async def examine(settings: Settings) -> list[Flaw]:
    """Try each channel, all at once."""
    if not settings.channels:
        return []
    stored = {name: one.url for name, one in settings.channels.items() if isinstance(one.url, SecretRef)}
    opened, found = await _opened(settings, stored)
    tries: list[Coroutine[None, None, Flaw | None]] = []
    given = {name: one.url for name, one in settings.channels.items() if isinstance(one.url, Secret)}
    for name, address in {**given, **opened}.items():
        is_mail = settings.channels[name].kind == "email"
        tries.append(_reach(settings.egress, name, address, is_mail=is_mail))
    return found + [flaw for flaw in await asyncio.gather(*tries) if flaw is not None]


async def _opened(settings: Settings, stored: dict[str, SecretRef]) -> tuple[dict[str, Secret], list[Flaw]]:
    """Open the addresses that are kept in the store, where it can be opened beside a running engine."""
    if not stored:
        return {}, []
    path = sqlite_path(settings.database_url)
    if path is not None and not path.exists():  # to open it would make it
        return {}, [
            error("channels", f"{name}: {one.name} is not stored yet", _store(one)) for name, one in stored.items()
        ]
    try:
        store = await open_store(replace(settings, migrate="manual"))
    except PrunellaError as wrong:
        text = f"not looked at: {', '.join(sorted(stored))}; their addresses are kept in the store ({wrong})"
        return {}, [note("channels", text)]
    opened, found = dict[str, Secret](), list[Flaw]()
    try:
        vault = Vault(store, open_keys(settings, lambda _: None))
        for name, source in stored.items():
            try:
                opened[name] = await _revealed(vault, source)
            except PrunellaError as wrong:
                found.append(error("channels", f"{name}: {wrong}", _store(source)))
    finally:
        await store.close()
    return opened, found


def _store(source: SecretRef) -> str:
    return f"prunella secret set {source.name}"


async def _revealed(vault: Vault, source: SecretSource) -> Secret:
    return Secret(await vault.reveal(source))


async def _reach(policy: EgressPolicy, name: str, address: Secret, *, is_mail: bool) -> Flaw | None:
    """Open a connection as a message would, and close it; the address is a password and is not shown."""
    egress = Egress(policy)
    try:
        place = _mail_server(address) if is_mail else _web_server(address)
        if place is None:
            return note("channels", f"{name} is not looked at: only a message would show whether it arrives")
        host, port, tls = place
        await egress.reach(host, port, tls=tls, deadline_s=_WITHIN_S)
    except (EgressError, ConfigError, ValueError) as wrong:
        fix = f"look at the address of notify.channels.{name}, and at what stands between"
        return warning("channels", f"{name} can't be reached: {wrong}", fix)
    finally:
        await egress.close()
    return None


def _mail_server(address: Secret) -> tuple[str, int, bool]:
    server = server_of(address.reveal())
    return server.host, server.port, server.way == "smtps"


def _web_server(address: Secret) -> tuple[str, int, bool] | None:
    parts = urlsplit(address.reveal())
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    return parts.hostname, parts.port or _PORTS[parts.scheme], parts.scheme == "https"
