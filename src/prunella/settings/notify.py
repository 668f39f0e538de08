"""The section `notify`: channels, who hears what and when, and who is told next."""

from __future__ import annotations

import re
from datetime import time
from importlib.util import find_spec
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from prunella.core.errors import ConfigError
from prunella.core.redact import Secret
from prunella.core.services import SecretSource
from prunella.engine.notices import DASHBOARD
from prunella.notify.email import MISSING as NO_SMTP
from prunella.notify.email import server_of
from prunella.notify.heartbeat import HEARTBEAT
from prunella.notify.other import MISSING as NO_APPRISE
from prunella.settings import addresses as at
from prunella.settings import values as of
from prunella.settings.section import Found, Section
from prunella.settings.source import shown_name

KINDS: Final = ("slack", "teams", "webhook", "email", "apprise")
_MAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)
_SLACK_ID: Final = re.compile(r"[A-Z][A-Z0-9]{1,30}")
_PERSON: Final = re.compile(r"[\w .:/@+-]{1,100}")
_EXTRAS: Final = {"email": ("aiosmtplib", NO_SMTP), "apprise": ("apprise", NO_APPRISE)}
_Severity = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]


def _mail(text: str) -> str:
    if not _MAIL.fullmatch(text) or ".." in text:
        raise of.wrong("is no e-mail address; write one as ops@example.com, without a name")
    return text


def _mail_server(value: Any, info: ValidationInfo) -> SecretSource:
    source = of.secret_of(value, info, storable=True)
    if isinstance(source, Secret):
        try:
            server_of(source.reveal())
        except ConfigError as error:
            raise of.hidden(f"the value {error.problems[0]}") from None
        if (password := urlsplit(source.reveal()).password) and isinstance(info.context, of.Reading):
            info.context.keep(password)
    return source


def _target(value: Any, info: ValidationInfo) -> SecretSource:
    source = of.secret_of(value, info, storable=True)
    if isinstance(source, Secret) and not re.match(r"[a-z][a-z0-9]*s?://", source.reveal(), re.IGNORECASE):
        raise of.hidden("the value is no address as Apprise writes them; it begins with the service, as pagerduty://")
    return source


def _time(value: Any, info: ValidationInfo) -> time:
    text = of.expanded(value, info)
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise of.wrong("is no time of day; write it in quotes, from 00:00 to 23:59")
    return time(int(match[1]), int(match[2]))


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError on some, a ValueError on other names
        pass
    except KeyError:
        pass
    else:
        return text
    raise of.wrong("is no known time zone; write e.g. Europe/Berlin or UTC (where none is known: pip install tzdata)")


def _slack_id(text: str) -> str:
    if not _SLACK_ID.fullmatch(text):
        raise of.wrong("is no id of Slack's; write it as Slack shows it, e.g. T0123ABCD")
    return text


def _person(text: str) -> str:
    if not _PERSON.fullmatch(text):
        raise of.wrong("can't be a person's name in the audit; at most 100 letters, digits, spaces and . _ : / @ + -")
    return text


Mail = Annotated[of.Text, AfterValidator(_mail)]
SlackId = Annotated[str, AfterValidator(_slack_id)]
Clock = Annotated[time, PlainValidator(_time), WithJsonSchema({"type": "string", "pattern": r"^\d?\d:\d\d$"})]


class WebhookSection(Section):
    """A signed webhook (Standard Webhooks)."""

    url: at.SecretAddress
    secret: of.SecretText


class EmailSection(Section):
    """Mail to some people, over SMTP."""

    to: Annotated[list[Mail], Field(min_length=1, max_length=50)]
    smtp: Annotated[SecretSource, PlainValidator(_mail_server), of.reference_schema(of.REFERENCE)]
    sender: Mail | None = Field(
        default=None, alias="from", description="Default: the user of the mail server, or prunella@ its host."
    )


class PersonSection(Section):
    """Who somebody in a chat is here."""

    name: Annotated[of.Text, AfterValidator(_person)]
    role: Annotated[Literal["VIEWER", "OPERATIONS", "ADMIN"], of.EXPANDED] = Field(
        description="VIEWER sees the messages and may press nothing."
    )


class ButtonsSection(Section):
    """Answers from Slack: Approve, Reject and Acknowledge, of people who are named here."""

    signing_secret: of.SecretText = Field(description="The app's signing secret, from its page Basic Information.")
    workspace: SlackId = Field(description="The only workspace that may answer (T…).")
    room: SlackId | None = Field(default=None, description="The only channel that may answer (C…).")
    users: Annotated[dict[SlackId, PersonSection], Field(min_length=1)]


class ChannelSection(Section):
    """One way to tell people; exactly one kind."""

    slack: at.SecretAddress | None = None
    teams: at.SecretAddress | None = None
    webhook: WebhookSection | None = None
    email: EmailSection | None = None
    apprise: Annotated[SecretSource | None, PlainValidator(_target), of.reference_schema(of.REFERENCE)] = None
    fallback: of.Text | None = Field(default=None, description="The channel that stands in when this one fails.")
    buttons: ButtonsSection | None = None

    def misfits(self) -> Found:
        chosen = [kind for kind in KINDS if kind in self.model_fields_set]
        if len(chosen) != 1:
            return [((), of.hidden(f"must be of exactly one kind; write one of {', '.join(KINDS)}"))]
        found: Found = []
        module, missing = _EXTRAS.get(chosen[0], ("", ""))
        if module and find_spec(module) is None:
            found.append(((chosen[0],), of.hidden(missing)))
        if self.buttons is not None and chosen != ["slack"]:
            found.append(
                (("buttons",), of.hidden("belong to slack only; remove them, or make this a channel of slack"))
            )
        return found


class EscalateSection(Section):
    """Who is told when nobody has acknowledged for a while."""

    after: Annotated[float, of.Between("1s", "7d")]
    to: Annotated[list[of.Text], Field(min_length=1)]


def _tiers(value: Any, info: ValidationInfo) -> list[EscalateSection]:
    """Read one tier, or a list of them; mistakes keep their places."""
    listed: list[tuple[tuple[int, ...], Any]] = (
        [((number,), one) for number, one in enumerate(value)] if isinstance(value, list) else [((), value)]
    )
    tiers, found = [], []
    for place, one in listed:
        try:
            tiers.append(EscalateSection.model_validate(one, context=info.context))
        except ValidationError as error:
            found += [
                ((*place, *detail["loc"]), PydanticCustomError(detail["type"], "{detail}", detail.get("ctx", {})))
                for detail in error.errors(include_url=False, include_input=False)
            ]
    if not listed:
        found = [((), of.hidden("is empty; write {after: 15m, to: [channel]}"))]
    if found:
        raise PydanticCustomError("several", "several mistakes", {"found": found})
    return tiers


_TIER_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"after": {"type": "string"}, "to": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
    "required": ["after", "to"],
    "additionalProperties": False,
}
Tiers = Annotated[
    list[EscalateSection],
    PlainValidator(_tiers),
    WithJsonSchema({"anyOf": [_TIER_SCHEMA, {"type": "array", "items": _TIER_SCHEMA, "minItems": 1}]}),
]


class RouteSection(Section):
    """Which messages go to which channels."""

    severity: Annotated[list[_Severity], Field(min_length=1)]
    to: Annotated[list[of.Text], Field(min_length=1)]
    digest: Annotated[float, of.Between("0s", "1d")] | None = Field(
        default=None, description="Gather messages for this long."
    )
    fallback: of.Text | None = Field(default=None, description="The channel that stands in for one of these.")
    escalate: Tiers | None = Field(default=None, description="Who is told next, while nobody acknowledges.")


class QuietSection(Section):
    """Hours in which nobody is woken; what comes then is sent together at their end."""

    begins: Clock = Field(alias="from")
    ends: Clock = Field(alias="to")
    zone: Annotated[of.Text, AfterValidator(_zone)]
    spares: list[_Severity] | None = Field(
        default=None, alias="except", description="What is sent all the same; default HIGH and CRITICAL."
    )

    def misfits(self) -> Found:
        same = of.hidden("is the same as from, so it would never, or always, be quiet; choose another time")
        return [(("to",), same)] if self.begins == self.ends else []


class HeartbeatSection(Section):
    """A call to a watcher outside while work is carried out; when it stays away, the watcher tells people."""

    url: at.SecretAddress
    every: Annotated[float, of.Between("10s", "1d")] | None = None


class NotifySection(Section):
    """Who hears what."""

    channels: dict[at.Name, ChannelSection] | None = None
    rules: list[RouteSection] | None = None
    quiet: QuietSection | None = None
    heartbeat: HeartbeatSection | None = None

    def misfits(self) -> Found:
        known = list(self.channels or {})
        reserved = "is the name of a channel that is always there; choose another one"
        taken: Found = [
            (("channels", name, "[key]"), of.hidden(reserved)) for name in (DASHBOARD, HEARTBEAT) if name in known
        ]
        return (
            taken
            + [(place, self._unknown(name, known)) for place, name in self._named() if name not in known]
            + [
                (("channels", name, "fallback"), of.wrong("is this channel itself; name another one"))
                for name, channel in (self.channels or {}).items()
                if channel.fallback == name
            ]
        )

    def _named(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Return every place that names a channel."""
        found: list[tuple[tuple[str | int, ...], str]] = [
            (("channels", name, "fallback"), channel.fallback)
            for name, channel in (self.channels or {}).items()
            if channel.fallback is not None
        ]
        for number, rule in enumerate(self.rules or ()):
            way: tuple[str | int, ...] = ("rules", number)
            found += [((*way, "to", position), name) for position, name in enumerate(rule.to)]
            found += [((*way, "fallback"), rule.fallback)] if rule.fallback is not None else []
            for step, tier in enumerate(rule.escalate or ()):
                listed = ("escalate", "to") if len(rule.escalate or ()) == 1 else ("escalate", step, "to")
                found += [((*way, *listed, position), name) for position, name in enumerate(tier.to)]
        return found

    @staticmethod
    def _unknown(name: str, known: list[str]) -> PydanticCustomError:
        shown = [shown_name(one) for one in known]
        allowed = f"; channels: {', '.join(shown) or 'none'}"
        return of.wrong(f"is no channel{of.nearest(name, shown) or allowed}")
