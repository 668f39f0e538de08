"""Wire what brings messages to people: channels with their secrets as they are now, the outbox, the sign of life."""

from __future__ import annotations

from functools import partial

from prunella.app.tracing import traced
from prunella.core.clock import Ids, Rng, SystemClock
from prunella.core.errors import ConfigError, SecretError, Undelivered
from prunella.core.redact import Secret
from prunella.egress import Caller, Dialer
from prunella.engine import escalation
from prunella.engine.parts import Parts
from prunella.notify.contract import Channel
from prunella.notify.email import EmailChannel
from prunella.notify.heartbeat import HEARTBEAT, Heartbeat
from prunella.notify.other import OtherChannel
from prunella.notify.outbox import Delivery
from prunella.notify.slack import SlackChannel
from prunella.notify.teams import TeamsChannel
from prunella.notify.webhook import WebhookChannel
from prunella.settings import ChannelSettings, Settings
from prunella.store.secrets import Vault


def handle(settings: Settings, parts: Parts, caller: Caller, vault: Vault) -> Delivery:
    """Let the runner bring messages, tell the next tier, and give the sign of life; return what empties the outbox."""
    delivery = Delivery(
        store=parts.store,
        runner=parts.runner,
        caller=caller,
        channel=partial(_channel, settings, vault),
        listeners=parts.listeners,
        ids=Ids(parts.clock, Rng()),
        fallback=settings.routes.fallback,
        after=settings.routes.after,
    )
    parts.runner.handle("deliver", traced("prunella.notify", delivery.deliver, "prunella.channel"))
    parts.runner.handle(escalation.HANDLER, partial(escalation.climb, parts))
    parts.runner.handle(HEARTBEAT, _heartbeat(settings, parts, caller, vault).beat)
    return delivery


async def _channel(settings: Settings, vault: Vault, name: str) -> Channel:
    """Open a notification channel with the secrets as they are now."""
    configured = settings.channels.get(name)
    if configured is None:
        raise Undelivered(f"channel {name} is no longer in prunella.yaml", permanent=True)
    try:
        url = Secret(await vault.reveal(configured.url))
        secret = Secret(await vault.reveal(configured.secret)) if configured.secret else None
    except SecretError as error:
        raise Undelivered(str(error)) from None
    return _opened(configured, name, url, secret, Dialer(settings.egress))


def _opened(configured: ChannelSettings, name: str, url: Secret, secret: Secret | None, dialer: Dialer) -> Channel:
    match configured.kind:
        case "slack":
            return SlackChannel(name, url, buttons=configured.buttons is not None)
        case "teams":
            return TeamsChannel(name, url)
        case "apprise":
            return OtherChannel(name, url, dialer.policy)
    try:
        if configured.kind == "email":
            return EmailChannel(name, url, configured.to, configured.sender, dialer=dialer)
        assert secret is not None  # settings demand it for webhooks
        return WebhookChannel(name, url, secret, clock=SystemClock())
    except ConfigError as error:
        raise Undelivered(f"channel {name}: {error}", permanent=True) from None


def _heartbeat(settings: Settings, parts: Parts, caller: Caller, vault: Vault) -> Heartbeat:
    """Return the sign of life; without a watcher it does nothing."""
    watched = settings.heartbeat
    if watched is None:
        return Heartbeat(parts.store, parts.runner, caller, None, 0.0, parts.listeners)
    source = watched.url

    async def url() -> Secret:
        return Secret(await vault.reveal(source))

    return Heartbeat(parts.store, parts.runner, caller, url, watched.every_s, parts.listeners)
