"""Mail by SMTP."""

import asyncio
import re
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import formataddr, formatdate, parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib

from adapters.providers import BadAddress, DeliveryRefused, Mail, ProviderUnavailable
from adapters.settings import Settings

_SERVICE_NOT_AVAILABLE = 421
"""Reply code of a server that closes the connection (RFC 5321, 3.8)."""
_REPLY_SECONDS = 10.0
"""Time limit for one reply; a mail server may make DNS queries before it replies."""
MAIL_SECONDS = 20.0
"""Time limit for one mail, from connecting to its acceptance."""
_NO_SUCH_ADDRESS = re.compile(r"5\.1\.(1|2|3|6|10)\b")
"""Enhanced status codes for an address that does not exist, is malformed, has moved, or whose domain takes no mail
(RFC 3463, 3.2; RFC 7505, 4.2). A 550 without one may as well be a policy of the server."""
_HEADERS = compat32.clone(max_line_length=None)
"""Does not fold headers: a URL in one would be broken by it."""


class Smtp:
    """Sends mails over a pool of idle SMTP connections, one mail and one recipient at a time on each."""

    provider = "smtp"

    def __init__(
        self, settings: Settings, *, mail_seconds: float = MAIL_SECONDS, reply_seconds: float = _REPLY_SECONDS
    ) -> None:
        name, self._sender = parseaddr(settings.mail_from)
        self._from = formataddr((name, self._sender))
        self._server = urlsplit(settings.smtp_url)
        self._mail_seconds, self._reply_seconds = mail_seconds, reply_seconds
        self._idle: list[aiosmtplib.SMTP] = []

    async def send(self, mail: Mail) -> None:
        """Send one mail. Raises ProviderUnavailable, DeliveryRefused, BadAddress."""
        written = self._written(mail)
        try:
            async with asyncio.timeout(self._mail_seconds):
                await self._deliver(mail.to, written)
        # `from None`: the reply may contain the address, and Temporal stores the causes of failures.
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _recipient_refused(error.recipients[0]) from None
        except aiosmtplib.SMTPNotSupported:
            raise DeliveryRefused("the mail server does not take addresses in other scripts than ASCII") from None
        except aiosmtplib.SMTPDataError as error:
            answered = f"the mail server answered {error.code}"
            raise (DeliveryRefused if error.code >= 500 else ProviderUnavailable)(answered) from None
        except aiosmtplib.SMTPResponseException as error:
            # A 5xx reply to AUTH or MAIL FROM is an error in our settings: retry, so that the mail is sent once fixed.
            raise ProviderUnavailable(f"the mail server answered {error.code} {error.message}") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise ProviderUnavailable(f"the mail server is unavailable: {type(error).__name__}") from None
        except ValueError:
            raise BadAddress("the address cannot be written as SMTP requires") from None

    def _written(self, mail: Mail) -> bytes:
        # Not `EmailMessage`: it parses each header that it is given, which costs more than sending the mail.
        text = MIMEText(mail.text, "plain", "utf-8", policy=_HEADERS)
        written: MIMEText | MIMEMultipart = text
        if mail.html is not None:
            # The last part is the one that programs prefer (RFC 2046, section 5.1.4).
            written = MIMEMultipart(
                "alternative", _subparts=[text, MIMEText(mail.html, "html", "utf-8")], policy=_HEADERS
            )
        written["From"], written["To"] = self._from, mail.to
        written["Subject"] = Header(" ".join(mail.subject.split())).encode()
        written["Message-ID"], written["Date"] = f"<{mail.message_id}>", formatdate()
        for name, value in mail.headers.items():
            written[name] = value
        return written.as_bytes()

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
            await connection.sendmail(self._sender, to, mail, mail_options=() if to.isascii() else ("SMTPUTF8",))
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
            timeout=self._reply_seconds,
        )

    async def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _recipient_refused(reply: aiosmtplib.SMTPRecipientRefused) -> Exception:
    if reply.code < 500:
        return ProviderUnavailable(f"the mail server rejected the recipient temporarily: {reply.code}")
    if code := _NO_SUCH_ADDRESS.match(reply.message):
        return BadAddress(f"the mail server does not know the recipient: {reply.code} {code[0]}")
    return DeliveryRefused(f"the mail server rejected the recipient: {reply.code}")
