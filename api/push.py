"""The browsers of the caller, to which notices are pushed: /api/notifications/push-..."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from adapters import push_subscriptions
from adapters.providers import PushSubscription
from adapters.push import checked_endpoint, checked_keys, public_key
from api.bodies import BodyOf
from api.deps import CallerDep, PartsDep
from api.errors import ApiError, FieldError, responses
from api.openapi import SIGNED_IN, query
from domain.model import Model

router = APIRouter(prefix="/api/notifications", tags=["push"])


class PushKey(Model):
    """The key with which a browser subscribes (`applicationServerKey`): base64url of a P-256 point."""

    public_key: str


class PushKeys(Model):
    """The keys of a subscription (RFC 8291): a P-256 point, and a secret of 16 bytes."""

    p256dh: Annotated[str, Field(alias="p256dh", pattern=r"^[A-Za-z0-9_-]{87}=?$")]
    auth: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22}(==)?$")]


class NewPushSubscription(Model):
    """A browser's `PushSubscription`, as `JSON.stringify` writes it."""

    endpoint: Annotated[str, Field(min_length=1, max_length=1000)]
    """The URL that the browser's push service has made for this subscription."""
    expiration_time: Annotated[float, Field(strict=True)] | None = None
    """Not used: the push service says when a subscription has ended."""
    keys: PushKeys


class PushSubscriptionId(Model):
    """A stored subscription."""

    id: UUID


class StoredPushSubscription(Model):
    """A browser of the caller."""

    id: UUID
    service: str
    """The host name of its push service."""
    created_at: datetime


class PushSubscriptions(Model):
    """The browsers of the caller, the newest first; at most 20."""

    items: list[StoredPushSubscription]


@router.get("/push-key", **query(PushKey, "not-found", signed_in="no"))
async def push_key(parts: PartsDep) -> PushKey:
    """The public key with which browsers subscribe. 404 when this portal does not push."""
    if parts.settings.vapid_private_key is None:
        raise ApiError("not-found", "This portal does not push messages to browsers.")
    return PushKey(public_key=public_key(parts.settings))


@router.put(
    "/push-subscriptions",
    response_model=PushSubscriptionId,
    responses={
        201: {"model": PushSubscriptionId, "description": "The browser is subscribed"},
        **responses(*SIGNED_IN, "account-closed", "invalid-request", "unavailable"),
    },
)
async def subscribe(
    body: BodyOf[NewPushSubscription], caller: CallerDep, parts: PartsDep, response: Response
) -> PushSubscriptionId:
    """Push notices to a browser. Idempotent; of more than 20 browsers the least recently subscribed are removed.

    A browser belongs to the account that has subscribed it last.
    """
    subscription = _checked(body, parts.settings.push_allow_private)
    async with parts.database.transaction(caller.tenant_id) as tx:
        stored = await push_subscriptions.put(tx, caller.tenant_id, caller.user_id, subscription, datetime.now(UTC))
    if stored is None:
        raise ApiError("account-closed")
    id, is_new = stored
    response.status_code = 201 if is_new else 200
    return PushSubscriptionId(id=id)


@router.get("/push-subscriptions", **query(PushSubscriptions))
async def list_push_subscriptions(caller: CallerDep, parts: PartsDep, response: Response) -> PushSubscriptions:
    """The browsers of the caller."""
    async with parts.database.statements(caller.tenant_id) as connection:
        found = await push_subscriptions.of_users(connection, [caller.user_id])
    response.headers["Cache-Control"] = "private, no-store"
    return PushSubscriptions(
        items=[
            StoredPushSubscription(
                id=stored.id,
                service=urlsplit(stored.subscription.endpoint).hostname or "",
                created_at=stored.created_at,
            )
            for stored in found.get(caller.user_id, ())
        ]
    )


@router.delete(
    "/push-subscriptions/{subscription_id}",
    status_code=204,
    response_class=Response,
    responses=responses(*SIGNED_IN, "not-found", "invalid-request", "unavailable"),
)
async def unsubscribe_browser(subscription_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """Push nothing more to a browser of the caller."""
    async with parts.database.statements(caller.tenant_id) as connection:
        if not await push_subscriptions.remove(connection, subscription_id, caller.user_id):
            raise ApiError("not-found")
    return Response(status_code=204)


def _checked(body: NewPushSubscription, allow_private: bool) -> PushSubscription:
    """Raises ApiError invalid-request, because what is stored here is called by the workers."""
    subscription = PushSubscription(body.endpoint, body.keys.p256dh, body.keys.auth)
    try:
        checked_endpoint(subscription.endpoint, allow_private)
    except ValueError as error:
        fault = FieldError(field="endpoint", reason="Give the https URL of a push service, on its standard port.")
        raise ApiError("invalid-request", errors=[fault]) from error
    try:
        checked_keys(subscription)
    except ValueError as error:
        fault = FieldError(field="keys", reason="Give the keys of the browser's PushSubscription unchanged.")
        raise ApiError("invalid-request", errors=[fault]) from error
    return subscription
