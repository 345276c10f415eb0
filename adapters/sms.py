"""Text messages by Twilio's Messages API (https://www.twilio.com/docs/messaging/api/message-resource).

India's operators deliver only texts whose template is registered with them (DLT, TRAI's TCCCPR 2018). Entity, sender
and templates are registered with Twilio as well, which matches each text with its template. The ids are sent with the
message too, under the names that Twilio's errors 21900 (DltPEId) and 21901 (DltTemplateId) give them.
"""

import logging
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from adapters.provider_http import Answer, AnswerLost, ProviderHttp, unavailable
from adapters.providers import BadAddress, DeliveryRefused, ProviderUnavailable, Sms
from adapters.settings import Settings

log = logging.getLogger(__name__)

WEBHOOK_PATH = "/api/webhooks/twilio"

BAD_NUMBER = frozenset({21211, 21214, 21217, 21421, 21610, 21614, 21635, 30005, 30006})
"""Twilio's codes for a number that is invalid or unknown, a landline, or has unsubscribed (21610)."""
_LATER = frozenset({20429, 21611, 30001})
"""Too many requests, or a full queue."""
_SETTINGS = frozenset({20003, 20404, 21603, 21606, 21659, 21701, 21703, 21705, 21900, 21901})
"""Wrong credentials, account, sender, Messaging Service, entity id or template id."""
_REQUEST_SECONDS = 8.0
"""Time limit for one request; a message needs up to three within the lease on its delivery (adapters/outbox.py)."""
_CLOCK_SKEW = timedelta(seconds=5)
"""How much Twilio's clock may be behind ours, plus its resolution of a second."""


class Twilio:
    """Sends text messages by Twilio.

    Twilio has no idempotency key, but lists what it has accepted. When an answer was lost it is asked for a message
    with this text to this number, so that the message is not sent again.
    """

    provider = "twilio"

    def __init__(self, settings: Settings, seconds: float = _REQUEST_SECONDS) -> None:
        """Raises ValueError when a setting is missing."""
        self._sender = _sender(settings)
        self._entity = settings.sms_dlt_entity_id
        # The default is this machine, which Twilio cannot reach.
        reachable = settings.public_api_url.startswith("https://")
        self._callback = settings.public_api_url + WEBHOOK_PATH if reachable else None
        self._path = f"/2010-04-01/Accounts/{settings.twilio_account_sid}/Messages.json"
        self._http = ProviderHttp("Twilio", settings.twilio_url, seconds, auth=_credentials(settings))

    async def send(self, sms: Sms) -> str | None:
        """Returns Twilio's id of the message. Raises ProviderUnavailable, DeliveryRefused, BadAddress.

        Refuses messages to India without the ids of the operators' registry, because operators drop them.
        """
        if sms.to.startswith("+91") and not (self._entity and sms.template_id):
            raise DeliveryRefused("a text to India needs SMS_DLT_ENTITY_ID and the id of its registered template")
        if sms.tried_since is not None and (found := await self._accepted(sms, sms.tried_since)):
            return found
        started = datetime.now(UTC)
        try:
            answer = await self._http.request("POST", self._path, data=self._form(sms))
        except AnswerLost as lost:
            try:
                found = await self._accepted(sms, started)
            except ProviderUnavailable:
                raise lost from None
            if found is None:
                raise
            return found
        if answer.status not in {200, 201}:
            raise _error(answer)
        return _text(answer.body, "sid") or None

    def _form(self, sms: Sms) -> dict[str, str]:
        form = {"To": sms.to, "Body": sms.text, **self._sender}
        if sms.to.startswith("+91") and self._entity and sms.template_id:
            form |= {"DltPEId": self._entity, "DltTemplateId": sms.template_id}
        if self._callback:
            form["StatusCallback"] = f"{self._callback}?{urlencode(sms.tags)}"
        return form

    async def _accepted(self, sms: Sms, since: datetime) -> str | None:
        """The id of an accepted message to this number with this text; a trial account's text has a prefix."""
        answer = await self._http.request("GET", self._path, params={"To": sms.to, "PageSize": "50"})
        listed = answer.body.get("messages") if isinstance(answer.body, dict) else None
        if answer.status != 200:
            raise _error(answer)
        if not isinstance(listed, list):
            raise ProviderUnavailable("Twilio's list of messages broke off")
        for message in listed:
            created = _time(_text(message, "date_created"))
            if created and created >= since - _CLOCK_SKEW and _text(message, "body").endswith(sms.text):
                return _text(message, "sid") or None
        return None

    async def close(self) -> None:
        await self._http.close()


def _sender(settings: Settings) -> dict[str, str]:
    if settings.twilio_messaging_service_sid:
        return {"MessagingServiceSid": settings.twilio_messaging_service_sid}
    if settings.twilio_from:
        return {"From": settings.twilio_from}
    raise ValueError("TWILIO_ACCOUNT_SID needs TWILIO_MESSAGING_SERVICE_SID or TWILIO_FROM as well")


def _credentials(settings: Settings) -> tuple[str, str]:
    """User and password: an API key where one is set, otherwise the account's token."""
    if settings.twilio_api_key_sid and settings.twilio_api_key_secret:
        return settings.twilio_api_key_sid, settings.twilio_api_key_secret.get_secret_value()
    if settings.twilio_account_sid and settings.twilio_auth_token:
        return settings.twilio_account_sid, settings.twilio_auth_token.get_secret_value()
    raise ValueError("TWILIO_ACCOUNT_SID needs TWILIO_AUTH_TOKEN, or TWILIO_API_KEY_SID and TWILIO_API_KEY_SECRET")


def _error(answer: Answer) -> Exception:
    code = answer.body.get("code") if isinstance(answer.body, dict) else None
    if code in BAD_NUMBER:
        return BadAddress(f"Twilio does not send to the number ({code})")
    if code in _SETTINGS or answer.status in {401, 403, 404}:
        # An error in our settings: retry, so that the message is sent once they are fixed.
        log.error("Twilio answered %d (%s): check the settings TWILIO_... and the template ids", answer.status, code)
        return ProviderUnavailable(f"Twilio answered {answer.status} ({code}): its settings are wrong")
    if answer.status == 400 and code not in _LATER:
        return DeliveryRefused(f"Twilio answered 400 ({code})")
    return unavailable("Twilio", answer)


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _time(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
