"""What users' functions may call: the configured services, at their own hosts, with their own credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunella.core.errors import InvalidInput
from prunella.core.services import Service
from prunella.egress import Caller, Reply
from prunella.store.secrets import Vault


class ConfiguredServices:
    """Calls services by the names that they have in the configuration."""

    def __init__(self, services: Mapping[str, Service], caller: Caller, vault: Vault) -> None:
        self._services = services
        self._caller = caller
        self._vault = vault

    async def request(
        self, service: str, method: str, path: str, *, json: Any, headers: Mapping[str, str], deadline_s: float
    ) -> Reply:
        """Make one call, with what the service's configuration adds to it."""
        found = self._services.get(service)
        if found is None:
            known = ", ".join(sorted(self._services)) or "none"
            raise InvalidInput(f"services.{service}: there is no such service; configured are {known}")
        own = {name: await self._vault.reveal(value) for name, value in found.headers.items()}
        if found.bearer is not None:
            own["authorization"] = f"Bearer {await self._vault.reveal(found.bearer)}"
        url = found.url(path)
        return await self._caller.request(method, url, headers={**headers, **own}, json=json, deadline_s=deadline_s)
