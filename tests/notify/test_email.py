"""What a mail server gets, and how its answers are read: a real one on loopback, with and without TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import re
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import loopback
from prunella.core.errors import ConfigError, Undelivered
from prunella.core.records import Notification
from prunella.core.redact import Secret
from prunella.egress import Dialer, Egress, EgressPolicy
from prunella.notify.contract import plain_text
from prunella.notify.email import EmailChannel, as_html, render, server_of

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore")]  # aiosmtpd is of 2024
TO = ("ada@example.com", "bob@example.com")
HERE = Dialer(EgressPolicy(allow_hosts=frozenset({"127.0.0.0/8", "localhost", "::1/128"})))


@dataclass
class Postbox:
    """Take mail, but refuse whom the test names; keep it."""

    refused: dict[str, str] = field(default_factory=dict)
    data_reply: str = "250 OK"
    envelopes: list[Envelope] = field(default_factory=list)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        if self.data_reply.startswith("250"):
            self.envelopes.append(envelope)
        return self.data_reply

    def mail(self) -> EmailMessage:
        """Return the only mail; no property, for aiosmtpd reads all of them."""
        (envelope,) = self.envelopes
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message


@asynccontextmanager
async def serving(
    box: Postbox, *, implicit: ssl.SSLContext | None = None, host: str = "127.0.0.1", **how: Any
) -> AsyncIterator[int]:
    """Run a mail server; give its port."""
    loop = asyncio.get_running_loop()
    made = partial(SMTP, box, hostname="localhost", loop=loop, **how)
    server = await loop.create_server(made, host, 0, ssl=implicit)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def showing(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def channel(url: str, **how: Any) -> EmailChannel:
    return EmailChannel("mail", Secret(url), how.pop("to", TO), "prunella@shop.example", **{"dialer": HERE, **how})


async def test_mail_holds_the_message_as_text_and_html(caller: Egress, notification: Notification) -> None:
    """Both parts say the same; subject, recipients, thread and id stand in the header."""
    box = Postbox()
    async with serving(box) as port:
        assert await channel(f"smtp://127.0.0.1:{port}").send(notification, caller=caller) is None
    mail = box.mail()
    assert mail["Subject"] == "[HIGH] 🚨 Integration Failure Detected"
    assert mail["From"] == "prunella <prunella@shop.example>"
    assert mail["To"] == "ada@example.com, bob@example.com"
    assert mail["Message-ID"] == "<0197-n1@shop.example>"
    assert mail["References"] == mail["In-Reply-To"] == "<incident-incident-1@shop.example>"
    text = mail.get_body(("plain",))
    html = mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert "Service: stripe\r\nError: card <declined> & refused" in text.get_content()
    assert "card &lt;declined&gt; &amp; refused" in html.get_content()
    for part in (text, html):
        assert "https://prunella.example/incidents/incident-1" in part.get_content()


def test_mail_is_in_the_words_of_document_b(notification: Notification) -> None:
    """Given a failure, the text has B's lines, in B's paragraphs."""
    facts = (
        ("Service", "stripe"), ("Category", "auth"), ("Error", "expired"), ("Recovery Plan", "refresh"),
        ("Status", "pending"), ("Event ID", "e-1"), ("Timestamp", "2026-03-01T12:30:05+00:00"),
    )  # fmt: skip
    body = render(replace(notification, facts=facts), "p@shop.example", TO).get_body(("plain",))
    assert body is not None
    assert body.get_content().startswith(
        "🚨 Integration Failure Detected\n\n"
        "Service: stripe\nCategory: auth\nError: expired\n\n"
        "Recovery Plan: refresh\nStatus: pending\n\n"
        "Event ID: e-1\nTimestamp: 2026-03-01T12:30:05+00:00\n\n"
    )


def test_our_own_link_in_a_fact_stays_one(notification: Notification) -> None:
    """Document B's line Dashboard leads somewhere, also when it is copied; somebody else's address does not."""
    assert notification.link is not None
    facts = (("Dashboard", notification.link), ("Error", "see https://evil.test"))
    text = plain_text(replace(notification, facts=facts))
    assert f"Dashboard: {notification.link}\nError: see https:\u200b//evil.test\n" in text


def test_nothing_from_outside_gets_into_a_header_or_becomes_a_link(hostile: Notification) -> None:
    """Line ends in title and ids make no header; markup is shown; the only link is our own."""
    evil = "x\r\nBcc: eve@evil.test\r\n\r\n<script>alert(1)</script>"
    mail = render(replace(hostile, title=evil, id=evil, incident_id=evil), "p@shop.example", TO)
    assert mail["Bcc"] is None
    assert "\n" not in str(mail["Subject"]) + str(mail["Message-ID"]) + str(mail["References"])
    read = message_from_bytes(mail.as_bytes(), policy=policy.default)
    assert set(read.keys()) == set(mail.keys())
    html = as_html(replace(hostile, title=evil))
    assert "<script" not in html
    assert html.count("href=") == 1
    assert 'href="https://prunella.example/' in html
    assert "https://evil.test" not in html
    assert "@everyone" not in html


@pytest.mark.parametrize("way", ["smtp", "starttls"])
async def test_mail_goes_over_tls_where_it_is_offered_and_a_password_only_then(
    way: str, caller: Egress, notification: Notification, certificate: Path
) -> None:
    """STARTTLS before the login; the server gets user and password."""
    box, shown = Postbox(), []

    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        shown.append((data.login, data.password, session.ssl is not None))
        return AuthResult(success=True)

    how: dict[str, Any] = {"tls_context": showing(certificate), "require_starttls": True, "authenticator": check}
    async with serving(box, **how) as port:
        mail = channel(f"{way}://robot:s%40cret@127.0.0.1:{port}", tls=trusting(certificate))
        await mail.send(notification, caller=caller)
    assert shown == [(b"robot", b"s@cret", True)]
    assert len(box.envelopes) == 1


async def test_mail_goes_over_tls_from_the_first_byte(
    caller: Egress, notification: Notification, certificate: Path
) -> None:
    """smtps:// speaks to a server that begins with TLS."""
    box = Postbox()
    async with serving(box, implicit=showing(certificate)) as port:
        await channel(f"smtps://127.0.0.1:{port}", tls=trusting(certificate)).send(notification, caller=caller)
    assert len(box.envelopes) == 1


async def test_starttls_insists_and_strangers_are_not_trusted(
    caller: Egress, notification: Notification, certificate: Path
) -> None:
    """Where no TLS is offered, or the certificate is nobody's, nothing is sent."""
    box = Postbox()
    async with serving(box) as port:
        with pytest.raises(Undelivered, match="STARTTLS"):
            await channel(f"starttls://127.0.0.1:{port}").send(notification, caller=caller)
    async with serving(box, tls_context=showing(certificate)) as port:
        with pytest.raises(Undelivered, match=r"(?i)certificate"):
            await channel(f"starttls://127.0.0.1:{port}").send(notification, caller=caller)
    assert box.envelopes == []


async def test_password_goes_nowhere_without_tls(caller: Egress, notification: Notification) -> None:
    """A server that is not this host and offers no TLS is not told the password; that is final."""
    box, shown = Postbox(), []

    def check(*given: Any) -> AuthResult:
        shown.append(given)
        return AuthResult(success=True)

    how: dict[str, Any] = {"auth_require_tls": False, "authenticator": check}
    async with serving(box, host="127.0.0.2", **how) as port:
        with pytest.raises(Undelivered, match="offers no TLS") as failed:
            await channel(f"smtp://robot:secret@127.0.0.2:{port}").send(notification, caller=caller)
    assert failed.value.permanent
    assert (shown, box.envelopes) == ([], [])


async def test_some_recipients_are_refused_and_the_others_get_it(caller: Egress, notification: Notification) -> None:
    """One mailbox is gone: the mail goes out, and the remark says who did not get it and why."""
    box = Postbox({"bob@example.com": "550 no such user"})
    async with serving(box) as port:
        remark = await channel(f"smtp://127.0.0.1:{port}").send(notification, caller=caller)
    assert remark == "1 of 2 recipients; refused bob@example.com: 550 no such user"
    assert box.envelopes[0].rcpt_tos == ["ada@example.com"]


@pytest.mark.parametrize(("reply", "permanent"), [("550 gone", True), ("451 greylisted, come again", False)])
async def test_all_recipients_refused_is_a_failure(
    reply: str, permanent: bool, caller: Egress, notification: Notification
) -> None:
    """For good only where every answer is of the kind that lasts."""
    async with serving(Postbox(dict.fromkeys(TO, reply))) as port:
        with pytest.raises(Undelivered) as failed:
            await channel(f"smtp://127.0.0.1:{port}").send(notification, caller=caller)
    assert failed.value.permanent is permanent
    assert reply.split(" ", 1)[1] in failed.value.reason


@pytest.mark.parametrize(("reply", "permanent"), [("554 spam", True), ("452 disk is full", False)])
async def test_refused_mail_is_a_failure_that_names_the_answer(
    reply: str, permanent: bool, caller: Egress, notification: Notification
) -> None:
    """5xx is final, 4xx is tried again (RFC 5321 section 4.2.1)."""
    async with serving(Postbox(data_reply=reply)) as port:
        with pytest.raises(Undelivered) as failed:
            await channel(f"smtp://127.0.0.1:{port}").send(notification, caller=caller)
    assert (failed.value.permanent, reply in failed.value.reason) == (permanent, True)


async def test_wrong_password_shows_no_password(caller: Egress, notification: Notification, certificate: Path) -> None:
    """A refused login is final, and its message holds neither user nor password."""

    def refuse(*_: object) -> AuthResult:
        return AuthResult(success=False, handled=False)

    how: dict[str, Any] = {"tls_context": showing(certificate), "authenticator": refuse}
    async with serving(Postbox(), **how) as port:
        with pytest.raises(Undelivered) as failed:
            url = f"smtp://robot:hunter2-secret@127.0.0.1:{port}"
            await channel(url, tls=trusting(certificate)).send(notification, caller=caller)
    assert failed.value.permanent
    assert "hunter2" not in failed.value.reason


async def test_dead_server_is_tried_again(caller: Egress, notification: Notification) -> None:
    """Nobody listens: no final failure."""
    async with serving(Postbox()) as port:
        pass
    with pytest.raises(Undelivered) as failed:
        await channel(f"smtp://127.0.0.1:{port}").send(notification, caller=caller)
    assert not failed.value.permanent


async def test_missing_extra_says_what_to_install(
    caller: Egress, notification: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without aiosmtplib the message names the command."""
    monkeypatch.setitem(sys.modules, "aiosmtplib", None)
    with pytest.raises(Undelivered, match=r'pip install "prunella\[smtp\]"'):
        await channel("smtp://127.0.0.1:1").send(notification, caller=caller)


@pytest.mark.parametrize(
    "url", ["mail.example", "http://mail.example", "smtp://", "smtp://a:0", "smtp://a:x", "smtp://a/b"]
)
def test_address_of_a_mail_server_is_checked(url: str) -> None:
    """What is none is refused with the forms that are, and without the address."""
    with pytest.raises(ConfigError, match="smtp://, starttls:// or smtps://") as wrong:
        server_of(url)
    assert "mail.example" not in str(wrong.value)


def test_address_names_way_port_user_and_password() -> None:
    """Each way has its usual port; user and password may hold quoted signs."""
    assert [server_of(f"{way}://h").port for way in ("smtp", "starttls", "smtps")] == [25, 587, 465]
    server = server_of("smtps://r%40x:p%3Aw@h:2525")
    assert (server.user, server.password, server.port) == ("r@x", Secret("p:w"), 2525)


async def test_recipient_who_is_to_come_again_is_told_later_and_nobody_twice(
    caller: Egress, notification: Notification
) -> None:
    """One is greylisted: the try names who is left, the next one goes to them alone, whatever becomes of it."""
    box = Postbox({"bob@example.com": "451 greylisted"})
    async with serving(box) as port:
        mail = channel(f"smtp://127.0.0.1:{port}")
        with pytest.raises(Undelivered) as failed:
            await mail.send(notification, caller=caller)
        assert (failed.value.left, failed.value.permanent) == (("bob@example.com",), False)
        again = replace(notification, tries=({"outcome": "failed", "left": list(failed.value.left)},))
        with pytest.raises(Undelivered) as failed:
            await mail.send(again, caller=caller)
        assert failed.value.left == ("bob@example.com",)
        box.refused["bob@example.com"] = "550 gone"
        assert "550 gone" in (await mail.send(again, caller=caller) or "")
        box.refused.clear()
        assert await mail.send(again, caller=caller) is None
    assert [one.rcpt_tos for one in box.envelopes] == [["ada@example.com"], ["bob@example.com"]]


async def test_server_without_a_goodbye_has_the_mail(
    caller: Egress, notification: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the mail and hangs up, or says nothing, at QUIT: that is a delivery, and nobody waits for it."""

    class Rude(SMTP):
        async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
            if self.transport is None or not box.envelopes[1:]:
                await asyncio.sleep(3600)
            else:
                self.transport.close()

    box = Postbox()
    monkeypatch.setattr("prunella.notify.email._GOODBYE_S", 0.05)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Rude(box, hostname="localhost", loop=loop), "127.0.0.1", 0)
    async with server:
        for _ in range(2):
            mail = channel(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            assert await mail.send(notification, caller=caller) is None
    assert len(box.envelopes) == 2


async def test_server_that_drips_is_left(
    caller: Egress, notification: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step in time and all together too slow: an end is made, and it is tried again."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        while not reader.at_eof():
            writer.write(b"250-x\r\n")
            await asyncio.sleep(0.02)

    monkeypatch.setattr("prunella.notify.email._DEADLINE_S", 0.2)
    async with loopback.serving(drip) as port:
        with pytest.raises(Undelivered) as failed:
            await channel(f"smtp://127.0.0.1:{port}").send(notification, caller=caller)
    assert not failed.value.permanent


def test_both_parts_say_the_same_however_long(hostile: Notification) -> None:
    """Forty long facts: each stands in the text as in the HTML, up to its last sign."""
    facts = tuple((f"Fact {number}", f"begins{number} {'long ' * 400} ends{number}") for number in range(50))
    mail = render(replace(hostile, title="t" * 1000, facts=facts), "p@shop.example", TO)
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    words = set(re.sub(r"<[^>]+>", " ", unescape(html.get_content())).split()) - {"Open"}
    assert {word for word in words if word not in text.get_content()} == set()
    assert {f"begins{number}" for number in range(39)} <= words


@pytest.mark.parametrize(
    ("url", "sender"),
    [
        ("smtp://me%40shop.example:pw@h", "me@shop.example"),
        ("smtp://relay.example", "prunella@relay.example"),
        ("smtp://[::1]:25", "prunella@prunella.invalid"),
        ("smtp://apikey%40:pw@relay.example", "prunella@relay.example"),
        ("smtp://a%20b%40x%0d%0aBcc%3a%20eve:pw@relay.example", "prunella@relay.example"),
    ],
)
def test_sender_is_always_an_address(notification: Notification, url: str, sender: str) -> None:
    """What is none as a user or a host does not become one, and never ends a header."""
    mail = EmailChannel("mail", Secret(url), TO, dialer=HERE)
    assert mail._sender == sender
    assert f"<{sender}>" in str(render(notification, mail._sender, TO)["From"])


# Where it may go ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leads_to", ["169.254.169.254", "127.0.0.1", "10.0.0.7", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("way", ["smtp", "starttls", "smtps"])
async def test_mail_server_whose_name_leads_inside_is_not_spoken_to(
    way: str, leads_to: str, caller: Egress, notification: Notification
) -> None:
    """By every way to a mail server: refused for good, with the address and what to write where that is meant."""
    box = Postbox()

    async def resolve(host: str, port: int) -> tuple[str, ...]:
        return ("93.184.216.34", leads_to)

    async with serving(box) as port:
        mail = channel(f"{way}://me:hunter2@mail.example:{port}", dialer=Dialer(resolve=resolve))
        with pytest.raises(
            Undelivered, match=rf"address {leads_to} is not public; add 'mail.example:{port}'"
        ) as failed:
            await mail.send(notification, caller=caller)
    assert failed.value.permanent
    assert box.envelopes == []


async def test_mail_server_in_the_house_is_allowed_by_name_alone(caller: Egress, notification: Notification) -> None:
    """`egress.allow_hosts` names it: it gets the message, over a name that leads to loopback."""
    box = Postbox()

    async def resolve(host: str, port: int) -> tuple[str, ...]:
        return ("127.0.0.1",)

    async with serving(box) as port:
        allowed = EgressPolicy(allow_hosts=frozenset({f"mail.example:{port}"}))
        mail = channel(f"smtp://mail.example:{port}", dialer=Dialer(allowed, resolve))
        assert await mail.send(notification, caller=caller) is None
    assert box.mail()["To"] == "ada@example.com, bob@example.com"


async def test_mail_server_that_was_checked_is_the_one_that_is_spoken_to(
    caller: Egress, notification: Notification
) -> None:
    """A name that turns inside at its second lookup is looked up once; the next message is refused."""
    box, looks = Postbox(), 0

    async def resolve(host: str, port: int) -> tuple[str, ...]:
        nonlocal looks
        looks += 1
        return ("127.0.0.2",) if looks == 1 else ("127.0.0.1",)

    async with serving(box, host="127.0.0.2") as port:
        dialer = Dialer(EgressPolicy(allow_hosts=frozenset({"127.0.0.2/32"})), resolve)
        mail = channel(f"smtp://mail.example:{port}", dialer=dialer)
        assert await mail.send(notification, caller=caller) is None
        assert looks == 1
        with pytest.raises(Undelivered, match=r"127\.0\.0\.1 is not public"):
            await mail.send(notification, caller=caller)
    assert len(box.envelopes) == 1
