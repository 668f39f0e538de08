"""A notification as an e-mail: text and HTML, over SMTP, one message to all who are configured.

Nothing from outside can end a header, name another recipient, or make a link. A password goes over TLS only.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from prunella.core.errors import ConfigError, EgressRefused, Undelivered
from prunella.core.records import Notification
from prunella.core.redact import Secret
from prunella.egress import Caller, Dialer
from prunella.notify import contract

if TYPE_CHECKING:
    from aiosmtplib import SMTPResponseException

PORTS = {"smtp": 25, "starttls": 587, "smtps": 465}
"""Ways to a mail server: `smtp` takes TLS where it is offered, `starttls` insists on it, `smtps` begins with it."""
MISSING = 'the extra smtp is not installed; run: pip install "prunella[smtp]"'
_TIMEOUT_S = 15.0
_DEADLINE_S = 45.0  # for all steps together: a server that is slow at each of them would hold a worker for minutes
_GOODBYE_S = 2.0
_SUBJECT_CHARS_MAX = 180
_SAID_CHARS_MAX = 200
_PUBLIC_ONLY = Dialer()
_WELL_NEAR = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mail is handed over; `way` is one of `PORTS`."""

    way: str
    host: str
    port: int
    user: str | None
    password: Secret | None


def server_of(url: str) -> MailServer:
    """Read smtp://user:password@host:port; `ConfigError` says what is wrong, without showing it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in PORTS or not parts.hostname or port == 0 or parts.path.strip("/") or parts.query:
        ways = "smtp://, starttls:// or smtps://"
        raise ConfigError([f"is no address of a mail server; write {ways} and user:password@host:port"])
    return MailServer(
        way=parts.scheme,
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        user=unquote(parts.username) if parts.username else None,
        password=Secret(unquote(parts.password)) if parts.password else None,
    )


class EmailChannel:
    """Send to some people by e-mail.

    Args:
        sender: stands in From; None: the user of the mail server where that is an address, or else prunella@ its host.
        dialer: connects to the mail server; the default reaches public addresses only.
        tls: what certificates are trusted; None: as the system does.
    """

    def __init__(
        self,
        name: str,
        url: Secret,
        to: Sequence[str],
        sender: str | None = None,
        *,
        dialer: Dialer = _PUBLIC_ONLY,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self._server = server_of(url.reveal())
        self._to = tuple(to)
        self._sender = sender or _sender_of(self._server)
        self._dialer = dialer
        self._tls = tls

    async def send(self, notification: Notification, *, caller: Caller) -> str | None:
        """Try once; say who was refused for good, and fail for those alone who may be told later."""
        told_later = notification.tries[-1].get("left", ()) if notification.tries else ()
        to = tuple(one for one in self._to if one in told_later) or self._to
        try:
            refused = await self._try(render(notification, self._sender, self._to), to)
        except Undelivered as error:
            if to == self._to:
                raise
            if error.permanent:
                return error.reason
            raise Undelivered(error.reason, left=to) from None
        if not refused:
            return None
        said = "; ".join(f"{who}: {reply.code} {_shown(reply.message)}" for who, reply in refused.items())
        remark = f"{len(to) - len(refused)} of {len(to)} recipients; refused {said}"
        later = tuple(who for who, reply in refused.items() if reply.code < 500)
        if later:
            raise Undelivered(f"{self.name}: {remark}", left=later)
        return remark

    async def _try(self, message: EmailMessage, to: Sequence[str]) -> dict[str, Any]:
        """Hand it over and return who was refused; whatever goes wrong is `Undelivered`."""
        try:
            import aiosmtplib as smtp
        except ImportError:
            raise Undelivered(f"{self.name}: {MISSING}", permanent=True) from None
        try:
            return await self._hand_over(smtp, message, to)
        except smtp.SMTPRecipientsRefused as error:
            raise self._all_refused(error.recipients) from None
        except smtp.SMTPResponseException as error:
            raise self._said(error) from None
        except EgressRefused as error:
            raise Undelivered(f"{self.name}: {error}", permanent=True) from None
        except (smtp.SMTPException, OSError, ValueError) as error:
            what = f"{type(error).__name__}: {_shown(str(error))}"
            raise Undelivered(f"{self.name}: the mail server did not take it ({what})") from None

    async def _hand_over(self, smtp: Any, message: EmailMessage, to: Sequence[str]) -> dict[str, Any]:
        """Speak SMTP (RFC 5321) and return who was refused, and how."""
        server = self._server
        upgrade = {"smtps": False, "starttls": True, "smtp": None}[server.way]
        async with asyncio.timeout(_TIMEOUT_S):
            line = await self._dialer.dial(server.host, server.port)
        client = smtp.SMTP(
            hostname=server.host,  # whom the certificate has to name
            sock=line,
            use_tls=server.way == "smtps",
            start_tls=upgrade,
            tls_context=self._tls or ssl.create_default_context(),
            timeout=_TIMEOUT_S,
        )
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await client.connect()
                if server.user is not None and server.password is not None:
                    if client.get_transport_info("sslcontext") is None and server.host not in _WELL_NEAR:
                        words = "offers no TLS, and a password goes over nothing else; use starttls:// or smtps://"
                        raise Undelivered(f"{self.name}: the mail server {words}", permanent=True)
                    await client.login(server.user, server.password.reveal())
                refused: dict[str, Any]
                refused, _ = await client.send_message(message, recipients=list(to))
            with suppress(smtp.SMTPException, OSError):  # it has the message: no goodbye is no failure
                await client.quit(timeout=_GOODBYE_S)
            return refused
        finally:
            client.close()

    def _all_refused(self, recipients: Sequence[Any]) -> Undelivered:
        said = "; ".join(f"{one.recipient}: {one.code} {_shown(one.message)}" for one in recipients)
        permanent = all(one.code >= 500 for one in recipients)
        return Undelivered(f"{self.name}: the mail server refused every recipient ({said})", permanent=permanent)

    def _said(self, error: SMTPResponseException) -> Undelivered:
        """Return what an answer means: from 500 on, another try ends the same (RFC 5321 section 4.2.1)."""
        what = f"{error.code} {_shown(error.message)}"
        return Undelivered(f"{self.name}: the mail server answered {what}", permanent=500 <= error.code < 600)


def render(notification: Notification, sender: str, to: Sequence[str]) -> EmailMessage:
    """Return the message; all of one incident form a thread, and a repeated delivery is recognised by its id."""
    domain = Address(addr_spec=sender).domain or "prunella.invalid"
    subject = contract.cut(f"[{notification.severity}] {contract.heading(notification)}", _SUBJECT_CHARS_MAX)
    message = EmailMessage()
    message["Subject"] = contract.one_line(subject)
    message["From"] = Address("prunella", addr_spec=sender)
    message["To"] = [Address(addr_spec=one) for one in to]
    message["Date"] = format_datetime(notification.created_at)
    message["Message-ID"] = f"<{_safe(notification.id)}@{domain}>"
    if notification.incident_id is not None:
        thread = f"<incident-{_safe(notification.incident_id)}@{domain}>"
        message["In-Reply-To"] = thread
        message["References"] = thread
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answers it
    message.set_content(contract.plain_text(notification))
    message.add_alternative(as_html(notification), subtype="html")
    return message


def as_html(notification: Notification) -> str:
    """Return the message as HTML: no picture, no script, no address but our own link."""
    facts = (contract.fact_of(notification, *fact) for fact in contract.facts_of(notification))
    rows = "".join(
        f'<tr><th align="left" valign="top">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in facts
    )
    link = contract.web_link(notification.link)
    opened = f'<p><a href="{escape(link)}">Open</a></p>' if link else ""
    head, foot = escape(contract.title_line(notification)), escape(contract.last_line(notification))
    body = f'<h2>{head}</h2><table cellpadding="4">{rows}</table>{opened}<p><small>{foot}</small></p>'
    return f"<!doctype html><html><head><title>{head}</title></head><body>{body}</body></html>"


def _sender_of(server: MailServer) -> str:
    """Return who writes, where nobody said: the first that is an address at all."""
    for one in (server.user or "", f"prunella@{server.host}"):
        with suppress(ValueError, IndexError, MessageError):  # what Address makes of text that is none
            if "@" in one and one.isascii() and Address(addr_spec=one).domain:
                return one
    return "prunella@prunella.invalid"


def _safe(text: str) -> str:
    return "".join(
        character for character in text if character.isascii() and (character.isalnum() or character in "-_")
    )


def _shown(text: str) -> str:
    return contract.cut(contract.one_line(text), _SAID_CHARS_MAX)
