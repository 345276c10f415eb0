"""Mail by SMTP."""

from email.message import EmailMessage
from email.utils import formatdate
from urllib.parse import unquote, urlsplit

import aiosmtplib

from adapters.settings import Settings

_SECONDS = 10
"""A mail server may look up names before it answers; longer than this it is away."""


class MailRefused(Exception):
    """The mail server will never take this mail to this recipient (a 5xx reply)."""


class MailAway(Exception):
    """The mail server did not take the mail now; it may later."""


class Mailer:
    """Sends one mail at a time to one recipient."""

    def __init__(self, settings: Settings) -> None:
        self._sender = settings.mail_from
        self._server = urlsplit(settings.smtp_url)

    async def send(self, *, to: str, subject: str, text: str, message_id: str) -> None:
        """Hand over one mail. Raises MailRefused, MailAway.

        `message_id` names it for good, so that a repetition can be told.
        """
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._sender, to, subject
        mail["Message-ID"], mail["Date"] = f"<{message_id}>", formatdate()
        mail.set_content(text)
        user, password = self._server.username, self._server.password
        try:
            await aiosmtplib.send(
                mail,
                hostname=self._server.hostname,
                port=self._server.port or (465 if self._server.scheme == "smtps" else 587),
                username=unquote(user) if user else None,
                password=unquote(password) if password else None,
                use_tls=self._server.scheme == "smtps",
                timeout=_SECONDS,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            if all(refusal.code >= 500 for refusal in error.recipients):
                raise MailRefused("the mail server refuses the recipient") from error
            raise MailAway("the mail server puts the recipient off") from error
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= 500:
                raise MailRefused(f"the mail server answered {error.code}") from error
            raise MailAway(f"the mail server answered {error.code}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailAway(type(error).__name__) from error
