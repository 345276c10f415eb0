"""Mail by SMTP."""

import asyncio
from email.header import Header
from email.mime.text import MIMEText
from email.utils import formataddr, formatdate, parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib

from adapters.settings import Settings

_SERVICE_NOT_AVAILABLE = 421
"""Reply code of a server that closes the connection (RFC 5321, 3.8)."""
_REPLY_SECONDS = 10
"""Time limit for one reply; a mail server may make DNS queries before it replies."""
MAIL_SECONDS = 20
"""Time limit for one mail, from connecting to its acceptance."""


class MailRefused(Exception):
    """The mail server rejected this mail permanently (a 5xx reply)."""


class MailUnavailable(Exception):
    """The mail server is unavailable or rejected the mail temporarily; it may be sent again later."""


class Mailer:
    """Sends mails over a pool of idle SMTP connections, one mail and one recipient at a time on each."""

    def __init__(self, settings: Settings) -> None:
        name, self._sender = parseaddr(settings.mail_from)
        self._from = formataddr((name, self._sender))
        self._server = urlsplit(settings.smtp_url)
        self._idle: list[aiosmtplib.SMTP] = []

    async def send(self, *, to: str, subject: str, text: str, message_id: str) -> None:
        """Send one mail. Raises MailRefused, MailUnavailable.

        A mail that is sent again has the same `message_id`, so that recipients can drop the duplicate.
        """
        # Not `EmailMessage`: it parses each header that it is given, which costs more than sending the mail.
        mail = MIMEText(text, "plain", "utf-8")
        mail["From"], mail["To"], mail["Subject"] = self._from, to, Header(subject).encode()
        mail["Message-ID"], mail["Date"] = f"<{message_id}>", formatdate()
        try:
            async with asyncio.timeout(MAIL_SECONDS):
                await self._deliver(to, mail.as_bytes())
        # `from None`: the reply may contain the address, and Temporal stores the causes of failures.
        except aiosmtplib.SMTPRecipientsRefused as error:
            if all(refusal.code >= 500 for refusal in error.recipients):
                raise MailRefused("the mail server rejected the recipient") from None
            raise MailUnavailable("the mail server rejected the recipient temporarily") from None
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= 500 and isinstance(error, aiosmtplib.SMTPDataError):
                raise MailRefused(f"the mail server answered {error.code}") from None
            # A 5xx reply to AUTH or MAIL FROM is an error in our settings: retry, so that the mail is sent once fixed.
            raise MailUnavailable(f"the mail server answered {error.code} {error.message}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailUnavailable(type(error).__name__) from error

    async def _deliver(self, to: str, mail: bytes) -> None:
        while self._idle:
            try:
                return await self._deliver_over(self._idle.pop(), to, mail)
            except aiosmtplib.SMTPServerDisconnected:
                continue  # closed while idle; if the mail was accepted all the same, its Message-ID shows the duplicate
            except aiosmtplib.SMTPResponseException as error:
                if error.code != _SERVICE_NOT_AVAILABLE:
                    raise
        connection = self._new_connection()
        await connection.connect()
        await self._deliver_over(connection, to, mail)

    async def _deliver_over(self, connection: aiosmtplib.SMTP, to: str, mail: bytes) -> None:
        session_usable = False
        try:
            await connection.sendmail(self._sender, to, mail)
            session_usable = True
        except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused):
            session_usable = True  # a rejection, after which `sendmail` has sent RSET
            raise
        finally:
            # After an interrupted command the next reply on this connection would belong to the command before.
            if session_usable and connection.is_connected:
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
            timeout=_REPLY_SECONDS,
        )

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
