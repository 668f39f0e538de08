"""The section `notify`: what may stand there, what it becomes, and what each mistake is told as."""

from __future__ import annotations

import sys
from datetime import time
from pathlib import Path

import pytest

from prunella.core.errors import ConfigError
from prunella.core.records import Severity
from prunella.core.redact import Secret
from prunella.core.services import SecretRef
from prunella.engine.notices import Route, Routes, Tier
from prunella.engine.quiet import Quiet
from prunella.settings import Buttons, ChannelSettings, HeartbeatSettings, Settings, load
from prunella.settings.telling import Person

WHOLE = """
notify:
  channels:
    ops:
      slack: secret://slack/webhook
      fallback: mail
      buttons:
        signing_secret: "${SIGNING}"
        workspace: T0123
        room: C0123
        users: {U1: {name: ada@example.com, role: OPERATIONS}, U2: {name: bob, role: ADMIN}}
    mail: {email: {to: [ops@example.com, ada@example.com, ops@example.com], smtp: "${SMTP_URL}", from: bot@example.com}}
    pager: {apprise: "${PAGER_URL}"}
    boss: {apprise: secret://boss}
  rules:
    - severity: [HIGH, CRITICAL]
      to: [ops, mail]
      fallback: pager
      escalate: [{after: 15m, to: [pager]}, {after: 1h, to: [boss, ops]}]
    - {severity: [LOW], to: [ops], digest: 10m}
  quiet: {from: 22:00, to: "07:00", zone: Europe/Berlin, except: [CRITICAL]}
  heartbeat: {url: "${WATCHER}", every: 30s}
"""
ENVIRON = {
    "SIGNING": "signing-abcdef-1",
    "SMTP_URL": "smtps://robot:pass-abcdef-2@mail.example",
    "PAGER_URL": "pagerduty://abcdef-3",
    "WATCHER": "https://watcher.example/abcdef-4",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str) -> Settings:
    Path("prunella.yaml").write_text(text)
    return load(Path("prunella.yaml"), ENVIRON)


def test_whole_section_becomes_records(home: Path) -> None:
    """Channels, stand-ins, tiers, quiet hours, buttons and the sign of life; nothing is left unused."""
    read = loaded(WHOLE)
    assert read.warnings == ()
    assert read.channels["ops"].buttons == Buttons(
        signing_secret=Secret("signing-abcdef-1"),
        workspace="T0123",
        room="C0123",
        users={"U1": Person(name="ada@example.com", role="OPERATIONS"), "U2": Person(name="bob", role="ADMIN")},
    )
    assert read.channels["mail"] == ChannelSettings(
        kind="email",
        url=Secret(ENVIRON["SMTP_URL"]),
        to=("ops@example.com", "ada@example.com"),
        sender="bot@example.com",
    )
    assert read.channels["boss"] == ChannelSettings(kind="apprise", url=SecretRef("boss"))
    grave = frozenset({Severity.HIGH, Severity.CRITICAL})
    tiers = (Tier(900.0, ("pager",)), Tier(3600.0, ("boss", "ops")))
    assert read.routes == Routes(
        (
            Route(grave, ("ops", "mail"), tiers=tiers, fallback="pager"),
            Route(frozenset({Severity.LOW}), ("ops",), 600.0),
        ),
        quiet=Quiet(begins=time(22), ends=time(7), zone="Europe/Berlin", spares=frozenset({Severity.CRITICAL})),
        fallbacks={"ops": "mail"},
    )
    assert read.routes.fallback("ops", Severity.HIGH) == "pager"
    assert read.routes.fallback("ops", Severity.LOW) == "mail"
    assert read.routes.fallback("pager", Severity.HIGH) is None
    assert read.heartbeat == HeartbeatSettings(url=Secret(ENVIRON["WATCHER"]), every_s=30.0)
    assert "abcdef" not in repr(read)
    assert {Secret("pass-abcdef-2"), Secret("signing-abcdef-1"), Secret("pagerduty://abcdef-3")} <= set(read.secrets)


def test_defaults_are_what_people_expect(home: Path) -> None:
    """HIGH and CRITICAL wake people; the heart beats once a minute; nothing said is nothing done."""
    read = loaded('notify: {quiet: {from: 9:00, to: 10:00, zone: UTC}, heartbeat: {url: "${WATCHER}"}}')
    assert read.routes.quiet == Quiet(begins=time(9), ends=time(10), zone="UTC")
    assert read.heartbeat is not None
    assert read.heartbeat.every_s == 60.0
    assert loaded("").heartbeat is None
    assert loaded("").routes == Routes()


ONE = "ops: {slack: secret://ops}"
CASES = [
    (
        "a tier for an unknown channel",
        f"notify: {{channels: {{{ONE}}}, rules: [{{severity: [HIGH], to: [ops], escalate: {{after: 1m, to: [oops]}}}}]}}",
        "notify.rules[0].escalate.to[0]: 'oops' is no channel; did you mean ops?",
    ),
    (
        "a list of tiers with a mistake",
        f"notify: {{channels: {{{ONE}}}, rules: [{{severity: [HIGH], to: [ops], escalate: [{{after: soon, to: [ops]}}]}}]}}",
        "notify.rules[0].escalate[0].after: 'soon' is not a duration; write e.g. 500ms, 10s, 30m, 4h or 7d",
    ),
    (
        "a misspelt name in a tier",
        f"notify: {{channels: {{{ONE}}}, rules: [{{severity: [HIGH], to: [ops], escalate: {{after: 1m, to: [ops], untl: 2h}}}}]}}",
        "notify.rules[0].escalate.untl: unknown name; allowed: after, to",
    ),
    (
        "no tiers",
        f"notify: {{channels: {{{ONE}}}, rules: [{{severity: [HIGH], to: [ops], escalate: []}}]}}",
        "notify.rules[0].escalate: is empty; write {after: 15m, to: [channel]}",
    ),
    (
        "a stand-in that nobody is",
        "notify: {channels: {ops: {slack: secret://ops, fallback: mial}, mail: {teams: secret://t}}}",
        "notify.channels.ops.fallback: 'mial' is no channel; did you mean mail?",
    ),
    (
        "a channel that stands in for itself",
        "notify: {channels: {ops: {slack: secret://ops, fallback: ops}}}",
        "notify.channels.ops.fallback: 'ops' is this channel itself; name another one",
    ),
    (
        "buttons that are not Slack's",
        (
            "notify: {channels: {ops: {teams: secret://ops, buttons: "
            "{signing_secret: secret://s, workspace: T1, users: {U1: {name: a, role: ADMIN}}}}}}"
        ),
        "notify.channels.ops.buttons: belong to slack only; remove them, or make this a channel of slack",
    ),
    (
        "a role that nobody has",
        (
            "notify: {channels: {ops: {slack: secret://ops, buttons: "
            "{signing_secret: secret://s, workspace: T1, users: {U1: {name: a, role: BOSS}}}}}}"
        ),
        "notify.channels.ops.buttons.users.U1.role: 'BOSS' is not one of VIEWER, OPERATIONS, ADMIN",
    ),
    (
        "a workspace's name in place of its id",
        (
            "notify: {channels: {ops: {slack: secret://ops, buttons: "
            "{signing_secret: secret://s, workspace: acme, users: {U1: {name: a, role: ADMIN}}}}}}"
        ),
        "notify.channels.ops.buttons.workspace: 'acme' is no id of Slack's; write it as Slack shows it, e.g. T0123ABCD",
    ),
    (
        "mail to no address",
        'notify: {channels: {m: {email: {to: ["Ada <ada@x.example>"], smtp: secret://smtp}}}}',
        (
            "notify.channels.m.email.to[0]: 'Ada <ada@x.example>' is no e-mail address; "
            "write one as ops@example.com, without a name"
        ),
    ),
    (
        "mail over nothing",
        "notify: {channels: {m: {email: {to: [a@x.example], smtp: '${WATCHER}'}}}}",
        (
            "notify.channels.m.email.smtp: the value is no address of a mail server; "
            "write smtp://, starttls:// or smtps:// and user:password@host:port"
        ),
    ),
    (
        "an address of a mail server in plain text",
        "notify: {channels: {m: {email: {to: [a@x.example], smtp: 'smtp://u:p@h'}}}}",
        (
            "notify.channels.m.email.smtp: a secret stands here in plain text; put it into the environment and write "
            "${M_SMTP}, or run: prunella secret set m/smtp, and write secret://m/smtp"
        ),
    ),
    (
        "a time that is none",
        "notify: {quiet: {from: 25:00, to: 07:00, zone: UTC}}",
        "notify.quiet.from: '25:00' is no time of day; write it in quotes, from 00:00 to 23:59",
    ),
    (
        "a zone that is none",
        "notify: {quiet: {from: 22:00, to: 07:00, zone: Berlin}}",
        (
            "notify.quiet.zone: 'Berlin' is no known time zone; "
            "write e.g. Europe/Berlin or UTC (where none is known: pip install tzdata)"
        ),
    ),
    (
        "hours of no length",
        "notify: {quiet: {from: 07:00, to: 07:00, zone: UTC}}",
        "notify.quiet.to: is the same as from, so it would never, or always, be quiet; choose another time",
    ),
    (
        "a channel named as the sign of life",
        "notify: {channels: {heartbeat: {slack: secret://ops}}}",
        "notify.channels.heartbeat: is the name of a channel that is always there; choose another one",
    ),
    (
        "a heart that races",
        "notify: {heartbeat: {url: '${WATCHER}', every: 1s}}",
        "notify.heartbeat.every: '1s' is out of range; at least 10s, at most 1d",
    ),
]


@pytest.mark.parametrize(("text", "told"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_mistake_is_told_with_place_fact_and_next_step(text: str, told: str, home: Path) -> None:
    """Each with file, line and column."""
    with pytest.raises(ConfigError) as refused:
        loaded(text)
    (problem,) = refused.value.problems
    place, _, words = problem.partition(" ")
    assert words == told
    assert place.startswith("prunella.yaml:1:")


def test_key_in_the_place_of_a_channels_name_is_not_shown(home: Path) -> None:
    """A message that lists the channels there are scrubs their names."""
    key = "sk_live_51HunterHunterHunter2"
    with pytest.raises(ConfigError) as refused:
        loaded(f"notify: {{channels: {{ops: {{slack: secret://o, fallback: x}}, {key}: {{slack: secret://t}}}}}}")
    (problem,) = refused.value.problems
    assert "'x' is no channel; channels: ops, [REDACTED:" in problem
    assert key not in problem


@pytest.mark.parametrize(
    ("module", "kind", "given"),
    [
        ("aiosmtplib", "email", "{to: [a@x.example], smtp: secret://smtp}"),
        ("apprise", "apprise", "secret://pager"),
    ],
)
def test_missing_extra_is_told_before_anything_starts(
    module: str, kind: str, given: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel whose library is not installed is a mistake in the file, with the command that helps."""
    monkeypatch.setitem(sys.modules, module, None)
    extra = {"email": "smtp"}.get(kind, kind)
    with pytest.raises(ConfigError) as refused:
        loaded(f"notify: {{channels: {{ops: {{{kind}: {given}}}}}}}")
    (problem,) = refused.value.problems
    told = f'notify.channels.ops.{kind}: the extra {extra} is not installed; run: pip install "prunella[{extra}]"'
    assert problem.partition(" ")[2] == told
