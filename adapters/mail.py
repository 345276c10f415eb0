"""Mail by SMTP."""

import asyncio
from email.header import Header
from email.mime.text import MIMEText
from email.utils import formataddr, formatdate, parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib

from adapters.settings import Settings

_CLOSING = 421
"""What a server says that has had enough of a connection (RFC 5321, 3.8)."""
_SECONDS = 10
"""A mail server may look up names before it answers; longer than this it is unavailable."""
MAIL_SECONDS = 20
"""For a whole mail, from connecting to its acceptance."""


class MailRefused(Exception):
    """The mail server will never take this mail to this recipient (a 5xx reply)."""


class MailUnavailable(Exception):
    """The mail server did not take the mail now; it may later."""


class Mailer:
    """Sends one mail at a time to one recipient, over connections that are kept for the next mail."""

    def __init__(self, settings: Settings) -> None:
        name, self._sender = parseaddr(settings.mail_from)
        self._from = formataddr((name, self._sender))
        self._server = urlsplit(settings.smtp_url)
        self._idle: list[aiosmtplib.SMTP] = []

    async def send(self, *, to: str, subject: str, text: str, message_id: str) -> None:
        """Hand over one mail. Raises MailRefused, MailUnavailable.

        `message_id` names it for good, so that a repetition can be told.
        """
        # `EmailMessage` parses each header that it is given, which costs more than handing the mail over.
        mail = MIMEText(text, "plain", "utf-8")
        mail["From"], mail["To"], mail["Subject"] = self._from, to, Header(subject).encode()
        mail["Message-ID"], mail["Date"] = f"<{message_id}>", formatdate()
        try:
            async with asyncio.timeout(MAIL_SECONDS):
                await self._hand_over(to, mail.as_bytes())
        # What the server says may name the recipient, and causes are kept by Temporal.
        except aiosmtplib.SMTPRecipientsRefused as error:
            if all(refusal.code >= 500 for refusal in error.recipients):
                raise MailRefused("the mail server refuses the recipient") from None
            raise MailUnavailable("the mail server puts the recipient off") from None
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= 500 and isinstance(error, aiosmtplib.SMTPDataError):
                raise MailRefused(f"the mail server answered {error.code}") from None
            # Who may not sign in, or not send as MAIL_FROM, has settings to mend, and then the mail goes.
            raise MailUnavailable(f"the mail server answered {error.code} {error.message}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailUnavailable(type(error).__name__) from error

    async def _hand_over(self, to: str, mail: bytes) -> None:
        while self._idle:
            try:
                return await self._over(self._idle.pop(), to, mail)
            except aiosmtplib.SMTPServerDisconnected:
                continue  # closed as it lay idle; if a mail was lost on the way, its Message-ID tells the repetition
            except aiosmtplib.SMTPResponseException as error:
                if error.code != _CLOSING:
                    raise
        connection = self._new_connection()
        await connection.connect()
        await self._over(connection, to, mail)

    async def _over(self, connection: aiosmtplib.SMTP, to: str, mail: bytes) -> None:
        in_order = False
        try:
            await connection.sendmail(self._sender, to, mail)
            in_order = True
        except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused):
            in_order = True  # the server said no, and `sendmail` has said RSET
            raise
        finally:
            # A conversation that broke off in the middle would answer the next mail with what was meant for this one.
            if in_order and connection.is_connected:
                self._idle.append(connection)
            else:
                connection.close()

    def _new_connection(self) -> aiosmtplib.SMTP:
        user, password = self._server.username, self._server.password
        return aiosmtplib.SMTP(
            hostname=self._server.hostname,
            port=self._server.port or (465 if self._server.scheme == "smtps" else 587),
            username=unquote(user) if user else None,
            password=unquote(password) if password else None,
            use_tls=self._server.scheme == "smtps",
            timeout=_SECONDS,
        )

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
