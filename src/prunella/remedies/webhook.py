"""Start a workflow by a POST; facts of the finding may stand in the path, as plain text and nothing else.

Hazard: facts come from users' rows. They are percent-encoded, may not climb in the path, and never touch the host.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from prunella.core.errors import ConfigError, EgressError, EgressFailed, InvalidInput, SecretError
from prunella.core.findings import Finding
from prunella.core.outcomes import Outcome
from prunella.core.procedures import WebhookRemedy
from prunella.core.records import Failure
from prunella.egress import Caller
from prunella.remedies.contract import Assignment, Preview, Undone
from prunella.store.secrets import Vault

_PLACE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"\w+")
_DEADLINE_S = 10.0
_CHARS_MAX = 200


class Webhook:
    """Start a workflow by a POST (HEAL_SYNC_001, HEAL_SYNC_002); a 2xx means that it was started.

    Args:
        source: the address, with `{name}` for facts in its path or query, and the bearer.
        procedure: the procedure's id, which the body names.
        idempotent: whether a workflow that was started twice does no harm; what a receiver makes of a repeated
            Idempotency-Key nobody can know.
    """

    name = "webhook"
    outside = True
    reversible = False

    def __init__(
        self, source: WebhookRemedy, *, procedure: str, caller: Caller, vault: Vault, idempotent: bool = False
    ) -> None:
        parts = urlsplit(source.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "{" in parts.netloc or parts.username:
            raise ConfigError([f"webhook {source.url!r}: write https://host/path, {{facts}} in the path only"])
        self.idempotent = idempotent
        self._source = source
        self._procedure = procedure
        self._caller = caller
        self._vault = vault

    async def preview(self, finding: Finding) -> Preview:
        """Show where the POST would go; the bearer is not shown."""
        return Preview(words=f"POST {address(self._source.url, finding)}")

    async def apply(self, assignments: Sequence[Assignment]) -> list[Outcome]:
        """Start a workflow for each finding."""
        return list(await asyncio.gather(*map(self._start, assignments)))

    async def undo(self, run_id: str) -> Undone:
        """Refuse: what was started elsewhere can't be taken back from here."""
        return Undone(refused={run_id: "a workflow that was started is not taken back"})

    async def _start(self, assignment: Assignment) -> Outcome:
        finding = assignment.finding
        body = {
            "procedure": self._procedure,
            "key": finding.key,
            "facts": dict(finding.facts),
            "incident_id": assignment.incident_id,
        }
        headers = {"idempotency-key": assignment.idempotency_key, "x-prunella-recovery": assignment.incident_id}
        try:
            if self._source.bearer is not None:
                headers["authorization"] = f"Bearer {await self._vault.reveal(self._source.bearer)}"
            url = address(self._source.url, finding)
            reply = await self._caller.request("POST", url, headers=headers, json=body, deadline_s=_DEADLINE_S)
        except (InvalidInput, SecretError) as error:
            return Outcome.failed(str(error))
        except EgressError as error:
            return self._no_reply(error)
        if 200 <= reply.status < 300:
            return Outcome(ok=True, status=reply.status, detail=f"the workflow was started: HTTP {reply.status}")
        failure = Failure(service=self._host, status=reply.status, message=reply.text, headers=reply.headers)
        return Outcome(ok=False, status=reply.status, detail=f"HTTP {reply.status} from {self._host}", failure=failure)

    @property
    def _host(self) -> str:
        return urlsplit(self._source.url).hostname or ""

    def _no_reply(self, error: EgressError) -> Outcome:
        exc_type = error.exc_type if isinstance(error, EgressFailed) else type(error).__name__
        failure = Failure(service=self._host, exc_type=exc_type, message=str(error))
        return Outcome(ok=False, detail=str(error), failure=failure, timed_out=exc_type == "TimeoutError")


def address(template: str, finding: Finding) -> str:
    """Return the address for a finding; its host is the template's, whatever the facts say.

    Raises:
        InvalidInput: a fact is missing, or can't stand in an address.
    """
    facts: Mapping[str, Any] = {"key": finding.key, "issue": finding.issue, **finding.facts}
    url = _PLACE.sub(lambda match: _encoded(match[1], facts), template)
    wanted, made = urlsplit(template), urlsplit(url)
    climbs = any(segment in (".", "..") for segment in made.path.split("/"))
    if (made.scheme, made.netloc) != (wanted.scheme, wanted.netloc) or climbs:
        raise InvalidInput(f"webhook {template}: the facts of {finding.key[:_CHARS_MAX]!r} would lead elsewhere")
    return url


def _encoded(name: str, facts: Mapping[str, Any]) -> str:
    value = facts.get(name)
    if not _NAME.fullmatch(name) or value is None or isinstance(value, (Mapping, list, tuple)) or str(value) == "":
        known = ", ".join(sorted(key for key, one in facts.items() if isinstance(one, (str, int, float))))
        raise InvalidInput(
            f"webhook: there is no fact {name[:_CHARS_MAX]!r} for {{{name[:_CHARS_MAX]}}}; there are {known}"
        )
    return quote(str(value)[:_CHARS_MAX], safe="")
