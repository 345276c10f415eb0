"""The inbox of the caller: /api/notifications."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid5

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from adapters.paging import Cursor
from api.bodies import BodyOf
from api.deps import NO_ENTRY, CallerDep, CursorText, Parts, PartsDep, consistency_cursor, consistency_token
from api.errors import ApiError, header_references, responses
from api.openapi import query
from api.paging import opened
from api.shown_notifications import ShownNotification, shown_notification
from api.tokens import Caller
from domain.model import Model
from domain.observations import NotificationsRead, Read
from projections.inbox import MAX_UNREAD, Notification

router = APIRouter(prefix="/api/notifications", tags=["notifications"])


class NotificationPage(Model):
    """One page of the inbox."""

    items: list[ShownNotification]
    next_cursor: str | None
    unread_count: Annotated[int, Field(ge=0, le=MAX_UNREAD)]
    """Unread notifications of the whole inbox; 100 means 100 or more."""


class ReadAll(Model):
    """Up to where notifications are read."""

    newest_id: UUID | None = None
    """The newest notification that was shown, so that those that came since stay unread. Without it, all are read."""


_READ: dict[str, Any] = {
    "status_code": 204,
    "response_class": Response,
    "responses": {
        204: {"headers": header_references("Consistency-Token")},
        **responses(
            "unauthenticated",
            "invalid-token",
            "expired-token",
            "invalid-request",
            "not-found",
            "too-many-requests",
            "unavailable",
        ),
    },
}


@router.get("", **query(NotificationPage, "invalid-request", "invalid-cursor", "invalid-consistency-token"))
async def list_notifications(
    caller: CallerDep,
    parts: PartsDep,
    unread: Annotated[bool | None, Query(description="`true`: unread ones only; `false`: read ones only")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: CursorText = None,
    consistency: Annotated[
        str | None,
        Header(
            alias="Consistency-Token",
            max_length=200,
            description="Of the response to reading: the page has what was read",
        ),
    ] = None,
) -> Response:
    """The notifications of the caller, newest first."""
    user = str(caller.user_id)
    purpose = f"notifications:{caller.tenant_id}:{user}:{unread}"
    older_than = opened(parts.signer.open, purpose, cursor)
    written = consistency_cursor(parts, caller.tenant_id, user, consistency)
    must_contain = written.id if written else None
    found = await parts.inbox.page(caller.tenant_id, caller.user_id, limit, older_than, unread, must_contain)
    shown = NotificationPage(
        items=[shown_notification(notification) for notification in found.items],
        next_cursor=parts.signer.sign(purpose, found.next) if found.next else None,
        unread_count=found.unread,
    )
    headers = {"Cache-Control": "private, no-store"}
    return Response(shown.model_dump_json(by_alias=True), 200, headers, "application/json")


@router.post("/read-all", **_READ)
async def read_all_notifications(caller: CallerDep, parts: PartsDep, body: BodyOf[ReadAll] | None = None) -> Response:
    """Mark the caller's notifications read, up to the newest one that was shown. Idempotent."""
    await _count(parts, caller)
    shown = body.newest_id if body else None
    inbox, tenant_id, user_id = parts.inbox, caller.tenant_id, caller.user_id
    newest = await _find(parts, caller, shown) if shown else await inbox.newest(tenant_id, user_id)
    if newest is None or not await inbox.has_unread(tenant_id, user_id, newest.created_at):
        return _read(parts, caller, NO_ENTRY)
    up_to = newest.created_at
    # A repetition has the same event, which is stored once.
    event_id = uuid5(user_id, f"read-all/{up_to.isoformat()}")
    return await _record(parts, caller, event_id, NotificationsRead(user_id=user_id, up_to=up_to))


@router.post("/{notification_id}/read", **_READ)
async def read_notification(notification_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """Mark a notification of the caller read. Idempotent."""
    await _count(parts, caller)
    if (await _find(parts, caller, notification_id)).is_read:
        return _read(parts, caller, NO_ENTRY)
    fact = NotificationsRead(user_id=caller.user_id, notification_id=notification_id)
    return await _record(parts, caller, uuid5(notification_id, "read"), fact)


async def _count(parts: Parts, caller: Caller) -> None:
    limit = parts.settings.commands_per_minute
    await parts.limits.count(caller.tenant_id, "commands", str(caller.user_id), limit)


async def _find(parts: Parts, caller: Caller, notification_id: UUID) -> Notification:
    """A notification of the caller. Raises ApiError not-found."""
    found = await parts.inbox.find(caller.tenant_id, caller.user_id, notification_id)
    if found is None:
        raise ApiError("not-found", "You have no notification with this id.")
    return found


async def _record(parts: Parts, caller: Caller, event_id: UUID, fact: NotificationsRead) -> Response:
    at = datetime.now(UTC)
    reading = Read(event_id=event_id, aggregate_id=caller.user_id, user_id=caller.user_id, timestamp=at, data=fact)
    await parts.observations.record(caller.tenant_id, reading)
    return _read(parts, caller, Cursor(at, event_id))


def _read(parts: Parts, caller: Caller, entry: Cursor) -> Response:
    token = consistency_token(parts, caller.tenant_id, caller.user_id, entry)
    return Response(status_code=204, headers={"Consistency-Token": token})
