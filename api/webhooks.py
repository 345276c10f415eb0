"""Reports of deliveries by SendGrid and Twilio: /api/webhooks. Their documents describe the requests, ours does not."""

import base64
import hmac
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from fastapi import APIRouter, Request, Response

from adapters import delivery_reports
from adapters.delivery_reports import Report, Reported
from adapters.providers import DeliveryKey
from adapters.sealing import Keyring
from adapters.sms import BAD_NUMBER, WEBHOOK_PATH
from adapters.telemetry import DELIVERY_REPORTS
from api.deps import Parts, PartsDep
from api.errors import ApiError

log = logging.getLogger(__name__)

router = APIRouter(prefix="/api/webhooks", tags=["webhooks"], include_in_schema=False)

_MAX_AGE_SECONDS = 600
"""An older request may be a recording. SendGrid signs each attempt when it sends it."""
_MAX_FIELDS = 200
"""Several times the fields of Twilio's requests."""

_SENDGRID_STATES = {
    "processed": Reported.SENT,
    "deferred": Reported.DEFERRED,
    "delivered": Reported.DELIVERED,
    "bounce": Reported.BOUNCED,
    "dropped": Reported.DROPPED,
    "spamreport": Reported.SPAM,
}
"""SendGrid's events of delivery; others, such as `open`, are ignored."""
_DROPPED_FOR_EVER = {"bounced address", "invalid", "spam reporting address", "unsubscribed address"}
"""The reasons of `dropped` for which SendGrid drops every later mail to the address as well."""
_TWILIO_STATES = {
    "sent": Reported.SENT,
    "delivered": Reported.DELIVERED,
    "read": Reported.DELIVERED,
    "undelivered": Reported.FAILED,
    "failed": Reported.FAILED,
}
"""Twilio's final statuses; earlier ones, such as `queued`, are ignored."""


@router.post("/sendgrid")
async def sendgrid_events(request: Request, parts: PartsDep) -> Response:
    """The signed Event Webhook of SendGrid: a list of events."""
    key = parts.settings.sendgrid_webhook_key
    if key is None:
        raise ApiError("not-found")
    body = await request.body()
    _verify_sendgrid(key, request.headers, body)
    events = orjson.loads(body)
    if not isinstance(events, list):
        raise ApiError("malformed-json", "Send a list of events.")
    await _record(parts, _sendgrid_reports(events, parts.keyring))
    return Response(status_code=204)


@router.post("/twilio")
async def twilio_status(request: Request, parts: PartsDep) -> Response:
    """The status callback of a text message; the query of its URL has the key of the delivery."""
    token = parts.settings.twilio_auth_token
    if token is None:
        raise ApiError("not-found")
    query = request.scope["query_string"].decode("latin-1")
    called = parts.settings.public_api_url + WEBHOOK_PATH + (f"?{query}" if query else "")
    form = _form(await request.body())
    if not _is_signed_by_twilio(token.get_secret_value(), called, form, request.headers.get("x-twilio-signature", "")):
        raise ApiError("invalid-signature")
    await _record(parts, _twilio_reports(dict(parse_qsl(query)), dict(form), parts.keyring))
    return Response(status_code=204)


async def _record(parts: Parts, reports: Iterable[Report]) -> None:
    by_tenant: defaultdict[str, list[Report]] = defaultdict(list)
    for report in reports:
        by_tenant[report.key.tenant_id].append(report)
        DELIVERY_REPORTS.labels(report.key.channel.value, report.state.value).inc()
    for tenant_id, of_tenant in by_tenant.items():
        async with parts.database.transaction(tenant_id) as tx:
            await delivery_reports.record(tx, of_tenant)


def _verify_sendgrid(key: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raises ApiError invalid-signature unless SendGrid has signed the body within the last ten minutes.

    ECDSA over timestamp and body
    (https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features).
    """
    timestamp = headers.get("x-twilio-email-event-webhook-timestamp", "")
    signature = headers.get("x-twilio-email-event-webhook-signature", "")
    try:
        age = datetime.now(UTC).timestamp() - int(timestamp)
        _sendgrid_key(key).verify(
            base64.b64decode(signature, validate=True), timestamp.encode() + body, ec.ECDSA(SHA256())
        )
    except (InvalidSignature, ValueError) as error:
        raise ApiError("invalid-signature") from error
    if abs(age) > _MAX_AGE_SECONDS:
        raise ApiError("invalid-signature", "The timestamp is too old. Send the request again with a new one.")


@lru_cache(maxsize=4)
def _sendgrid_key(key: str) -> ec.EllipticCurvePublicKey:
    loaded = load_der_public_key(base64.b64decode(key))
    if not isinstance(loaded, ec.EllipticCurvePublicKey):
        raise ValueError("SENDGRID_WEBHOOK_KEY is not an ECDSA key")
    return loaded


def _sendgrid_reports(events: list[Any], keyring: Keyring) -> Iterator[Report]:
    for event in events:
        key = DeliveryKey.from_tags(event) if isinstance(event, dict) else None
        state = _SENDGRID_STATES.get(str(event.get("event"))) if key else None
        if key is None or state is None:
            continue
        is_bad = state is Reported.SPAM or (state is Reported.BOUNCED and event.get("type") != "blocked")
        if state is Reported.BOUNCED and not is_bad:
            state = Reported.FAILED  # refused for another reason than the address, such as the sender's reputation
        if state is Reported.DROPPED:
            is_bad = str(event.get("reason")).lower() in _DROPPED_FOR_EVER
        address = event.get("email")
        is_bad = is_bad and isinstance(address, str)
        yield Report(
            key=key,
            provider_id=_sendgrid_id(event.get("sg_message_id")),
            state=state,
            at=_at(event.get("timestamp")),
            bad_address=keyring.address_digest(key.channel, str(address)) if is_bad else None,
            reason=f"SendGrid reported {state.value}" if is_bad else "",
        )


def _sendgrid_id(message_id: object) -> str | None:
    """The X-Message-Id of the answer to a mail: an event's id up to the name of the server that worked on it."""
    if not isinstance(message_id, str):
        return None
    return message_id.partition(".filter")[0].partition(".recvd")[0][:200] or None


def _at(timestamp: object) -> datetime:
    """The time of an event in seconds; the present time instead of one that cannot be."""
    now = datetime.now(UTC)
    if isinstance(timestamp, int) and 0 < timestamp <= now.timestamp():
        return datetime.fromtimestamp(timestamp, UTC)
    return now


def _form(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise ApiError("invalid-signature") from error


def _is_signed_by_twilio(token: str, url: str, form: list[tuple[str, str]], signature: str) -> bool:
    """Whether the account's token signed the URL and the sorted fields (HMAC-SHA1).

    Twilio may leave out the standard port of the URL, or add it
    (https://www.twilio.com/docs/usage/webhooks/webhooks-security).
    """
    fields = "".join(name + value for name, value in sorted(set(form)))
    return any(
        hmac.compare_digest(
            base64.b64encode(hmac.digest(token.encode(), (spelled + fields).encode(), "sha1")), signature.encode()
        )
        for spelled in _spellings(url)
    )


def _spellings(url: str) -> tuple[str, ...]:
    parts = urlsplit(url)
    standard = {"http": 80, "https": 443}[parts.scheme]
    bare = parts._replace(netloc=parts.hostname or "").geturl()
    return (url, bare, parts._replace(netloc=f"{parts.hostname}:{parts.port or standard}").geturl())


def _twilio_reports(tags: dict[str, str], form: dict[str, str], keyring: Keyring) -> Iterator[Report]:
    key, state = DeliveryKey.from_tags(tags), _TWILIO_STATES.get(form.get("MessageStatus", ""))
    if key is None or state is None:
        return
    code, number = form.get("ErrorCode", ""), form.get("To", "")
    is_bad = state is Reported.FAILED and number != "" and code in {str(bad) for bad in BAD_NUMBER}
    yield Report(
        key=key,
        provider_id=form.get("MessageSid"),
        state=state,
        at=datetime.now(UTC),
        bad_address=keyring.address_digest(key.channel, number) if is_bad else None,
        reason=f"Twilio reported {code}" if is_bad else "",
    )
