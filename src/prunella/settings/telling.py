"""From the section `notify` to what the engine and its channels work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prunella.core.records import Severity
from prunella.core.services import SecretSource
from prunella.engine.notices import Route, Routes, Tier
from prunella.engine.quiet import Quiet
from prunella.settings.notify import KINDS, ButtonsSection, ChannelSection, NotifySection, RouteSection

_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who somebody in a chat is here, and what they may do."""

    name: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Buttons:
    """Who may answer from Slack.

    Args:
        workspace: the only one that counts; `room`: the only channel that does, None: any of the workspace.
        users: Slack's id of a user -> who that is.
    """

    signing_secret: SecretSource
    workspace: str
    room: str | None = None
    users: Mapping[str, Person] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """How to reach people; the channel itself is built where secrets can be opened.

    Args:
        kind: slack, teams, webhook, email or apprise.
        url: the channel's address, which is a secret.
        secret: the key that signs a webhook; None for the others.
        to, sender: whom mail goes to, and who it is from; None: as the channel says.
        buttons: answers from Slack; None: messages have links only.
    """

    kind: str
    url: SecretSource
    secret: SecretSource | None = None
    to: tuple[str, ...] = ()
    sender: str | None = None
    buttons: Buttons | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatSettings:
    """Which watcher is called, and how often."""

    url: SecretSource
    every_s: float = _EVERY_S


def channels(notify: NotifySection) -> dict[str, ChannelSettings]:
    """Return the channels by name."""
    return {name: _channel(section) for name, section in (notify.channels or {}).items()}


def routes(notify: NotifySection) -> Routes:
    """Return the rules; without rules every channel hears everything."""
    named = notify.channels or {}
    everything = (Route(frozenset(Severity), tuple(named)),) if named else ()
    return Routes(
        everything if notify.rules is None else tuple(map(_route, notify.rules)),
        quiet=_quiet(notify),
        fallbacks={name: one.fallback for name, one in named.items() if one.fallback is not None},
    )


def heartbeat(notify: NotifySection) -> HeartbeatSettings | None:
    """Return whom to call while work is carried out, None for nobody."""
    if notify.heartbeat is None:
        return None
    return HeartbeatSettings(url=notify.heartbeat.url, every_s=notify.heartbeat.every or _EVERY_S)


def _channel(section: ChannelSection) -> ChannelSettings:
    kind = next(one for one in KINDS if one in section.model_fields_set)
    if section.webhook is not None:
        return ChannelSettings(kind=kind, url=section.webhook.url, secret=section.webhook.secret)
    if section.email is not None:
        mail = section.email
        return ChannelSettings(kind=kind, url=mail.smtp, to=tuple(dict.fromkeys(mail.to)), sender=mail.sender)
    url = section.slack or section.teams or section.apprise
    assert url is not None  # exactly one kind is given
    return ChannelSettings(kind=kind, url=url, buttons=_buttons(section.buttons))


def _buttons(section: ButtonsSection | None) -> Buttons | None:
    if section is None:
        return None
    users = {user: Person(name=one.name, role=one.role) for user, one in section.users.items()}
    return Buttons(signing_secret=section.signing_secret, workspace=section.workspace, room=section.room, users=users)


def _route(rule: RouteSection) -> Route:
    return Route(
        frozenset(map(Severity, rule.severity)),
        tuple(dict.fromkeys(rule.to)),
        rule.digest or 0.0,
        tiers=tuple(Tier(tier.after, tuple(dict.fromkeys(tier.to))) for tier in rule.escalate or ()),
        fallback=rule.fallback,
    )


def _quiet(notify: NotifySection) -> Quiet | None:
    section = notify.quiet
    if section is None:
        return None
    spares = {} if section.spares is None else {"spares": frozenset(map(Severity, section.spares))}
    return Quiet(begins=section.begins, ends=section.ends, zone=section.zone, **spares)
