"""Refresh an account's OAuth token (RFC 6749 section 6): once, whoever asks, however many ask.

Hazards: providers rotate refresh tokens and treat a second use as theft (RFC 9700 section 4.14.2), so a refresh is
claimed in the database first, and the new pair is written before anybody uses it. A claim that its holder never ended
may stand for a spent token: that one is presented again only where this can't be taken for theft.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from prunella.core.errors import EgressError, EgressFailed
from prunella.core.records import Credential, Failure
from prunella.core.services import OAuth, Service
from prunella.egress import Caller, Reply
from prunella.remedies.contract import Outcome, Target
from prunella.store.contract import Store, Transaction, insist
from prunella.store.secrets import Vault

_CLAIM_S = 30.0  # far longer than one call and its writing down, so that a claim does not end under a live refresh
_LIFETIME_MAX_S = 10 * 366 * 86_400.0  # what claims to live longer has no known end: no date may fail to be written
_REUSE_S = {
    "identity.xero.com": 1800.0,  # developer.xero.com/faq/oauth2, "What do I do if a token refresh fails?"
    "auth.atlassian.com": 600.0,  # developer community, "The old access token will be revoked during the ... exchange"
}
_DEAD_GRANT = frozenset({"invalid_grant", "invalid_client", "unauthorized_client", "BAD_REFRESH_TOKEN"})


_BUSY = Outcome(ok=False, busy=True, detail="another worker is refreshing this account")


class RefreshToken:
    """Exchange the refresh token for a new pair.

    Args:
        worker: this process's name, written into the claim.
    """

    name = "refresh_token"

    def __init__(self, caller: Caller, vault: Vault, store: Store, worker: str) -> None:
        self._caller = caller
        self._vault = vault
        self._store = store
        self._worker = worker
        self._under_way: dict[tuple[str, str], asyncio.Future[Outcome]] = {}

    async def apply(self, target: Target) -> Outcome:
        """Make sure that the account's tokens are newer than `target.stale_version`."""
        key = (target.service.name, target.account)
        while (shared := self._under_way.get(key)) is not None:
            await asyncio.wait([shared])
            if not shared.cancelled():  # else the other one raised: our own try says why
                return shared.result()
        self._under_way[key] = future = asyncio.get_running_loop().create_future()
        try:
            outcome = await self._refresh(target)
            future.set_result(outcome)
            return outcome
        finally:
            del self._under_way[key]
            if not future.done():
                future.cancel()

    async def _refresh(self, target: Target) -> Outcome:
        service = target.service
        assert service.oauth is not None  # a refresh is only planned where there is somewhere to refresh
        client = await self._client(service.oauth)
        now = self._store.clock.now()
        async with self._store.transaction() as tx:
            credential = await tx.credentials.read(service.name, target.account)
            if credential is None or credential.refresh_sealed is None:
                return _person(f"no refresh token is stored; run: prunella credentials set {service.name}")
            if credential.needs_person is not None:
                return _person(credential.needs_person)
            if target.stale_version is not None and credential.version > target.stale_version:
                return Outcome(ok=True, detail="the token is newer already", token_version=credential.version)
            if _is_left_behind(credential, now) and not await _may_repeat(tx, service, credential, now):
                return await _give_up(tx, credential, now)
            form = {"grant_type": "refresh_token", "refresh_token": self._vault.open_refresh(credential), **client}
            until = now + timedelta(seconds=_CLAIM_S)
            if not await tx.credentials.claim_refresh(credential, self._worker, now, until):
                return _BUSY
        return await self._exchange(service, service.oauth, credential, form)

    async def _exchange(
        self, service: Service, oauth: OAuth, credential: Credential, form: Mapping[str, str]
    ) -> Outcome:
        try:
            reply = await self._caller.request(
                "POST",
                oauth.token_url,
                form=form,
                headers={"accept": "application/json"},
                deadline_s=service.timeout_s,
            )
        except EgressError as error:
            return await self._not_now(service, credential, f"the token endpoint gave no reply: {error}")
        answer = _answer(reply)
        if reply.status == 200 and _text(answer, "access_token"):
            return await self._store_pair(credential, answer)
        code = str(answer.get("error") or answer.get("status") or "")
        if code in _DEAD_GRANT:
            return await self._dead(service, credential, code)
        return await self._not_now(
            service, credential, f"the token endpoint answered HTTP {reply.status} {code}".strip()
        )

    async def _client(self, oauth: OAuth) -> dict[str, str]:
        """Return who we are; asked before the claim, so that nothing stands between the claim and its call."""
        client = {"client_id": oauth.client_id}
        if oauth.client_secret is not None:
            client["client_secret"] = await self._vault.reveal(oauth.client_secret)
        if oauth.scopes:
            client["scope"] = " ".join(oauth.scopes)
        return client

    async def _store_pair(self, credential: Credential, answer: Mapping[str, Any]) -> Outcome:
        """Write the new pair before it is used; a provider that does not rotate keeps the old refresh token."""
        now = self._store.clock.now()
        lifetime_s = answer.get("expires_in")
        expires = None
        if isinstance(lifetime_s, (int, float)) and 0 < lifetime_s <= _LIFETIME_MAX_S:
            expires = now + timedelta(seconds=lifetime_s)
        rotated = _text(answer, "refresh_token")
        presented = self._vault.open_refresh(credential)
        refresh = self._vault.seal_refresh(credential, rotated or presented)  # anew: its key may be on its way out
        access = self._vault.seal_access(credential, answer["access_token"])
        rotates = bool(rotated) and rotated != presented

        async def rotate() -> None:
            async with self._store.transaction() as tx:
                await tx.credentials.rotate(credential, access, refresh, expires, now, rotates=rotates)

        await insist(self._store.clock, rotate)  # the old refresh token is spent
        return Outcome(ok=True, status=200, detail="token refreshed", token_version=credential.version + 1)

    async def _dead(self, service: Service, credential: Credential, code: str) -> Outcome:
        """Read the row once more: if somebody else rotated meanwhile, theirs is good; otherwise a person reconnects."""
        reason = f"the provider refused the refresh token ({code}); reconnect {service.name}"
        async with self._store.transaction() as tx:
            current = await tx.credentials.read(credential.service, credential.account)
            if current is not None and current.version > credential.version:
                return Outcome(ok=True, detail="another refresh was quicker", token_version=current.version)
            await tx.credentials.release(credential, self._worker, needs_person=reason)
        return _person(reason, status=400, code=code, service=service.name)

    async def _not_now(self, service: Service, credential: Credential, detail: str) -> Outcome:
        async def release() -> None:
            async with self._store.transaction() as tx:
                await tx.credentials.release(credential, self._worker)

        await insist(self._store.clock, release)  # what is not released looks like a death
        failure = Failure(service=service.name, source="oauth", code="ECONNRESET", message=detail)
        return Outcome(ok=False, detail=detail, failure=failure)


def _is_left_behind(credential: Credential, now: datetime) -> bool:
    """Tell whether a refresh was begun that nobody is carrying out any more, and whose end nobody knows."""
    until = credential.refreshing_until
    return credential.refreshing_since is not None and (until is None or until <= now)


async def _may_repeat(tx: Transaction, service: Service, credential: Credential, now: datetime) -> bool:
    """Tell whether a refresh token that may be spent may be presented: within the provider's window, or unrotated.

    Who was never refreshed may rotate or not: the service's other accounts have shown it. Where none has, it is
    presented: a person would be asked in the worst case, and is asked at once otherwise.
    """
    assert service.oauth is not None
    assert credential.refreshing_since is not None
    arrives = now + timedelta(seconds=service.timeout_s)
    if arrives < credential.refreshing_since + timedelta(seconds=_reuse_s(service.oauth)):
        return True
    if credential.rotates is None:
        return not await tx.credentials.seen_to_rotate(service.name)
    return not credential.rotates


def _reuse_s(oauth: OAuth) -> float:
    if oauth.reuse_s is not None:
        return oauth.reuse_s
    return _REUSE_S.get(urlsplit(oauth.token_url).hostname or "", 0.0)


async def _give_up(tx: Transaction, credential: Credential, now: datetime) -> Outcome:
    name = credential.service
    reason = (
        f"a worker ended while it refreshed {name}; the refresh token may be spent, and a second use counts as theft; "
        f"reconnect: prunella credentials set {name}; or set services.{name}.oauth.reuse_s if its provider allows it"
    )
    return _person(reason) if await tx.credentials.give_up(credential, now, reason) else _BUSY


def _person(reason: str, *, status: int | None = None, code: str | None = None, service: str = "") -> Outcome:
    failure = Failure(service=service, source="oauth", status=status, code=code, message=reason)
    return Outcome(ok=False, status=status, detail=reason, failure=failure, needs_person=reason)


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    return value if isinstance(value, str) else ""


def _answer(reply: Reply) -> Mapping[str, Any]:
    try:
        body = reply.json()
    except EgressFailed:
        return {}
    return body if isinstance(body, dict) else {}
