"""The query of a user's notifications: pages with the number of unread ones.

A notification is read if it was read by itself, or came not later than the time up to which all were.
"""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, DateTime, Uuid, all_, and_, bindparam, func, not_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.paging import Cursor
from adapters.postgres import Database
from adapters.tables import notifications, read_models, read_until
from domain.events import UnreadableEvent, read_event
from domain.observations import NotificationsRead
from projections.notifications import NOT_ARRIVED, Notifications

MAX_UNREAD = 100
"""The highest count of unread notifications: nobody needs to know how many more there are."""
_POLL_SECONDS = 0.02
_LATEST_EVENTS = 500
"""Newest events of a user among which a page looks for what they have read, when the projection is late."""
_EARLIEST = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Notification:
    """A notification of a user. Its texts are rendered from `values` by who shows it."""

    id: UUID
    kind: str
    property_id: UUID | None
    values: dict[str, Any]
    created_at: datetime
    is_read: bool
    saved_search_id: UUID | None = None


@dataclass(frozen=True)
class InboxPage:
    """Notifications, the cursor of the next page (None on the last), and the number of unread ones (MAX_UNREAD)."""

    items: list[Notification]
    next: Cursor | None
    unread: int


@dataclass(frozen=True)
class _Reading:
    """What a user has read that the projection may not have yet."""

    ids: list[UUID] = field(default_factory=list)
    until: datetime = _EARLIEST


_SERVING = select(read_models.c.generation).where(read_models.c.name == Notifications.name).scalar_subquery()
_UNTIL = (
    select(read_until.c.read_until)
    .where(read_until.c.user_id == bindparam("user_id"), read_until.c.generation == _SERVING)
    .scalar_subquery()
)
_OF_USER = and_(
    notifications.c.user_id == bindparam("user_id"),
    notifications.c.generation == _SERVING,
    # The condition of the partial index, in its words.
    notifications.c.kind.is_not(None),
    notifications.c.kind != NOT_ARRIVED,
)
_UNREAD = and_(
    # One condition, which bounds the scan of the index.
    notifications.c.created_at > func.greatest(_UNTIL, bindparam("until", type_=DateTime(timezone=True))),
    notifications.c.read_at.is_(None),
    notifications.c.notification_id != all_(bindparam("ids", type_=ARRAY(Uuid))),
)
_IS_READ: ColumnElement[bool] = not_(_UNREAD)


class Inbox:
    """The query."""

    def __init__(self, database: Database, wait_seconds: float) -> None:
        self._database = database
        self._wait_seconds = wait_seconds

    async def page(
        self,
        tenant_id: str,
        user_id: UUID,
        limit: int,
        cursor: Cursor | None = None,
        unread: bool | None = None,
        must_contain: UUID | None = None,
    ) -> InboxPage:
        """Up to `limit` notifications, newest first, older than `cursor`; `unread` chooses the unread or the read ones.

        `must_contain` is an event of reading that the page must have (read-your-writes): the query waits for it, and
        after `wait_seconds` takes what the user has read from the event store. Raises DatabaseUnavailable.
        """
        reading = await self._reading(tenant_id, user_id, must_contain) if must_contain else _Reading()
        known = {"user_id": user_id, "ids": reading.ids, "until": reading.until}
        query = select(notifications, _IS_READ.label("is_read")).where(_OF_USER)
        if unread is not None:
            query = query.where(_UNREAD if unread else _IS_READ)
        if cursor:
            older = tuple_(notifications.c.created_at, notifications.c.notification_id)
            query = query.where(older < tuple_(cursor.timestamp, cursor.id))
        newest_first = query.order_by(notifications.c.created_at.desc(), notifications.c.notification_id.desc())
        some_unread = select(notifications.c.notification_id).where(_OF_USER, _UNREAD).limit(MAX_UNREAD).subquery()
        async with self._database.statements(tenant_id) as connection:
            found = [_notification(row) for row in await connection.execute(newest_first.limit(limit + 1), known)]
            count = (await connection.execute(select(func.count()).select_from(some_unread), known)).scalar_one()
        last = found[limit - 1] if len(found) > limit else None
        return InboxPage(found[:limit], Cursor(last.created_at, last.id) if last else None, count)

    async def find(self, tenant_id: str, user_id: UUID, notification_id: UUID) -> Notification | None:
        """A notification of a user; None when there is none, or it is another user's."""
        query = select(notifications, _IS_READ.label("is_read")).where(
            _OF_USER, notifications.c.notification_id == notification_id
        )
        return await self._one(tenant_id, user_id, query)

    async def newest(self, tenant_id: str, user_id: UUID) -> Notification | None:
        """The newest notification of a user."""
        query = select(notifications, _IS_READ.label("is_read")).where(_OF_USER)
        return await self._one(tenant_id, user_id, query.order_by(notifications.c.created_at.desc()).limit(1))

    async def has_unread(self, tenant_id: str, user_id: UUID, up_to: datetime) -> bool:
        """Whether a user has an unread notification that came not later than `up_to`."""
        query = select(notifications, _IS_READ.label("is_read")).where(
            _OF_USER, _UNREAD, notifications.c.created_at <= up_to
        )
        return await self._one(tenant_id, user_id, query.limit(1)) is not None

    async def _one(self, tenant_id: str, user_id: UUID, query: Any) -> Notification | None:
        known = {"user_id": user_id, "ids": [], "until": _EARLIEST}
        async with self._database.statements(tenant_id) as connection:
            row = (await connection.execute(query, known)).one_or_none()
        return _notification(row) if row else None

    async def _reading(self, tenant_id: str, user_id: UUID, event_id: UUID) -> _Reading:
        """Nothing once the event is applied; after `wait_seconds`, what the user's latest events say."""
        deadline = time.monotonic() + self._wait_seconds
        async with self._database.statements(tenant_id) as connection:
            fact = _reads(await event_store.by_id(connection, event_id))
        while fact is not None:
            async with self._database.statements(tenant_id) as connection:
                if await _is_applied(connection, user_id, fact):
                    break
                if time.monotonic() >= deadline:
                    latest = await event_store.of_user(connection, user_id, cursor=None, limit=_LATEST_EVENTS)
                    facts = [read for read in map(_reads, latest) if read]
                    ids = [read.notification_id for read in facts if read.notification_id]
                    return _Reading(ids, max((read.up_to for read in facts if read.up_to), default=_EARLIEST))
            await asyncio.sleep(_POLL_SECONDS)
        return _Reading()


def _reads(message: dict[str, Any] | None) -> NotificationsRead | None:
    """What a stored event says was read; None for an event of another type, or of a later release."""
    if message is None or message["eventType"] != "NOTIFICATIONS_READ":
        return None
    try:
        fact: NotificationsRead = read_event(message).data
    except UnreadableEvent:
        return None
    return fact


async def _is_applied(connection: AsyncConnection, user_id: UUID, fact: NotificationsRead) -> bool:
    if fact.up_to is not None:
        query = select(fact.up_to <= _UNTIL)
    else:
        mine = (notifications.c.user_id == bindparam("user_id"), notifications.c.generation == _SERVING)
        query = select(notifications.c.read_at.is_not(None)).where(
            *mine, notifications.c.notification_id == fact.notification_id
        )
    return bool((await connection.execute(query, {"user_id": user_id})).scalar())


def _notification(row: Any) -> Notification:
    property_id, saved_search_id = row.data.get("propertyId"), row.data.get("savedSearchId")
    return Notification(
        id=row.notification_id,
        kind=row.kind,
        property_id=UUID(property_id) if property_id else None,
        values=row.data.get("values") or {},
        created_at=row.created_at,
        is_read=row.is_read,
        saved_search_id=UUID(saved_search_id) if saved_search_id else None,
    )
