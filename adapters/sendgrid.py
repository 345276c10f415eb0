"""Mail by SendGrid's v3 API (https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send)."""

import logging
from email.utils import parseaddr
from typing import Any

from adapters.provider_http import PROVIDER_SECONDS, Answer, ProviderHttp, unavailable
from adapters.providers import BadAddress, DeliveryRefused, Mail, ProviderUnavailable
from adapters.settings import Settings

log = logging.getLogger(__name__)

# SendGrid would rewrite the links, whose tokens are secret, and add an unsubscribe link beside ours.
_NO_TRACKING = {
    name: {"enable": False} for name in ("click_tracking", "open_tracking", "subscription_tracking", "ganalytics")
}


class SendGrid:
    """Sends mails by SendGrid.

    SendGrid has no idempotency key, and its API to search mails is an add-on: a mail whose answer was lost is sent
    again, with the same Message-ID.
    """

    provider = "sendgrid"

    def __init__(self, settings: Settings, seconds: float = PROVIDER_SECONDS) -> None:
        """Raises ValueError without SENDGRID_API_KEY."""
        if settings.sendgrid_api_key is None:
            raise ValueError("SENDGRID_API_KEY is not set")
        name, address = parseaddr(settings.mail_from)
        self._from = {"email": address, **({"name": name} if name else {})}
        self._http = ProviderHttp(
            "SendGrid", settings.sendgrid_url, seconds, token=settings.sendgrid_api_key.get_secret_value()
        )

    async def send(self, mail: Mail) -> str | None:
        """Returns SendGrid's id of the mail. Raises ProviderUnavailable, DeliveryRefused, BadAddress."""
        answer = await self._http.request("POST", "/v3/mail/send", json=self._payload(mail))
        if answer.status == 202:
            return answer.headers.get("x-message-id")
        raise _error(answer)

    def _payload(self, mail: Mail) -> dict[str, Any]:
        content = [{"type": "text/plain", "value": mail.text}]
        if mail.html is not None:
            content.append({"type": "text/html", "value": mail.html})
        return {
            "personalizations": [{"to": [{"email": mail.to}]}],
            "from": self._from,
            "subject": mail.subject,
            "content": content,
            "headers": {"Message-ID": f"<{mail.message_id}>", **mail.headers},
            "custom_args": dict(mail.tags),
            "tracking_settings": _NO_TRACKING,
        }

    async def close(self) -> None:
        await self._http.close()


def _error(answer: Answer) -> Exception:
    fields = _fields(answer.body)
    if answer.status == 400 and any(field.startswith("personalizations.0.to") for field in fields):
        return BadAddress("SendGrid does not accept the address")
    if answer.status in {401, 403, 404} or (answer.status == 400 and any(field.startswith("from") for field in fields)):
        # An error in our settings: retry, so that the mail is sent once they are fixed.
        log.error("SendGrid answered %d: check SENDGRID_API_KEY, SENDGRID_URL and MAIL_FROM", answer.status)
        return ProviderUnavailable(f"SendGrid answered {answer.status}: its settings are wrong")
    if answer.status in {400, 413}:
        named = ", ".join(sorted(fields))
        return DeliveryRefused(f"SendGrid answered {answer.status}" + (f" because of {named}" if named else ""))
    return unavailable("SendGrid", answer)


def _fields(body: Any) -> set[str]:
    """The fields that an error names; the messages beside them may contain addresses."""
    errors = body.get("errors") if isinstance(body, dict) else None
    named = [error.get("field") for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    return {field for field in named if isinstance(field, str)}
